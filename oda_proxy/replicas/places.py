"""The places for jobs at a dispatcher that all replicas have together."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from oda_proxy.replicas.connection import RedisAwayError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.jobs.runtime import Runtime
    from oda_proxy.replicas.leases import LeaseTable
    from oda_proxy.replicas.timing import Timing

_log = logging.getLogger(__name__)

PLACES: Final = "jobs"
RELEASE_TIMEOUT: Final = 2.0
"""Seconds that a job which is cancelled has to leave its place, or to release its lease."""


class SharedPlaces:
    """The places; `limit` returns how many there are, and `owner` names this process."""

    def __init__(
        self, leases: LeaseTable, runtime: Runtime, *, owner: str, limit: Callable[[], int], timing: Timing
    ) -> None:
        self._leases = leases
        self._runtime = runtime
        self._owner = owner
        self.limit = limit
        self._timing = timing

    @asynccontextmanager
    async def hold(self, running: RunningJob) -> AsyncIterator[None]:
        """Hold one of the places, and wait for it; where Redis is away, those of this replica alone count."""
        holder, ttl = f"{self._owner} {running.resolved.key} {id(running)}", self._timing.lease
        try:
            while not await self._leases.take_place(PLACES, holder, self.limit(), ttl):
                if not running.is_queued:
                    running.is_queued = True
                    running.notify()
                await self._runtime.sleep(self._timing.look)
        except RedisAwayError:
            pass
        if running.is_queued:
            running.is_queued = False
            running.notify()
        keeping = asyncio.create_task(self._keep(holder, ttl))
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            try:
                async with asyncio.timeout(RELEASE_TIMEOUT):
                    await self._leases.leave_place(PLACES, holder)
            except (RedisAwayError, TimeoutError):
                _log.debug("cannot leave a place: it expires")

    async def _keep(self, holder: str, ttl: float) -> None:
        """Keep a place; one that was lost while Redis was away is taken again as soon as there is one."""
        while True:
            await self._runtime.sleep(self._timing.heartbeat)
            try:
                await self._leases.take_place(PLACES, holder, self.limit(), ttl)
            except RedisAwayError:
                continue
