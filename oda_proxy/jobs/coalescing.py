"""Who asks a question begins a job or joins the one that runs, is told how it stands, and is given its end."""

from __future__ import annotations

import hashlib
import secrets
import string
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from cachetools import TTLCache

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http.answer import OK, json_answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.message import Request
from oda_proxy.jobs import progress
from oda_proxy.jobs.estimates import Estimates
from oda_proxy.jobs.inflight import Client, InFlight, Outcome, RunningJob
from oda_proxy.jobs.job import State
from oda_proxy.jobs.polling import GivenUpError
from oda_proxy.jobs.remarks import remark
from oda_proxy.jobs.replay import replay
from oda_proxy.query.query import FORM, Envelope, query_fields
from oda_proxy.recordings import failures
from oda_proxy.store.recording_cache import answer_from

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from oda_proxy.compat.pipeline import RepairPipeline
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.cache_status import Forwarded
    from oda_proxy.jobs.inflight import Group
    from oda_proxy.jobs.journal import JobJournal, Unfinished
    from oda_proxy.jobs.observer import QueryObserver
    from oda_proxy.jobs.policy import Counts, Policy
    from oda_proxy.jobs.polling import Polling
    from oda_proxy.query.audience import TokenVerifier
    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.resolved import QueryResolver, ResolvedQuery
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.recording_cache import RecordingCache

MOST_APART, APART_FOR = 4096, 3600.0
"""Questions of which it is remembered that their answers cannot be shared, and for how long, in s."""


def new_session() -> str:
    """Make a session for a job that has lost its own, in the form that clients use."""
    return "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(16))


