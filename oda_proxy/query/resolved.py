"""A query and all that is known of it: the descriptions of its instrument, its keys, and what its answer must show."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from cachetools import LRUCache

from oda_proxy.query import echo
from oda_proxy.query.cache_key import PUBLIC, KeyMemo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.descriptions import Descriptions
    from oda_proxy.query.query import Query
    from oda_proxy.query.schema import Schema

MOST_JOB_IDS: Final = 10_000
"""Ids of the dispatcher that are remembered with the query for which each last stood."""


@dataclass(frozen=True, slots=True)
class ResolvedQuery:
    """What is asked, as it is read today."""

    query: Query
    schemas: tuple[Schema, ...]
    """Every description of its instrument that is known, newest first."""
    keys: tuple[Key, ...]

    @property
    def key(self) -> Key:
        """The key under which its answer is kept."""
        return self.keys[0]

    @property
    def earlier_keys(self) -> tuple[Key, ...]:
        """The keys that the same words had under other descriptions, or without one."""
        return self.keys[1:]

    async def is_confirmed_by(self, parameters: Mapping[str, Any]) -> bool:
        """Tell whether an analysis with these parameters, as a dispatcher repeats them, surely answers the question.

        What stands under an earlier key answered the same words; what they mean may have changed since.
        """
        return await asyncio.to_thread(echo.confirms, self.query, self._schema, parameters)

    async def contradictions(self, parameters: Mapping[str, Any]) -> list[str]:
        """Name what an analysis with these parameters did otherwise than the question wants."""
        return await asyncio.to_thread(echo.contradictions, self.query, self._schema, parameters)

    @property
    def _schema(self) -> Schema | None:
        return self.schemas[0] if self.schemas else None


class QueryResolver:
    """Reads queries; without descriptions their words are only words."""

    def __init__(self, descriptions: Descriptions | None) -> None:
        self._descriptions = descriptions
        self._keys = KeyMemo()

    async def resolve(self, query: Query, *, audience: str = PUBLIC) -> ResolvedQuery:
        """Read a query of an audience."""
        schemas = await self._descriptions.schemas(query.instrument) if self._descriptions else ()
        return ResolvedQuery(query, schemas, await self._keys.keys(query, schemas, audience=audience))

    def invalidate(self, resolved: ResolvedQuery) -> None:
        """Take note that an answer contradicted what the descriptions say."""
        if self._descriptions:
            self._descriptions.invalidate(resolved.query.instrument)


class JobIdCollisions:
    """Counts how often an id of the dispatcher stands for another query than before: its ids collide."""

    def __init__(self) -> None:
        self.count = 0
        self._keys: LRUCache[str, Key] = LRUCache(MOST_JOB_IDS)
        self._lock = Lock()

    def record(self, job_id: str, key: Key) -> None:
        """Take note of the id of an answer to the query of a key; may be called from several threads."""
        if job_id:
            with self._lock:
                self.count += self._keys.get(job_id, key) != key
                self._keys[job_id] = key
