"""Polling the dispatcher for one job until it ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec import json_steps
from oda_proxy.errors import OdaProxyError, UpstreamPausedError, UpstreamUnreachableError
from oda_proxy.http import headers
from oda_proxy.http.answer import OK, Answer, is_plain
from oda_proxy.http.spool import SpooledBody, spooled
from oda_proxy.http.storable import owner_headers
from oda_proxy.jobs.job import (
    MAX_PAUSE,
    Event,
    Job,
    State,
    Step,
    advance,
    classify,
    job_id_in,
    next_step,
    resubmitted,
)
from oda_proxy.jobs.journal import JournalEntry
from oda_proxy.jobs.notices import read_notices
from oda_proxy.jobs.outcome import Outcome
from oda_proxy.jobs.ownership import JobLocks
from oda_proxy.jobs.places import Places
from oda_proxy.jobs.progress import public_reports
from oda_proxy.jobs.requests import with_fields, without_files
from oda_proxy.jobs.running_job import ANONYMOUS
from oda_proxy.query.audience import read_claims
from oda_proxy.recordings import failures
from oda_proxy.recordings.recording import redact_query
from oda_proxy.recordings.redaction import NotStorableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.jobs.client import Client
    from oda_proxy.jobs.estimates import Estimates
    from oda_proxy.jobs.notices import Notices
    from oda_proxy.jobs.places import Place
    from oda_proxy.jobs.policy import JobPolicy
    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.jobs.runtime import Runtime
    from oda_proxy.jobs.services import JobServices
    from oda_proxy.query.query import Envelope
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.failures import Failure

SUBMIT_TIMEOUT: Final = 120.0
"""Seconds without an answer after which clients since 1.1.46 submit again, and so does the proxy."""
MAX_SUBMISSIONS: Final = 2
"""Submissions of one job that wait for an answer at once: the first and the last."""
STALLED: Final = 1800.0
"""Seconds without any news after which a job is submitted again, as clients do by hand; once."""
MIN_STALLED, STALLED_RUNS = 300.0, 3.0
"""The same where there were earlier jobs for the product: at least these seconds, and this many times the longest."""
MAX_STORED: Final = 256 * 1024 * 1024
"""Bytes of an answer that is stored; the largest known, 31 response matrices, has 57 million. Others pass through."""
POLL_TIMEOUT: Final = 60.0
"""Seconds for the answer to a poll, which has no products."""
FETCH_TIMEOUT: Final = 1800.0
"""Seconds for products that are ready."""


class GivenUpError(OdaProxyError):
    """The proxy gave a job up: the dispatcher did not end it."""

    detail = "given-up"


@dataclass(frozen=True, slots=True)
class _Response:
    """The result of one request: its event, and the answer with its JSON, or the error in its place."""

    event: Event
    answer: Answer | None = None
    json: Any = None
    error: OdaProxyError | None = None
    retry_after: float = 0.0


class Poller:
    """Runs jobs, at most `policy.max_jobs` at once."""

    def __init__(self, services: JobServices, policy: JobPolicy, runtime: Runtime, estimates: Estimates) -> None:
        self.places = Places(policy.max_jobs)
        self._services = services
        self._limits = policy.limits
        self._runtime = runtime
        self._estimates = estimates
        self._locks = JobLocks(services.journal.folder, runtime)

    async def run(self, running: RunningJob) -> Outcome:
        """Poll the dispatcher until a job has ended; while another process does so, wait for its recording."""
        key = running.resolved.key
        if not running.is_shared:
            return await self._run_here(running)
        running.is_elsewhere = await self._locks.is_locked(key)
        running.notify()
        async with self._locks.hold(key) as was_elsewhere:
            running.is_elsewhere = False
            if was_elsewhere:
                if await self._has_recording_since(running):
                    return Outcome(is_done=True, stored=True)
                await self._continue(running)
            return await self._run_here(running)

    async def _has_recording_since(self, running: RunningJob) -> bool:
        """Return whether there is a recording that is newer than the job."""
        recording = await self._services.cache.get(running.resolved.key)
        if recording is None:
            return False
        recording.head.close()
        return recording.stored_at >= running.job.started_at

    async def _continue(self, running: RunningJob) -> None:
        """Continue the job of a process that has ended, if its journal says how."""
        entry = await self._services.journal.read(running.resolved.key)
        if entry and entry.job_id and running.job.state is State.NEW:
            running.resumed = True
            running.job = replace(running.job, started_at=entry.started_at, state=State.SUBMITTED, job_id=entry.job_id)

    async def _run_here(self, running: RunningJob) -> Outcome:
        running.is_queued = self.places.is_full
        running.notify()
        place = await self.places.take(_owner(running.client), running)
        try:
            running.is_queued = False
            running.times.changed = running.times.submitted = self._runtime.clock()
            running.notify()
            await self._write_journal(running, running.client)
            outcome = await self._poll_to_end(running, place)
        except Exception:
            await self._services.journal.remove(running.resolved.key)
            raise
        else:
            await self._services.journal.remove(running.resolved.key)
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
            response = await self._request(step, running, place)
            if step.query_status == "new":
                running.end_resubmission()
            client = running.client
            if response.event is Event.UNAUTHORIZED and running.hand_over():
                await _close(response.answer)
                if not _is_same_subject(client, running.client):  # the dispatcher has a job for each
                    running.job = resubmitted(running.job)
                continue
            before, retry_after = running.job, response.retry_after
            job_id = job_id_in(response.json)
            running.job = advance(before, response.event, clock(), job_id=job_id, limits=self._limits)
            running.seen_running |= response.event in {Event.SUBMITTED, Event.PROGRESS}
            if running.job.state.is_final:
                return await self._finish(running, client, response)
            await _close(response.answer)
            if running.job.state is not State.NEW and (before.state is State.NEW or _is_renamed(before, running.job)):
                await self._write_journal(running, client)
            await self._update(running, client, response, before)
            if response.answer is not None and running.job.state is not State.READY:  # the products come next
                running.note_answer()

    def _is_stalled(self, running: RunningJob) -> bool:
        """Return whether the dispatcher has reported nothing new of a job for much longer than earlier ones took."""
        if running.job.state not in {State.SUBMITTED, State.PROGRESS} or running.job.errors:
            return False
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

    async def _request(self, step: Step, running: RunningJob, place: Place) -> _Response:
        """Send one request and classify its answer."""
        client, is_poll = running.client, step.query_status not in {"new", "ready"}
        running.polls += is_poll
        is_answered = False
        try:
            reply = await (self._submit(running, place) if step.query_status == "new" else self._send(step, running))
            is_answered = True
            answer = await spooled(reply, MAX_STORED)
        except UpstreamPausedError as error:
            event = Event.UNREACHABLE if error.is_down else Event.UNAVAILABLE
            return _Response(event, error=error, retry_after=error.retry_after)
        except UpstreamUnreachableError as error:
            return _Response(Event.INTERRUPTED if is_answered else Event.UNREACHABLE, error=error)
        if answer.status == OK:
            self._services.tokens.mark_verified(client.envelope.token)
        if answer.status == OK and not (is_plain(answer) and isinstance(answer.body, SpooledBody)):
            return _Response(Event.DONE, answer)  # compressed or too large to be read here: the client may read it
        parsed, is_incomplete = await self._services.budget.run(_size(answer), partial(_parse, answer))
        if client.envelope.session_id in ANONYMOUS and (session_id := _session_id_in(parsed)):
            running.adopt_session(session_id)
        event = classify(answer.status, parsed, query_status=step.query_status, is_incomplete=is_incomplete)
        return _Response(event, answer, parsed)

    async def _send(self, step: Step, running: RunningJob) -> Answer:
        """Send a request and return its answer, the body unread."""
        is_poll = step.query_status not in {"new", "ready"}
        left = max(running.job.started_at + self._limits.max_duration - self._runtime.clock(), POLL_TIMEOUT)
        timeout = POLL_TIMEOUT if is_poll else left if step.query_status == "new" else FETCH_TIMEOUT
        client = running.client
        request = without_files(client.request) if is_poll else client.request
        if (step.query_status, step.job_id) != (client.envelope.query_status, client.envelope.job_id):
            request = with_fields(request, query_status=step.query_status, job_id=step.job_id)
        request = replace(request, timeout=timeout, at_most_once=not is_poll)
        return await self._services.relay.send(request, client.base_url, running.forwarded)

    async def _submit(self, running: RunningJob, place: Place) -> Answer:
        """Submit a job; where no answer comes, submit it again after as long as clients wait, and so on.

        The first answer counts. Meanwhile the job has no place: a dispatcher that does not answer may not even know it.
        """
        attempts: list[asyncio.Task[Answer]] = []
        step, wait = Step("new", "", 0.0), SUBMIT_TIMEOUT
        running.times.submitted = self._runtime.clock()
        try:
            while True:
                if len(attempts) >= MAX_SUBMISSIONS:  # the first may be a long synchronous job
                    await _discard([attempts.pop(1)])
                attempts.append(asyncio.create_task(self._send(step, running)))
                answered = await _first_answer(attempts, wait)
                if answered is not None:
                    place.retake()
                    attempts.remove(answered)
                    return answered.result()
                place.release()
                wait = self._runtime.clock() - running.times.submitted
        finally:
            await _discard(attempts)

    async def _update(self, running: RunningJob, client: Client, response: _Response, before: Job) -> None:
        """Notify clients of what is new; that products are ready is no news, they come next."""
        parsed = response.json if isinstance(response.json, dict) else {}
        # Each report is searched for names of the client: some 30 ms for a thousand of them, at every poll.
        reports, notices = await asyncio.to_thread(_read_progress, parsed, client.envelope)
        has_reports = len(reports) > len(running.reports)
        if has_reports or (running.job.state != before.state and before.state is not State.RESUBMIT):
            running.times.changed = self._runtime.clock()
        is_new = has_reports or running.job.errors == 1 or running.job.state != before.state
        if parsed:
            is_new |= notices != running.notices
            running.notices = notices
        running.reports = reports or running.reports
        if is_new and (running.job.state is not State.READY or before.state is State.READY):
            running.notify()

    async def _write_journal(self, running: RunningJob, client: Client) -> None:
        """Write a job to the journal, before its first request and when it has a name, unless it names the client."""
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

    async def _finish(self, running: RunningJob, client: Client, response: _Response) -> Outcome:
        """Make the last answer an outcome for all clients."""
        if running.job.give_up_reason:
            await _close(response.answer)
            return Outcome(error=GivenUpError(running.job.give_up_reason))
        if response.answer is None:
            return Outcome(error=response.error)
        pipeline = self._services.pipeline
        envelope = replace(client.envelope, job_id=running.job.job_id)
        answer = await pipeline.repaired(response.answer, envelope)
        # The request for it has the headers of the first client, and the answer may be returned to a later request.
        answer = replace(answer, headers=owner_headers(answer.headers))
        if job_id_in(response.json) not in {"", envelope.job_id}:
            answer = await pipeline.with_job_id(answer, envelope.job_id)
        if running.job.state is State.FAILED:
            return Outcome(
                answer,
                failure=await asyncio.to_thread(
                    redact_failure, answer, running.resolved, envelope, failed_at=self._runtime.clock()
                ),
            )
        # The duration of a job that ended between two processes is not known.
        job = running.job if running.seen_running or not running.resumed else Job(self._runtime.clock())
        kept = await self._services.cache.store(answer, running.resolved, envelope, job)
        status = replace(answer.cache_status, stored=kept.stored, detail=kept.detail)
        answer = replace(answer, cache_status=status)
        return Outcome(answer, is_done=True, recording=kept.recording, stored=kept.stored)


def is_failure(answer: Answer, envelope: Envelope) -> bool:
    """Return whether an answer is the end of a job that failed."""
    event = classify(answer.status, _parse(answer), query_status=envelope.query_status)
    return event in {Event.FAILED, Event.INVALID}


def redact_failure(answer: Answer, resolved: ResolvedQuery, envelope: Envelope, *, failed_at: float) -> Failure | None:
    """Return a failure without its client; None where its text names the client."""
    body = _body(answer)
    if body is None:
        return None
    content_type = (headers.values(answer.headers, "content-type") or ["application/json"])[0]
    try:
        return failures.redact(
            body,
            envelope,
            status=answer.status,
            content_type=content_type,
            key=resolved.key,
            failed_at=failed_at,
            query=redact_query(resolved.query, envelope),
        )
    except NotStorableError:
        return None


def _is_renamed(before: Job, after: Job) -> bool:
    return after.job_id not in {"", before.job_id}


def _is_same_subject(one: Client, other: Client) -> bool:
    both = [read_claims(client.envelope.token) if client.envelope.token else None for client in (one, other)]
    return (both[0].subject if both[0] else None) == (both[1].subject if both[1] else None)


def _owner(client: Client) -> str:
    """Return a text that tells clients apart: their subject, or their session."""
    token = client.envelope.token
    if token is None:
        return f"session {client.envelope.session_id}"
    claims = read_claims(token)
    return f"subject {claims.subject}" if claims else "token"


async def _first_answer(attempts: list[asyncio.Task[Answer]], seconds: float) -> asyncio.Task[Answer] | None:
    """Return the first attempt that has an answer, or the last of all to fail; None where none has, in time."""
    pending = set(attempts)
    try:
        async with asyncio.timeout(seconds):
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for attempt in done:
                    if attempt.exception() is None or not pending:
                        return attempt
                    attempts.remove(attempt)
    except TimeoutError:
        pass
    return None


async def _discard(attempts: list[asyncio.Task[Answer]]) -> None:
    """Cancel attempts, or close their answers."""
    for attempt in attempts:
        attempt.cancel()
    for result in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(result, Answer):
            await result.close()


def _read_progress(parsed: Mapping[str, Any], envelope: Envelope) -> tuple[tuple[Mapping[str, Any], ...], Notices]:
    return public_reports(parsed, envelope), read_notices(parsed, envelope)


def _session_id_in(parsed: Any) -> str:
    """Return the session_id in an answer's JSON, or an empty string."""
    session_id = parsed.get("session_id") if isinstance(parsed, dict) else None
    return session_id if isinstance(session_id, str) and session_id not in ANONYMOUS else ""


def _parse(answer: Answer) -> tuple[Any, bool]:
    """Return the JSON of an answer, or None, and whether it breaks off; its products become true or false."""
    body = _body(answer)
    try:
        parsed = None if body is None else json_steps.loads(body)
    except (ValueError, RecursionError):
        return None, body is not None and body.lstrip()[:1] == b"{" and body.rstrip()[-1:] != b"}"
    if isinstance(parsed, dict) and "products" in parsed:
        parsed["products"] = bool(parsed["products"])
    return parsed, False


def _size(answer: Answer) -> int:
    """Return the bytes of an answer that was read; 0 for a stream."""
    return answer.body.size if isinstance(answer.body, SpooledBody) else 0


def _body(answer: Answer) -> bytes | None:
    """Return the bytes of an answer that was read."""
    if isinstance(answer.body, SpooledBody):
        return answer.body.read()
    return b"".join(answer.body) if isinstance(answer.body, tuple) else None


async def _close(answer: Answer | None) -> None:
    if answer is not None:
        await answer.close()
