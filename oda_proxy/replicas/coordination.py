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
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import CodecError, InternalError, OdaProxyError
from oda_proxy.jobs.job import Job, State
from oda_proxy.replicas import ending, snapshot
from oda_proxy.replicas.connection import RedisAwayError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from oda_proxy.jobs.outcome import Outcome
    from oda_proxy.jobs.replicas import Lead
    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.jobs.runtime import Runtime
    from oda_proxy.query.cache_key import Key
    from oda_proxy.replicas.leases import LeaseTable, Published
    from oda_proxy.replicas.news import JobNews
    from oda_proxy.replicas.snapshot import Snapshot

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """How soon replicas notice what happens; in s."""

    heartbeat: float = 5.0
    """Between two extensions of a lease."""
    lease: float = 8.0
    """For how long a lease is held without one: less than two heartbeats."""
    look: float = 1.0
    """Between two looks at a job that another replica leads: a lost message costs no more."""
    outage: float = 60.0
    """For how long a job is followed while Redis is away, before it is led here."""
    settle: float = 0.1
    """Between two publications of a state."""


PLACES: Final = "jobs"
RELEASE_TIMEOUT: Final = 2.0
"""Seconds that a job which is cancelled has to release its lease."""


class _LostLeaseError(Exception):
    """Another replica has the lease of a job."""


@dataclass(slots=True)
class _Lease:
    """A lease; without a fencing token, a job that is led without one because Redis is away."""

    key: Key
    fence: int | None


