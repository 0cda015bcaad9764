"""The error of an offline miss: it names the nearest recording, and what differs.

Only recordings that were requested without a token are named: a private one, and its query, must not be revealed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from oda_proxy.errors import NoRecordingError, StoreUnusableError
from oda_proxy.http.scope import time_text
from oda_proxy.query.cache_key import key_of, key_of_normalised, short_key
from oda_proxy.query.message_text import shorten
from oda_proxy.query.nearest import join_differences, nearest
from oda_proxy.query.normalised import normalise
from oda_proxy.store.history_limits import version_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.scope import AsOf
    from oda_proxy.query.nearest import Near
    from oda_proxy.query.normalised import NormalisedQuery
    from oda_proxy.query.query import Envelope, Query
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.query.schema import Schema
    from oda_proxy.store.base import Entry, Store

_log = logging.getLogger(__name__)

SEARCH_TIME: Final = 1.0
"""Seconds of a search at most: enough for some 9000 recordings of the product."""

MAX_MISSES: Final = 100
"""Misses on the status page."""

_PAUSE_EVERY, _PAUSE = 10, 5e-5
"""Recordings after which a search pauses, and for how many s: hits would otherwise wait for it, several times 5 ms:
the interval after which Python takes the interpreter from a thread that computes."""

_MAX_PRODUCTS: Final = 20
"""Products that are listed where there is no recording of the requested one."""
_NOTHING_THEN: Final = "there was no public recording of this product then"


class MissHandler(Protocol):
    """Answers queries without a recording, offline."""

    async def answer(self, resolved: ResolvedQuery, envelope: Envelope, as_of: AsOf | None = None) -> Answer:
        """Answer a query; raises NoRecordingError, with a message for a person, where there is no answer.

        With `as_of`, only what was recorded at that time counts.
        """


@dataclass(frozen=True, slots=True)
class Miss:
    """A query without a recording, and the message; `when` is in s since 1970 (UTC)."""

    when: float
    instrument: str
    product_type: str
    text: str


class NearMissHandler:
    """Answers with the nearest recording of a store, or of those of capsules that are served beside it."""

    def __init__(
        self,
        store: Store,
        *,
        others: Callable[[], Sequence[Store]] = tuple,
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the store, and what returns `others`; `clock` returns s since 1970, `stopwatch` s and is monotonic."""
        self._store = store
        self._others = others
        self._clock = clock
        self._stopwatch = stopwatch
        self._misses: deque[Miss] = deque(maxlen=MAX_MISSES)
        self._searching = asyncio.Lock()

    @property
    def misses(self) -> tuple[Miss, ...]:
        """The last misses, newest first, without those of requests with a token."""
        return tuple(reversed(self._misses))

    async def answer(self, resolved: ResolvedQuery, envelope: Envelope, as_of: AsOf | None = None) -> NoReturn:
        """Raise NoRecordingError with the nearest recording; one search at a time, so that hits are not delayed.

        With `as_of`, only what was recorded at that time counts.
        """
        async with self._searching:
            text = await asyncio.to_thread(self._explain, resolved, as_of)
        if envelope.token is None:
            query = resolved.query
            self._misses.append(Miss(self._clock(), shorten(query.instrument), shorten(query.product_type), text))
        raise NoRecordingError(text)

    def _explain(self, resolved: ResolvedQuery, as_of: AsOf | None) -> str:
        """Return the message: nothing was recorded, and what is nearest."""
        when = "offline" if as_of is None else f"as of {as_of.text}"
        what = f"{when}: there is no recording of {_product(resolved.query)}"
        stores = (self._store, *self._others())
        search = _Search(stores, resolved.schemas, self._stopwatch, as_of)
        requested = normalise(resolved.query, resolved.schemas[0] if resolved.schemas else None)
        try:
            if as_of is not None and (later := _later(stores, resolved, as_of)):
                return f"{what} as requested: {later}"
            near = nearest(requested, search.candidates(resolved.query))
            others = "" if near else _NOTHING_THEN if as_of is not None else _other_products(stores)
        except StoreUnusableError as error:
            _log.warning("cannot search for the nearest recording: %s", error)
            return f"{what} as requested, and the store cannot be read to find the nearest"
        rest = "" if search.complete else f" (only {search.searched} recordings were searched)"
        if near is None:
            return f"{what}: {others}{rest}"
        name = f"{short_key(near.recorded.key)} (of {_day(near.recorded.stored_at)})"
        return (
            f"{what} as requested; the nearest is {name}{rest}: {_difference(near, with_token=_is_private(resolved))}"
        )


