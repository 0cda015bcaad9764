"""What keeps failing, said once and not for each request."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oda_proxy.errors import StoreUnusableError

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Fault:
    """One kind of failure, while it lasts: since when, in s since 1970 (UTC), and how often."""

    doing: str
    message: str
    since: float
    times: int = 0


class StoreFaults:
    """The failures of a store that are not over."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Take a clock, in s since 1970 (UTC)."""
        self._clock = clock
        self._known: dict[tuple[str, str], Fault] = {}

    def __iter__(self) -> Iterator[Fault]:
        return iter(list(self._known.values()))

    def note_failure(self, doing: str, error: StoreUnusableError) -> None:
        """Take note of a failure, and log it where it is a new one."""
        name = doing, str(error)
        if name not in self._known:
            if all(message != str(error) for _, message in self._known):
                _log.warning("%s; answers are passed on all the same", error)
            self._known[name] = Fault(doing, str(error), self._clock())
        self._known[name].times += 1

    def note_success(self, doing: str) -> None:
        """Take note that the store does this again."""
        for name in [name for name in self._known if name[0] == doing]:
            fault = self._known.pop(name)
            _log.warning("recordings can be %s again, after %d failures", doing, fault.times)
