"""The cache of answers: redacts and stores them, and looks up recordings; a failing store fails no request."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from oda_proxy.compat.pipeline import UNSAFE
from oda_proxy.errors import StoreUnusableError
from oda_proxy.http.answer import OK, Answer, age, is_plain
from oda_proxy.http.content_coding import IDENTITY
from oda_proxy.http.memory import ProcessingBudget
from oda_proxy.http.read_ahead import ReadAheadBody
from oda_proxy.http.spool import MAX_IN_MEMORY, SpooledBody
from oda_proxy.http.storable import storage_refusal, varying_names
from oda_proxy.query.job_ids import JobIdCollisions, read_job_id
from oda_proxy.recordings import loaded
from oda_proxy.recordings.head import MemoryHead, SpooledHead
from oda_proxy.recordings.recording import Redactor, redact, redact_query, splice
from oda_proxy.recordings.redaction import NotStorableError
from oda_proxy.store.base import FencedError, FencedStore
from oda_proxy.store.batch_reader import BatchReader
from oda_proxy.store.compression import BackgroundCompression
from oda_proxy.store.hot_tier import DEFAULT_LIMIT, HotTier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from oda_proxy.compat.pickles import Pickles
    from oda_proxy.http.answer import Repeatable
    from oda_proxy.http.cache_status import CacheStatus
    from oda_proxy.http.message import Headers
    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.query import Envelope
    from oda_proxy.query.resolved import QueryResolver, ResolvedQuery
    from oda_proxy.recordings.compressed import CompressedHead
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry, Store
    from oda_proxy.store.faults import StoreFaults

_log = logging.getLogger(__name__)

ENCODED = "encoded"
"""The detail in `Cache-Status` of an answer that is not stored because its content coding cannot be decoded."""

_MAX_COMPARED = 64 * 1024 * 1024
"""Bytes of an answer up to which it is compared with the one that it replaces: both are in memory then."""

_JOB_ID = re.compile(r"[\w-]{1,64}")


@dataclass(frozen=True, slots=True)
class StoreResult:
    """The result of storing an answer: the recording if one could be made, whether it was stored, or why not."""

    recording: Recording | None = None
    stored: bool = False
    detail: str = ""
    failed: bool = False
    """Whether the store has failed."""
    fenced: bool = False
    """Whether the lease under which it was computed has been taken by another server."""


class Recorder:
    """Makes a recording of an answer while it is repaired; where it must not be stored, the repair goes on."""

    def __init__(self, redactor: Redactor, job_id: str = "") -> None:
        self.has_begun = False
        """Whether it has seen the answer."""
        self.job_id = job_id
        """The name of the job, by default the dispatcher's; "" if unknown."""
        self._redactor = redactor
        self._refusal: NotStorableError | None = None

    def begin(self, others: Mapping[str, Any], products: Mapping[str, Any], pickles: Pickles) -> None:
        """Take the members beside `products`, and those of `products`."""
        self.has_begun = True
        monitor = others.get("job_monitor")
        job_id = monitor.get("job_id") if isinstance(monitor, dict) else None
        self.job_id = self.job_id or (job_id if isinstance(job_id, str) else "")
        self._observe(lambda: self._redactor.begin(others, products, pickles))

    def add_member(self, name: str, value: Any, pieces: Sequence[bytes]) -> None:
        """Take a member of `products` with its text."""
        self._observe(lambda: self._redactor.add_member(name, value, pieces))

    def begin_list(self, name: str) -> None:
        """Begin with a member of `products` of which each element is taken by itself."""
        self._observe(lambda: self._redactor.begin_list(name))

    def add_punctuation(self, text: str) -> None:
        """Take the text before an element, or after the last one."""
        self._observe(lambda: self._redactor.add_punctuation(text))

    def add_item(self, value: Any, pieces: Sequence[bytes]) -> None:
        """Take an element with its text."""
        self._observe(lambda: self._redactor.add_item(value, pieces))

    def finish(self, *, key: Key, stored_at: float) -> Recording:
        """Return the recording. Raises NotStorableError."""
        if self._refusal:
            raise self._refusal
        return self._redactor.finish(key=key, stored_at=stored_at)

    def _observe(self, step: Callable[[], None]) -> None:
        if not self._refusal:
            try:
                step()
            except NotStorableError as refusal:
                self._refusal = refusal


class JobTimes(Protocol):
    """The times of a job, for its recording."""

    @property
    def started_at(self) -> float:
        """Its begin, in s since 1970 (UTC)."""

    @property
    def timeline(self) -> tuple[tuple[str, float], ...]:
        """Its states, each with the s since `started_at`."""


