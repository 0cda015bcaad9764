"""Ongoing failures of a store, logged once and not for each request."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oda_proxy.errors import StoreUnusableError

_log = logging.getLogger(__name__)

OPERATIONS: Final = ("counted", "listed", "maintained", "read", "stored")
"""What is done with the store."""


@dataclass(slots=True)
class StoreFault:
    """One kind of ongoing failure: since when, in s since 1970 (UTC), and how often."""

    operation: str
    message: str
    since: float
    count: int = 0


class StoreFaults:
    """The ongoing failures of a store."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Take a clock, which returns s since 1970 (UTC)."""
        self._clock = clock
        self._faults: dict[tuple[str, str], StoreFault] = {}
        self.totals = dict.fromkeys(OPERATIONS, 0)
        """How often each operation has failed since the start."""

    def __iter__(self) -> Iterator[StoreFault]:
        return iter(list(self._faults.values()))

    def note_failure(self, operation: str, error: StoreUnusableError) -> None:
        """Count a failure of an operation, and log it if it is new."""
        self.totals[operation] = self.totals.get(operation, 0) + 1
        name = operation, str(error)
        if name not in self._faults:
            if all(message != str(error) for _, message in self._faults):
                _log.warning("%s; answers are returned all the same", error)
            self._faults[name] = StoreFault(operation, str(error), self._clock())
        self._faults[name].count += 1

    def note_return(self) -> None:
        """Clear all failures: the store was away, and was found to work."""
        for operation in {operation for operation, _ in self._faults}:
            self.note_success(operation)

    def note_success(self, operation: str) -> None:
        """Clear the failures of an operation that works again."""
        for name in [name for name in self._faults if name[0] == operation]:
            fault = self._faults.pop(name)
            _log.warning("recordings can be %s again, after %d failures", operation, fault.count)
