"""Run of a query at a dispatcher, or through a proxy, until its job has ended, without a store."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from oda_proxy.errors import OdaProxyError, UpstreamUnreachableError
from oda_proxy.http import headers
from oda_proxy.http.cache_status import CacheStatus, read_cache_status
from oda_proxy.http.message import Request
from oda_proxy.jobs.job import Event, Job, Limits, State, Step, advance, classify, job_id_in, next_step
from oda_proxy.query.message_text import shorten
from oda_proxy.query.query import FORM, Envelope, query_fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oda_proxy.http.message import Headers, Upstream
    from oda_proxy.query.query import Query, Token

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
_HEADERS: Final = (("Accept-Encoding", "identity"), ("Via", "1.1 oda-proxy"))
NO_CACHE: Final = (("Cache-Control", "no-cache"),)
"""With this header, an oda-proxy in between contacts the dispatcher, too."""
_MAX_RETRY_AFTER: Final = 600.0
"""Seconds for which a server can delay the next request."""


class RerunFailedError(OdaProxyError):
    """The rerun of a job that succeeded when it was recorded failed."""


class NotSubmittedError(RerunFailedError):
    """A query could not be submitted: there was no connection, or no response to it."""


@dataclass(frozen=True, slots=True)
class _Response:
    """One response: what it reports of the job, its body, and the reason of a failure."""

    event: Event
    body: bytes = b""
    job_id: str = ""
    reason: str = ""
    cache_status: CacheStatus = field(default_factory=CacheStatus)
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """The last response of a job that succeeded, and what a proxy reports of it."""

    body: bytes
    """Empty for a recording of a proxy that was not read."""
    cache_status: CacheStatus


class Rerun:
    """Runs queries in one session; `clock` returns s, `sleep` takes s.

    A proxy may answer from a recording if `uses_recordings`; such an answer is not read. Queries have the `token`.
    """

    def __init__(
        self,
        upstream: Upstream,
        session_id: str,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        uses_recordings: bool = False,
        token: Token | None = None,
    ) -> None:
        self.envelope = Envelope("new", session_id, token=token, others={"oda_api_version": CLIENT})
        self.url = upstream.url
        self._upstream = upstream
        self._uses_recordings = uses_recordings
        self._clock = clock
        self._sleep = sleep
        self._has_responded = False

    async def run(self, query: Query, *, on_progress: Callable[[str], None]) -> Result:
        """Send requests until the job is done, and return the last response; `on_progress` receives its state.

        Raises
        ------
        RerunFailedError
            The job failed or was abandoned.
        UpstreamUnreachableError
            The dispatcher does not respond, and never has.
        """
        pairs = query_fields(query)
        job, retry_after = Job(started_at=self._clock()), 0.0
        while True:
            step = next_step(job, self._clock(), watched=True, retry_after=retry_after)
            await self._sleep(step.pause)
            response = await self._request(pairs, step)
            retry_after = response.retry_after
            job = advance(job, response.event, self._clock(), job_id=response.job_id, limits=LIMITS)
            if job.state is State.DONE:
                return Result(response.body, response.cache_status)
            if job.state is State.FAILED:
                is_unreachable = response.event is Event.UNREACHABLE and not job.give_up_reason
                kind = NotSubmittedError if is_unreachable else RerunFailedError
                raise kind(job.give_up_reason or shorten(response.reason, _LONGEST_REASON))
            on_progress(f"{job.state}, {self._clock() - job.started_at:.0f} s")

    async def has_recording(self, query: Query) -> bool:
        """Return whether a proxy has a recording of a query, and would use it; nothing is submitted.

        Raises UpstreamUnreachableError.
        """
        extra = (*_HEADERS, ("Cache-Control", "only-if-cached"))
        reply = await self._upstream.send(_request(query_fields(query), Step("new", "", 0.0), self.envelope, extra))
        await reply.body.aclose()
        return self._is_recording(reply.status, _cache_status(reply.headers))

    async def _request(self, pairs: list[tuple[str, str]], step: Step) -> _Response:
        """Send one request, and interpret the response."""
        extra = () if self._uses_recordings else NO_CACHE
        try:
            status, fields, body = await self._exchange(_request(pairs, step, self.envelope, (*_HEADERS, *extra)))
        except UpstreamUnreachableError as error:
            if not self._has_responded:
                raise
            return _Response(Event.UNREACHABLE, reason=str(error))
        self._has_responded = True
        cache_status = _cache_status(fields)
        if self._is_recording(status, cache_status):
            return _Response(Event.DONE, cache_status=cache_status)
        answer = _parsed(body)
        event = classify(status, answer, query_status=step.query_status)
        reason = _message(answer) or _default_reason(status, body)
        return _Response(event, body, job_id_in(answer), reason, cache_status, _retry_after(fields))

    def _is_recording(self, status: int, cache_status: CacheStatus) -> bool:
        return self._uses_recordings and status == _OK and cache_status.hit

    async def _exchange(self, request: Request) -> tuple[int, Headers, bytes]:
        reply = await self._upstream.send(request)
        pieces, size = [], 0
        try:
            if self._is_recording(reply.status, _cache_status(reply.headers)):
                return reply.status, reply.headers, b""
            async for piece in reply.body:
                pieces.append(piece)
                size += len(piece)
                if size > MAX_ANSWER:
                    raise RerunFailedError(f"the response has more than {MAX_ANSWER} bytes")
        finally:
            await reply.body.aclose()
        return reply.status, reply.headers, b"".join(pieces)


def _request(pairs: list[tuple[str, str]], step: Step, envelope: Envelope, fields: Headers) -> Request:
    sent = [*pairs, *envelope.others.items(), ("session_id", envelope.session_id), ("query_status", step.query_status)]
    sent += [("job_id", step.job_id)] if step.job_id else []
    sent += [("token", envelope.token.text)] if envelope.token else []
    text = urlencode(sent, errors="surrogateescape")
    polls = step.query_status not in {"new", "ready"}
    patience = POLL_TIMEOUT if polls else None
    if len(text) <= _LONGEST_QUERY_STRING:
        return Request("GET", "/run_analysis", text, fields, timeout=patience, at_most_once=not polls)
    fields = (*fields, ("Content-Type", FORM))
    return Request("POST", "/run_analysis", "", fields, text.encode(), patience, at_most_once=not polls)


def _cache_status(fields: Headers) -> CacheStatus:
    """Return what the last proxy before this client reports; nothing for other programs."""
    values = headers.values(fields, "cache-status")
    return read_cache_status(values[-1]) if values and values[-1].startswith("oda-proxy") else CacheStatus()


def _retry_after(fields: Headers) -> float:
    """Return for how many s the server accepts no request (`Retry-After` in s; dates are not read)."""
    values = headers.values(fields, "retry-after")
    return min(float(values[0]), _MAX_RETRY_AFTER) if values and values[0].isascii() and values[0].isdecimal() else 0.0


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
