"""What is wrong around the proxy, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.commands.client_cache import scan
from oda_proxy.commands.output import say, say_json

if TYPE_CHECKING:
    from pathlib import Path


def doctor(folder: Path, *, as_json: bool) -> int:
    """List the entries of the client's own cache that may be given for a question they do not answer; 1 if any is."""
    entries = scan(folder)
    doubtful = [entry for entry in entries if entry.doubts]
    if as_json:
        told = [{"file": str(entry.file), "answers": entry.resolved, "doubts": entry.doubts} for entry in entries]
        say_json({"entries": told, "doubtful": len(doubtful)})
        return 1 if doubtful else 0
    for entry in doubtful:
        say([f"{entry.file}", f"    answers {entry.resolved or 'nothing that it names'}"])
        say(f"    {doubt}" for doubt in entry.doubts)
    say([f"{len(doubtful)} of {len(entries)} entries may be given for a question they do not answer"])
    if doubtful:
        say(["ask through oda-proxy without use_local_cache instead, and remove these files"])
    return 1 if doubtful else 0
