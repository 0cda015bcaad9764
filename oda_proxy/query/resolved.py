"""A query with the descriptions of its instrument, its keys, and the check that an answer is to this query."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cachetools import LRUCache

from oda_proxy.query import echo
from oda_proxy.query.cache_key import PUBLIC, KeyMemo
from oda_proxy.query.query_memo import is_memoisable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.descriptions import Descriptions
    from oda_proxy.query.query import Query
    from oda_proxy.query.schema import Schema

MAX_RESOLVED: Final = 4096
"""Resolved queries that are memoised."""


@dataclass(frozen=True, slots=True)
class ResolvedQuery:
    """A query, read with the newest description of its instrument."""

    query: Query
    schemas: tuple[Schema, ...]
    """Every known description of its instrument, newest first."""
    keys: tuple[Key, ...]

    @property
    def key(self) -> Key:
        """The key under which its answer is stored."""
        return self.keys[0]

    @property
    def earlier_keys(self) -> tuple[Key, ...]:
        """The keys that the same fields had with earlier descriptions, or without one."""
        return self.keys[1:]

    async def is_confirmed_by(self, parameters: Mapping[str, Any]) -> bool:
        """Return whether the parameters that a dispatcher echoed confirm that its answer is to this query.

        A recording under an earlier key answered the same fields; what they mean may have changed since.
        """
        return await asyncio.to_thread(echo.confirms, self.query, self._schema, parameters)

    async def contradictions(self, parameters: Mapping[str, Any]) -> list[str]:
        """Return the names of the parameters in which a dispatcher's echo contradicts the query."""
        return await asyncio.to_thread(echo.contradictions, self.query, self._schema, parameters)

    @property
    def _schema(self) -> Schema | None:
        return self.schemas[0] if self.schemas else None


class QueryResolver:
    """Resolves queries; without descriptions their values are compared as they were sent.

    Resolved queries are memoised for as long as the descriptions of their instrument are the same.
    """

    def __init__(self, descriptions: Descriptions | None) -> None:
        self._descriptions = descriptions
        self._keys = KeyMemo()
        self._memo: LRUCache[tuple[Query, str], ResolvedQuery] = LRUCache(MAX_RESOLVED)
        self._described: set[str] = set()

    async def resolve(self, query: Query, *, audience: str = PUBLIC, may_request: bool = True) -> ResolvedQuery:
        """Find the descriptions and keys of a query of an audience; waits for nothing where they are memoised.

        Unless it `may_request` descriptions from the dispatcher, those that are stored are used.
        """
        schemas: tuple[Schema, ...] = ()
        if self._descriptions:
            schemas = await self._descriptions.schemas(query.instrument, may_request=may_request)
        resolved = self._memo.get((query, audience))
        if resolved is not None and resolved.schemas is schemas:
            return resolved
        if schemas:
            self._described.add(query.instrument)
        resolved = ResolvedQuery(query, schemas, await self._keys.keys(query, schemas, audience=audience))
        if is_memoisable(query):
            self._memo[query, audience] = resolved
        return resolved

    def is_described(self, instrument: str) -> bool:
        """Return whether a query of an instrument was resolved with a description of it."""
        return instrument in self._described

    def stored_schemas(self, instrument: str) -> tuple[Schema, ...]:
        """Return the known descriptions of an instrument, newest first, without a request; may read a file."""
        return self._descriptions.stored_schemas(instrument) if self._descriptions else ()

    def is_current(self, resolved: ResolvedQuery) -> bool:
        """Return whether resolving the query again would wait for nothing and have the same result."""
        if self._descriptions is None:
            return True
        return self._descriptions.current_schemas(resolved.query.instrument) is resolved.schemas

    def expire_descriptions(self) -> None:
        """Have the descriptions of all instruments fetched again: the dispatcher has other ones now."""
        if self._descriptions:
            self._descriptions.expire()

    def invalidate(self, resolved: ResolvedQuery) -> None:
        """Have the description of the instrument fetched again: an answer contradicted it."""
        if self._descriptions:
            self._descriptions.invalidate(resolved.query.instrument)
