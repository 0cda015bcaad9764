"""The history of `--sharing` of a store, in a file beside the recordings.

The cache key of a private recording depends on `--sharing`: after a change, those stored before are not found any more.

    sharing.json    {"format": 1, "history": [{"sharing": "subject", "since": 1764000000.0}, ...]}
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from oda_proxy.files import atomic

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.store.base import Entry, Store

FORMAT: Final = 1
FILE: Final = "sharing.json"
MAX_SIZE: Final = 64 * 1024
"""Maximum size of the file, in bytes."""
MAX_CHANGES: Final = 100
"""Maximum number of changes in the history; the oldest are dropped."""

History = list[tuple[str, float]]


def unreachable(store: Store, folder: Path, sharing: str, *, now: float) -> dict[str, list[Entry]]:
    """Note the `--sharing` of this start, and return private recordings stored with another, by their `--sharing`.

    `now` is in s since 1970 (UTC). Recordings older than the history count as stored with the first `--sharing` in
    it. A damaged file is replaced. Raises StoreUnusableError.
    """
    history = _read(folder / FILE)
    if not history or history[-1][0] != sharing:
        history = [*history, (sharing, now)][-MAX_CHANGES:]
        with suppress(OSError):  # the next start compares again; the store reports a folder that cannot be written
            _write(folder / FILE, history)
    if all(other == sharing for other, _ in history):
        return {}
    found: dict[str, list[Entry]] = {}
    if not any(one.private for one in store.totals()):
        return found
    for entry in store.entries():
        if entry.private and (other := _sharing_at(history, entry.stored_at)) != sharing:
            found.setdefault(other, []).append(entry)
    return found


def _sharing_at(history: History, time: float) -> str:
    earlier = [sharing for sharing, since in history if since <= time]
    return earlier[-1] if earlier else history[0][0]


def _read(file: Path) -> History:
    try:
        if file.stat().st_size > MAX_SIZE:
            return []
        content = json.loads(file.read_text("utf-8"))
        return [(str(one["sharing"]), float(one["since"])) for one in content["history"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write(file: Path, history: History) -> None:
    members = [{"sharing": sharing, "since": since} for sharing, since in history]
    atomic.write(file, (json.dumps({"format": FORMAT, "history": members}) + "\n").encode())