def _later(stores: Sequence[Store], resolved: ResolvedQuery, as_of: AsOf) -> str:
    """Return when the query was first recorded, if that was later. Raises StoreUnusableError."""
    keys = (resolved.key, *resolved.earlier_keys)
    versions = [one for store in stores for key in keys for one in store.versions(key)]
    later = min((one.valid_from for one in versions if one.valid_from > as_of.time), default=None)
    if later is None:
        return ""
    is_same_day = _day(later) == _day(as_of.begin)
    return f"it was recorded later, {f'at {time_text(later)}' if is_same_day else f'on {_day(later)}'}"


class _Search:
    """Reads the recordings of a product for SEARCH_TIME at most."""

    def __init__(
        self, stores: Sequence[Store], schemas: tuple[Schema, ...], stopwatch: Callable[[], float], as_of: AsOf | None
    ) -> None:
        self.searched = 0
        self.complete = True
        self._stores = stores
        self._schemas = schemas
        self._stopwatch = stopwatch
        self._as_of = as_of

    def candidates(self, query: Query) -> Iterator[tuple[Entry, NormalisedQuery]]:
        """Iterate over the public recordings of the product. Raises StoreUnusableError."""
        deadline = self._stopwatch() + SEARCH_TIME
        found = (
            (store, one) for store in self._stores for one in store.entries_of(query.instrument, query.product_type)
        )
        for store, entry in found:
            if self._stopwatch() > deadline:
                self.complete = False
                return
            self.searched += 1
            if self.searched % _PAUSE_EVERY == 0:
                time.sleep(_PAUSE)
            if self._as_of is not None and version_at(store.versions(entry.key), self._as_of.time) is None:
                continue
            if entry.query is not None:
                yield entry, _normalised_as_recorded(entry, entry.query, self._schemas)


def _normalised_as_recorded(entry: Entry, query: Query, schemas: Sequence[Schema]) -> NormalisedQuery:
    """Normalise a recorded query under the description of its time, which its key shows, or else the newest.

    A default may have changed since: then the same parameters mean something else today.
    """
    if len(schemas) > 1:
        for schema in schemas:
            if key_of_normalised(normalised := normalise(query, schema)) == entry.key:
                return normalised
    return normalise(query, schemas[0] if schemas else None)


def _difference(near: Near[Entry], *, with_token: bool) -> str:
    """Return how the query differs."""
    differences = [one.text for one in near.differences]
    if with_token:
        differences.insert(0, "a token is given")
    if not differences:
        return "its parameters are the same, but may have meant something else then"
    return f"in your query {join_differences(differences)}"


def _is_private(resolved: ResolvedQuery) -> bool:
    """Return whether the audience of a query is not the public: its key differs from that without a token."""
    return resolved.key != key_of(resolved.query, resolved.schemas[0] if resolved.schemas else None)


def _product(query: Query) -> str:
    return _name(query.instrument, query.product_type)


def _name(instrument: str, product: str) -> str:
    return f"{shorten(instrument)} {shorten(product)}"


def _other_products(stores: Sequence[Store]) -> str:
    """Return which products there are public recordings of. Raises StoreUnusableError."""
    public = [one for store in stores for one in store.totals() if not one.private]
    products = {
        _name(one.instrument, one.product) for one in public if one.instrument is not None and one.product is not None
    }
    if not products:
        return "there are no public recordings at all"
    more = ", and of others" if len(products) > _MAX_PRODUCTS else ""
    return f"there are recordings of {', '.join(sorted(products)[:_MAX_PRODUCTS])}{more}"


def _day(stored_at: float) -> str:
    return datetime.fromtimestamp(stored_at, UTC).date().isoformat()
