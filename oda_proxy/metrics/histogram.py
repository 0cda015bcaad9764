"""Durations in buckets: adding one costs about as much as an integer."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUEST_BOUNDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    *(10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0),
)
"""Upper bounds of buckets for requests, in s: from a hit to an hour."""
JOB_BOUNDS: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0)
"""Upper bounds of buckets for jobs, in s."""


class Histogram:
    """Counts durations, in s, by the bucket that they belong to; the last bucket has no upper bound."""

    __slots__ = ("bounds", "buckets", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        """How many durations each bucket has."""
        self.total = 0.0
        """The sum of all durations."""

    def add(self, seconds: float) -> None:
        """Add a duration; one that equals a bound belongs below it."""
        self.buckets[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    @property
    def values(self) -> tuple[float, ...]:
        """The counts of the buckets, and the sum of all durations: what can be added up."""
        return (*self.buckets, self.total)


def cumulative(values: Sequence[float]) -> list[int]:
    """Return how many durations are not above each bound; `values` are those of a histogram."""
    return [int(count) for count in accumulate(values[:-1])]


def percentile(bounds: Sequence[float], values: Sequence[float], fraction: float) -> float | None:
    """Return the duration in s that a fraction of all does not exceed; None where there are none.

    Within a bucket durations count as evenly distributed; beyond the last bound, that bound is returned.
    """
    counts = cumulative(values)
    rank = fraction * counts[-1]
    if not counts[-1]:
        return None
    at = bisect_left(counts, rank)
    if at == len(bounds):
        return bounds[-1]
    below, lower = (counts[at - 1], bounds[at - 1]) if at else (0, 0.0)
    inside = counts[at] - below
    return lower + (bounds[at] - lower) * (rank - below) / inside if inside else lower
