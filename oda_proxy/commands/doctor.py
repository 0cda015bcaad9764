"""The command `doctor`: find faults in the environment of the proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.commands.client_cache import scan
from oda_proxy.commands.output import print_json, print_lines

if TYPE_CHECKING:
    from pathlib import Path


def doctor(folder: Path, *, as_json: bool) -> int:
    """List entries of the client's cache that may be returned for another query; the exit status is 1 if any is."""
    entries = scan(folder)
    doubtful = [entry for entry in entries if entry.doubts]
    if as_json:
        listed = [{"file": str(entry.file), "answers": entry.query, "doubts": entry.doubts} for entry in entries]
        print_json({"entries": listed, "doubtful": len(doubtful)})
        return 1 if doubtful else 0
    for entry in doubtful:
        print_lines([f"{entry.file}", f"    answers {entry.query or 'an unknown query'}"])
        print_lines(f"    {doubt}" for doubt in entry.doubts)
    print_lines([f"{len(doubtful)} of {len(entries)} entries may be returned for a query that they do not answer"])
    if doubtful:
        print_lines(["remove these files, and use oda-proxy without use_local_cache instead"])
    return 1 if doubtful else 0
