"""The cache key of a query: SHA-256 of a canonical JSON text of everything in it.

The dispatcher's own job_id cannot be the key: it hashes the sorted characters of each value, so that RA=83 and RA=38
have one id. Two values that are not known to be the same get different keys.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NewType

from cachetools import LRUCache

from oda_proxy.query.normalised import IGNORED, NormalisedQuery, normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.query.query import Query
    from oda_proxy.query.schema import Schema

KEY_VERSION = 2
"""Increased whenever the same query gets another key."""

MAX_MEMOISED = 4096
"""Queries whose keys are memoised, at some hundred bytes each."""

PUBLIC = ""
"""The audience of a query without a token."""

Key = NewType("Key", str)
"""64 hexadecimal digits."""

SHORT: Final = 12
"""Digits of a key in messages and in names of files: enough for a person, and a command, to find the recording."""


def short_key(key: str) -> str:
    """Return the first digits of a key."""
    return key[:SHORT]


def key_of(query: Query, schema: Schema | None = None, *, audience: str = PUBLIC) -> Key:
    """Return the key of a query for an audience, read with a description of its instrument or without one."""
    return key_of_normalised(normalise(query, schema), audience=audience)


def key_of_normalised(query: NormalisedQuery, *, audience: str = PUBLIC) -> Key:
    """Return the key of a normalised query for an audience."""
    return Key(_digest({"key_version": KEY_VERSION, "audience": audience, **_key_members(query)}))


def keys_of(query: Query, schemas: Sequence[Schema], *, audience: str = PUBLIC) -> tuple[Key, ...]:
    """Return the keys under which a query may be stored; the first is the one under which it is stored now.

    `schemas` are the descriptions of its instrument, newest first. A recording that was made with an older one, or
    without one, is stored under one of the other keys. Check that it answers the query before it is returned to a
    client: the same fields may have meant something else then.
    """
    normalised = [normalise(query, schema) for schema in (*schemas, None)]
    if ignored := {name: ("words", *values) for name, values in query.parameters if name in IGNORED}:
        # Recordings whose key has these arguments, from before they were ignored, still answer the query.
        normalised += [
            replace(one, parameters=dict(sorted({**one.parameters, **ignored}.items()))) for one in normalised
        ]
    return tuple(dict.fromkeys(key_of_normalised(one, audience=audience) for one in normalised))


class KeyMemo:
    """Computes the keys of queries and memoises them."""

    def __init__(self) -> None:
        self._memo: LRUCache[tuple[str, str, tuple[Schema, ...]], tuple[Key, ...]] = LRUCache(MAX_MEMOISED)

    def cached(self, query: Query, schemas: tuple[Schema, ...], *, audience: str = PUBLIC) -> tuple[Key, ...] | None:
        """Return the memoised keys of a query, or None."""
        return self._memo.get((_query_digest(query), audience, schemas))

    async def keys(self, query: Query, schemas: tuple[Schema, ...], *, audience: str = PUBLIC) -> tuple[Key, ...]:
        """Return the keys as `keys_of` does. They are computed in a thread, because astropy may have to be imported."""
        keys = self.cached(query, schemas, audience=audience)
        if keys is None:
            keys = await asyncio.to_thread(keys_of, query, schemas, audience=audience)
            self._memo[_query_digest(query), audience, schemas] = keys
        return keys


def _key_members(query: NormalisedQuery) -> dict[str, Any]:
    return {
        "instrument": query.instrument,
        "product_type": query.product_type,
        "query_type": query.query_type,
        "api": query.api,
        "parameters": query.parameters,
        "files": query.files,
    }


def _query_digest(query: Query) -> str:
    """Return a digest of a query as sent: short, however long its values are."""
    return _digest([query.instrument, query.product_type, query.query_type, query.api, query.parameters, query.files])


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
