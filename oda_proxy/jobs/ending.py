"""The end of a job: what its last answer is for all clients."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import OdaProxyError
from oda_proxy.http import headers
from oda_proxy.http.storable import owner_headers
from oda_proxy.jobs.exchange import body_of, parse_json
from oda_proxy.jobs.job import Event, Job, State, classify, job_id_in
from oda_proxy.jobs.outcome import Outcome
from oda_proxy.query.message_text import shorten
from oda_proxy.recordings import failures
from oda_proxy.recordings.recording import redact_query
from oda_proxy.recordings.redaction import NotStorableError

if TYPE_CHECKING:
    from oda_proxy.http.answer import Answer
    from oda_proxy.jobs.client import Client
    from oda_proxy.jobs.exchange import Response
    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.jobs.services import JobServices
    from oda_proxy.query.query import Envelope
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.failures import Failure


MAX_MESSAGE: Final = 300
"""Characters of the dispatcher's last error in the reason for which a job is given up."""


class GivenUpError(OdaProxyError):
    """The proxy gave a job up: the dispatcher did not end it."""

    detail = "given-up"


def stop_error(stopped_by: str) -> GivenUpError:
    """Return the end of a job that somebody has stopped, as its clients receive it."""
    return GivenUpError(f"the job was stopped by {stopped_by}; ask again to start it once more")


async def outcome_of(
    running: RunningJob, client: Client, response: Response, services: JobServices, *, now: float
) -> Outcome:
    """Return the outcome of a job for all clients, made of the last response, which was for one of them."""
    pipeline = services.pipeline
    envelope = replace(client.envelope, job_id=running.job.job_id)
    if reason := running.job.give_up_reason:
        if message := await _last_error(response.answer, running.resolved, envelope, services, now=now):
            reason = f"{reason}; its last error: {message}"
        await close(response.answer)
        return Outcome(error=GivenUpError(reason))
    if response.answer is None:
        return Outcome(error=response.error)
    is_failed = running.job.state is State.FAILED
    is_renamed = job_id_in(response.json) not in {"", envelope.job_id}
    recorder = None
    if not is_failed:
        job_id = envelope.job_id if is_renamed else ""
        recorder = services.cache.recorder(response.answer, running.resolved, envelope, job_id=job_id)
    answer = await pipeline.repaired(
        response.answer, envelope, parsed=response.parsed, observer=recorder, base_url=client.base_url
    )
    # The request for it has the headers of the first client, and the answer may be returned to a later request.
    answer = replace(answer, headers=owner_headers(answer.headers))
    if is_renamed:
        answer = await pipeline.with_job_id(answer, envelope.job_id)
    if is_failed:
        failure = await asyncio.to_thread(redact_failure, answer, running.resolved, envelope, failed_at=now)
        return Outcome(answer, failure=failure)
    # The duration of a job that ended between two processes is not known.
    job = running.job if running.seen_running or not running.resumed else Job(now)
    result = await services.cache.store(answer, running.resolved, envelope, job, recorder, fence=running.fence)
    status = replace(answer.cache_status, stored=result.stored, detail=result.detail)
    answer = replace(answer, cache_status=status)
    return Outcome(
        answer,
        is_done=True,
        recording=result.recording,
        stored=result.stored,
        store_failed=result.failed,
        fenced=result.fenced,
    )


async def _last_error(
    answer: Answer | None, resolved: ResolvedQuery, envelope: Envelope, services: JobServices, *, now: float
) -> str:
    """Return the message of an error of the dispatcher as any client may see it, or an empty string."""
    if answer is None or answer.status < HTTPStatus.BAD_REQUEST:
        return ""
    repaired = await services.pipeline.repaired(answer, envelope)
    failure = await asyncio.to_thread(redact_failure, repaired, resolved, envelope, failed_at=now)
    await close(repaired)
    body = failure.body if failure else {}
    message = body.get("error_message") if isinstance(body, Mapping) else None
    return shorten(message, MAX_MESSAGE) if isinstance(message, str) else ""


def is_failure(answer: Answer, envelope: Envelope) -> bool:
    """Return whether an answer is the end of a job that failed."""
    parsed, is_incomplete = parse_json(answer)
    event = classify(answer.status, parsed, query_status=envelope.query_status, is_incomplete=is_incomplete)
    return event in {Event.FAILED, Event.INVALID}


def redact_failure(answer: Answer, resolved: ResolvedQuery, envelope: Envelope, *, failed_at: float) -> Failure | None:
    """Return a failure without its client; None where its text names the client."""
    body = body_of(answer)
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


async def close(answer: Answer | None) -> None:
    """Close an answer that no client needs."""
    if answer is not None:
        await answer.close()
