"""The circuit breaker: when a failing dispatcher gets no requests.

    state       event                                      next state
    closed      a response                                 closed, no failures
                a failure, fewer than FAILURES in a row    closed
                a failure, the last of FAILURES in a row   open for FIRST_PAUSE
    open        a request during the pause                 refused
                a request after the pause                  half-open: this request is the trial
    half-open   a request                                  refused
                the trial fails                            open, twice as long, at most MAX_PAUSE
                the trial is abandoned, or takes too long  open; the next request is the trial
    not closed  any response, also to an earlier request   closed, no failures
                a failure of an earlier request            unchanged

A request that is abandoned, because its client disconnected or its time-out passed, does not count: the dispatcher may
be slow rather than down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES = 5
"""Failures in a row that open the circuit."""
FIRST_PAUSE, MAX_PAUSE = 1.0, 60.0
"""Seconds that the circuit is open at first, and at most."""
TRIAL_TIMEOUT = 30.0
"""Seconds after which another request may become the trial: the response to this one may just take long."""

State = Literal["closed", "open", "half-open"]


class Attempt:
    """One request that was sent."""


class Breaker:
    """Counts failures and computes how long to wait; `clock` returns s and is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pause = 0.0  # while the circuit is closed
        self._until = 0.0  # the end of the pause, or of the time-out of the trial
        self._trial: Attempt | None = None
        self.failures = 0

    @property
    def state(self) -> State:
        """The state, as in the table above."""
        if not self._pause:
            return "closed"
        return "half-open" if self._trial and self.wait() else "open"

    def wait(self) -> float:
        """Return the s until the next request may be sent; 0 means now."""
        if not self._pause:
            return 0.0
        wait = max(self._until - self._clock(), 0.0)
        return min(wait, FIRST_PAUSE) if self._trial else wait  # the trial may end at any moment

    def begin(self) -> Attempt:
        """Register a request that is about to be sent: the trial, unless the circuit is closed. `wait` must be 0."""
        attempt = Attempt()
        if self._pause:
            self._trial, self._until = attempt, self._clock() + TRIAL_TIMEOUT
        return attempt

    def record_success(self) -> None:
        """Count a response."""
        self._pause, self._trial, self.failures = 0.0, None, 0

    def record_failure(self, attempt: Attempt) -> None:
        """Count a request that failed because the dispatcher was down."""
        self.failures += 1
        if attempt is self._trial or (not self._pause and self.failures >= FAILURES):
            self._pause = min(2 * self._pause, MAX_PAUSE) or FIRST_PAUSE
            self._trial, self._until = None, self._clock() + self._pause

    def record_abandoned(self, attempt: Attempt) -> None:
        """Register that nobody waits for the response to a request any longer."""
        if attempt is self._trial:
            self._trial, self._until = None, self._clock()
