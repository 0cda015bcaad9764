"""Limits on requests to a dispatcher over all replicas: at once, a second, its pauses, and the circuit breaker.

They lie below those of each replica (`upstream.throttling`), which hold alone while Redis is away.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import LocalLimitError, UpstreamPausedError, UpstreamSlowError, UpstreamUnreachableError
from oda_proxy.replicas.connection import RedisAwayError
from oda_proxy.store.redis.scripts import read_script
from oda_proxy.upstream.slot_replies import with_slot
from oda_proxy.upstream.throttling import BURST, BUSY_RETRY_AFTER, GATEWAY_ERRORS, retry_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oda_proxy.http.message import Reply, Request, Upstream
    from oda_proxy.replicas.connection import Connection

SLOT: Final = 15.0
"""Seconds for which a request counts as under way without a sign of its replica."""
FULL_PAUSE: Final = 0.1
"""Seconds between two attempts where too many requests are under way."""

SCRIPT: Final = read_script(Path(__file__).with_name("limits.lua"))
_MIN_TIMEOUT: Final = 0.001


class SharedLimits:
    """A dispatcher that gets at most `max_concurrent` requests at once and `rate` a second from all replicas."""

    def __init__(
        self,
        upstream: Upstream,
        connection: Connection,
        *,
        max_concurrent: int,
        rate: float,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], float] = time.time,
    ) -> None:
        """Take the dispatcher; `clock` returns s and is monotonic, `today` s since 1970 (UTC)."""
        self.url = upstream.url
        self._upstream = upstream
        self._connection = connection
        self._sleep = sleep
        self._clock = clock
        self._today = today
        self._held: set[str] = set()
        self.set_limits(max_concurrent=max_concurrent, rate=rate)

    def set_limits(self, *, max_concurrent: int, rate: float) -> None:
        """Replace the limits, for the next request."""
        self._max_concurrent = max_concurrent
        self._interval = 1 / rate

    async def send(self, request: Request) -> Reply:
        """Send a request once, within the limits.

        Raises UpstreamPausedError during a pause, or where the time-out of the request passed while others were sent
        first, and UpstreamUnreachableError where the dispatcher does not respond.
        """
        name, started = secrets.token_hex(8), self._clock()
        try:
            async with asyncio.timeout(request.timeout):
                await self._admit(name)
        except TimeoutError as error:
            await self._leave(name)
            raise UpstreamPausedError(
                self.url, "too many other requests were waiting for it", BUSY_RETRY_AFTER
            ) from error
        except RedisAwayError:
            return await self._upstream.send(request)
        except asyncio.CancelledError:
            await self._leave(name)
            raise
        if request.timeout is not None:
            request = replace(request, timeout=max(request.timeout - (self._clock() - started), _MIN_TIMEOUT))
        try:
            reply = await self._send(name, request)
        except BaseException:
            await self._leave(name)
            raise
        return with_slot(reply, partial(self.leave, name))

    async def keep_slots(self) -> None:
        """Keep the slots of requests that are under way, until it is cancelled."""
        while True:
            await self._sleep(SLOT / 3)
            if self._held:
                await self._report("keep", round(SLOT * 1000), *self._held)

    async def leave(self, name: str) -> None:
        """Release the slot of a request; a second call does nothing."""
        if name in self._held:
            await self._leave(name)

    async def _admit(self, name: str) -> None:
        """Wait until a request may be sent. Raises UpstreamPausedError and RedisAwayError."""
        tolerance = max(BURST - self._interval, 0.0)
        numbers = (self._max_concurrent, round(SLOT * 1000), self._interval * 1000, tolerance * 1000)
        while True:
            word, wait, reason = await self._connection.call(SCRIPT, "admit", name, *numbers)
            if word == b"ok":
                self._held.add(name)
                if wait:
                    await self._sleep(wait / 1000)
                return
            if word == b"full":
                await self._sleep(FULL_PAUSE)
            else:
                text = reason.decode("utf-8", "replace")
                raise UpstreamPausedError(self.url, text, wait / 1000, is_down=word == b"down")

    async def _send(self, name: str, request: Request) -> Reply:
        """Send a request and report its outcome to all replicas."""
        try:
            reply = await self._upstream.send(request)
        except (UpstreamSlowError, LocalLimitError):
            await self._report("abandoned", name)
            raise
        except UpstreamUnreachableError as error:
            await self._report("failure", name, f"it fails for all servers ({error.reason})")
            raise
        except BaseException:
            await self._report("abandoned", name)
            raise
        pause = retry_after(reply, self._today())
        if reply.status in GATEWAY_ERRORS and pause is None:
            await self._report("failure", name, f"it fails for all servers (it responds {reply.status})")
        else:
            await self._report("success")
        if pause:
            await self._report("pause", max(round(pause * 1000), 1), f"it responded {reply.status} to another server")
        return reply

    async def _leave(self, name: str) -> None:
        self._held.discard(name)
        await self._report("leave", name)

    async def _report(self, *arguments: str | float) -> None:
        """Report to all replicas; while Redis is away, only this one knows."""
        with suppress(RedisAwayError):
            await self._connection.call(SCRIPT, *arguments)