class Coordination:
    """One job for each query over all replicas; `limit` returns how many jobs may run at once."""

    def __init__(
        self,
        leases: LeaseTable,
        news: JobNews,
        runtime: Runtime,
        *,
        owner: str,
        limit: Callable[[], int],
        timing: Timing = Timing(),
    ) -> None:
        self.limit = limit
        self.leads = 0
        """How many jobs this replica leads now."""
        self.follows = 0
        """How many jobs of other replicas it follows now."""
        self._leases = leases
        self._news = news
        self._runtime = runtime
        self._owner = owner
        self._timing = timing

    async def has_job(self, key: Key) -> bool:
        """Return whether a replica leads a job, it can be continued, or has just ended."""
        try:
            return await self._leases.exists(key)
        except RedisAwayError:
            return False

    async def run(self, running: RunningJob, lead: Lead) -> Outcome:
        """Return the outcome of a job, which `lead` runs here unless another replica leads it."""
        key = running.resolved.key
        if (outcome := await self._ended_before(running)) is not None:
            return outcome
        while True:
            try:
                held, fence = await self._leases.acquire(key, self._timing.lease)
            except RedisAwayError:
                held, fence = True, 0
            if not held:
                outcome = await self._follow(running, fence)
                if outcome is not None:
                    return outcome
                continue
            try:
                return await self._lead(running, _Lease(key, fence or None), lead)
            except _LostLeaseError:
                _log.warning("another server leads the job %.12s now: this one follows it", key)
                _restart(running)

    async def _ended_before(self, running: RunningJob) -> Outcome | None:
        """Return the end of a job that a client polls, and of which it has not heard that it has ended."""
        if running.client.envelope.awaits_products:
            return None
        try:
            published = await self._leases.read(running.resolved.key, is_watched=False)
        except RedisAwayError:
            return None
        outcome = None if published.is_led else _outcome(published)
        if outcome is not None and (outcome.stored or outcome.store_failed):
            return None  # a recording was just looked for
        return outcome

    # -- leading -----------------------------------------------------------------------------------

    async def _lead(self, running: RunningJob, lease: _Lease, lead: Lead) -> Outcome:
        """Run a job here while its lease is held. Raises _LostLeaseError."""
        running.fence = lease.fence
        self.leads += 1
        work = asyncio.ensure_future(lead(running, was_elsewhere=True))
        beat = asyncio.create_task(self._beat(running, lease))
        ended: bytes | None = b""
        try:
            await asyncio.wait({work, beat}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                ended = await _end(work)
            else:
                beat.result()  # an error in it is not hidden
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
            if ended is not None:
                await self._release(lease, ended)
        if ended is None:
            raise _LostLeaseError
        return work.result()

    async def _release(self, lease: _Lease, ended: bytes) -> None:
        """Release a lease; where that fails, it expires."""
        if lease.fence is None:
            return
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self._leases.release(lease.key, lease.fence, ended)
        except (RedisAwayError, TimeoutError):
            _log.warning("cannot release the lease of the job %.12s: others wait until it expires", lease.key)

    async def _beat(self, running: RunningJob, lease: _Lease) -> None:
        """Extend a lease and publish the state of its job; return once another replica has the lease."""
        published = -1
        while True:
            changes = running.changes
            state = b"" if changes == published else snapshot.serialise(snapshot.snapshot_of(running))
            try:
                if not await self._extend(running, lease, state):
                    return
                published = changes
            except RedisAwayError:
                pass
            await self._runtime.sleep(self._timing.settle)
            await self._wait_for_change(running, published)

    async def _extend(self, running: RunningJob, lease: _Lease, state: bytes) -> bool:
        """Extend a lease, or take it where Redis was away before; return whether it is held."""
        if lease.fence is None:
            held, fence = await self._leases.acquire(lease.key, self._timing.lease)
            if not held:
                return False
            lease.fence = running.fence = fence
        held, is_watched = await self._leases.publish(lease.key, lease.fence, self._timing.lease, state)
        if is_watched:
            running.note_watched()
        return held

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

    # -- following ---------------------------------------------------------------------------------

    async def _follow(self, running: RunningJob, fence: int) -> Outcome | None:
        """Show the state of a job that another replica leads; return its end, or None where this one may lead it.

        That is once its lease is free, and where its leader could not store the result, which is fetched again.
        `fence` is the fencing token of its lease: earlier ends do not count.
        """
        key, former = running.resolved.key, None
        away_since: float | None = None
        self.follows += 1
        running.is_elsewhere = True
        running.notify()
        try:
            while True:
                try:
                    published = await self._leases.read(key, is_watched=running.is_watched)
                except RedisAwayError:
                    now = self._runtime.clock()
                    away_since = now if away_since is None else away_since
                    if now - away_since > self._timing.outage:
                        return None
                else:
                    away_since = None
                    if published.ended_fence >= fence and (outcome := _outcome(published)) is not None:
                        return None if outcome.store_failed else outcome  # its leader alone has the result
                    if not published.is_led:
                        return None
                    former = _show(running, published, former)
                await self._news.wait(key, self._timing.look)
        finally:
            self.follows -= 1
            running.is_elsewhere = False
            _restart(running)

    # -- places ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def place(self, running: RunningJob) -> AsyncIterator[None]:
        """Hold one of the places for jobs of all replicas; where Redis is away, those of this one alone count."""
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
        keeping = asyncio.create_task(self._keep_place(holder, ttl))
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

    async def _keep_place(self, holder: str, ttl: float) -> None:
        """Keep a place; one that was lost while Redis was away is taken again as soon as there is one."""
        while True:
            await self._runtime.sleep(self._timing.heartbeat)
            try:
                await self._leases.take_place(PLACES, holder, self.limit(), ttl)
            except RedisAwayError:
                continue


async def _end(work: asyncio.Future[Outcome]) -> bytes:
    """Return the end of a job for other replicas."""
    error = work.exception()
    if error is None:
        return await asyncio.to_thread(ending.serialise, work.result())
    if isinstance(error, OdaProxyError):
        return ending.of_error(error)
    return ending.of_error(InternalError(error)) if isinstance(error, Exception) else b""


def _restart(running: RunningJob) -> None:
    """Have the next leader continue a job: in its own session, if the dispatcher's name for the job is public."""
    job = running.job
    state = State.SUBMITTED if job.job_id and not running.client.envelope.token else State.NEW
    job_id = job.job_id if state is State.SUBMITTED else ""
    running.job, running.resumed = Job(job.started_at, state=state, job_id=job_id), True
    running.take_resubmission()
    running.end_resubmission()


def _show(running: RunningJob, published: Published, former: Snapshot | None) -> Snapshot | None:
    """Show a published state, if it can be read."""
    if not published.state:
        return former
    try:
        state = snapshot.parse(published.state)
    except CodecError as error:
        _log.warning("%s: the job %.12s is followed without it", error, running.resolved.key)
        return former
    snapshot.apply(state, running, former)
    return state


def _outcome(published: Published) -> Outcome | None:
    """Return how a job ended, if that can be read."""
    if not published.ended:
        return None
    try:
        return ending.parse(published.ended)
    except CodecError as error:
        _log.warning("%s: the job is run again", error)
        return None
