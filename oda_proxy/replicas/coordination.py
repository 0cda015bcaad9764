"""Who leads a job: of all replicas, the one that has its lease; the others follow, and one of them takes over.

    acquire the lease --- held ------> lead: run the job, extend the lease, publish its state; at the end, how it ended
           |    '------ Redis away --> lead without a lease, until Redis is back and says who leads
           '- another has it --------> follow: show its state, until it has ended (its end is ours), or its lease
                                       is free (acquire it)

A leader that loses its lease, because it could not extend it in time, follows the new one. What it stores carries the
fencing token of its lease, and is refused once there is a higher one.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import InternalError, OdaProxyError
from oda_proxy.jobs.ending import close, stop_error
from oda_proxy.jobs.replicas import StopNotConfirmedError
from oda_proxy.replicas import ending, snapshot
from oda_proxy.replicas.connection import RedisAwayError
from oda_proxy.replicas.following import Follower, outcome_of, restart
from oda_proxy.replicas.leases import Beat
from oda_proxy.replicas.places import RELEASE_TIMEOUT, SharedPlaces
from oda_proxy.replicas.session_marks import UnpublishedMarks, marks_of
from oda_proxy.replicas.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from contextlib import AbstractAsyncContextManager

    from oda_proxy.jobs.ending import GivenUpError
    from oda_proxy.jobs.outcome import Outcome
    from oda_proxy.jobs.replicas import Lead
    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.jobs.runtime import Runtime
    from oda_proxy.query.cache_key import Key
    from oda_proxy.replicas.leases import LeaseTable
    from oda_proxy.replicas.news import JobNews

_log = logging.getLogger(__name__)


TIMING: Final = Timing()


class _LostLeaseError(Exception):
    """Another replica has the lease of a job."""


@dataclass(slots=True)
class _Lease:
    """A lease; without a fencing token, a job that is led without one because Redis is away."""

    key: Key
    fence: int | None
    marks: UnpublishedMarks
    """Of the sessions that have joined the job at this replica."""


class Coordination:
    """One job for each query over all replicas.

    `owner` names this process, and `limit` returns how many jobs may run at once.
    """

    def __init__(
        self,
        leases: LeaseTable,
        news: JobNews,
        runtime: Runtime,
        *,
        owner: str,
        limit: Callable[[], int],
        timing: Timing = TIMING,
    ) -> None:
        self.leads = 0
        """How many jobs this replica leads now."""
        self.follows = 0
        """How many jobs of other replicas it follows now."""
        self._leases = leases
        self._news = news
        self._runtime = runtime
        self._timing = timing
        self.places = SharedPlaces(leases, runtime, owner=owner, limit=limit, timing=timing)

    async def has_job(self, key: Key) -> bool:
        """Return whether a replica leads a job, it can be continued, or has just ended."""
        try:
            return await self._leases.exists(key)
        except RedisAwayError:
            return False

    async def jobs(self) -> list[Key]:
        """Return the keys of the jobs that any replica leads; none where Redis is away."""
        try:
            return await self._leases.led()
        except RedisAwayError:
            return []

    async def is_alone(self, key: Key, sessions: Collection[str]) -> bool:
        """Return whether some sessions have joined a job, and no other ones; where Redis is away, none are known."""
        try:
            marks = await self._leases.sessions(key)
        except RedisAwayError:
            return True
        return bool(marks) and marks <= marks_of(key, sessions)

    async def stop(self, key: Key, stopped_by: str) -> None:
        """Have the replica that leads a job stop it, and wait for that. Raises StopNotConfirmedError."""
        timeout = self._timing.heartbeat + 2 * self._timing.look  # the message to the leader may be lost
        try:
            before = await self._leases.read(key, is_watched=False)
            if not await self._leases.request(key, "stop", stopped_by):
                return
            async with asyncio.timeout(timeout):
                while (await self._leases.read(key, is_watched=False)).ended_fence <= before.ended_fence:
                    await self._news.wait(key, self._timing.look)
        except RedisAwayError as error:
            raise StopNotConfirmedError(
                "another server runs the job, and gets no message while Redis is away; try again later"
            ) from error
        except TimeoutError as error:
            raise StopNotConfirmedError(
                f"the server that runs the job has not confirmed within {timeout:.0f} s that it has stopped it; "
                "oda-proxy jobs shows whether it runs"
            ) from error

    def place(self, running: RunningJob) -> AbstractAsyncContextManager[None]:
        """Hold one of the places for jobs of all replicas; where Redis is away, those of this one alone count."""
        return self.places.hold(running)

    async def run(self, running: RunningJob, lead: Lead) -> Outcome:
        """Return the outcome of a job, which `lead` runs here unless another replica leads it."""
        key, marks = running.resolved.key, UnpublishedMarks(running)
        if (outcome := await self._ended_before(running)) is not None:
            return outcome
        refreshed = float("-inf")  # the last refresh that this replica has begun as the leader
        was_elsewhere = True
        while True:
            try:
                held, fence = await self._leases.acquire(key, self._timing.lease)
            except RedisAwayError:
                held, fence = True, 0
            if not held:
                parts = (running, self._leases, self._news, marks)
                follower = Follower(
                    *parts, fence=fence, refreshed=refreshed, runtime=self._runtime, timing=self._timing
                )
                if (outcome := await self._follow(follower)) is not None:
                    return outcome
                was_elsewhere = not follower.has_missed_refresh
                continue
            lease = _Lease(key, fence or None, marks)
            try:
                return await self._lead(running, lease, partial(lead, running, was_elsewhere=was_elsewhere))
            except _LostLeaseError:
                _log.warning("another server leads the job %.12s now: this one follows it", key)
                refreshed, was_elsewhere = running.times.refreshed, True
                running.was_run_here = False
                restart(running)
                if (outcome := await self._ended_later(key, lease.fence)) is not None:
                    return outcome

    async def _follow(self, follower: Follower) -> Outcome | None:
        """Follow a job, and return its end; None where it may be led here."""
        self.follows += 1
        try:
            return await follower.follow()
        finally:
            self.follows -= 1

    async def _ended_before(self, running: RunningJob) -> Outcome | None:
        """Return the end of a job that a client polls, and of which it has not heard that it has ended."""
        if running.client.envelope.awaits_products:
            return None
        try:
            published = await self._leases.read(running.resolved.key, is_watched=False)
        except RedisAwayError:
            return None
        outcome = None if published.is_led else outcome_of(published)
        if outcome is not None and (outcome.stored or outcome.store_failed):
            return None  # a recording was just looked for
        return outcome

    async def _ended_later(self, key: Key, fence: int | None) -> Outcome | None:
        """Return the end of a job under a later lease than the one that was lost; None where it has not ended.

        Without a fencing token (None), it is not known which leases are later.
        """
        if fence is None:
            return None
        try:
            published = await self._leases.read(key, is_watched=False)
        except RedisAwayError:
            return None
        outcome = outcome_of(published) if published.ended_fence > fence else None
        return None if outcome is None or outcome.store_failed else outcome

    # -- leading -----------------------------------------------------------------------------------

    async def _lead(self, running: RunningJob, lease: _Lease, run: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Run a job here while its lease is held. Raises _LostLeaseError."""
        running.fence = lease.fence
        self.leads += 1
        work = asyncio.ensure_future(run())
        beat = asyncio.create_task(self._beat(running, lease))
        ended: bytes | None = b""
        is_lost = False
        try:
            await asyncio.wait({work, beat}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                ended = await _end(work)
            elif (stopped := beat.result()) is not None:  # an error in it is not hidden
                ended = ending.of_error(stopped)
                raise stopped
            else:
                ended = None
        except asyncio.CancelledError:
            ended = b"" if running.stopped_by is None else ending.of_error(running.stopped_by)
            raise
        finally:
            self.leads -= 1
            work.cancel()
            beat.cancel()
            await asyncio.gather(work, beat, return_exceptions=True)
            running.fence = None
            is_lost = ended is None or not await self._release(lease, ended)
        if is_lost or work.result().fenced:
            await _discard(work)
            raise _LostLeaseError
        return work.result()

    async def _release(self, lease: _Lease, ended: bytes) -> bool:
        """Release a lease, which expires where that fails; return False where another replica has it."""
        if lease.fence is None:
            return True
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                return await self._leases.release(lease.key, lease.fence, ended)
        except (RedisAwayError, TimeoutError):
            _log.warning("cannot release the lease of the job %.12s: others wait until it expires", lease.key)
            return True

    async def _beat(self, running: RunningJob, lease: _Lease) -> GivenUpError | None:
        """Extend a lease and publish the state of its job.

        Return once another replica has the lease, or with an error once the job is stopped through another replica.
        """
        published = -1
        while True:
            changes = running.changes
            state = b"" if changes == published else snapshot.serialise(snapshot.snapshot_of(running))
            try:
                beat = await self._extend(running, lease, state)
                if not beat.is_held:
                    return None
                if beat.stopped_by:
                    return stop_error(beat.stopped_by)
                if beat.is_refresh_requested and running.note_refresh(is_owner=False):
                    running.request_resubmission()
                published = changes
            except RedisAwayError:
                pass
            await self._runtime.sleep(self._timing.settle)
            await self._wait_for_change(running, published)

    async def _extend(self, running: RunningJob, lease: _Lease, state: bytes) -> Beat:
        """Extend a lease, or take it where Redis was away before."""
        if lease.fence is None:
            held, fence = await self._leases.acquire(lease.key, self._timing.lease)
            if not held:
                return Beat(is_held=False)
            lease.fence = running.fence = fence
        marks = lease.marks.under(lease.fence)
        beat = await self._leases.publish(lease.key, lease.fence, self._timing.lease, state, marks)
        lease.marks.note_published(marks)
        if beat.is_watched:
            running.note_watched()
        return beat

    async def _wait_for_change(self, running: RunningJob, published: int) -> None:
        """Wait until a job has changed, a client of another replica waits for it, or the next heartbeat."""
        rest = self._timing.heartbeat - self._timing.settle
        if published == -1:  # Redis is away: the job changes, too, and that cannot be published
            await self._runtime.sleep(min(self._timing.look, rest))
            return
        waits = {
            asyncio.create_task(self._news.wait(running.resolved.key, rest)),
            asyncio.create_task(running.wait_beyond(published)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


async def _end(work: asyncio.Future[Outcome]) -> bytes:
    """Return the end of a job for other replicas."""
    error = work.exception()
    if error is None:
        return await asyncio.to_thread(ending.serialise, work.result())
    if isinstance(error, OdaProxyError):
        return ending.of_error(error)
    return ending.of_error(InternalError(error)) if isinstance(error, Exception) else b""


async def _discard(work: asyncio.Future[Outcome]) -> None:
    """Close what a job has returned that was led under a lease which another replica has taken."""
    if work.cancelled() or work.exception() is not None:
        return
    outcome = work.result()
    await close(outcome.answer)
    if outcome.recording is not None:
        outcome.recording.head.close()
