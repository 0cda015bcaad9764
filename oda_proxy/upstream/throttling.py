"""Manners towards a dispatcher: how many requests at once, how many a second, and when none at all.

    is it left alone? -> a place -> a turn -> is it left alone by now? -> the dispatcher -> its reply
                                                                          with the end of the body the place is free

Places and turns are for who comes first. Whoever is refused was not sent: nothing happens by half.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from oda_proxy.errors import UpstreamPausedError, UpstreamSlowError, UpstreamUnreachableError
from oda_proxy.http import headers
from oda_proxy.upstream.breaker import Breaker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from oda_proxy.http.message import Body, Headers, Reply, Request, Upstream
    from oda_proxy.upstream.breaker import Attempt, State

_log = logging.getLogger(__name__)

BURST = 2.0
"""Seconds whose requests may come at once after a time without any."""
LONGEST_REST = 3600.0
"""Seconds of a pause that a dispatcher is granted; longer ones are rather mistakes."""
BUSY = 1.0
"""Seconds after which it is worth coming back where too many were waiting."""

_AT_REST = frozenset({429, 503})
"""What may come with `Retry-After` (RFC 6585, section 4; RFC 9110, section 15.6.4)."""
_AWAY = frozenset({502, 503, 504})
"""What gateways answer for a dispatcher that is not there; its own failures are 500."""
_LEAST_PATIENCE = 0.001  # in s; 0 would be no limit


@dataclass(frozen=True, slots=True)
class UpstreamHealth:
    """How it stands between us and a dispatcher; times are in s since 1970 (UTC)."""

    state: State
    failures: int
    """In a row."""
    since: float | None
    """When the first of these was."""
    reason: str
    """Of the last of these, or of the pause that the dispatcher wants."""
    until: float | None
    """When it is asked again, where it is left alone."""
    under_way: int
    waiting: int


class RateLimiter:
    """Gives turns: at most `rate` in each second and BURST seconds' worth at once, to whoever comes first.

    The rule is the generic cell rate algorithm (ITU-T I.371): a turn is due 1/rate after the one before, and may come
    early by the burst. `clock` gives s and never goes back.
    """

    def __init__(self, rate: float, clock: Callable[[], float], sleep: Callable[[float], Awaitable[object]]) -> None:
        self._interval = 1 / rate
        self._early = max(BURST - self._interval, 0.0)
        self._clock = clock
        self._sleep = sleep
        self._due = float("-inf")
        self._first = asyncio.Lock()

    async def turn(self) -> None:
        """Wait for a turn; who gives up meanwhile has used none."""
        async with self._first:
            now = self._clock()
            at = max(now, self._due - self._early)
            if at > now:
                await self._sleep(at - now)
            self._due = max(self._due, at) + self._interval


class ThrottledUpstream:
    """A dispatcher that is asked with manners: at most `at_once` requests under way and `rate` a second."""

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
        """Take whom to ask; `clock` gives s and never goes back, `today` s since 1970 (UTC)."""
        self.url = upstream.url
        self._upstream = upstream
        self._clock = clock
        self._today = today
        self._places = asyncio.Semaphore(max_concurrent)
        self._taken: set[_Place] = set()
        self._waiting = 0
        self._pace = RateLimiter(rate, clock, sleep)
        self._breaker = Breaker(clock)
        self._since = 0.0
        self._reason = ""
        self._rest_until = float("-inf")
        self._rest_reason = ""

    @property
    def health(self) -> UpstreamHealth:
        """How it stands, for a person."""
        rest = self._rest_until - self._clock()
        wait = max(rest, self._breaker.wait())
        return UpstreamHealth(
            state=self._breaker.state,
            failures=self._breaker.failures,
            since=self._since if self._breaker.failures else None,
            reason=self._rest_reason if rest > 0 else self._reason,
            until=self._today() + wait if wait > 0 else None,
            under_way=len(self._taken),
            waiting=self._waiting,
        )

    async def send(self, request: Request) -> Reply:
        """Ask once, when that is polite; redirects are not followed.

        Raises UpstreamPausedError where the dispatcher is left alone, or so busy with others that the asker's patience
        ended before the request was sent, and UpstreamUnreachableError where nobody answers.
        """
        self._refuse()
        came = self._clock()
        try:
            async with asyncio.timeout(request.timeout):
                place = await self._admitted()
        except TimeoutError as error:
            raise UpstreamPausedError(self.url, "too many other requests were waiting for it", BUSY) from error
        try:
            self._refuse()
            if request.timeout is not None:
                request = replace(request, timeout=max(request.timeout - (self._clock() - came), _LEAST_PATIENCE))
            reply = await self._sent(request)
        except BaseException:
            place.leave()
            raise
        return _Reply(reply.status, reply.headers, _Placed(reply.body, place))

    async def _admitted(self) -> _Place:
        """Wait for a place and for a turn."""
        self._waiting += 1
        try:
            await self._places.acquire()
            place = _Place(self._places, self._taken)
            try:
                self._refuse()  # many may have waited, and a turn is not for nothing
                await self._pace.turn()
            except BaseException:
                place.leave()
                raise
            return place
        finally:
            self._waiting -= 1

    def _refuse(self) -> None:
        """Raise UpstreamPausedError where the dispatcher is left alone just now."""
        if (rest := self._rest_until - self._clock()) > 0:
            raise UpstreamPausedError(self.url, self._rest_reason, rest)
        if wait := self._breaker.wait():
            raise UpstreamPausedError(self.url, f"it has failed {self._trouble()}", wait, is_down=True)

    async def _sent(self, request: Request) -> Reply:
        """Send a request, and take note of what becomes of it; a body that is slow or breaks off says nothing more."""
        attempt = self._breaker.begin()
        try:
            reply = await self._upstream.send(request)
        except UpstreamSlowError:
            self._breaker.given_up(attempt)
            raise
        except UpstreamUnreachableError as error:
            self._failed(attempt, error.reason)
            raise
        except BaseException:
            self._breaker.given_up(attempt)
            raise
        rest = _rest(reply, self._today())
        if reply.status in _AWAY and rest is None:
            self._failed(attempt, f"it answers {reply.status}")
        else:
            self._answered()
        if rest:
            self._leave_alone(reply.status, rest)
        return reply

    def _failed(self, attempt: Attempt, reason: str) -> None:
        """Take note of a failure, and log it where the dispatcher is left alone from now on."""
        before = self._breaker.state
        self._breaker.failed(attempt)
        self._reason = reason
        if self._breaker.failures == 1:
            self._since = self._today()
        if before == "closed" and self._breaker.state != "closed":
            _log.warning("the dispatcher %s has failed %s; it is asked now and then", self.url, self._trouble())

    def _answered(self) -> None:
        """Take note of an answer, and log it where the dispatcher was left alone until now."""
        if self._breaker.state != "closed":
            _log.warning("the dispatcher %s answers again; it had failed %s", self.url, self._trouble())
        self._breaker.succeeded()
        self._reason = ""

    def _trouble(self) -> str:
        """Say since when the dispatcher fails, how often, and why."""
        return f"since {_moment(self._since)}, {self._breaker.failures} times in a row ({self._reason})"

    def _leave_alone(self, status: int, rest: float) -> None:
        """Leave the dispatcher alone, as it wants, for `rest` s from now."""
        self._rest_until = max(self._rest_until, self._clock() + rest)
        self._rest_reason = f"it answered {status} at {_moment(self._today())} and wants to be left alone"
        _log.warning("the dispatcher %s wants to be left alone for %.0f s (status %d)", self.url, rest, status)


class _Place:
    """One of the places for requests under way."""

    def __init__(self, places: asyncio.Semaphore, taken: set[_Place]) -> None:
        self._places = places
        self._taken = taken
        taken.add(self)

    def leave(self) -> None:
        """Give the place back; a second time does nothing."""
        if self in self._taken:
            self._taken.remove(self)
            self._places.release()


@dataclass(frozen=True, slots=True)
class _Reply:
    """A reply that has its place until its body was read or let go."""

    status: int
    headers: Headers
    body: _Placed


@dataclass(frozen=True, slots=True)
class _Placed:
    """The body of such a reply."""

    body: Body
    place: _Place

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self.body:
                yield piece
        finally:
            self.place.leave()

    async def aclose(self) -> None:
        """Let go of the body, and of the place."""
        try:
            await self.body.aclose()
        finally:
            self.place.leave()


def _rest(reply: Reply, now: float) -> float | None:
    """Say for how many s a dispatcher wants to be left alone; None where it does not say so.

    `Retry-After` is a number of s or a date (RFC 9110, section 10.2.3); what is neither says nothing.
    """
    if reply.status not in _AT_REST:
        return None
    for value in headers.values(reply.headers, "retry-after"):
        if value.isascii() and value.isdigit():
            return min(float(value), LONGEST_REST)
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            continue
        wanted = date if date.tzinfo else date.replace(tzinfo=UTC)  # the oldest form of a date has no zone
        return min(max(wanted.timestamp() - now, 0.0), LONGEST_REST)
    return None


def _moment(at: float) -> str:
    """Write a time, in s since 1970, for a person."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
