"""Asking the dispatcher for one job, again and again, until it has ended."""

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
from oda_proxy.jobs.inflight import Outcome
from oda_proxy.jobs.job import LONGEST_PAUSE, Job, Limits, Said, State, begun_again, heard, named, next_step, observe
from oda_proxy.jobs.journal import Unfinished
from oda_proxy.jobs.progress import reports_of
from oda_proxy.query.audience import read_claims
from oda_proxy.query.query import replace_fields
from oda_proxy.recordings import failures
from oda_proxy.recordings.recording import redact_query
from oda_proxy.recordings.redaction import NotStorableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oda_proxy.compat.pipeline import RepairPipeline
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request
    from oda_proxy.jobs.inflight import Client, RunningJob
    from oda_proxy.jobs.job import Step
    from oda_proxy.jobs.journal import JobJournal
    from oda_proxy.query.audience import TokenVerifier
    from oda_proxy.query.query import Envelope
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.store.recording_cache import RecordingCache
    from oda_proxy.upstream.relay import Relay

MAX_KEPT: Final = 256 * 1024 * 1024
"""Bytes of an answer that is kept; the largest known, 31 response matrices, has 57 million. Others pass through."""
POLL_PATIENCE: Final = 60.0
"""Seconds that the answer to a poll may take: it only tells how the job stands."""
FETCH_PATIENCE: Final = 1800.0
"""Seconds in which products that are ready have to come."""


class GivenUpError(OdaProxyError):
    """A job was given up: the dispatcher did not end it."""

    word = "given-up"


@dataclass(frozen=True, slots=True)
class _Heard:
    """What came of one request: what it says, and the answer with its JSON, or why there is none."""

    said: Said
    answer: Answer | None = None
    told: Any = None
    error: OdaProxyError | None = None
    retry_after: float = 0.0


