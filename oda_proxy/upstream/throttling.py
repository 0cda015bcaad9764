"""Limits on requests to a dispatcher: how many at once, how many a second, and pauses without any.

    paused? -> a slot -> the rate limit -> paused by now? -> the dispatcher -> its response
                                                             the slot is released at the end of the body

Slots and the rate limit are first come, first served. A request that is refused was not sent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from oda_proxy.errors import LocalLimitError, UpstreamPausedError, UpstreamSlowError, UpstreamUnreachableError
from oda_proxy.http import headers
from oda_proxy.upstream.breaker import Breaker
from oda_proxy.upstream.counts import UpstreamCounts
from oda_proxy.upstream.slot_replies import with_slot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oda_proxy.http.message import Reply, Request, Upstream
    from oda_proxy.upstream.breaker import Attempt, State

_log = logging.getLogger(__name__)

BURST = 2.0
"""Seconds whose requests may be sent at once after a time without any."""
MAX_RETRY_AFTER = 3600.0
"""Seconds of `Retry-After` that are observed; longer values are assumed to be mistakes."""
BUSY_RETRY_AFTER = 1.0
"""Seconds after which to retry where too many requests were waiting."""

_PAUSE_STATUSES = frozenset({429, 503})
"""Statuses that may have `Retry-After` (RFC 6585, section 4; RFC 9110, section 15.6.4)."""
GATEWAY_ERRORS = frozenset({502, 503, 504})
"""Statuses of gateways whose dispatcher is down; its own failures are 500."""
_MIN_TIMEOUT = 0.001  # in s; 0 would mean no time-out


@dataclass(frozen=True, slots=True)
class UpstreamHealth:
    """The state of the connection to a dispatcher; times are in s since 1970 (UTC)."""

    state: State
    failures: int
    """In a row."""
    since: float | None
    """Time of the first of these failures."""
    reason: str
    """Reason of the last of these failures, or of the pause that the dispatcher requested."""
    until: float | None
    """End of the pause, if there is one."""
    under_way: int
    waiting: int


@runtime_checkable
class LimitedUpstream(Protocol):
    """A dispatcher whose limits hold for several servers."""

    def set_limits(self, *, max_concurrent: int, rate: float) -> None:
        """Replace the limits."""


class RateLimiter:
    """Admits at most `rate` requests a second, and BURST seconds' worth of them at once, first come, first served.

    The generic cell rate algorithm (ITU-T I.371): a request is due 1/rate after the one before, and may be early by the
    burst. `clock` returns s and is monotonic.
    """

    def __init__(self, rate: float, clock: Callable[[], float], sleep: Callable[[float], Awaitable[object]]) -> None:
        self.set_rate(rate)
        self._clock = clock
        self._sleep = sleep
        self._due = float("-inf")
        self._queue = asyncio.Lock()

    def set_rate(self, rate: float) -> None:
        """Replace the rate, for the next request."""
        self._interval = 1 / rate
        self._tolerance = max(BURST - self._interval, 0.0)

    async def acquire(self) -> None:
        """Wait until a request may be sent; a waiter that is cancelled uses up nothing."""
        async with self._queue:
            now = self._clock()
            at = max(now, self._due - self._tolerance)
            if at > now:
                await self._sleep(at - now)
            self._due = max(self._due, at) + self._interval


class ThrottledUpstream:
    """A dispatcher that gets at most `max_concurrent` requests at once and `rate` a second."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        max_concurrent: int,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        today: Callable[[], float] = time.time,
    ) -> None:
        """Take the dispatcher; `clock` returns s and is monotonic, `today` s since 1970 (UTC)."""
        self.url = upstream.url
        self.counts = UpstreamCounts()
        self._upstream = upstream
        self._clock = clock
        self._today = today
        self._slots = _Slots(max_concurrent)
        self._waiting = 0
        self._rate_limiter = RateLimiter(rate, clock, sleep)
        self._breaker = Breaker(clock)
        self._failing_since = 0.0
        self._failure_reason = ""
        self._paused_until = float("-inf")
        self._pause_reason = ""

    @property
    def health(self) -> UpstreamHealth:
        """The current state, for the status page."""
        pause = self._paused_until - self._clock()
        wait = max(pause, self._breaker.wait())
        return UpstreamHealth(
            state=self._breaker.state,
            failures=self._breaker.failures,
            since=self._failing_since if self._breaker.failures else None,
            reason=self._pause_reason if pause > 0 else self._failure_reason,
            until=self._today() + wait if wait > 0 else None,
            under_way=self._slots.taken,
            waiting=self._waiting,
        )

    @property
    def max_concurrent(self) -> int:
        """How many requests may be sent at once."""
        return self._slots.limit

    def set_limits(self, *, max_concurrent: int, rate: float) -> None:
        """Replace the limits; requests that are under way are not ended."""
        self._slots.set_limit(max_concurrent)
        self._rate_limiter.set_rate(rate)
        if isinstance(self._upstream, LimitedUpstream):
            self._upstream.set_limits(max_concurrent=max_concurrent, rate=rate)

    async def send(self, request: Request) -> Reply:
        """Send a request once, within the limits.

        Raises UpstreamPausedError during a pause, or where the time-out of the request passed while others were sent
        first, and UpstreamUnreachableError where the dispatcher does not respond.
        """
        self._raise_if_paused()
        started = self._clock()
        try:
            async with asyncio.timeout(request.timeout):
                slot = await self._acquire_slot()
        except TimeoutError as error:
            raise UpstreamPausedError(
                self.url, "too many other requests were waiting for it", BUSY_RETRY_AFTER
            ) from error
        try:
            self._raise_if_paused()
            if request.timeout is not None:
                request = replace(request, timeout=max(request.timeout - (self._clock() - started), _MIN_TIMEOUT))
            reply = await self._send(request)
        except BaseException:
            slot.release()
            raise
        return with_slot(reply, slot.aclose, self.counts.note_received)

    async def _acquire_slot(self) -> _Slot:
        """Wait for a slot and for the rate limit."""
        self._waiting += 1
        try:
            slot = await self._slots.take()
            try:
                self._raise_if_paused()  # while it waited, a pause may have begun
                await self._rate_limiter.acquire()
            except BaseException:
                slot.release()
                raise
            return slot
        finally:
            self._waiting -= 1

    def _raise_if_paused(self) -> None:
        """Raise UpstreamPausedError during a pause."""
        if (pause := self._paused_until - self._clock()) > 0:
            raise UpstreamPausedError(self.url, self._pause_reason, pause)
        if wait := self._breaker.wait():
            raise UpstreamPausedError(self.url, f"it has failed {self._failure_summary()}", wait, is_down=True)

    async def _send(self, request: Request) -> Reply:
        """Send a request and record its outcome; a body that is slow or incomplete does not count as a failure."""
        attempt, started = self._breaker.begin(), self._clock()
        self.counts.note_request(request)
        try:
            reply = await self._upstream.send(request)
        except (UpstreamSlowError, LocalLimitError, UpstreamPausedError):  # or it was not sent
            self.counts.note_reply(None)
            self._breaker.record_abandoned(attempt)
            raise
        except UpstreamUnreachableError as error:
            self.counts.note_reply(None)
            self._record_failure(attempt, error.reason)
            raise
        except BaseException:
            self._breaker.record_abandoned(attempt)
            raise
        self.counts.note_reply(reply.status, self._clock() - started)
        pause = retry_after(reply, self._today())
        if reply.status in GATEWAY_ERRORS and pause is None:
            self._record_failure(attempt, f"it responds {reply.status}")
        else:
            self._record_success()
        if pause:
            self._pause(reply.status, pause)
        return reply

    def _record_failure(self, attempt: Attempt, reason: str) -> None:
        """Record a failure, and log it where it opens the circuit."""
        before = self._breaker.state
        self._breaker.record_failure(attempt)
        self._failure_reason = reason
        if self._breaker.failures == 1:
            self._failing_since = self._today()
        if before == "closed" and self._breaker.state != "closed":
            _log.warning(
                "the dispatcher %s has failed %s; requests to it are paused, and one is tried now and then",
                self.url,
                self._failure_summary(),
            )

    def _record_success(self) -> None:
        """Record a response, and log it where it closes the circuit."""
        if self._breaker.state != "closed":
            _log.warning("the dispatcher %s responds again; it had failed %s", self.url, self._failure_summary())
        self._breaker.record_success()
        self._failure_reason = ""

    def _failure_summary(self) -> str:
        """Return since when the dispatcher fails, how often, and why."""
        return (
            f"since {_time_text(self._failing_since)}, {self._breaker.failures} times in a row ({self._failure_reason})"
        )

    def _pause(self, status: int, seconds: float) -> None:
        """Send no requests for some seconds, as the dispatcher requested."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)
        self._pause_reason = f"it responded {status} at {_time_text(self._today())} and requested a pause"
        _log.warning("the dispatcher %s requested a pause of %.0f s (status %d)", self.url, seconds, status)


class _Slots:
    """At most `limit` requests at once, first come, first served."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    def set_limit(self, limit: int) -> None:
        """Replace the limit; slots beyond it are not given to others once they are released."""
        self.limit = limit
        self._grant()

    async def take(self) -> _Slot:
        """Wait for a slot."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._grant()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()
            raise
        return _Slot(self)

    def release(self) -> None:
        """Give the slot of one request to the next one."""
        self.taken -= 1
        self._grant()

    def _grant(self) -> None:
        while self._waiters and self.taken < self.limit:
            waiter = self._waiters.popleft()
            if not waiter.done():  # a request that was cancelled waits no longer
                self.taken += 1
                waiter.set_result(None)


class _Slot:
    """One of the concurrent requests."""

    def __init__(self, slots: _Slots) -> None:
        self._slots = slots
        self._is_held = True

    def release(self) -> None:
        """Release the slot; a second call does nothing."""
        if self._is_held:
            self._is_held = False
            self._slots.release()

    async def aclose(self) -> None:
        """Release the slot; a second call does nothing."""
        self.release()


def retry_after(reply: Reply, now: float) -> float | None:
    """Return the pause in s that a response requests, or None; `now` is in s since 1970 (UTC).

    `Retry-After` is a number of s or a date (RFC 9110, section 10.2.3); other values are ignored.
    """
    if reply.status not in _PAUSE_STATUSES:
        return None
    for value in headers.values(reply.headers, "retry-after"):
        if value.isascii() and value.isdigit():
            return min(float(value), MAX_RETRY_AFTER)
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            continue
        retry_at = date if date.tzinfo else date.replace(tzinfo=UTC)  # the oldest form of a date has no zone
        return min(max(retry_at.timestamp() - now, 0.0), MAX_RETRY_AFTER)
    return None


def _time_text(at: float) -> str:
    """Return a time, in s since 1970, as text."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