class RecordingCache:
    """Stores answers of the dispatcher as recordings, and looks them up.

    `clock` returns s since 1970 (UTC); `memory` is the number of bytes of recordings that are held in memory. `is_same`
    returns whether a recorded answer and a later one are equal, but for what is volatile.
    """

    def __init__(
        self,
        store: Store,
        faults: StoreFaults,
        resolver: QueryResolver,
        clock: Callable[[], float],
        budget: ProcessingBudget | None = None,
        *,
        memory: int = DEFAULT_LIMIT,
        is_same: Callable[[Recording, Recording], bool] | None = None,
    ) -> None:
        self._is_same = is_same or _has_same_bytes
        self.echo_differs = 0
        self._hot_tier = HotTier(store, memory)
        self._reader = BatchReader(self._hot_tier.read)
        self._compression = BackgroundCompression(self._hot_tier)
        self._store = store
        self._faults = faults
        self._resolver = resolver
        self._clock = clock
        self._job_ids = JobIdCollisions()
        self._budget = budget or ProcessingBudget()

    @property
    def hot_tier(self) -> HotTier:
        """The recordings in memory."""
        return self._hot_tier

    @property
    def job_ids_shared(self) -> int:
        """How often a job_id of the dispatcher named another query than before."""
        return self._job_ids.count

    @property
    def is_unreadable(self) -> bool:
        """Whether the last recording that was to be read could not be."""
        return any(fault.operation == "read" for fault in self._faults)

    async def look_up(self, resolved: ResolvedQuery) -> Recording | None:
        """Return the recording of a query; the echo of one under an earlier key must match the query of today."""
        if recording := await self.get(resolved.key):
            return recording
        for key in resolved.earlier_keys:
            if recording := await self.get(key):
                if await resolved.is_confirmed_by(recording.echo):
                    return recording
                recording.head.close()
        return None

    def find(self, resolved: ResolvedQuery) -> Recording | None:
        """Return the recording of a query if it is in memory; does not block."""
        return self._hot_tier.find(resolved.key)

    def forget(self, key: Key) -> None:
        """Read the recording of a key from the store again before it is next served."""
        self._hot_tier.forget(key)

    async def job_id(self, resolved: ResolvedQuery) -> str:
        """Return the job_id that clients receive with the recording of a query, or an empty string."""
        if (recording := await self.look_up(resolved)) is None:
            return ""
        recording.head.close()
        return recording.job_id or recording.key[:16]

    def find_at_once(self, key: Key) -> loaded.LoadedRecording | None:
        """Return a recording that is in memory, or the page cache, and certainly stored; call it in the event loop.

        Does not block.
        """
        return self._hot_tier.find(key) or self._hot_tier.find_in_page_cache(key)

    async def get(self, key: Key) -> Recording | None:
        """Return the recording for a key; a failing store counts as empty."""
        if found := self.find_at_once(key):
            return found
        try:
            recording = await self._reader.read(key)
        except StoreUnusableError as error:
            self._faults.note_failure("read", error)
            return None
        self._faults.note_success("read")
        return recording

    def compressed_head(self, recording: Recording, coding: str) -> CompressedHead | None:
        """Return the head of a recording in a content coding; None where it is not there, and perhaps made now."""
        if coding == IDENTITY or not isinstance(recording, loaded.LoadedRecording):
            return None
        return self._compression.find(recording, coding)

    def recorder(
        self, answer: Answer, resolved: ResolvedQuery, envelope: Envelope, *, job_id: str = ""
    ) -> Recorder | None:
        """Return what makes a recording of an answer while it is repaired; None for one that is not stored.

        `job_id` is the name of the job for clients, if it is not that in the answer.
        """
        if _refusal(answer) is not None or not isinstance(answer.body, SpooledBody):
            return None
        requested = {name for name, _ in resolved.query.parameters}
        return Recorder(Redactor(envelope, self._store.new_head(answer.body.size), requested), job_id)

    async def store(
        self,
        answer: Answer,
        resolved: ResolvedQuery,
        envelope: Envelope,
        job: JobTimes,
        recorder: Recorder | None = None,
        *,
        fence: int | None = None,
    ) -> StoreResult:
        """Store a complete answer before it is returned, so that the next request is a hit.

        The `recorder` has seen it while it was repaired; without one, the answer is parsed again. `fence` is the
        fencing token of the lease under which it was computed, where several servers share the store.
        """
        if (refusal := _refusal(answer)) is not None:
            return StoreResult(detail=refusal)
        if not isinstance(answer.body, SpooledBody):
            return StoreResult(detail=answer.cache_status.detail or "too-large")
        recording = None
        try:
            async with self._budget.reserve(answer.body.size):
                redacted = partial(self._redact, answer.body, resolved, envelope, recorder)
                recording = await self._budget.in_thread(answer.body.size, redacted)
                query = redact_query(resolved.query, envelope)
                cost = max(recording.stored_at - job.started_at, 0.0)
                recording = replace(recording, query=query, cost=cost, timeline=job.timeline)
                await self._refuse_contradictions(recording, resolved)
                await asyncio.to_thread(self._put, recording, fence)
        except NotStorableError as reason:
            return StoreResult(await _in_file(recording), detail=str(reason))
        except FencedError as error:
            return StoreResult(await _in_file(recording), detail=error.detail, fenced=True)
        except StoreUnusableError as error:
            self._faults.note_failure("stored", error)
            return StoreResult(await _in_file(recording), detail=error.detail, failed=True)
        self._faults.note_success("stored")
        return StoreResult(recording, stored=True)

    def _put(self, recording: Recording, fence: int | None) -> None:
        """Store a recording: an earlier version is made of the one that it replaces, unless that is equal; blocks."""
        replaced = self._store.entry(recording.key)
        is_same = replaced is not None and self._is_equal_to_stored(replaced, recording)
        same_as = replaced if is_same else None
        if fence is not None and isinstance(self._store, FencedStore):
            self._store.put_fenced(recording, fence, same_as=same_as)
        else:
            self._store.put(recording, same_as=same_as)

    def _is_equal_to_stored(self, replaced: Entry, recording: Recording) -> bool:
        try:
            stored = self._store.get_version(replaced)
        except StoreUnusableError:  # what replaces it can perhaps be stored
            return False
        if stored is None:
            return False
        with closing(stored.head):
            if _has_same_bytes(stored, recording):
                return True
            if max(stored.head.size, recording.head.size) > _MAX_COMPARED:
                return False
            return self._is_same(stored, recording)

    def _redact(
        self, body: SpooledBody, resolved: ResolvedQuery, envelope: Envelope, recorder: Recorder | None
    ) -> Recording:
        """Return the recording of an answer; blocks."""
        if recorder and recorder.has_begun:
            job_id, recording = recorder.job_id, recorder.finish(key=resolved.key, stored_at=self._clock())
        else:
            text, requested = body.read(), {name for name, _ in resolved.query.parameters}
            job_id = read_job_id(text)
            recording = redact(text, envelope, key=resolved.key, stored_at=self._clock(), requested=requested)
        self._job_ids.record(job_id, resolved.key)
        is_public = not recording.private and _JOB_ID.fullmatch(job_id) and job_id != envelope.session_id
        return replace(recording, job_id=job_id) if is_public else recording

    async def _refuse_contradictions(self, recording: Recording, resolved: ResolvedQuery) -> None:
        """Raise NotStorableError where the echo of the dispatcher contradicts the query."""
        names = await resolved.contradictions(recording.echo)
        if not names:
            return
        self.echo_differs += 1
        self._resolver.invalidate(resolved)
        product = f"{resolved.query.instrument!r:.100} {resolved.query.product_type!r:.100}"
        _log.warning("the echo in an answer for %s contradicts the query in %r: it is not stored", product, names[:10])
        raise NotStorableError("echo-differs")