class Polling:
    """Conducts jobs: at most `at_once` of them, the others wait in the order in which they came.

    `clock` gives s since 1970 (UTC); `sleep` waits for some s.
    """

    def __init__(
        self,
        relay: Relay,
        pipeline: RepairPipeline,
        cache: RecordingCache,
        tokens: TokenVerifier,
        *,
        journal: JobJournal,
        at_once: int,
        limits: Limits,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._relay = relay
        self._pipeline = pipeline
        self._cache = cache
        self._tokens = tokens
        self._journal = journal
        self._places = asyncio.Semaphore(at_once)
        self._limits = limits
        self._reading = asyncio.Lock()
        self._clock = clock
        self._sleep = sleep

    async def conduct(self, running: RunningJob) -> Outcome:
        """Ask for a job until it has ended."""
        running.is_queued = self._places.locked()
        running.changed()
        async with self._places:
            running.is_queued = False
            running.changed()
            retry_after = 0.0
            while True:
                step = next_step(running.job, self._clock(), watched=running.is_watched, retry_after=retry_after)
                await self._pause(step.pause, running)
                client = running.client
                heard = await self._ask(client, step, running)
                if heard.said is Said.REFUSED and running.succeed():
                    await _dismiss(heard.answer)
                    if not _is_same_subject(client, running.client):  # the dispatcher has a job for each
                        running.job = begun_again(running.job)
                    continue
                before, retry_after = running.job, heard.retry_after
                running.job = observe(before, heard.said, self._clock(), job_id=named(heard.told), limits=self._limits)
                running.was_seen |= heard.said in {Said.SUBMITTED, Said.PROGRESS}
                if running.job.state.is_end:
                    return await self._ended(running, client, heard)
                await _dismiss(heard.answer)
                if running.job.state is not State.NEW and (
                    before.state is State.NEW or _is_renamed(before, running.job)
                ):
                    await self._note(running, client)
                await self._take_note(running, client, heard, before)

    async def _pause(self, seconds: float, running: RunningJob) -> None:
        """Wait before the next request; where nobody waited for the job, only until somebody does."""
        if seconds <= 0 or (running.resumed and running.polls == 0):  # much may have happened meanwhile
            return
        if running.is_watched or seconds <= LONGEST_PAUSE:
            await self._sleep(seconds)
            return
        sleep, watched = asyncio.ensure_future(self._sleep(seconds)), asyncio.ensure_future(running.until_watched())
        try:
            await asyncio.wait({sleep, watched}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            watched.cancel()
            await asyncio.gather(sleep, watched, return_exceptions=True)

    async def _ask(self, client: Client, step: Step, running: RunningJob) -> _Heard:
        """Ask once, and say what is heard."""
        polls = step.query_status not in {"new", "ready"}
        running.polls += polls
        rest = max(running.job.begun + self._limits.longest - self._clock(), POLL_PATIENCE)
        patience = POLL_PATIENCE if polls else rest if step.query_status == "new" else FETCH_PATIENCE
        request = replace(_restated(client.request, step), timeout=patience, at_most_once=not polls)
        try:
            reply = await self._relay.send(request, client.here, running.forwarded)
            answer = await spooled(reply, MAX_KEPT, in_memory=MAX_KEPT if client.envelope.token else None)
        except UpstreamPausedError as error:
            said = Said.UNREACHABLE if error.is_down else Said.AWAY
            return _Heard(said, error=error, retry_after=error.retry_after)
        except UpstreamUnreachableError as error:
            return _Heard(Said.UNREACHABLE, error=error)
        if answer.status == OK:
            self._tokens.mark_verified(client.envelope.token)
        if answer.status == OK and not (is_plain(answer) and isinstance(answer.body, SpooledBody)):
            return _Heard(Said.DONE, answer)  # nothing that we can look into: the asker may
        async with self._reading if _is_large(answer) else nullcontext():
            told = await asyncio.to_thread(_read, answer)
        return _Heard(heard(answer.status, told, query_status=step.query_status), answer, told)

    async def _take_note(self, running: RunningJob, client: Client, heard: _Heard, before: Job) -> None:
        """Tell who waits what is new; products that are ready are worth no word, they come next."""
        told = heard.told if isinstance(heard.told, dict) else {}
        # Each is searched for its asker: some 30 ms for a thousand of them, at every poll.
        reports = await asyncio.to_thread(reports_of, told, client.envelope)
        is_news = len(reports) > len(running.reports) or running.job.troubles == 1 or running.job.state != before.state
        running.reports = reports or running.reports
        if is_news and (running.job.state is not State.READY or before.state is State.READY):
            running.changed()

    async def _note(self, running: RunningJob, client: Client) -> None:
        """Note a job that the dispatcher has taken, unless what is asked names the asker."""
        envelope, resolved = client.envelope, running.resolved
        try:
            query = redact_query(resolved.query, envelope)
        except NotStorableError:
            return
        private = envelope.token is not None
        job = Unfinished(
            key=resolved.key,
            query=query,
            begun=running.job.begun,
            job_id="" if private else running.job.job_id,
            private=private,
            version=envelope.others.get("oda_api_version", ""),
        )
        await self._journal.note(job)

    async def _ended(self, running: RunningJob, client: Client, heard: _Heard) -> Outcome:
        """Make of the last answer what all who waited may have."""
        if running.job.given_up:
            await _dismiss(heard.answer)
            return Outcome(error=GivenUpError(running.job.given_up))
        if heard.answer is None:
            return Outcome(error=heard.error)
        envelope = replace(client.envelope, job_id=running.job.job_id)
        answer = await self._pipeline.repaired(heard.answer, envelope)
        if named(heard.told) not in {"", envelope.job_id}:
            answer = await self._pipeline.with_job_id(answer, envelope.job_id)
        if running.job.state is State.FAILED:
            return Outcome(answer, failure=await asyncio.to_thread(self._failure, answer, running, envelope))
        # Of one that ended while nobody looked, nobody knows how long it took.
        job = running.job if running.was_seen or not running.resumed else Job(self._clock())
        kept = await self._cache.store(answer, running.resolved, envelope, job)
        status = replace(answer.cache_status, stored=kept.stored, detail=kept.detail)
        answer = replace(answer, cache_status=status)
        return Outcome(answer, is_done=True, recording=kept.recording, stored=kept.stored)

    def _failure(self, answer: Answer, running: RunningJob, envelope: Envelope) -> Failure | None:
        """Make what all may have of a failure; None where it names its asker."""
        resolved = running.resolved
        body = _whole(answer)
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
                failed_at=self._clock(),
                query=redact_query(resolved.query, envelope),
            )
        except NotStorableError:
            return None


def _is_renamed(before: Job, after: Job) -> bool:
    return after.job_id not in {"", before.job_id}


def _is_same_subject(one: Client, other: Client) -> bool:
    said = [read_claims(client.envelope.token) if client.envelope.token else None for client in (one, other)]
    return (said[0].subject if said[0] else None) == (said[1].subject if said[1] else None)


def _restated(request: Request, step: Step) -> Request:
    """Make the request for the next step: the asker's own, in another state."""
    changes = {"query_status": step.query_status, "job_id": step.job_id}
    if not isinstance(request.body, bytes):
        return replace(request, query_string=replace_fields(request.query_string, **changes))
    form = replace_fields(request.body.decode("utf-8", "surrogateescape"), **changes).encode("utf-8", "surrogateescape")
    return replace(request, query_string=replace_fields(request.query_string, **dict.fromkeys(changes, "")), body=form)


def _read(answer: Answer) -> Any:
    """Give the JSON of an answer, or None; of its products only whether there are any, for they may be large."""
    body = _whole(answer)
    try:
        told = None if body is None else json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(told, dict) and "products" in told:
        told["products"] = bool(told["products"])
    return told


def _is_large(answer: Answer) -> bool:
    """Tell whether an answer had better be read while no other is: several copies are in memory meanwhile."""
    return isinstance(answer.body, SpooledBody) and answer.body.size > MAX_IN_MEMORY


def _whole(answer: Answer) -> bytes | None:
    """Give the bytes of an answer that was read."""
    if isinstance(answer.body, SpooledBody):
        return answer.body.read()
    return b"".join(answer.body) if isinstance(answer.body, tuple) else None


async def _dismiss(answer: Answer | None) -> None:
    if answer is not None:
        await answer.close()
