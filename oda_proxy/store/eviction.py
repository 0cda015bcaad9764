"""Eviction: which recordings to remove when space runs out.

The least recently used goes first, where each second that the dispatcher took for it counts as `COST_WEIGHT` seconds of
later use, up to `MAX_COST_BONUS`: a recording that took an hour stays a week longer than one that took none. Recordings
that share a head are evicted together, in the order of the last of them. Pinned ones stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oda_proxy.store.base import Entry

COST_WEIGHT = 168.0
"""Seconds of later use that a second of the dispatcher's work counts as: a week for an hour."""

MAX_COST_BONUS = 30 * 86400.0
"""Seconds of later use that the cost of a recording counts as at most."""

HIGH_WATERMARK, LOW_WATERMARK = 0.95, 0.85
"""Fractions of the limit: eviction begins above the first and ends at the second, so that it is rare."""


def priority(entry: Entry) -> float:
    """Return the time of use plus the bonus of the cost, in s since 1970: the lowest is evicted first."""
    return entry.used_at + min(max(entry.cost, 0.0) * COST_WEIGHT, MAX_COST_BONUS)


def victims(entries: Iterable[Entry], *, max_bytes: float) -> list[Entry]:
    """Choose recordings to evict so that the rest occupies `max_bytes` at most, or only pinned ones remain."""
    by_head: dict[str, list[Entry]] = {}
    for entry in entries:
        by_head.setdefault(entry.head_name, []).append(entry)
    occupied = sum(group[0].stored_size for group in by_head.values())
    chosen: list[Entry] = []
    for group in sorted(by_head.values(), key=lambda group: max(map(priority, group))):
        if occupied <= max_bytes:
            break
        if not any(entry.pinned for entry in group):
            chosen += group
            occupied -= group[0].stored_size
    return chosen
