"""Coalescing: clients with the same query share one job and receive its state and its end."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from cachetools import TTLCache

from oda_proxy.compat.program_address import products_with_address
from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http.answer import OK, json_answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.message import Request
from oda_proxy.jobs import progress
from oda_proxy.jobs.client import Client
from oda_proxy.jobs.comments import comment
from oda_proxy.jobs.counts import JobCounts
from oda_proxy.jobs.ending import GivenUpError
from oda_proxy.jobs.estimates import Estimates
from oda_proxy.jobs.job import State
from oda_proxy.jobs.limit_answers import limit_answer
from oda_proxy.jobs.outcome import Outcome
from oda_proxy.jobs.poll_pauses import PollPauses
from oda_proxy.jobs.polling import Poller
from oda_proxy.jobs.registry import JobRegistry
from oda_proxy.jobs.replay import replay
from oda_proxy.jobs.running_job import ANONYMOUS, RunningJob
from oda_proxy.jobs.stopping import JobStopper
from oda_proxy.query.client_name import client_name
from oda_proxy.query.query import FORM, Envelope, query_fields
from oda_proxy.recordings import failures
from oda_proxy.store.recording_cache import answer_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.cache_status import Forwarded
    from oda_proxy.jobs.journal import JournalEntry
    from oda_proxy.jobs.policy import JobPolicy
    from oda_proxy.jobs.registry import CoalescingKey
    from oda_proxy.jobs.runtime import Runtime
    from oda_proxy.jobs.services import JobServices
    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.resolved import QueryResolver, ResolvedQuery
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording

MAX_AGE, FRESH_TIMEOUT = 1.5, 2.0
"""Seconds since the last answer of the dispatcher after which a poll waits for the next one, and for how long."""
SILENCE = 30.0
"""Seconds without news of a job after which a `new` from its owner goes to the dispatcher."""
RETRY_AFTER = 5.0
"""Seconds after which a client with too many jobs may ask again."""
MAX_UNREADABLE: Final = 60.0
"""Seconds for which clients wait for the recording of an ended job that cannot be read, before it is run again."""
MAX_UNSHARED, UNSHARED_TTL = 4096, 3600.0
"""Queries whose answers could not be shared, so that each client gets a job: how many are cached, how long in s."""


class Jobs:
    """The jobs of a proxy."""

    def __init__(self, services: JobServices, policy: JobPolicy, runtime: Runtime) -> None:
        self.counts = JobCounts()
        self.estimates = Estimates()
        self._services = services
        self._policy = policy
        self._runtime = runtime
        self._poller = Poller(services, policy, runtime, self.estimates, self.counts)
        self._pauses = PollPauses(runtime.clock)
        self._registry = JobRegistry(runtime.clock)
        self.stopper = JobStopper(self._registry, services)
        """Stops jobs, whichever server runs them."""
        self._unshared: TTLCache[Key, None] = TTLCache(MAX_UNSHARED, ttl=UNSHARED_TTL, timer=runtime.clock)
        self._replayed: set[Key] = set()
        self._without_files: dict[Key, JournalEntry] = {}

    def __iter__(self) -> Iterator[RunningJob]:
        """Iterate over the running jobs, the oldest first."""
        return iter(self._registry)

    @property
    def max_jobs(self) -> int:
        """How many jobs may run at once."""
        return self._poller.places.limit

    def set_limits(self, max_jobs: int, client_jobs: int | None) -> None:
        """Replace the numbers of jobs that may run at once: of all, and of one client."""
        self._poller.places.set_limit(max_jobs)
        self._policy = replace(self._policy, client_jobs=client_jobs)

    @property
    def completions(self) -> int:
        """How many jobs have ended."""
        return self._registry.completions

    async def resume(self, resolver: QueryResolver) -> None:
        """Resume the jobs in the journal; one that was submitted with a token waits for a client with a token."""
        for entry in [] if self._registry.is_closing else await self._services.journal.load():
            resolved = await resolver.resolve(entry.query)
            if self._registry.get((resolved.key,)) is not None:
                continue  # it runs here
            if self._runtime.clock() - entry.started_at > self._policy.limits.max_duration:
                await self._services.journal.remove(entry.key)
            elif entry.query.files:  # only a client has the files, which are sent again to fetch the products
                self._without_files[resolved.key] = entry
            elif not entry.private:
                client = _client_of(entry, self._runtime.new_session())
                running = RunningJob(resolved, client, started_at=entry.started_at, clock=self._runtime.clock)
                _continue(running, entry)
                self._registry.start((resolved.key,), running, partial(self._run, running))
                running.sessions = 0  # its own session is that of no client

    async def can_resume(self, resolved: ResolvedQuery, envelope: Envelope) -> bool:
        """Return whether a poll is for a job of an earlier process, or of another replica."""
        if envelope.job_id == provisional_job_id(resolved) or resolved.key in self._without_files:
            return True
        return self._may_share(resolved, envelope) and await self._services.replicas.has_job(resolved.key)

    def has_job(self, resolved: ResolvedQuery, envelope: Envelope) -> bool:
        """Return whether a client sends the job_id of a job of this query that runs or has just ended."""
        running = self._find_running(resolved, envelope) or self._find_ended(resolved, envelope)
        return running is not None and envelope.job_id in {running.job_id, running.job.job_id}

    async def is_shared(self, resolved: ResolvedQuery, envelope: Envelope) -> bool:
        """Return whether a job runs that every verified client of this query may join."""
        if resolved.key in self._unshared:
            return False
        if self._registry.get((resolved.key,)) is not None:
            return True
        return envelope.token is not None and await self._services.replicas.has_job(resolved.key)

    def note_report(self, job_id: str) -> None:
        """Note that the dispatcher has received a report on a job: the next poll waits for an answer that has it."""
        for running in self:
            if job_id and job_id in {running.job.job_id, running.job_id}:  # one that is submitted again has no first
                running.note_report()

    def comment_on(self, running: RunningJob, client: Client) -> str:
        """Return the proxy's comment on a job for one of its clients."""
        queued = self._poller.places.waiting()
        before = queued.index(running) if running in queued else 0
        estimate = self.estimates.estimate(running.resolved.query)
        return comment(running, client, estimate, queued_before=before, now=self._runtime.clock())

    def release_waiters(self) -> None:
        """Answer all waiting clients, and later requests, at once: the server stops."""
        self._registry.release_waiters()

    async def close(self, grace: float) -> None:
        """Cancel the running jobs; first submissions have `grace` s to be answered: named jobs can be resumed."""
        await self._registry.close(grace if self._services.journal.is_durable else 0.0)

    async def join(
        self,
        resolved: ResolvedQuery,
        client: Client,
        forwarded: Forwarded,
        *,
        completions: int | None = None,
        has_stale: bool = False,
        resubmit: bool = False,
    ) -> Answer:
        """Answer from the running job of a query, or start one; wait for the dispatcher's first answer.

        A job that ended while its recording was looked up, after `completions` others, counts as running. With
        `resubmit` the client wants a running job to be submitted once more. Raises UpstreamUnreachableError where the
        dispatcher is away and the client has a stale recording.
        """
        running = self._find_running(resolved, client.envelope)
        if running is None and completions is not None:
            keys = self._coalescing_keys(resolved, client.envelope)
            running = next(filter(None, (self._registry.ended_since(key, completions) for key in keys)), None)
        collapsed = running is not None
        if running is None and (answer := self._over_limit(resolved, client)):
            return answer
        if running is None:
            running = RunningJob(
                resolved, client, started_at=self._runtime.clock(), clock=self._runtime.clock, forwarded=forwarded
            )
            key = self._coalescing_keys(resolved, client.envelope)[-1]
            running.is_shared = key == (resolved.key,)
            if running.is_shared and (entry := self._without_files.pop(resolved.key, None)):
                _continue(running, entry)
            self._registry.start(key, running, partial(self._run, running))
        elif client.envelope.session_id in ANONYMOUS and not running.is_owner(client):
            client = self._with_session(client)
        self._resubmit(running, client, is_refresh=resubmit)
        self.counts.joined += running.join(client) and collapsed
        self._pauses.submitted(client.envelope.session_id, resolved.key)
        await running.wait_for_start(client.envelope.session_id, self._policy.long_poll)
        is_away = running.job.errors or (running.is_queued and any(other.job.errors for other in self))
        if has_stale and is_away and running.job.state is State.NEW:
            raise UpstreamUnreachableError("of this proxy", "it did not take the job")
        if collapsed and not is_away and running.job.state is not State.NEW and self._is_old(running):
            await running.wait_for_change(client.envelope.session_id, FRESH_TIMEOUT, or_answer=True)
        return await self._respond(running, client, CacheStatus(forwarded=forwarded, collapsed=collapsed))

    def _over_limit(self, resolved: ResolvedQuery, client: Client) -> Answer | None:
        """Return the answer to a client that has as many running jobs as it may; None where it may have another."""
        limit = self._policy.client_jobs
        if limit is None:
            return None
        name = self._client_name(client)
        if sum(self._client_name(running.client) == name for running in self) < limit:
            return None
        jobs = "another job" if limit == 1 else f"{limit} other jobs"
        return limit_answer(
            client.envelope,
            job_id=provisional_job_id(resolved),
            reason=f"{jobs} of this client run{'s' if limit == 1 else ''}",
            retry_after=RETRY_AFTER,
            now=self._runtime.clock(),
        )

    def _client_name(self, client: Client) -> str:
        return client_name(client.request.client_address, client.envelope.token, self._services.tokens)

    async def poll(self, resolved: ResolvedQuery, client: Client) -> Answer | None:
        """Answer a poll from the job of its query as soon as there is something new; None where there is no job."""
        envelope = client.envelope
        running = self._find_running(resolved, envelope) or self._find_ended(resolved, envelope)
        if running is None:
            return None
        self.counts.joined += running.join(client)
        hold = min(self._policy.long_poll, self._pauses.polled(envelope.session_id, resolved.key))
        if envelope.session_id in ANONYMOUS:
            hold = 0.0
        is_old = self._is_old(running)
        timeout = max(hold, FRESH_TIMEOUT) if is_old else hold
        await running.wait_for_change(envelope.session_id, timeout, or_answer=is_old)
        collapsed = not running.is_owner(client)
        return await self._respond(running, client, CacheStatus(forwarded="uri-miss", collapsed=collapsed))

    async def replay(self, resolved: ResolvedQuery, client: Client, recording: Recording) -> Answer | None:
        """Answer from a recording after as long as its job took; None where that is not wanted, or was done before."""
        if self._policy.time_scale == 0 or not recording.timeline or recording.key in self._replayed:
            return None
        recording.head.close()
        if (running := self._registry.get((resolved.key,))) is None:
            running = RunningJob(resolved, client, started_at=self._runtime.clock(), clock=self._runtime.clock)
            self._registry.start((resolved.key,), running, partial(self._replay, running, recording))
        running.join(client)
        await running.wait_for_start(client.envelope.session_id, self._policy.long_poll)
        return await self._respond(running, client, CacheStatus(hit=True))

    def _resubmit(self, running: RunningJob, client: Client, *, is_refresh: bool) -> None:
        """Have a running job submitted once more where its client may want that.

        That is so for a refresh, each time for the owner, and once in a while for all others; and for `new` from the
        owner of a job of which the dispatcher has reported nothing for a while: its end may have been lost.
        """
        is_owner = running.is_owner(client)
        if is_refresh:
            if running.note_refresh(is_owner=is_owner) and running.client is not client:
                running.request_resubmission()
        elif is_owner and self._runtime.clock() - max(running.times.changed, running.times.submitted) > SILENCE:
            running.request_resubmission()

    def _is_old(self, running: RunningJob) -> bool:
        """Return whether the last answer of the dispatcher may no longer hold, and a client waits for the next."""
        age = self._runtime.clock() - running.times.answered
        return not running.is_queued and (age > MAX_AGE or running.is_outdated)

    def _with_session(self, client: Client) -> Client:
        """Return a client that sent no session_id with a new one."""
        session_id = self._runtime.new_session()
        return replace(client, envelope=replace(client.envelope, session_id=session_id))

    async def _replay(self, running: RunningJob, recording: Recording) -> Outcome:
        """Take the time that a job took."""
        await replay(running, recording.timeline, scale=self._policy.time_scale, sleep=self._runtime.sleep)
        self._replayed.add(recording.key)
        return Outcome(is_done=True, stored=True)

    def _coalescing_keys(self, resolved: ResolvedQuery, envelope: Envelope) -> list[CoalescingKey]:
        """Return the keys of the jobs that a client may join; a job that it starts has the last one."""
        shared, own = (resolved.key,), (resolved.key, "session", envelope.session_id)
        if resolved.key in self._unshared:
            return [own]
        if envelope.token is None:
            return [own, shared]
        of_token = (resolved.key, "token", hashlib.sha256(envelope.token.text.encode()).hexdigest())
        if self._services.tokens.is_verified(envelope.token):
            return [own, of_token, shared]
        return [own, of_token]  # a token that was not verified may only see what it started itself

    def _may_share(self, resolved: ResolvedQuery, envelope: Envelope) -> bool:
        """Return whether a client may join the job of all clients of its query."""
        return self._coalescing_keys(resolved, envelope)[-1] == (resolved.key,)

    def _find_running(self, resolved: ResolvedQuery, envelope: Envelope) -> RunningJob | None:
        found = (self._registry.get(key) for key in self._coalescing_keys(resolved, envelope))
        if running := next(filter(None, found), None):
            return running
        running = self._registry.get((resolved.key,))
        return running if running and running.has_token(envelope.token) else None

    def _find_ended(self, resolved: ResolvedQuery, envelope: Envelope) -> RunningJob | None:
        keys = self._coalescing_keys(resolved, envelope)
        found = (self._registry.get_ended(key, envelope.session_id) for key in keys)
        if running := next(filter(None, found), None):
            return running
        running = self._registry.get_ended((resolved.key,), envelope.session_id)
        return running if running and running.has_token(envelope.token) else None

    async def _run(self, running: RunningJob) -> Outcome:
        """Run a job to its end, and let the observer see it."""
        outcome = None
        try:
            outcome = await self._poller.run(running)
        finally:
            # A server that stops leaves jobs for the next one; those of other servers are counted there.
            if running.was_run_here and (outcome is not None or not running.closing):
                is_known = running.seen_running or not running.resumed
                duration = self._runtime.clock() - running.job.started_at
                self.counts.note_end(outcome, max(duration, 0.0) if is_known else None)
        if outcome.stored and outcome.recording:
            self.counts.stored += 1
            if not outcome.recording.private:
                self.estimates.add(outcome.recording.query, outcome.recording.cost)
            await self._services.observer.stored(outcome.recording)
            return replace(outcome, recording=None)  # clients read it from the store
        if outcome.answer and not outcome.is_done:
            await self._services.observer.failed(running.resolved, outcome.failure)
        return outcome

    def _envelope_for(self, running: RunningJob, client: Client) -> Envelope:
        """Return the envelope of a client; one without a session gets that of the job, if it is its own."""
        envelope = client.envelope
        if envelope.session_id not in ANONYMOUS:
            return envelope
        session_id = running.client.envelope.session_id if running.is_owner(client) else ""
        if session_id in ANONYMOUS:
            session_id = self._runtime.new_session()
            if running.is_owner(client):
                running.add_owner_session(session_id)
        return replace(envelope, session_id=session_id)

    async def _respond(self, running: RunningJob, client: Client, status: CacheStatus) -> Answer:
        """Return the state of a job, or its end, for one of its clients."""
        outcome, now = running.outcome, self._runtime.clock()
        envelope = self._envelope_for(running, client)
        self._pauses.answered(envelope.session_id)
        job_id = running.job_id_for(envelope, default=provisional_job_id(running.resolved))
        if outcome is None:
            text = self._running_answer(running, client, envelope, job_id)
            return json_answer(OK, text, replace(status, detail="running"))
        if answer := running.take_answer(client):
            return await self._adapted_for_owner(answer, running, client, replace(envelope, job_id=job_id))
        recording = outcome.recording
        if outcome.stored:
            recording = recording or await self._services.cache.get(running.resolved.key)
        if outcome.stored and recording is None and self._may_become_readable(running):
            text = self._running_answer(running, client, envelope, job_id)
            return json_answer(OK, text, replace(status, detail="running"))
        envelope = replace(envelope, job_id=job_id)
        if outcome.error:  # the job has ended: after a 502 a client would poll for another half hour
            raise outcome.error if client.envelope.awaits_products else GivenUpError(str(outcome.error))
        if outcome.failure:
            return await self._respond_failed(running, outcome.failure, replace(client, envelope=envelope), status)
        if recording:
            return answer_from(recording, envelope, client.base_url, now=now, status=status)
        if not outcome.is_done:
            raise GivenUpError("the job failed, and the dispatcher's message names another client; ask again")
        if not outcome.stored:  # a stored one has just been evicted
            self._unshared[running.resolved.key] = None
        return await self.join(running.resolved, replace(client, envelope=envelope), "uri-miss")

    def _may_become_readable(self, running: RunningJob) -> bool:
        """Return whether clients wait for the recording of an ended job: the store is away, and perhaps soon back."""
        if not self._services.cache.is_unreadable:
            return False
        now = self._runtime.clock()
        running.times.unreadable = min(running.times.unreadable, now)
        return now - running.times.unreadable < MAX_UNREADABLE

    async def _adapted_for_owner(
        self, answer: Answer, running: RunningJob, client: Client, envelope: Envelope
    ) -> Answer:
        """Return the dispatcher's own answer with the job of its owner, and the address that the owner used."""
        pipeline = self._services.pipeline
        if running.job.job_id not in {"", envelope.job_id}:
            answer = await pipeline.with_job_id(answer, envelope.job_id)
        if client.base_url != running.client.base_url:
            answer = await pipeline.with_address(answer, client.base_url)
        return await pipeline.adapted(answer, envelope)

    async def _respond_failed(
        self, running: RunningJob, failure: Failure, client: Client, status: CacheStatus
    ) -> Answer:
        """Return the failure of a job; a client that may have come after it, before the proxy knew, gets a new job."""
        if running.was_silent_since_join(client.envelope.session_id):
            return await self.join(running.resolved, client, "uri-miss")
        text = failures.render(failure, client.envelope, now=self._runtime.clock(), address=client.base_url)
        return json_answer(failure.status, text, replace(status, detail="failed"))

    def _running_answer(self, running: RunningJob, client: Client, envelope: Envelope, job_id: str) -> bytes:
        """Return the state of a job that runs.

        The owner receives all that the dispatcher says, others what names nobody; the answer to `new` has what it said
        of the submission.
        """
        is_owner, notices, now = running.is_owner(client), running.notices, self._runtime.clock()
        if envelope.awaits_products:
            notices = notices.with_submission(running.submission)
        if is_owner:
            running.notices = running.notices.without_mail()
        return progress.running_answer(
            running.status,
            envelope,
            job_id=job_id,
            reports=running.owner_reports if is_owner else running.reports,
            comment=self.comment_on(running, client),
            notices=notices.owner if is_owner else notices.public,
            products=products_with_address(notices.products if is_owner else {}, client.base_url),
            urgent=envelope.awaits_products or running.job.errors > 0,
            now=notices.time_request if is_owner and notices.time_request is not None else now,
        )


def _continue(running: RunningJob, entry: JournalEntry) -> None:
    """Continue a job as the journal has it; one that was not named yet may not have reached the dispatcher."""
    running.resumed = True
    state = State.SUBMITTED if entry.job_id else State.NEW
    running.job = replace(running.job, started_at=entry.started_at, state=state, job_id=entry.job_id)


def _client_of(entry: JournalEntry, session_id: str) -> Client:
    """Return the client of a resumed job: one without a name, in a new session."""
    others = {"oda_api_version": entry.version} if entry.version else {}
    sent = {"query_status": "new", "session_id": session_id, **others}
    form = urlencode([*query_fields(entry.query), *sent.items()], errors="surrogateescape").encode("ascii")
    headers = (("Content-Type", FORM), ("Accept-Encoding", "identity"))
    return Client(
        Request("POST", "/run_analysis", headers=headers, body=form), Envelope(session_id=session_id, others=others), ""
    )


def provisional_job_id(resolved: ResolvedQuery) -> str:
    """Return the job_id for clients of a job that the dispatcher has not named yet."""
    return resolved.key[:16]
