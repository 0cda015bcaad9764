"""Estimates of how long a job takes, from earlier jobs for the same product."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oda_proxy.query.query import Query
    from oda_proxy.store.base import Entry

MAX_PRODUCTS: Final = 1000
MAX_RUNS: Final = 50
"""Runs of one product that count, the latest ones."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long the earlier runs took, in s."""

    runs: int
    shortest: float
    median: float
    longest: float

    def __str__(self) -> str:
        if self.runs == 1:
            return f"an earlier run took {format_duration(self.median)}"
        shortest, middle, longest = map(format_duration, (self.shortest, self.median, self.longest))
        return f"{self.runs} earlier runs took {shortest} to {longest}, the median is {middle}"


class Estimates:
    """The durations of earlier jobs, by instrument and product."""

    def __init__(self) -> None:
        self._durations: LRUCache[tuple[str, str], deque[float]] = LRUCache(MAX_PRODUCTS)

    def add(self, query: Query | None, duration: float) -> None:
        """Add a job that took `duration` s; 0 means that it is not known."""
        if query is not None and duration > 0:
            product = query.instrument, query.product_type
            self._durations.setdefault(product, deque(maxlen=MAX_RUNS)).append(duration)

    def add_recordings(self, entries: Iterable[Entry]) -> None:
        """Add the jobs of the public recordings."""
        for entry in entries:
            if not entry.private:
                self.add(entry.query, entry.cost)

    def estimate(self, query: Query) -> Estimate | None:
        """Return the estimate for a query; None where there were no jobs for its product."""
        durations = self._durations.get((query.instrument, query.product_type))
        if not durations:
            return None
        return Estimate(len(durations), min(durations), median(durations), max(durations))


def format_duration(seconds: float) -> str:
    """Format a duration for a person: seconds, minutes or hours."""
    if seconds < 90:  # noqa: PLR2004 - above, minutes are easier to read
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"  # noqa: PLR2004 - above, hours are