def _has_same_bytes(stored: Recording, recording: Recording) -> bool:
    return stored.head.digest == recording.head.digest and stored.echo == recording.echo


def _refusal(answer: Answer) -> str | None:
    """Return why an answer is not stored, as a detail of `Cache-Status`; None if it may be."""
    if not is_plain(answer) or answer.cache_status.detail == UNSAFE:
        is_encoded = answer.status == OK and answer.cache_status.detail != UNSAFE
        return ENCODED if is_encoded else answer.cache_status.detail
    varies = "upstream-varies" if varying_names(answer.headers) else ""
    return storage_refusal(answer.headers) or varies or None


async def _in_file(recording: Recording | None) -> Recording | None:
    """Move the head of a large recording that was not stored to a temporary file, if there is room.

    The clients of its job read it, for as long as the job is cached.
    """
    if recording is None or recording.head.size <= MAX_IN_MEMORY:
        return recording
    try:
        return replace(recording, head=await asyncio.to_thread(SpooledHead, recording.head))
    except OSError:  # also a full disk, which has been reported
        return recording


def answer_from(
    recording: Recording,
    envelope: Envelope,
    base_url: str,
    *,
    now: float,
    status: CacheStatus,
    compressed: CompressedHead | None = None,
    varies: bool = False,
    repeatable: Callable[[], Repeatable] | None = None,
) -> Answer:
    """Return a recording as an answer, spliced for a client of `base_url`; `now` is in s since 1970 (UTC).

    `compressed` is the head of a recording in memory as it is sent, if it is compressed; the answer `varies` if that
    depends on what the client accepts.
    """
    body: loaded.Body | ReadAheadBody
    coding: Headers = ()
    if isinstance(recording, loaded.LoadedRecording) and compressed:
        body = compressed.body(recording.template.fill(envelope, now=now, address=base_url))
        coding, size = (("Content-Encoding", compressed.coding),), sum(map(len, body))
    elif isinstance(recording, loaded.LoadedRecording):
        body = loaded.body(recording, envelope, now=now, address=base_url)
        size = sum(map(len, body))
    else:
        spliced = splice(recording, envelope, now=now, address=base_url)
        size = spliced.size
        if isinstance(recording.head, MemoryHead):
            body = loaded.assembled(spliced.begin, (recording.head.text,), spliced.end, spliced.inserted)
        else:
            body = ReadAheadBody(spliced, recording.head.close)
    content = (("Content-Type", "application/json"), ("Content-Length", str(size)), *coding)
    headers = (*content, age(recording.stored_at, now), *(_VARY_BY_CODING if varies else _VARY))
    return Answer(OK, headers, body, status, repeatable)


_VARY: Headers = (("Vary", "accept-datetime"),)  # it may be a version of another time: RFC 7089, section 2.1.2
_VARY_BY_CODING: Headers = (("Vary", "Accept-Encoding, accept-datetime"),)
