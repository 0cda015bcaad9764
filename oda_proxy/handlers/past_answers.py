"""Answers as they were at a past time, from the versions of recordings."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from oda_proxy.errors import NoRecordingError, StoreUnusableError
from oda_proxy.handlers.mementos import as_memento, fixed, varying
from oda_proxy.handlers.request_notes import note_person
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.memento import accept_datetime
from oda_proxy.http.routes import Kind
from oda_proxy.http.scope import EVERYTHING
from oda_proxy.store.history_limits import version_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.handlers.capsule_recordings import CapsuleRecordings
    from oda_proxy.handlers.hits import HitHandler
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request
    from oda_proxy.http.routes import Route
    from oda_proxy.http.scope import AsOf, Scope
    from oda_proxy.jobs.client import Client
    from oda_proxy.jobs.observer import QueryObserver
    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.query import Envelope
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry, Store
    from oda_proxy.store.faults import StoreFaults
    from oda_proxy.store.near_misses import MissHandler

AS_OF_THEN = CacheStatus(hit=True, detail="as-of")
FAILED_THEN = CacheStatus(hit=True, detail="failed")
NOT_RECORDED_THEN = "not-recorded-then"
"""The detail in `Cache-Status` of the answer of today, where none was recorded at the time that was named."""
_UNVERIFIED = (
    "as of {}: the token has not been verified, and nothing is sent to the dispatcher to verify it; send a query with "
    "it to an address without /only before"
)

_INTERMEDIATE = frozenset({AS_OF_THEN.detail, "not-done", "running"})
"""Details in `Cache-Status` that stay: of past answers, and of those that others follow."""


class IsVerified(Protocol):
    """Returns whether the token of a client is verified, as `TokenChecker` does."""

    async def __call__(self, envelope: Envelope, resolved: ResolvedQuery, *, saves_query: bool) -> bool:
        """Return whether the token is verified."""


@dataclass(frozen=True, slots=True)
class PastAnswer:
    """A version, its number among those that are stored, and its recording."""

    recording: Recording
    number: int
    versions: tuple[Entry, ...]


class PastAnswerHandler:
    """Answers with the versions of recordings; `clock` returns s since 1970 (UTC)."""

    def __init__(
        self,
        store: Store,
        capsules: CapsuleRecordings,
        faults: StoreFaults,
        hits: HitHandler,
        observer: QueryObserver,
        *,
        miss_handler: MissHandler,
        default: Scope,
        clock: Callable[[], float],
    ) -> None:
        """Take what answers clients from recordings, and the scope of requests that name no date."""
        self._store = store
        self._capsules = capsules
        self._faults = faults
        self._hits = hits
        self._observer = observer
        self._default = default
        self._clock = clock
        self._miss_handler = miss_handler

    def scoped(self, request: Request, route: Route) -> Request:
        """Return a request with the scope that its prefix names, or its header; raises ScopeError."""
        scope = route.valid_scope(self._clock())
        if scope.as_of is None and (as_of := accept_datetime(request.headers)):
            scope = replace(scope, as_of=as_of)
        if scope.as_of is None and self._default is not EVERYTHING:
            scope = replace(scope, as_of=self._default.as_of, only=self._default.only)
        return request if scope is EVERYTHING else replace(request, scope=scope, prefix=route.prefix)

    async def answer(self, resolved: ResolvedQuery, client: Client, is_verified: IsVerified) -> Answer | None:
        """Answer a query as it was at the time that its request names; None where it is to be answered as of today.

        Raises NoRecordingError, with the nearest query that was recorded at that time, where only that one counts.
        """
        scope, envelope = client.request.scope, client.envelope
        if (as_of := scope.as_of) is None:
            return None
        was_verified = await is_verified(envelope, resolved, saves_query=False)
        if found := await self._find(resolved, as_of):
            if was_verified or (not scope.only and await is_verified(envelope, resolved, saves_query=True)):
                note_person(client.request, envelope.token)
                await self._observer.served(found.recording)
                return self._served(found, client)
            found.recording.head.close()
        elif recording := await self._find_in_capsules(resolved, as_of):
            await self._observer.served(recording)
            answer = self._hits.answer(recording, client, AS_OF_THEN)
            answer = replace(answer, version=(resolved.key, recording.stored_at))
            return as_memento(answer, client.request, client.base_url, (recording.stored_at,), 0)
        if not scope.only:
            return None
        if not was_verified:
            raise NoRecordingError(_UNVERIFIED.format(as_of.text))
        return await self._miss(resolved, client, as_of)

    async def _miss(self, resolved: ResolvedQuery, client: Client, as_of: AsOf) -> Answer:
        """Answer a query that has no recording of a time: it may have failed then."""
        try:
            answer = await self._miss_handler.answer(resolved, client.envelope, as_of)
        except NoRecordingError as error:
            await self._observer.missed(resolved, str(error))
            raise
        return answer

    async def _find(self, resolved: ResolvedQuery, as_of: AsOf) -> PastAnswer | None:
        """Return the answer to a query at a time; None where there is none, or the store cannot be read."""
        try:
            for key in (resolved.key, *resolved.earlier_keys):
                if (found := await asyncio.to_thread(self._read, key, as_of)) is None:
                    continue
                if key == resolved.key or await resolved.is_confirmed_by(found.recording.echo):
                    return found
                found.recording.head.close()
        except StoreUnusableError as error:
            self._faults.note_failure("read", error)
        return None

    async def _find_in_capsules(self, resolved: ResolvedQuery, as_of: AsOf) -> Recording | None:
        """Return what a capsule recorded by a time, or at any time where that is a preference."""
        if self._capsules.capsules and (recording := await self._capsules.find(resolved.query)):
            if as_of.is_negotiated or recording.stored_at <= as_of.time:
                return recording
            recording.head.close()
        return None

    def _read(self, key: Key, as_of: AsOf) -> PastAnswer | None:
        """Return the version of a key at a time; blocks."""
        versions = tuple(self._store.versions(key))
        entry = version_at(versions, as_of.time)
        if entry is None and as_of.is_negotiated:
            entry = _nearest(versions, as_of.time)
        if entry is None or (recording := self._store.get_version(entry)) is None:
            return None
        return PastAnswer(recording, versions.index(entry), versions)

    def _served(self, found: PastAnswer, client: Client) -> Answer:
        """Answer a client with a version, and say which it is (RFC 7089)."""
        answer = self._hits.answer(found.recording, client, AS_OF_THEN)
        times = tuple(one.valid_from for one in found.versions)
        key = found.recording.key
        answer = replace(answer, version=(key, times[found.number]))
        return as_memento(answer, client.request, client.base_url, times, found.number, key=key)

    def remark(self, answer: Answer, request: Request, route: Route) -> Answer:
        """Return an answer that says whether it depends on the time that its client prefers.

        One of today says so, where the request names a past time.
        """
        if route.kind is not Kind.RELAY:
            answer = varying(answer) if route.scope.as_of is None else fixed(answer)
        status = answer.cache_status
        if request.scope.as_of is None or status.detail in _INTERMEDIATE or status == FAILED_THEN:
            return answer
        return replace(answer, cache_status=replace(status, detail=NOT_RECORDED_THEN))


def _nearest(versions: tuple[Entry, ...], time: float) -> Entry | None:
    """Return the last version before a time, or else the first (RFC 7089, section 4.5.3)."""
    earlier = [one for one in versions if one.valid_from <= time]
    return earlier[-1] if earlier else next(iter(versions), None)
