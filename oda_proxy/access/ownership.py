"""Whose a private recording is: the audience that its cache key was made with."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from oda_proxy.query.cache_key import keys_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.schema import Schema
    from oda_proxy.store.base import Entry

MAX_MEMOISED: Final = 65536
"""Recordings for which the result is memoised, for each audience."""


class Ownership:
    """Determines whether a recording belongs to an audience.

    `schemas` returns the descriptions of an instrument, newest first: keys are made with them. It may be called from
    several threads.
    """

    def __init__(self, schemas: Callable[[str], Sequence[Schema]]) -> None:
        self._schemas = schemas
        self._memo: LRUCache[tuple[Key, str, tuple[Schema, ...]], bool] = LRUCache(MAX_MEMOISED)
        self._lock = Lock()

    def belongs_to(self, entry: Entry, audience: str) -> bool:
        """Return whether a recording was made for an audience; false where its query is unknown, or was redacted.

        Takes up to a millisecond where that is not memoised, and longer for the first query of a process.
        """
        if entry.query is None:
            return False
        schemas = tuple(self._schemas(entry.query.instrument))
        name = entry.key, audience, schemas
        with self._lock:
            belongs = self._memo.get(name)
        if belongs is None:
            belongs = entry.key in keys_of(entry.query, schemas, audience=audience)
            with self._lock:
                self._memo[name] = belongs
        return belongs


NO_DESCRIPTIONS: Final = Ownership(lambda _: ())
"""For keys that were made without descriptions of instruments."""
