"""Notes what is requested through the address of a collection, before the client receives it."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from oda_proxy.handlers.descriptions import has_token
from oda_proxy.handlers.recorded_failures import FAILED
from oda_proxy.http.answer import OK
from oda_proxy.jobs.observer import NullObserver
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import replace_fields
from oda_proxy.recordings import failures
from oda_proxy.store.collections import (
    ADDRESS,
    CLIENT,
    FAILURE,
    LEFT_OUT,
    RECORDING,
    CollectionError,
    Member,
    OtherVersionError,
    owner_of,
)

if TYPE_CHECKING:
    from oda_proxy.handlers.descriptions import DescriptionHandler
    from oda_proxy.handlers.services import Services
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request
    from oda_proxy.http.routes import Route
    from oda_proxy.jobs.observer import QueryObserver
    from oda_proxy.query.audience import TokenVerifier
    from oda_proxy.query.query import Envelope, Query
    from oda_proxy.query.resolved import QueryResolver, ResolvedQuery
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Store
    from oda_proxy.store.collections import Collections

MAX_FAILURES: Final = 16 * 2**20
"""Bytes of the failures that are cached until the clients of their jobs have received them."""
_INTERMEDIATE: Final = frozenset({"running", "poll", "not-done", "state"})
"""`Cache-Status` details of answers that others follow."""
_CREDENTIALS: Final = frozenset({"authorization", "cookie"})
_REMOVED: Final = "the recording was removed meanwhile, and is not in the collection; request it again"
_ONLY_EARLIER: Final = (
    "the recording of today was removed, and its earlier versions cannot be protected from eviction; send the query to "
    "an address without /as-of/ before"
)
_OF_CAPSULE: Final = (
    "the answer of that time is in a capsule that this server serves, beside a later one in its store, and cannot be "
    "noted; use that capsule"
)
_VERSION: Final = "oda_api_version"
_MAX_VERSION: Final = 40


class FailureMemory:
    """Caches the failures of jobs for a while, for the collections of their clients; passes all on."""

    def __init__(self, observer: QueryObserver) -> None:
        self._observer = observer
        self._failures: LRUCache[Key, bytes] = LRUCache(MAX_FAILURES, getsizeof=len)

    def find(self, key: Key) -> bytes | None:
        """Return the text of the last failure of a query, if it is cached."""
        return self._failures.get(key)

    async def stored(self, recording: Recording) -> None:
        """Forget the failure of a query that succeeded."""
        self._failures.pop(recording.key, None)
        await self._observer.stored(recording)

    async def served(self, recording: Recording) -> None:
        """Pass it on."""
        await self._observer.served(recording)

    async def failed(self, resolved: ResolvedQuery, failure: Failure | None) -> None:
        """Cache a failure whose text names nobody."""
        if failure is not None and len(content := failures.serialise(failure).encode()) <= MAX_FAILURES:
            self._failures[resolved.key] = content
        await self._observer.failed(resolved, failure)

    async def missed(self, resolved: ResolvedQuery, message: str) -> None:
        """Pass it on."""
        await self._observer.missed(resolved, message)


@dataclass(frozen=True, slots=True)
class _Use:
    """A request of a client, its audience, and the address that it used."""

    request: Request
    envelope: Envelope
    audience: str
    base_url: str


class CollectionHandler:
    """Notes queries and descriptions in collections, of which there are none without an `index`.

    Recordings of collections are pinned. Whoever requests through the address of a collection relies on that: what
    cannot be noted is an error. Raises CollectionError and StoreUnusableError.
    """

    def __init__(
        self,
        services: Services,
        store: Store,
        resolver: QueryResolver,
        tokens: TokenVerifier,
        descriptions: DescriptionHandler,
    ) -> None:
        """Note in the collections of `services`; `observer` sees what jobs do, and passes it on to theirs."""
        self.index = services.collections
        self._capsules = services.capsules
        self.observer = FailureMemory(services.observer or NullObserver())
        self._store = store
        self._resolver = resolver
        self._tokens = tokens
        self._descriptions = descriptions

    def checked(self, request: Request) -> Request:
        """Return a request, without its collection where there are none: a capsule was recorded at such an address."""
        if request.scope.collection and self.index is None:
            return replace(request, scope=replace(request.scope, collection=None))
        return request

    async def note_query(
        self, request: Request, query: Query, envelope: Envelope, answer: Answer, base_url: str
    ) -> Answer:
        """Note the recording, or the failure, that a client is about to receive, and return its answer.

        Nothing is noted for a client that must poll, or receives the headers only.
        """
        is_last = answer.cache_status.detail not in _INTERMEDIATE and request.method != "HEAD"
        if request.scope.collection is not None and is_last:
            try:
                await self._note_query(request, query, envelope, answer, base_url)
            except BaseException:
                await answer.close()
                raise
        return answer

    async def _note_query(
        self, request: Request, query: Query, envelope: Envelope, answer: Answer, base_url: str
    ) -> None:
        status = answer.cache_status
        audience = self._tokens.audience(envelope.token)
        is_of_job = status.collapsed and not status.detail
        has_products = answer.version is not None or status.hit or status.stored or is_of_job
        if audience is None or not (has_products or self._tokens.is_verified(envelope.token)):
            return  # the dispatcher refused the token, or does not know it: nothing was stored for its audience
        may_request = not request.scope.only
        resolved = await self._resolver.resolve(query, audience=audience, may_request=may_request)
        use = _Use(request, envelope, audience, base_url)
        if answer.version is not None:
            await self._note_version(use, resolved, *answer.version)
        elif status == FAILED:
            if self._capsules and (found := await self._capsules.find_failure(resolved.query)):
                failed = failures.serialise(replace(found[0], key=resolved.key))
                await self._note(use, _member(FAILURE, resolved.key, failed.encode()))
        elif has_products:
            await self._note_recording(use, resolved)
        elif content := self.observer.find(resolved.key):
            await self._note(use, _member(FAILURE, resolved.key, content))
        elif answer.status == OK:
            content = (status.detail or status.forwarded or "").encode()
            await self._note(use, _member(LEFT_OUT, resolved.key, content))

    async def _note_recording(self, use: _Use, resolved: ResolvedQuery) -> None:
        """Note the recording of a query, and exempt it from eviction."""
        if self._capsules and (found := await self._capsules.find(resolved.query)):
            await asyncio.to_thread(self._store_copy, replace(found, key=resolved.key))
        for key in (resolved.key, *resolved.earlier_keys):
            if entry := await asyncio.to_thread(self._store.entry, key):
                break
        else:
            raise CollectionError(_REMOVED)
        member = replace(_member(RECORDING, key), was_pinned=entry.pinned)
        try:
            await self._note(use, member, size=entry.stored_size)
        except OtherVersionError as error:
            if error.version != entry.valid_from:
                raise
            content = repr(entry.valid_from).encode()  # as of a date, the same version was noted before
            await self._note(use, replace(member, content=content), size=entry.stored_size)

    async def _note_version(self, use: _Use, resolved: ResolvedQuery, key: str, since: float) -> None:
        """Note the version of a recording that a client receives, and exempt it from eviction, with all others."""
        if self._capsules and (found := await self._capsules.find(resolved.query)):
            await asyncio.to_thread(self._store_copy, replace(found, key=resolved.key))
        versions = await asyncio.to_thread(self._store.versions, Key(key))
        if (entry := next((one for one in versions if one.valid_from == since), None)) is None:
            raise CollectionError(_OF_CAPSULE if versions else _REMOVED)
        if versions[-1].valid_until is not None:
            raise CollectionError(_ONLY_EARLIER)
        member = _member(RECORDING, entry.key, repr(since).encode())
        await self._note(use, replace(member, was_pinned=entry.pinned), size=entry.stored_size)

    def _store_copy(self, recording: Recording) -> None:
        """Store a recording of a capsule, unless there is one: a collection is exported from the store."""
        with closing(recording.head):
            if self._store.fingerprint(recording.key) is None:
                self._store.put(recording)

    async def _note(self, use: _Use, member: Member, size: int = 0) -> None:
        index, name = self.index, use.request.scope.collection
        if index is None or name is None:
            return
        version = use.envelope.others.get(_VERSION, "")[:_MAX_VERSION]
        facts = [(ADDRESS, use.base_url), *([(CLIENT, version)] if version else [])]

        def note() -> None:
            was_pinned = member.was_pinned and not index.is_member(member.key)
            index.note(name, owner_of(use.audience), replace(member, was_pinned=was_pinned), size, facts)
            if member.kind == RECORDING:
                self._pin(index, member.key)

        await asyncio.to_thread(note)

    def _pin(self, index: Collections, key: Key) -> None:
        """Exempt a recording that was noted from eviction, unless its collection was removed meanwhile. Blocks."""
        entry = self._store.entry(key)  # read again: the pin of another collection may have ended since
        if entry is not None and entry.pinned:
            return
        if entry is None or not self._store.pin(key, pinned=True):
            raise CollectionError(_REMOVED)
        if not index.is_member(key):
            self._store.pin(key, pinned=False)

    async def describe(self, request: Request, route: Route, base_url: str) -> Answer:
        """Return the answer to a request for a description, and note it before.

        For a request with a token, the description that all others receive is noted.
        """
        answer = await self._descriptions.answer(request, route, base_url)
        if request.scope.collection is not None:
            try:
                await self._note_description(request, route, answer, base_url)
            except BaseException:
                await answer.close()
                raise
        return answer

    async def _note_description(self, request: Request, route: Route, answer: Answer, base_url: str) -> None:
        name, index = request.scope.collection, self.index
        if name is None or index is None:
            return
        if past := await self._descriptions.past_file(request, route):
            await asyncio.to_thread(index.note_description, name, *past)
            return
        if has_token(request):
            query_string = replace_fields(request.query_string, token="")
            headers = tuple(pair for pair in request.headers if pair[0].casefold() not in _CREDENTIALS)
            request = replace(request, query_string=query_string, headers=headers)
            answer = await self._descriptions.answer(request, route, base_url)
            await answer.close()
        if not (answer.cache_status.hit or answer.cache_status.stored):
            return  # it is not one that others may receive
        if described := self._descriptions.cached_file(request, route):
            await asyncio.to_thread(index.note_description, name, *described)


def _member(kind: str, key: Key, content: bytes | None = None) -> Member:
    return Member(kind, key, 1, 0.0, was_pinned=False, content=content)
