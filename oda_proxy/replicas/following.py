"""Following a job that another replica leads: its state is shown here, and what clients request here is passed on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from oda_proxy.errors import CodecError
from oda_proxy.jobs.job import Job, State
from oda_proxy.replicas import ending, snapshot
from oda_proxy.replicas.connection import RedisAwayError

if TYPE_CHECKING:
    from oda_proxy.jobs.outcome import Outcome
    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.jobs.runtime import Runtime
    from oda_proxy.replicas.leases import LeaseTable, Published
    from oda_proxy.replicas.news import JobNews
    from oda_proxy.replicas.session_marks import UnpublishedMarks
    from oda_proxy.replicas.snapshot import Snapshot
    from oda_proxy.replicas.timing import Timing

_log = logging.getLogger(__name__)


class Follower:
    """Follows one job under the lease with a fencing token, and later ones: earlier ends do not count."""

    def __init__(
        self,
        running: RunningJob,
        leases: LeaseTable,
        news: JobNews,
        marks: UnpublishedMarks,
        *,
        fence: int,
        refreshed: float,
        runtime: Runtime,
        timing: Timing,
    ) -> None:
        """Take the job; refreshes that clients want after the time `refreshed`, in s since 1970, are passed on."""
        self.has_missed_refresh = False
        """Whether the job has ended before its leader heard of a refresh: it is to be run again."""
        self._running = running
        self._leases = leases
        self._news = news
        self._marks = marks
        self._first_fence = self._fence = fence
        self._refreshed = refreshed
        self._runtime = runtime
        self._timing = timing
        self._away_since: float | None = None
        self._former: Snapshot | None = None

    async def follow(self) -> Outcome | None:
        """Show the state of the job until it has ended, and return that end; None where it may be led here.

        That is once its lease is free, where its leader could not store the result, which is fetched again, and where a
        refresh came too late for its leader.
        """
        running = self._running
        running.is_elsewhere = True
        running.notify()
        try:
            return await self._follow()
        finally:
            running.is_elsewhere = False
            restart(running)
            if running.times.refreshed > self._refreshed:  # it was passed on to no leader
                running.request_resubmission()

    async def _follow(self) -> Outcome | None:
        key = self._running.resolved.key
        while True:
            try:
                published = await self._look()
            except RedisAwayError:
                now = self._runtime.clock()
                self._away_since = now if self._away_since is None else self._away_since
                if now - self._away_since > self._timing.outage:
                    return None
            else:
                self._away_since = None
                if published.ended_fence >= self._first_fence and (outcome := outcome_of(published)) is not None:
                    return self._end(published, outcome)
                if not published.is_led:
                    return None
                self._show(published)
            await self._news.wait(key, self._timing.look)

    async def _look(self) -> Published:
        """Pass on what clients request, and return what is known of the job. Raises RedisAwayError."""
        running, key = self._running, self._running.resolved.key
        if running.times.refreshed > self._refreshed:
            await self._leases.request(key, "refresh")
            self._refreshed = running.times.refreshed
        marks = self._marks.under(self._fence)
        published = await self._leases.read(key, is_watched=running.is_watched, fence=self._fence, marks=marks)
        if published.fence == self._fence:
            self._marks.note_published(marks)
        self._fence = published.fence
        return published

    def _end(self, published: Published, outcome: Outcome) -> Outcome | None:
        """Return the end of the job; None where it is to be run here."""
        running = self._running
        if published.is_refresh_requested and running.times.refreshed > float("-inf"):
            running.job = Job(self._runtime.clock())
            self.has_missed_refresh = True
            return None
        return None if outcome.store_failed else outcome  # its leader alone has the result

    def _show(self, published: Published) -> None:
        """Show a published state, if it can be read."""
        if not published.state:
            return
        try:
            state = snapshot.parse(published.state)
        except CodecError as error:
            _log.warning("%s: the job %.12s is followed without it", error, self._running.resolved.key)
            return
        snapshot.apply(state, self._running, self._former)
        self._former = state


def restart(running: RunningJob) -> None:
    """Have the next leader continue a job: in its own session, if the dispatcher's name for the job is public."""
    job = running.job
    state = State.SUBMITTED if job.job_id and not running.client.envelope.token else State.NEW
    job_id = job.job_id if state is State.SUBMITTED else ""
    running.job, running.resumed = Job(job.started_at, state=state, job_id=job_id), True
    running.take_resubmission()
    running.end_resubmission()


def outcome_of(published: Published) -> Outcome | None:
    """Return how a job ended, if that can be read."""
    if not published.ended:
        return None
    try:
        return ending.parse(published.ended)
    except CodecError as error:
        _log.warning("%s: the job is run again", error)
        return None
