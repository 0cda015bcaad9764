"""Polling the dispatcher for one job until it ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.jobs.ending import close, outcome_of
from oda_proxy.jobs.exchange import Exchange
from oda_proxy.jobs.job import (
    MAX_PAUSE,
    Event,
    Job,
    State,
    advance,
    has_record,
    job_id_in,
    next_step,
    resubmitted,
)
from oda_proxy.jobs.journal import JournalEntry
from oda_proxy.jobs.notices import read_notices
from oda_proxy.jobs.outcome import Outcome
from oda_proxy.jobs.ownership import JobLocks
from oda_proxy.jobs.places import Places
from oda_proxy.jobs.progress import owner_reports, public_reports
from oda_proxy.query.audience import read_claims
from oda_proxy.recordings.recording import redact_query
from oda_proxy.recordings.redaction import NotStorableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.jobs.client import Client
    from oda_proxy.jobs.counts import JobCounts
    from oda_proxy.jobs.estimates import Estimates
    from oda_proxy.jobs.exchange import Response
    from oda_proxy.jobs.notices import Notices
    from oda_proxy.jobs.places import Place
    from oda_proxy.jobs.policy import JobPolicy
    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.jobs.runtime import Runtime
    from oda_proxy.jobs.services import JobServices
    from oda_proxy.query.query import Envelope

STALLED: Final = 1800.0
"""Seconds without any news after which a job is submitted again, as clients do by hand; once."""
WITHOUT_RECORD: Final = 10.0
"""Seconds of polls after which a job is submitted again that has no record at the dispatcher; once."""
MIN_STALLED, STALLED_RUNS = 300.0, 3.0
"""The same where there were earlier jobs for the product: at least these seconds, and this many times the longest."""


class Poller:
    """Runs jobs, at most `policy.max_jobs` at once."""

    def __init__(
        self, services: JobServices, policy: JobPolicy, runtime: Runtime, estimates: Estimates, counts: JobCounts
    ) -> None:
        self.places = Places(policy.max_jobs)
        self._services = services
        self._limits = policy.limits
        self._runtime = runtime
        self._estimates = estimates
        self._counts = counts
        self._exchange = Exchange(services, policy.limits, runtime)
        self._locks = JobLocks(services.journal.folder, runtime)

    async def run(self, running: RunningJob) -> Outcome:
        """Poll the dispatcher until a job has ended; while another process does so, wait for its recording."""
        if not running.is_shared:
            return await self._run_here(running)
        outcome = await self._services.replicas.run(running, self._lead)
        if outcome.stored and outcome.recording is None:  # by another process: memory may have the one before
            self._services.cache.forget(running.resolved.key)
        return outcome

    async def _lead(self, running: RunningJob, *, was_elsewhere: bool) -> Outcome:
        """Run a job in this process, once no other process on the same folder does."""
        key = running.resolved.key
        running.is_elsewhere = await self._locks.is_locked(key)
        running.notify()
        async with self._locks.hold(key) as has_waited:
            running.is_elsewhere = False
            if was_elsewhere or has_waited:
                if await self._has_recording_since(running):
                    return Outcome(is_done=True, stored=True)
                await self._continue(running)
            return await self._run_here(running)

    async def _has_recording_since(self, running: RunningJob) -> bool:
        """Return whether there is a recording that is newer than the job, or than the look-up that found none."""
        recording = await self._services.cache.get(running.resolved.key)
        if recording is None:
            return False
        recording.head.close()
        return running.forwarded == "uri-miss" or recording.stored_at >= running.job.started_at

    async def _continue(self, running: RunningJob) -> None:
        """Continue the job of a process that has ended, if its journal says how."""
        entry = await self._services.journal.read(running.resolved.key)
        if entry and entry.job_id and running.job.state is State.NEW:
            running.resumed = True
            running.job = replace(running.job, started_at=entry.started_at, state=State.SUBMITTED, job_id=entry.job_id)

    async def _run_here(self, running: RunningJob) -> Outcome:
        running.was_run_here = True
        if not running.resumed:
            self._counts.started += 1
        running.is_queued = self.places.is_full
        running.notify()
        place = await self.places.take(_owner(running.client), running)
        try:
            running.is_queued = False
            running.times.changed = running.times.submitted = self._runtime.clock()
            running.notify()
            async with self._services.replicas.place(running):
                await self._write_journal(running, running.client)
                outcome = await self._poll_to_end(running, place)
        except Exception:
            await self._remove_from_journal(running)
            raise
        else:
            await self._remove_from_journal(running)
            return outcome
        finally:
            place.release()

    async def _poll_to_end(self, running: RunningJob, place: Place) -> Outcome:
        clock = self._runtime.clock
        retry_after, submitted_as_stalled = 0.0, 0.0
        while True:
            step = next_step(running.job, clock(), watched=running.is_watched, retry_after=retry_after)
            await self._pause(step.pause, running)
            is_stalled = submitted_as_stalled < running.times.changed and self._is_stalled(running)
            if running.take_resubmission() or is_stalled:
                submitted_as_stalled = clock() if is_stalled else submitted_as_stalled
                running.job = resubmitted(running.job)
                step = next_step(running.job, clock(), watched=True)
            async with self._services.budget.hold():  # an answer with products is in memory until it is stored
                response = await self._exchange.request(step, running, place)
                if step.query_status == "new":
                    running.end_resubmission()
                client = running.client
                if response.event is Event.UNAUTHORIZED and running.hand_over():
                    await close(response.answer)
                    if not _is_same_subject(client, running.client):  # the dispatcher has a job for each
                        running.job = resubmitted(running.job)
                    continue
                before, retry_after = running.job, response.retry_after
                job_id = job_id_in(response.json)
                running.job = advance(before, response.event, clock(), job_id=job_id, limits=self._limits)
                running.seen_running |= response.event in {Event.SUBMITTED, Event.PROGRESS}
                if running.job.state.is_final:
                    return await outcome_of(running, client, response, self._services, now=clock())
                await close(response.answer)
                if running.job.state is not State.NEW and (
                    before.state is State.NEW or _is_renamed(before, running.job)
                ):
                    await self._write_journal(running, client)
                await self._update(running, client, response, before, submitted=step.query_status == "new")
                if response.answer is not None and running.job.state is not State.READY:  # the products come next
                    running.note_answer()

    def _is_stalled(self, running: RunningJob) -> bool:
        """Return whether the dispatcher has lost a job, or was silent on it for much longer than earlier ones took."""
        if running.job.state not in {State.SUBMITTED, State.PROGRESS} or running.job.errors:
            return False
        if running.times.without_record and self._runtime.clock() - running.times.without_record > WITHOUT_RECORD:
            return True
        estimate = self._estimates.estimate(running.resolved.query)
        longest = max(STALLED_RUNS * estimate.longest, MIN_STALLED) if estimate else STALLED
        return self._runtime.clock() - max(running.times.changed, running.times.submitted) > longest

    async def _pause(self, seconds: float, running: RunningJob) -> None:
        """Wait before the next request; a long pause of a job without clients ends when a client comes."""
        if seconds <= 0 or (running.resumed and running.polls == 0):  # much may have happened meanwhile
            return
        if running.is_watched or seconds <= MAX_PAUSE:
            await self._runtime.sleep(seconds)
            return
        sleep = asyncio.ensure_future(self._runtime.sleep(seconds))
        watched = asyncio.ensure_future(running.wait_until_watched())
        try:
            await asyncio.wait({sleep, watched}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            watched.cancel()
            await asyncio.gather(sleep, watched, return_exceptions=True)

    async def _update(
        self, running: RunningJob, client: Client, response: Response, before: Job, *, submitted: bool
    ) -> None:
        """Notify clients of what is new; that products are ready is no news, they come next."""
        parsed = response.json if isinstance(response.json, dict) else {}
        # Each report is searched for names of the client: some 30 ms for a thousand of them, at every poll.
        reports, for_owner, notices = await asyncio.to_thread(_read_progress, parsed, client.envelope)
        has_reports = len(reports) > len(running.reports)
        if has_reports or (running.job.state != before.state and before.state is not State.RESUBMIT):
            running.times.changed = self._runtime.clock()
        is_new = has_reports or running.job.errors == 1 or running.job.state != before.state
        if not has_record(parsed):
            running.times.without_record = running.times.without_record or self._runtime.clock()
        elif parsed:
            running.times.without_record = 0.0
        if parsed:
            is_new |= notices != running.notices
            running.notices = notices
            if submitted:
                running.submission = notices
        if for_owner:
            running.reports, running.owner_reports = reports, for_owner
        if is_new and (running.job.state is not State.READY or before.state is State.READY):
            running.notify()

    async def _write_journal(self, running: RunningJob, client: Client) -> None:
        """Write a job to the journal, before its first request and when it has a name, unless it names the client.

        The entry of a query is that of the job of all its clients: no other process continues the job of one of them.
        """
        if not running.is_shared:
            return
        envelope, resolved = client.envelope, running.resolved
        try:
            query = redact_query(resolved.query, envelope)
        except NotStorableError:
            return
        private = envelope.token is not None
        entry = JournalEntry(
            key=resolved.key,
            query=query,
            started_at=running.job.started_at,
            job_id="" if private else running.job.job_id,
            private=private,
            version=envelope.client_version or "",
        )
        await self._services.journal.write(entry)

    async def _remove_from_journal(self, running: RunningJob) -> None:
        """Remove the entry of a job that has ended."""
        if running.is_shared:
            await self._services.journal.remove(running.resolved.key)


def _is_renamed(before: Job, after: Job) -> bool:
    return after.job_id not in {"", before.job_id}


def _is_same_subject(one: Client, other: Client) -> bool:
    both = [read_claims(client.envelope.token) if client.envelope.token else None for client in (one, other)]
    return (both[0].subject if both[0] else None) == (both[1].subject if both[1] else None)


def _owner(client: Client) -> str:
    """Return a text that identifies a client: its subject, or its session."""
    token = client.envelope.token
    if token is None:
        return f"session {client.envelope.session_id}"
    claims = read_claims(token)
    return f"subject {claims.subject}" if claims else "token"


def _read_progress(
    parsed: Mapping[str, Any], envelope: Envelope
) -> tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...], Notices]:
    """Return the reports for all clients, those for the owner, and the notices in an answer."""
    return public_reports(parsed, envelope), owner_reports(parsed), read_notices(parsed, envelope)