class Jobs:
    """The jobs of a proxy; `clock` gives s since 1970 (UTC), `sleep` waits for some s."""

    def __init__(
        self,
        *,
        polling: Polling,
        cache: RecordingCache,
        pipeline: RepairPipeline,
        tokens: TokenVerifier,
        journal: JobJournal,
        observer: QueryObserver,
        policy: Policy,
        counts: Counts,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        new_session: Callable[[], str],
    ) -> None:
        self._polling = polling
        self._cache = cache
        self._pipeline = pipeline
        self._tokens = tokens
        self._journal = journal
        self._observer = observer
        self._policy = policy
        self._counts = counts
        self._clock = clock
        self._sleep = sleep
        self._new_session = new_session
        self.estimates = Estimates()
        self._inflight = InFlight(clock)
        self._apart: TTLCache[Key, None] = TTLCache(MOST_APART, ttl=APART_FOR, timer=clock)
        self._replayed: set[Key] = set()

    def __iter__(self) -> Iterator[RunningJob]:
        """Give the jobs that run, the oldest first."""
        return iter(self._inflight)

    @property
    def turn(self) -> int:
        """Counts the jobs that have ended."""
        return self._inflight.turn

    async def resume(self, resolver: QueryResolver) -> None:
        """Take up the jobs that an earlier run left; one that was begun with a token waits for somebody with one."""
        for job in await self._journal.left():
            resolved = await resolver.resolve(job.query)
            if self._clock() - job.begun > self._policy.limits.longest:
                await self._journal.forget(job.key)
            elif not job.private and self._inflight.of((resolved.key,)) is None:
                running = RunningJob(
                    resolved, _for_nobody(job, self._new_session()), begun=job.begun, clock=self._clock
                )
                running.resumed, running.job = True, replace(running.job, state=State.SUBMITTED, job_id=job.job_id)
                self._inflight.begin((resolved.key,), running, partial(self._conduct, running))

    def remark_on(self, running: RunningJob, client: Client) -> str:
        """Say how a job stands for one of those who wait."""
        queued = [one for one in self._inflight if one.is_queued]
        before = queued.index(running) if running in queued else 0
        estimate = self.estimates.of(running.resolved.query)
        return remark(running, client, estimate, before=before, now=self._clock())

    def wake(self) -> None:
        """Answer all who wait, from now on at once: the end is near."""
        self._inflight.wake()

    async def close(self) -> None:
        """Let go of the jobs that run."""
        await self._inflight.close()

    async def joined(
        self,
        resolved: ResolvedQuery,
        client: Client,
        forwarded: Forwarded,
        *,
        since: int | None = None,
        has_other: bool = False,
    ) -> Answer:
        """Answer from the job for a question, which begins where none runs; wait for the dispatcher's first word.

        One that ended while its recording was looked for (`since` that turn) was missed by a moment. Raises
        UpstreamUnreachableError where the dispatcher is away and the asker has another answer.
        """
        running = self._running(resolved, client.envelope)
        if running is None and since is not None:
            groups = self._groups(resolved, client.envelope)
            running = next(filter(None, (self._inflight.ended_since(group, since) for group in groups)), None)
        collapsed = running is not None
        if running is None:
            running = RunningJob(resolved, client, begun=self._clock(), clock=self._clock, forwarded=forwarded)
            self._inflight.begin(self._groups(resolved, client.envelope)[-1], running, partial(self._conduct, running))
            self._counts.jobs += 1
        self._counts.joined += running.admit(client) and collapsed
        await running.begun(client.envelope.session_id, self._policy.patience, or_troubled=has_other)
        if has_other and running.job.troubles and running.job.state is State.NEW:
            raise UpstreamUnreachableError("that is asked", "it is away")
        return await self._told(running, client, CacheStatus(forwarded=forwarded, collapsed=collapsed))

    async def followed(self, resolved: ResolvedQuery, client: Client) -> Answer | None:
        """Answer a poll from the job for its question, as soon as there is something new; None where none is known."""
        envelope = client.envelope
        running = self._running(resolved, envelope) or self._ended(resolved, envelope)
        if running is None:
            return None
        self._counts.joined += running.admit(client)
        await running.news(envelope.session_id, self._policy.patience)
        collapsed = not running.is_owner(client)
        return await self._told(running, client, CacheStatus(forwarded="uri-miss", collapsed=collapsed))

    def _groups(self, resolved: ResolvedQuery, envelope: Envelope) -> list[Group]:
        """Say with whom an asker may share a job, from the smallest group to that which a job of theirs is for."""
        with_all, alone = (resolved.key,), (resolved.key, "session", envelope.session_id)
        if resolved.key in self._apart:
            return [alone]
        if envelope.token is None:
            return [alone, with_all]
        with_this_token = (resolved.key, "token", hashlib.sha256(envelope.token.text.encode()).hexdigest())
        if self._tokens.is_verified(envelope.token):
            return [alone, with_this_token, with_all]
        return [alone, with_this_token]  # nobody has verified it: it is good for what itself began

    def _running(self, resolved: ResolvedQuery, envelope: Envelope) -> RunningJob | None:
        found = (self._inflight.of(group) for group in self._groups(resolved, envelope))
        if running := next(filter(None, found), None):
            return running
        running = self._inflight.of((resolved.key,))
        return running if running and running.has_admitted(envelope.token) else None

    def _ended(self, resolved: ResolvedQuery, envelope: Envelope) -> RunningJob | None:
        found = (self._inflight.ended(group, envelope.session_id) for group in self._groups(resolved, envelope))
        if running := next(filter(None, found), None):
            return running
        running = self._inflight.ended((resolved.key,), envelope.session_id)
        return running if running and running.has_admitted(envelope.token) else None

    async def _conduct(self, running: RunningJob) -> Outcome:
        """See a job to its end, and let the witness see it, too."""
        outcome = await self._polling.conduct(running)
        await self._journal.forget(running.resolved.key)
        if outcome.stored and outcome.recording:
            self._counts.kept += 1
            if not outcome.recording.private:
                self.estimates.note(outcome.recording.query, outcome.recording.cost)
            await self._observer.kept(outcome.recording)
            return replace(outcome, recording=None)  # the store has it
        if outcome.answer and not outcome.is_done:
            await self._observer.failed(running.resolved, outcome.failure)
        return outcome

    async def _told(self, running: RunningJob, client: Client, status: CacheStatus) -> Answer:
        """Tell one of those who wait for a job how it stands, or give them its end."""
        outcome, envelope = running.outcome, client.envelope
        job_id = running.name_for(envelope, otherwise=own_job_id(running.resolved))
        if outcome is None:
            text = progress.running(
                running.status,
                envelope,
                job_id=job_id,
                reports=running.reports,
                comment=self.remark_on(running, client),
                urgent=envelope.awaits_products or running.job.troubles > 0,
                now=self._clock(),
            )
            return json_answer(OK, text, replace(status, detail="running"))
        if answer := running.take_original(client):
            if running.job.job_id not in {"", job_id}:
                answer = await self._pipeline.with_job_id(answer, job_id)
            return await self._pipeline.adapted(answer, envelope)
        envelope = replace(envelope, job_id=job_id)
        if outcome.error:  # the job has ended: 502 would have a client ask for it for half an hour
            raise outcome.error if client.envelope.awaits_products else GivenUpError(str(outcome.error))
        if outcome.failure:
            text = failures.render(outcome.failure, envelope, now=self._clock(), address=client.here)
            return json_answer(outcome.failure.status, text, replace(status, detail="failed"))
        recording = outcome.recording or (await self._cache.get(running.resolved.key) if outcome.stored else None)
        if recording:
            return answer_from(recording, envelope, client.here, now=self._clock(), status=status)
        if not outcome.is_done:
            raise GivenUpError("the job failed, and what the dispatcher says of it names another asker; ask again")
        if not outcome.stored:  # else it has just been given up for lack of space
            self._apart[running.resolved.key] = None
        return await self.joined(running.resolved, replace(client, envelope=envelope), "uri-miss")

    async def replayed(self, resolved: ResolvedQuery, client: Client, recording: Recording) -> Answer | None:
        """Answer from a recording after as long as its job took; None where that is not wanted, or was done before."""
        if self._policy.time_scale == 0 or not recording.timeline or recording.key in self._replayed:
            return None
        recording.head.close()
        if (running := self._inflight.of((resolved.key,))) is None:
            running = RunningJob(resolved, client, begun=self._clock(), clock=self._clock)
            self._inflight.begin((resolved.key,), running, partial(self._replay, running, recording))
        running.admit(client)
        await running.begun(client.envelope.session_id, self._policy.patience)
        return await self._told(running, client, CacheStatus(hit=True))

    async def _replay(self, running: RunningJob, recording: Recording) -> Outcome:
        """Take the time that a job took."""
        await replay(running, recording.timeline, scale=self._policy.time_scale, sleep=self._sleep)
        self._replayed.add(recording.key)
        return Outcome(is_done=True, stored=True)


def _for_nobody(job: Unfinished, session_id: str) -> Client:
    """Ask for a job that was begun by somebody who is not known any more."""
    others = {"oda_api_version": job.version} if job.version else {}
    sent = {"query_status": "new", "session_id": session_id, **others}
    form = urlencode([*query_fields(job.query), *sent.items()], errors="surrogateescape").encode("ascii")
    request = Request(
        "POST", "/run_analysis", headers=(("Content-Type", FORM), ("Accept-Encoding", "identity")), body=form
    )
    return Client(request, Envelope(session_id=session_id, others=others), "")


def own_job_id(resolved: ResolvedQuery) -> str:
    """Name a job that the dispatcher has not named yet."""
    return resolved.key[:16]
