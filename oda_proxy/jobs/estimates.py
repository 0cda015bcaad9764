"""How long jobs take, as far as earlier ones of the same product tell."""

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

MOST_PRODUCTS: Final = 1000
MOST_RUNS: Final = 50
"""Runs of one product that are remembered, the last ones."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long the earlier runs took, in s."""

    runs: int
    shortest: float
    median: float
    longest: float

    def __str__(self) -> str:
        if self.runs == 1:
            return f"an earlier run took {spoken(self.median)}"
        shortest, middle, longest = (spoken(seconds) for seconds in (self.shortest, self.median, self.longest))
        return f"{self.runs} earlier runs took {shortest} to {longest}, the median is {middle}"


class Estimates:
    """Remembers how long jobs took."""

    def __init__(self) -> None:
        self._costs: LRUCache[tuple[str, str], deque[float]] = LRUCache(MOST_PRODUCTS)

    def note(self, query: Query | None, cost: float) -> None:
        """Take note of a job that took `cost` s; 0 is not known."""
        if query is not None and cost > 0:
            self._costs.setdefault((query.instrument, query.product_type), deque(maxlen=MOST_RUNS)).append(cost)

    def learn(self, entries: Iterable[Entry]) -> None:
        """Take note of what was recorded without a token."""
        for entry in entries:
            if not entry.private:
                self.note(entry.query, entry.cost)

    def of(self, query: Query) -> Estimate | None:
        """Estimate how long a query will take; None where there were no runs of its product."""
        costs = self._costs.get((query.instrument, query.product_type))
        return Estimate(len(costs), min(costs), median(costs), max(costs)) if costs else None


def spoken(seconds: float) -> str:
    """Say a time as a person does."""
    if seconds < 90:  # noqa: PLR2004 - above, minutes are easier to read
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"  # noqa: PLR2004 - above, hours are
