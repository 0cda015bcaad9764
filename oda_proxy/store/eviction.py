"""Which recordings to give up for lack of space.

The one that was not asked for for the longest time goes first, where each second that the dispatcher took for it counts
like `WORTH` seconds of having been asked for later, up to `MOST`: what took an hour stays a week longer than what took
none. Recordings that share their products go together, once the last of them is due. What is pinned stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oda_proxy.store.base import Entry

WORTH = 168.0
"""Seconds that a second of the dispatcher's work is worth: a week for an hour."""

MOST = 30 * 86400.0
"""Seconds that a recording is given at most for what it cost."""

HIGH, LOW = 0.95, 0.85
"""Parts of the limit: above the first recordings are given up, down to the second, so that it is seldom done."""


def due(entry: Entry) -> float:
    """Give the time, in s since 1970, by which recordings are put in order."""
    return entry.used_at + min(max(entry.cost, 0.0) * WORTH, MOST)


def victims(entries: Iterable[Entry], *, most: float) -> list[Entry]:
    """Choose what to give up so that the rest occupies `most` bytes at most, or nothing but what is pinned is left."""
    sharing: dict[str, list[Entry]] = {}
    for entry in entries:
        sharing.setdefault(entry.head_name, []).append(entry)
    occupied = sum(group[0].stored_size for group in sharing.values())
    chosen: list[Entry] = []
    for group in sorted(sharing.values(), key=lambda group: max(map(due, group))):
        if occupied <= most:
            break
        if not any(entry.pinned for entry in group):
            chosen += group
            occupied -= group[0].stored_size
    return chosen
