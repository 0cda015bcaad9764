"""When a dispatcher that fails is left alone: the circuit breaker.

    state       what happens                               next
    closed      an answer                                  closed, no failures
                a failure, fewer than FAILURES in a row    closed
                a failure, the last of FAILURES in a row   open for FIRST_PAUSE
    open        a request, before the pause is over        refused
                a request, once it is over                 half-open: this request is the trial
    half-open   a request                                  refused
                the trial fails                            open, twice as long, at most LONGEST_PAUSE
                the trial is given up, or lasts too long   open; the next request is the trial
    not closed  any answer, also to an earlier request     closed, no failures
                a failure of an earlier request            the same

A request that is given up, by its asker or for want of patience, says nothing about the dispatcher, which may be slow
and not away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES = 5
"""Failures in a row that open the circuit."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds that the circuit is open at first, and at most."""
TRIAL = 30.0
"""Seconds after which a trial that still lasts holds up nobody: what it asked for may just take long."""

State = Literal["closed", "open", "half-open"]


class Attempt:
    """One request that was let through."""


class Breaker:
    """Counts failures and says how long to wait; `clock` gives s and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pause = 0.0  # while the circuit is closed
        self._until = 0.0  # the end of the pause, or of the patience with the trial
        self._trial: Attempt | None = None
        self.failures = 0

    @property
    def state(self) -> State:
        """The state, as in the table."""
        if not self._pause:
            return "closed"
        return "half-open" if self._trial and self.wait() else "open"

    def wait(self) -> float:
        """Say in how many s it is worth asking again; 0 where a request may be sent now."""
        if not self._pause:
            return 0.0
        wait = max(self._until - self._clock(), 0.0)
        return min(wait, FIRST_PAUSE) if self._trial else wait  # a trial may end at any moment

    def begin(self) -> Attempt:
        """Let a request through, as the trial where the circuit is not closed; `wait` must be 0."""
        attempt = Attempt()
        if self._pause:
            self._trial, self._until = attempt, self._clock() + TRIAL
        return attempt

    def succeeded(self) -> None:
        """Take note of an answer."""
        self._pause, self._trial, self.failures = 0.0, None, 0

    def failed(self, attempt: Attempt) -> None:
        """Take note that a request had no answer because nobody was there."""
        self.failures += 1
        if attempt is self._trial or (not self._pause and self.failures >= FAILURES):
            self._pause = min(2 * self._pause, LONGEST_PAUSE) or FIRST_PAUSE
            self._trial, self._until = None, self._clock() + self._pause

    def given_up(self, attempt: Attempt) -> None:
        """Take note that nobody waited for the answer to a request."""
        if attempt is self._trial:
            self._trial, self._until = None, self._clock()
