"""How many queries had which outcome, by instrument, and what they saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from oda_proxy.metrics.outcomes import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.metrics.outcomes import Outcome

OTHER: Final = "other"
"""The label of all instruments that have none of their own."""
MAX_INSTRUMENTS: Final = 100
"""Instruments with labels of their own: each costs a dozen time series."""


class QueryCounts:
    """Counts queries; each query is counted when it is submitted, and not with its polls.

    Labels come from requests: an instrument has one of its own only once it is known to exist.
    """

    def __init__(self) -> None:
        self._other = [0] * len(OUTCOMES)
        self._by_instrument: dict[str, list[int]] = {OTHER: self._other}
        self._saved = {OTHER: 0.0}

    def has(self, instrument: str) -> bool:
        """Return whether an instrument has a label of its own."""
        return instrument in self._by_instrument

    def add_instrument(self, instrument: str) -> None:
        """Have an instrument that exists counted under its own name, while there are not too many."""
        if len(self._by_instrument) <= MAX_INSTRUMENTS and instrument not in self._by_instrument:
            self._by_instrument[instrument] = [0] * len(OUTCOMES)
            self._saved[instrument] = 0.0

    def add(self, instrument: str, outcome: Outcome) -> None:
        """Count a query."""
        self._by_instrument.get(instrument, self._other)[outcome] += 1

    def add_saved(self, instrument: str, seconds: float) -> None:
        """Add the time, in s, that the dispatcher had taken for a recording of an instrument that was served."""
        if instrument not in self._saved:
            self.add_instrument(instrument)
        self._saved[instrument if instrument in self._saved else OTHER] += seconds

    def outcomes(self) -> Iterator[tuple[str, str, int]]:
        """Iterate over instruments, outcomes and the numbers of queries, zeros included."""
        for instrument, counts in list(self._by_instrument.items()):
            for outcome, count in zip(OUTCOMES, counts, strict=True):
                yield instrument, outcome, count

    def saved(self) -> Iterator[tuple[str, float]]:
        """Iterate over instruments and the time saved, in s."""
        yield from list(self._saved.items())
