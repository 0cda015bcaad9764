"""Asking a dispatcher once more for what was recorded, each job to its end, without a token and without a store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from oda_proxy.errors import OdaProxyError, UpstreamUnreachableError
from oda_proxy.http.message import Request
from oda_proxy.jobs.job import Event, Job, Limits, State, advance, classify, job_id_in, next_step
from oda_proxy.query.nearest import shorten
from oda_proxy.query.query import FORM, Envelope, query_fields
from oda_proxy.recordings.redaction import REMOVED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oda_proxy.http.message import Upstream
    from oda_proxy.jobs.job import Step
    from oda_proxy.query.query import Query

CLIENT: Final = "1.3.5"
"""The release of the client as which we ask: it decides on the form of some products."""

LIMITS: Final = Limits(max_outage=600.0)
"""How much patience a job is given: a person waits, but the dispatcher may take as long as it did."""

MAX_ANSWER: Final = 256 * 1024 * 1024
"""Bytes of an answer that is read, as of one that is kept."""

POLL_PATIENCE: Final = 60.0
"""Seconds that the answer to a poll may take: it only tells how the job stands."""

_LONGEST_ADDRESS: Final = 6000
"""Characters of a query that is sent in the address; longer ones are sent as a form, as clients do."""
_LONGEST_REASON: Final = 300
_OK: Final = 200
_HEADERS: Final = (("Accept-Encoding", "identity"), ("Cache-Control", "no-cache"), ("Via", "1.1 oda-proxy"))
"""A proxy of ours that stands there is to ask anew, too."""


class FailedNowError(OdaProxyError):
    """A job that has succeeded when it was recorded fails."""


def why_not(query: Query) -> str:
    """Say why a query cannot be asked again, or nothing: it would need what was not recorded."""
    if query.files:
        return "a file was uploaded with it, of which only the digest was recorded"
    if any(REMOVED in word for _, word in query_fields(query)):
        return "an address was taken out of what was asked"
    return ""


@dataclass(frozen=True, slots=True)
class _Response:
    """What came of one request: what it says of the job, the answer, and why the job failed, if it did."""

    event: Event
    body: bytes = b""
    job_id: str = ""
    reason: str = ""


class Rerun:
    """Asks in one session; `clock` gives s, `sleep` waits for some."""

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
        self._was_there = False

    async def ask(self, query: Query, *, tell: Callable[[str], None]) -> bytes:
        """Ask until the job is done, and give its last answer; `tell` is told how it stands meanwhile.

        Raises
        ------
        FailedNowError
            The job failed or was given up.
        UpstreamUnreachableError
            Nobody answers, and nobody has answered before.
        """
        pairs = query_fields(query)
        job = Job(started_at=self._clock())
        while True:
            step = next_step(job, self._clock(), watched=True)
            await self._sleep(step.pause)
            once = await self._once(pairs, step)
            job = advance(job, once.event, self._clock(), job_id=once.job_id, limits=LIMITS)
            if job.state is State.DONE:
                return once.body
            if job.state is State.FAILED:
                raise FailedNowError(job.give_up_reason or shorten(once.reason, _LONGEST_REASON))
            tell(f"{job.state}, {self._clock() - job.started_at:.0f} s")

    async def _once(self, pairs: list[tuple[str, str]], step: Step) -> _Response:
        """Ask once, and say what is heard."""
        try:
            status, body = await self._exchange(_request(pairs, step, self.envelope))
        except UpstreamUnreachableError as error:
            if not self._was_there:
                raise
            return _Response(Event.UNREACHABLE, reason=str(error))
        self._was_there = True
        told = _read(body)
        event = classify(status, told, query_status=step.query_status)
        return _Response(event, body, job_id_in(told), _message(told) or _remark(status, body))

    async def _exchange(self, request: Request) -> tuple[int, bytes]:
        reply = await self._upstream.send(request)
        pieces, size = [], 0
        try:
            async for piece in reply.body:
                pieces.append(piece)
                size += len(piece)
                if size > MAX_ANSWER:
                    raise FailedNowError(f"the answer has more than {MAX_ANSWER} bytes")
        finally:
            await reply.body.aclose()
        return reply.status, b"".join(pieces)


def _request(pairs: list[tuple[str, str]], step: Step, envelope: Envelope) -> Request:
    sent = [*pairs, *envelope.others.items(), ("session_id", envelope.session_id), ("query_status", step.query_status)]
    sent += [("job_id", step.job_id)] if step.job_id else []
    text = urlencode(sent, errors="surrogateescape")
    polls = step.query_status not in {"new", "ready"}
    patience = POLL_PATIENCE if polls else None
    if len(text) <= _LONGEST_ADDRESS:
        return Request("GET", "/run_analysis", text, _HEADERS, timeout=patience, at_most_once=not polls)
    told = (*_HEADERS, ("Content-Type", FORM))
    return Request("POST", "/run_analysis", "", told, text.encode(), patience, at_most_once=not polls)


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _remark(status: int, body: bytes) -> str:
    """Say what is known of a failure that has no words of its own."""
    if status == _OK:
        return "the dispatcher gives no reason"
    return f"the dispatcher answers {status}: {body[:_LONGEST_REASON].decode('utf-8', 'replace').strip() or 'nothing'}"


def _message(told: Any) -> str:
    """Find the dispatcher's words in its answer; nothing where it has none."""
    if not isinstance(told, dict):
        return ""
    status = told.get("exit_status")
    found = [status.get("message"), status.get("error_message")] if isinstance(status, dict) else []
    found += [told.get("error_message"), told.get("error")]
    return next((text for text in found if isinstance(text, str) and text.strip()), "")
