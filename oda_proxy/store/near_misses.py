"""What is said where nothing was recorded for a query and there is nobody to ask: which recording is nearest.

Only recordings that were asked for without a token are told of: that there is another, and what was asked for it, is
for nobody else to know.
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
from oda_proxy.query.cache_key import key_of, key_of_normalised
from oda_proxy.query.nearest import join_differences, nearest, shorten
from oda_proxy.query.normalised import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from oda_proxy.http.answer import Answer
    from oda_proxy.query.nearest import Near
    from oda_proxy.query.normalised import NormalisedQuery
    from oda_proxy.query.query import Envelope, Query
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.query.schema import Schema
    from oda_proxy.store.base import Entry, Store

_log = logging.getLogger(__name__)

PATIENCE: Final = 1.0
"""Seconds that are spent on the search: enough for some 9000 recordings of the product, or 30 000 of others."""

MOST_MISSES: Final = 100
"""Misses that are remembered."""

_MOST_PRODUCTS: Final = 20
"""Products that are named where none is of the kind that was asked for."""

_KEY_DIGITS: Final = 12
"""Digits of a key that are told: enough to name the recording to a command."""


class MissHandler(Protocol):
    """Answers what was not recorded, where there is no dispatcher."""

    async def answer(self, resolved: ResolvedQuery, envelope: Envelope) -> Answer:
        """Answer a question; raises NoRecordingError, with what a person should know, where there is no answer."""


@dataclass(frozen=True, slots=True)
class Miss:
    """A query that was not recorded, and what was said; `when` is in s since 1970 (UTC)."""

    when: float
    instrument: str
    product_type: str
    text: str


class NearMissHandler:
    """Says which recording of a store is nearest to what was asked."""

    def __init__(
        self, store: Store, *, clock: Callable[[], float] = time.time, stopwatch: Callable[[], float] = time.monotonic
    ) -> None:
        """Take the store; `clock` gives s since 1970 (UTC), `stopwatch` s since any time."""
        self._store = store
        self._clock = clock
        self._stopwatch = stopwatch
        self._misses: deque[Miss] = deque(maxlen=MOST_MISSES)
        self._looking = asyncio.Lock()

    @property
    def misses(self) -> tuple[Miss, ...]:
        """The last misses, the newest first; what was asked with a token is not among them."""
        return tuple(reversed(self._misses))

    async def answer(self, resolved: ResolvedQuery, envelope: Envelope) -> NoReturn:
        """Raise NoRecordingError with the nearest recording; one after the other, so that hits are not held up."""
        async with self._looking:
            text = await asyncio.to_thread(self._explain, resolved)
        if envelope.token is None:
            query = resolved.query
            self._misses.append(Miss(self._clock(), shorten(query.instrument), shorten(query.product_type), text))
        raise NoRecordingError(text)

    def _explain(self, resolved: ResolvedQuery) -> str:
        """Say that nothing was recorded, and what is nearest."""
        what = f"offline: there is no recording of {_product(resolved.query)}"
        search = _Search(self._store, resolved.schemas, self._stopwatch)
        here = normalise(resolved.query, resolved.schemas[0] if resolved.schemas else None)
        try:
            near = nearest(here, search.of(resolved.query))
        except StoreUnusableError as error:
            _log.warning("which recording is nearest cannot be told: %s", error)
            return f"{what} as asked, and the store cannot be read to tell which is nearest"
        rest = "" if search.complete else f" (only {search.looked_at} recordings were looked at)"
        if near is None:
            return f"{what}: {_others(search.products)}{rest}"
        named = f"{near.recorded.key[:_KEY_DIGITS]} (of {_day(near.recorded.stored_at)})"
        return f"{what} as asked; the nearest is {named}{rest}: {_said(near, with_token=_for_somebody(resolved))}"


class _Search:
    """Reads what a store has for a query, as long as patience lasts, and takes note of what else there is."""

    def __init__(self, store: Store, schemas: tuple[Schema, ...], stopwatch: Callable[[], float]) -> None:
        self.products: set[str] = set()
        self.looked_at = 0
        self.complete = True
        self._store = store
        self._schemas = schemas
        self._stopwatch = stopwatch

    def of(self, query: Query) -> Iterator[tuple[Entry, NormalisedQuery]]:
        """Give the public recordings of the product. Raises StoreUnusableError."""
        until = self._stopwatch() + PATIENCE
        for entry in self._store.entries():
            if self._stopwatch() > until:
                self.complete = False
                return
            self.looked_at += 1
            if entry.private or entry.query is None:
                continue
            if (entry.query.instrument, entry.query.product_type) == (query.instrument, query.product_type):
                yield entry, _as_recorded(entry, entry.query, self._schemas)
            elif len(self.products) <= _MOST_PRODUCTS:
                self.products.add(_product(entry.query))


def _as_recorded(entry: Entry, query: Query, schemas: Sequence[Schema]) -> NormalisedQuery:
    """Read what was asked under the description of its day, which its key shows, or else under the newest.

    A default may have changed since: then the same words ask for something else today.
    """
    if len(schemas) > 1:
        for schema in schemas:
            if key_of_normalised(then := normalise(query, schema)) == entry.key:
                return then
    return normalise(query, schemas[0] if schemas else None)


def _said(near: Near[Entry], *, with_token: bool) -> str:
    """Say in what the question differs."""
    differences = [one.text for one in near.differences]
    if with_token:
        differences.insert(0, "a token is given")
    if not differences:
        return "it was asked for in the same words, which may have meant something else then"
    return f"in your query {join_differences(differences)}"


def _for_somebody(resolved: ResolvedQuery) -> bool:
    """Tell whether the question has an audience of its own: its key is another one than without a token."""
    return resolved.key != key_of(resolved.query, resolved.schemas[0] if resolved.schemas else None)


def _product(query: Query) -> str:
    return f"{shorten(query.instrument)} {shorten(query.product_type)}"


def _others(products: set[str]) -> str:
    """Say which products there are."""
    if not products:
        return "there are no public recordings at all"
    more = ", and of others" if len(products) > _MOST_PRODUCTS else ""
    return f"there are recordings of {', '.join(sorted(products)[:_MOST_PRODUCTS])}{more}"


def _day(stored_at: float) -> str:
    return datetime.fromtimestamp(stored_at, UTC).date().isoformat()
