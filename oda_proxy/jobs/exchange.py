"""One request of a job to the dispatcher: what it is, and what its answer means."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec import json_steps
from oda_proxy.compat.parsed_answer import parse_text
from oda_proxy.errors import UpstreamPausedError, UpstreamUnreachableError
from oda_proxy.http.answer import OK, Answer, is_plain
from oda_proxy.http.spool import SpooledBody, spooled
from oda_proxy.jobs.job import Event, State, Step, classify
from oda_proxy.jobs.requests import with_fields, without_files
from oda_proxy.jobs.running_job import ANONYMOUS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.compat.parsed_answer import ParsedAnswer
    from oda_proxy.errors import OdaProxyError
    from oda_proxy.jobs.job import Limits
    from oda_proxy.jobs.places import Place
    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.jobs.runtime import Runtime
    from oda_proxy.jobs.services import JobServices

SUBMIT_TIMEOUT: Final = 120.0
"""Seconds without an answer after which clients since 1.1.46 submit again, and so does the proxy."""
MAX_SUBMISSIONS: Final = 2
"""Submissions of one job that wait for an answer at once: the first and the last."""
MAX_STORED: Final = 256 * 1024 * 1024
"""Bytes of an answer that is stored; the largest known, 31 response matrices, has 57 million. Others pass through."""
MAX_RUNNING: Final = 1024 * 1024
"""Bytes of an answer to the owner of a running job that has members in place of products."""
POLL_TIMEOUT: Final = 60.0
"""Seconds for the answer to a poll, which has no products."""
FETCH_TIMEOUT: Final = 1800.0
"""Seconds for products that are ready."""


@dataclass(frozen=True, slots=True)
class Response:
    """The result of one request: its event, and the answer with its JSON, or the error in its place."""

    event: Event
    answer: Answer | None = None
    json: Any = None
    parsed: ParsedAnswer | None = None
    """The same with its products, for the repair."""
    error: OdaProxyError | None = None
    retry_after: float = 0.0


class Exchange:
    """Sends the requests of jobs."""

    def __init__(self, services: JobServices, limits: Limits, runtime: Runtime) -> None:
        self._services = services
        self._limits = limits
        self._runtime = runtime

    async def request(self, step: Step, running: RunningJob, place: Place) -> Response:
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
            return Response(event, error=error, retry_after=error.retry_after)
        except UpstreamUnreachableError as error:
            return Response(Event.INTERRUPTED if is_answered else Event.UNREACHABLE, error=error)
        if answer.status == OK:
            self._services.tokens.mark_verified(client.envelope.token)
        if answer.status == OK and not (is_plain(answer) and isinstance(answer.body, SpooledBody)):
            return Response(Event.DONE, answer)  # compressed or too large to be read here: the client may read it
        parsed, json, is_incomplete = await self._services.budget.run(_size(answer), partial(_parse, answer))
        if client.envelope.session_id in ANONYMOUS and (session_id := _session_id_in(json)):
            running.adopt_session(session_id)
        event = classify(answer.status, json, query_status=step.query_status, is_incomplete=is_incomplete)
        return Response(event, answer, json, parsed)

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


async def _first_answer(attempts: list[asyncio.Task[Answer]], seconds: float) -> asyncio.Task[Answer] | None:
    """Return the first attempt that has an answer, or the last of all to fail; None where none has, in time."""
    pending = set(attempts)
    try:
        async with asyncio.timeout(seconds):
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for attempt in sorted(done, key=lambda one: one.exception() is not None):
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


def _session_id_in(parsed: Any) -> str:
    """Return the session_id in an answer's JSON, or an empty string."""
    session_id = parsed.get("session_id") if isinstance(parsed, dict) else None
    return session_id if isinstance(session_id, str) and session_id not in ANONYMOUS else ""


def _parse(answer: Answer) -> tuple[ParsedAnswer | None, Any, bool]:
    """Parse an answer for all that is done with it, and return it also as `parse_json` does.

    One that is no JSON object, or repeats a name, is only returned as `parse_json` does; so is one of a running job.
    """
    try:
        if not isinstance(answer.body, SpooledBody):
            return None, *parse_json(answer)
        parsed = parse_text(answer.body.part, answer.body.size, answer.body.release)
    except (ValueError, RecursionError):
        return None, *parse_json(answer)
    if not parsed.is_complete or (_runs(parsed.json) and parsed.size <= MAX_RUNNING):
        return None, *parse_json(answer)
    return parsed, parsed.json, False


def parse_json(answer: Answer) -> tuple[Any, bool]:
    """Return the JSON of an answer, or None, and whether it breaks off.

    Its products become true or false, unless the job runs: then they are small, and for the owner.
    """
    body = body_of(answer)
    try:
        parsed = None if body is None else json_steps.loads(body)
    except (ValueError, RecursionError):
        return None, body is not None and body.lstrip()[:1] == b"{" and body.rstrip()[-1:] != b"}"
    if isinstance(parsed, dict) and "products" in parsed and not (_runs(parsed) and len(body or b"") <= MAX_RUNNING):
        parsed["products"] = bool(parsed["products"])
    return parsed, False


def _runs(parsed: Mapping[str, Any]) -> bool:
    return parsed.get("query_status") in (State.SUBMITTED, State.PROGRESS)


def _size(answer: Answer) -> int:
    """Return the bytes of an answer that was read; 0 for a stream."""
    return answer.body.size if isinstance(answer.body, SpooledBody) else 0


def body_of(answer: Answer) -> bytes | None:
    """Return the bytes of an answer that was read."""
    if isinstance(answer.body, SpooledBody):
        return answer.body.read()
    return b"".join(answer.body) if isinstance(answer.body, tuple) else None
