"""Polling the dispatcher for one job until it ends."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import OdaProxyError, UpstreamPausedError, UpstreamUnreachableError
from oda_proxy.http import headers
from oda_proxy.http.answer import OK, is_plain
from oda_proxy.http.spool import MAX_IN_MEMORY, SpooledBody, spooled
from oda_proxy.http.storable import owner_headers
from oda_proxy.jobs.job import (
    MAX_PAUSE,
    Event,
    Job,
    State,
    advance,
    classify,
    job_id_in,
    next_step,
    resubmitted,
)
from oda_proxy.jobs.journal import JournalEntry
from oda_proxy.jobs.outcome import Outcome
from oda_proxy.jobs.progress import public_reports
from oda_proxy.query.audience import read_claims
from oda_proxy.query.query import replace_fields
from oda_proxy.recordings import failures
from oda_proxy.recordings.recording import redact_query
from oda_proxy.recordings.redaction import NotStorableError

if TYPE_CHECKING:
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request
    from oda_proxy.jobs.client import Client
    from oda_proxy.jobs.job import Step
    from oda_proxy.jobs.policy import JobPolicy
    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.jobs.runtime import Runtime
    from oda_proxy.jobs.services import JobServices
    from oda_proxy.query.query import Envelope
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.failures import Failure

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
    """Runs jobs, at most `policy.max_jobs` at once; others wait in the order of their start."""

    def __init__(self, services: JobServices, policy: JobPolicy, runtime: Runtime) -> None:
        self._services = services
        self._limits = policy.limits
        self._runtime = runtime
        self._places = asyncio.Semaphore(policy.max_jobs)
        self._parsing = asyncio.Lock()

    async def run(self, running: RunningJob) -> Outcome:
        """Poll the dispatcher until a job has ended."""
        clock = self._runtime.clock
        running.is_queued = self._places.locked()
        running.notify()
        async with self._places:
            running.is_queued = False
            running.notify()
            retry_after = 0.0
            while True:
                step = next_step(running.job, clock(), watched=running.is_watched, retry_after=retry_after)
                await self._pause(step.pause, running)
                client = running.client
                response = await self._request(client, step, running)
                if response.event is Event.UNAUTHORIZED and running.hand_over():
                    await _dismiss(response.answer)
                    if not _is_same_subject(client, running.client):  # the dispatcher has a job for each
                        running.job = resubmitted(running.job)
                    continue
                before, retry_after = running.job, response.retry_after
                job_id = job_id_in(response.json)
                running.job = advance(before, response.event, clock(), job_id=job_id, limits=self._limits)
                running.seen_running |= response.event in {Event.SUBMITTED, Event.PROGRESS}
                if running.job.state.is_final:
                    return await self._finish(running, client, response)
                await _dismiss(response.answer)
                if running.job.state is not State.NEW and (
                    before.state is State.NEW or _is_renamed(before, running.job)
                ):
                    await self._write_journal(running, client)
                await self._update(running, client, response, before)

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

    async def _request(self, client: Client, step: Step, running: RunningJob) -> _Response:
        """Send one request and classify its answer."""
        is_poll = step.query_status not in {"new", "ready"}
        running.polls += is_poll
        left = max(running.job.started_at + self._limits.max_duration - self._runtime.clock(), POLL_TIMEOUT)
        patience = POLL_TIMEOUT if is_poll else left if step.query_status == "new" else FETCH_TIMEOUT
        request = replace(_restated(client.request, step), timeout=patience, at_most_once=not is_poll)
        try:
            reply = await self._services.relay.send(request, client.base_url, running.forwarded)
            answer = await spooled(reply, MAX_STORED, in_memory=MAX_STORED if client.envelope.token else None)
        except UpstreamPausedError as error:
            event = Event.UNREACHABLE if error.is_down else Event.UNAVAILABLE
            return _Response(event, error=error, retry_after=error.retry_after)
        except UpstreamUnreachableError as error:
            return _Response(Event.UNREACHABLE, error=error)
        if answer.status == OK:
            self._services.tokens.mark_verified(client.envelope.token)
        if answer.status == OK and not (is_plain(answer) and isinstance(answer.body, SpooledBody)):
            return _Response(Event.DONE, answer)  # compressed or too large to be read here: the client may read it
        async with self._parsing if _is_large(answer) else nullcontext():
            parsed = await asyncio.to_thread(_parse, answer)
        return _Response(classify(answer.status, parsed, query_status=step.query_status), answer, parsed)

    async def _update(self, running: RunningJob, client: Client, response: _Response, before: Job) -> None:
        """Notify clients of what is new; that products are ready is no news, they come next."""
        parsed = response.json if isinstance(response.json, dict) else {}
        # Each report is searched for names of the client: some 30 ms for a thousand of them, at every poll.
        reports = await asyncio.to_thread(public_reports, parsed, client.envelope)
        is_new = len(reports) > len(running.reports) or running.job.errors == 1 or running.job.state != before.state
        running.reports = reports or running.reports
        if is_new and (running.job.state is not State.READY or before.state is State.READY):
            running.notify()

    async def _write_journal(self, running: RunningJob, client: Client) -> None:
        """Write a job that the dispatcher has accepted to the journal, unless its query names the client."""
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
            await _dismiss(response.answer)
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


def _restated(request: Request, step: Step) -> Request:
    """Return the request of a client with the state and job_id of a step."""
    changes = {"query_status": step.query_status, "job_id": step.job_id}
    if not isinstance(request.body, bytes):
        return replace(request, query_string=replace_fields(request.query_string, **changes))
    form = replace_fields(request.body.decode("utf-8", "surrogateescape"), **changes).encode("utf-8", "surrogateescape")
    return replace(request, query_string=replace_fields(request.query_string, **dict.fromkeys(changes, "")), body=form)


def _parse(answer: Answer) -> Any:
    """Return the JSON of an answer, or None; its products, which may be large, become true or false."""
    body = _body(answer)
    try:
        parsed = None if body is None else json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(parsed, dict) and "products" in parsed:
        parsed["products"] = bool(parsed["products"])
    return parsed


def _is_large(answer: Answer) -> bool:
    """Return whether an answer is parsed alone: several copies of it are in memory meanwhile."""
    return isinstance(answer.body, SpooledBody) and answer.body.size > MAX_IN_MEMORY


def _body(answer: Answer) -> bytes | None:
    """Return the bytes of an answer that was read."""
    if isinstance(answer.body, SpooledBody):
        return answer.body.read()
    return b"".join(answer.body) if isinstance(answer.body, tuple) else None


async def _dismiss(answer: Answer | None) -> None:
    if answer is not None:
        await answer.close()
