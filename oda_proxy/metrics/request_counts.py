"""How many HTTP requests had which outcome, how long they took, and how many bytes they moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from oda_proxy.metrics.histogram import REQUEST_BOUNDS, Histogram
from oda_proxy.metrics.outcomes import OUTCOMES, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTES: Final = ("run_analysis", "description", "other")
"""Labels of routes."""

_ROUTE_OF: Final = {"run_analysis": 0, "meta-data": 1, "par-names": 1, "instr-list": 1}
"""The route of a path by its last segment, as a position in `ROUTES`."""
_OTHER: Final = ROUTES.index("other")


class RequestCounts:
    """Counts the requests of clients, polls included; those for the proxy's own pages are not counted."""

    def __init__(self) -> None:
        self._histograms = [[Histogram(REQUEST_BOUNDS) for _ in OUTCOMES] for _ in ROUTES]
        self.received = 0
        """Bytes of the bodies of requests."""
        self.sent = 0
        """Bytes of the bodies of answers."""

    def add(self, path: str, outcome: Outcome, seconds: float) -> None:
        """Count a request for an encoded path that took some s from its head to the end of its answer."""
        route = _ROUTE_OF.get(path[path.rfind("/") + 1 :], _OTHER)
        self._histograms[route][outcome].add(seconds)

    def durations(self) -> Iterator[tuple[str, str, Histogram]]:
        """Iterate over routes, outcomes and durations, empty ones included."""
        for route, histograms in zip(ROUTES, self._histograms, strict=True):
            for outcome, histogram in zip(OUTCOMES, histograms, strict=True):
                yield route, outcome, histogram
