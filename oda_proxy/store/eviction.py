"""Eviction: which recordings to remove when space runs out.

Earlier versions of recordings go first, those that were replaced first before others; then recordings. Of these, the
least recently used goes first, where each second that the dispatcher took for it counts as `COST_WEIGHT` seconds of
later use, up to `MAX_COST_BONUS`: a recording that took an hour stays a week longer than one that took none. Recordings
that share a head are evicted together, in the order of the last of them. Pinned ones stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from oda_proxy.store.base import Entry, FreeSpace

COST_WEIGHT = 168.0
"""Seconds of later use that a second of the dispatcher's work counts as: a week for an hour."""

MAX_COST_BONUS = 30 * 86400.0
"""Seconds of later use that the cost of a recording counts as at most."""

HIGH_WATERMARK, LOW_WATERMARK = 0.95, 0.85
"""Fractions of the limit: eviction begins above the first and ends at the second, so that it is rare."""


RESERVE_FRACTION = 0.05
"""Fraction of a disk that is kept free at most."""


REASONS: Final = ("size", "disk")
"""Why recordings are evicted: they exceed their own limit, or the disk has too little free space."""


@dataclass(slots=True)
class EvictionCounts:
    """How many recordings were evicted since the start, and the bytes that this has freed, by reason."""

    recordings: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    freed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))

    def add(self, evicted: Sequence[Entry], reason: str) -> int:
        """Count recordings that were evicted, and return the bytes that this has freed; each head counts once."""
        freed = sum({entry.head_name: entry.stored_size for entry in evicted}.values())
        self.recordings[reason] += len(evicted)
        self.freed[reason] += freed
        return freed


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a store, in bytes: of all its recordings, and of the free space on its disk."""

    max_size: int
    min_free: int = 0

    def reserve(self, space: FreeSpace) -> int:
        """Return the bytes to keep free on a disk: less than `min_free` on a small one."""
        return min(self.min_free, int(space.size * RESERVE_FRACTION))

    def excess(self, occupied: int, space: FreeSpace | None) -> int:
        """Return the bytes to free where recordings occupy so many; 0 while they may stay."""
        missing = self.reserve(space) - space.free if space is not None else 0
        return max(occupied - self.max_size, missing, 0)

    def target(self, occupied: int, space: FreeSpace | None) -> int | None:
        """Return the bytes to which recordings that occupy so many are to be reduced; None while they may stay."""
        excess = self.excess(occupied, space)
        return max(occupied - excess, 0) if excess else None

    def watermarks(self) -> tuple[Limits, Limits]:
        """Return the limits above which eviction begins, and those to which it continues, so that it is rare."""
        begin = Limits(int(self.max_size * HIGH_WATERMARK), self.min_free)
        return begin, Limits(int(self.max_size * LOW_WATERMARK), int(self.min_free / LOW_WATERMARK))


def cost_bonus(cost: float) -> float:
    """Return the seconds of later use that a cost, in s, counts as."""
    return min(max(cost, 0.0) * COST_WEIGHT, MAX_COST_BONUS)


def priority(entry: Entry) -> float:
    """Return the time of use plus the bonus of the cost, in s since 1970: the lowest is evicted first."""
    return entry.used_at + cost_bonus(entry.cost)


def pinned_size(entries: Iterable[Entry]) -> int:
    """Return the bytes that eviction cannot free: those of pinned recordings, each head once."""
    return sum({entry.head_name: entry.stored_size for entry in entries if entry.pinned}.values())


def groups_to_evict(entries: Iterable[Entry], versions: Iterable[Entry] = ()) -> list[list[Entry]]:
    """Return what may be evicted in order: earlier versions, then recordings, without those that are pinned.

    Those that share a head are evicted together, in the order of the last of them, and earlier versions whose head a
    recording has with that.
    """
    by_head: dict[str, list[Entry]] = {}
    for entry in chain(entries, versions):
        by_head.setdefault(entry.head_name, []).append(entry)
    unpinned = (group for group in by_head.values() if not any(entry.pinned for entry in group))
    return sorted(unpinned, key=order)


def order(group: list[Entry]) -> tuple[bool, float]:
    """Return what sorts a group of entries with one head: earlier versions come before recordings."""
    recordings = [entry for entry in group if entry.valid_until is None]
    if recordings:
        return True, max(map(priority, recordings))
    return False, max(entry.valid_until or 0.0 for entry in group)


def victims(groups: Iterable[list[Entry]], *, occupied: int, target: int) -> Iterator[Entry]:
    """Iterate over the first recordings of `groups` whose eviction reduces `occupied` bytes to `target` at most."""
    remaining = iter(groups)
    while occupied > target and (group := next(remaining, None)):
        occupied -= group[0].stored_size
        yield from group
