"""Rerun of a recorded query at a dispatcher, until its job has ended, without a token and without a store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from oda_proxy.errors import OdaProxyError, UpstreamUnreachableError
from oda_proxy.http.message import Request
from oda_proxy.jobs.job import Event, Job, Limits, State, advance, classify, job_id_in, next_step
from oda_proxy.query.message_text import shorten
from oda_proxy.query.query import FORM, Envelope, query_fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oda_proxy.http.message import Upstream
    from oda_proxy.jobs.job import Step
    from oda_proxy.query.query import Query

CLIENT: Final = "1.3.5"
"""The release of oda_api in requests: the form of some products depends on it."""

LIMITS: Final = Limits(max_outage=600.0)
"""Limits of a job: the dispatcher may be away for 10 min, and take as long as when it was recorded."""

MAX_ANSWER: Final = 256 * 1024 * 1024
"""Maximum size of a response, in bytes."""

POLL_TIMEOUT: Final = 60.0
"""Time, in s, in which the dispatcher has to respond to a poll."""

_LONGEST_QUERY_STRING: Final = 6000
"""Maximum length of a query string; longer ones are sent as a form, as clients do."""
_LONGEST_REASON: Final = 300
_OK: Final = 200
_HEADERS: Final = (("Accept-Encoding", "identity"), ("Cache-Control", "no-cache"), ("Via", "1.1 oda-proxy"))
"""With `no-cache`, an oda-proxy in between contacts the dispatcher, too."""


class RerunFailedError(OdaProxyError):
    """The rerun of a job that succeeded when it was recorded failed."""


@dataclass(frozen=True, slots=True)
class _Response:
    """One response: what it reports of the job, its body, and the reason of a failure."""

    event: Event
    body: bytes = b""
    job_id: str = ""
    reason: str = ""


class Rerun:
    """Reruns queries in one session; `clock` returns s, `sleep` takes s."""

    def __init__(
        self,
        upstream: Upstream,
        session_id: str,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.envelope = Envelope("new", session_id, others={"oda_api_version": CLIENT})
        self._upstream = upstream
        self._clock = clock
        self._sleep = sleep
        self._has_responded = False

    async def run(self, query: Query, *, on_progress: Callable[[str], None]) -> bytes:
        """Send requests until the job is done, and return the last response; `on_progress` receives its state.

        Raises
        ------
        RerunFailedError
            The job failed or was abandoned.
        UpstreamUnreachableError
            The dispatcher does not respond, and never has.
        """
        pairs = query_fields(query)
        job = Job(started_at=self._clock())
        while True:
            step = next_step(job, self._clock(), watched=True)
            await self._sleep(step.pause)
            response = await self._request(pairs, step)
            job = advance(job, response.event, self._clock(), job_id=response.job_id, limits=LIMITS)
            if job.state is State.DONE:
                return response.body
            if job.state is State.FAILED:
                raise RerunFailedError(job.give_up_reason or shorten(response.reason, _LONGEST_REASON))
            on_progress(f"{job.state}, {self._clock() - job.started_at:.0f} s")

    async def _request(self, pairs: list[tuple[str, str]], step: Step) -> _Response:
        """Send one request, and interpret the response."""
        try:
            status, body = await self._exchange(_request(pairs, step, self.envelope))
        except UpstreamUnreachableError as error:
            if not self._has_responded:
                raise
            return _Response(Event.UNREACHABLE, reason=str(error))
        self._has_responded = True
        answer = _parsed(body)
        event = classify(status, answer, query_status=step.query_status)
        return _Response(event, body, job_id_in(answer), _message(answer) or _default_reason(status, body))

    async def _exchange(self, request: Request) -> tuple[int, bytes]:
        reply = await self._upstream.send(request)
        pieces, size = [], 0
        try:
            async for piece in reply.body:
                pieces.append(piece)
                size += len(piece)
                if size > MAX_ANSWER:
                    raise RerunFailedError(f"the response has more than {MAX_ANSWER} bytes")
        finally:
            await reply.body.aclose()
        return reply.status, b"".join(pieces)


def _request(pairs: list[tuple[str, str]], step: Step, envelope: Envelope) -> Request:
    sent = [*pairs, *envelope.others.items(), ("session_id", envelope.session_id), ("query_status", step.query_status)]
    sent += [("job_id", step.job_id)] if step.job_id else []
    text = urlencode(sent, errors="surrogateescape")
    polls = step.query_status not in {"new", "ready"}
    patience = POLL_TIMEOUT if polls else None
    if len(text) <= _LONGEST_QUERY_STRING:
        return Request("GET", "/run_analysis", text, _HEADERS, timeout=patience, at_most_once=not polls)
    headers = (*_HEADERS, ("Content-Type", FORM))
    return Request("POST", "/run_analysis", "", headers, text.encode(), patience, at_most_once=not polls)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _default_reason(status: int, body: bytes) -> str:
    """Describe a failure without a message of the dispatcher."""
    if status == _OK:
        return "the dispatcher gave no reason"
    return (
        f"the dispatcher responded {status}: {body[:_LONGEST_REASON].decode('utf-8', 'replace').strip() or 'nothing'}"
    )


def _message(answer: Any) -> str:
    """Return the message of a failure in a response; empty if there is none."""
    if not isinstance(answer, dict):
        return ""
    status = answer.get("exit_status")
    found = [status.get("message"), status.get("error_message")] if isinstance(status, dict) else []
    found += [answer.get("error_message"), answer.get("error")]
    return next((text for text in found if isinstance(text, str) and text.strip()), "")
