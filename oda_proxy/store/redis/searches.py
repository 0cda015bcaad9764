"""Searches of recordings in Redis: candidates by the narrowest condition, then the conditions on their fields."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from oda_proxy.query.cache_key import Key
from oda_proxy.store.redis.fields import product_id
from oda_proxy.store.redis.index import BATCH
from oda_proxy.store.search import MAX_PRIVATE, Found, Order, folded, key_range, key_range_contains
from oda_proxy.store.selection import fits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from oda_proxy.store.base import Entry, ProductTotals
    from oda_proxy.store.redis.index import RedisIndex
    from oda_proxy.store.search import Search
    from oda_proxy.store.selection import Filters

_FIELDS: Final = (
    "private", "text", "totals", "x", "y", "z", "begin", "end", "stored_at", "used_at", "size", "microseconds",
)  # fmt: skip
_VALUES: Final[Mapping[Order, str]] = {
    Order.USE: "used_at",
    Order.STORED: "stored_at",
    Order.SIZE: "size",
    Order.COST: "microseconds",
    Order.TIME: "begin",
}
_SORTED: Final[Mapping[Order, str]] = {
    Order.USE: "by:used",
    Order.STORED: "by:stored",
    Order.SIZE: "by:size",
    Order.COST: "by:cost",
    Order.TIME: "by:begin",
}

_Values = dict[str, str]


def find(index: RedisIndex, search: Search, uses: Mapping[Key, float], *, offset: int, limit: int) -> Found:
    """Return a page of the recordings that a search finds, and how many it finds in all."""

    def entries(keys: Iterable[Key]) -> Iterator[Entry]:
        return index.entries(keys, uses)

    candidates = _candidates(index, search)
    is_sorted = search.order is not Order.TIME or not search.ascending  # recordings without a time come last
    if candidates is None and search.may_see is None and is_sorted:
        total = sum(one.recordings for one in index.totals() if search.sees_all or not one.private)
        keys = index.ordered(_SORTED[search.order], ascending=search.ascending)
        page = islice(keys if search.sees_all else _public(index, keys), offset, offset + limit)
        return Found(tuple(entries(page)), total)
    keys = index.ordered("by:stored") if candidates is None else iter(candidates)
    found, private = list[tuple[Key, float | None]](), list[tuple[Key, float, float | None]]()
    for key, raw in index.values(keys, _FIELDS):
        values = _decoded(raw)
        if values is None or not _matches(search, key, values):
            continue
        value = _number(values[_VALUES[search.order]])
        if values["private"] == "0" or search.sees_all:
            found.append((key, value))
        elif search.may_see is not None:
            private.append((key, _number(values["stored_at"]) or 0.0, value))
    found += _visible(private, search.may_see, entries)
    with_value = [one for one in found if one[1] is not None]
    with_value.sort(key=lambda one: one[1] or 0.0, reverse=not search.ascending)
    ordered = [key for key, _ in with_value] + [key for key, value in found if value is None]
    return Found(tuple(entries(ordered[offset : offset + limit])), len(ordered))


def by_use(index: RedisIndex, filters: Filters | None, uses: Mapping[Key, float]) -> Iterator[Entry]:
    """Iterate over the metadata of the recordings that meet filters, the one used last first."""
    if not filters:
        yield from index.entries_in_batches(index.ordered("by:used"), uses)
        return
    keys = index.ordered("by:used")
    if filters.instrument is not None or filters.product is not None:
        products = [one for one in index.totals() if _may_have(one, filters)]
        wanted = {key for one in products for key in _of_product(index, one.instrument, one.product, one.private)}
        keys = (key for key in keys if key in wanted)
    yield from filter(filters.matches, index.entries_in_batches(keys, uses))


def of_product(index: RedisIndex, instrument: str, product: str, uses: Mapping[Key, float]) -> Iterator[Entry]:
    """Iterate over the metadata of the public recordings of a product, the one stored last first."""
    yield from index.entries_in_batches(_of_product(index, instrument, product, private=False), uses)


def _of_product(index: RedisIndex, instrument: str | None, product: str | None, private: bool) -> Iterator[Key]:
    return index.ordered(f"product:{product_id(instrument, product, private=private)}")


def _may_have(one: ProductTotals, filters: Filters) -> bool:
    """Return whether recordings of a product can meet the filters."""
    instrument, product = one.instrument, one.product
    if instrument is None or product is None:
        return False
    return fits(filters.instrument, [instrument]) and fits(filters.product, [product])


def _public(index: RedisIndex, keys: Iterator[Key]) -> Iterator[Key]:
    """Iterate over the keys of public recordings; no more are read than the caller needs."""
    while batch := list(islice(keys, BATCH)):
        for key, values in index.values(batch, ["private"]):
            if values == [b"0"]:
                yield key


def _candidates(index: RedisIndex, search: Search) -> set[Key] | None:
    """Return keys among which all are that a search finds; None for all keys."""
    found: set[Key] | None = None
    for word in search.words:
        numbers = [number for number, text in index.texts() if folded(word) in text]
        with_word = {key for number in numbers for key in index.with_text(number)}
        if key_range(word):
            with_word |= set(index.keys_beginning(word.casefold()))
        found = with_word if found is None else found & with_word
    if search.instrument is not None or search.product is not None:
        products = [
            one
            for one in index.totals()
            if search.instrument in {None, one.instrument} and search.product in {None, one.product}
        ]
        of_products = {key for one in products for key in _of_product(index, one.instrument, one.product, one.private)}
        found = of_products if found is None else found & of_products
    if found is None and (search.stored_after is not None or search.stored_before is not None):
        found = index.between("stored", search.stored_after or 0.0, search.stored_before or float("inf"))
    if found is None and search.end is not None:
        found = index.between("begin", 0.0, search.end)
    if (found is None and search.begin is not None) or (found is None and search.cone is not None):
        found = set(index.keys_beginning())
    return found


def _matches(search: Search, key: Key, values: _Values) -> bool:
    """Return whether a recording meets all conditions, apart from those that `_candidates` has checked exactly."""
    begin, end, stored_at = (_number(values[name]) for name in ("begin", "end", "stored_at"))
    if stored_at is None:
        return False
    return (
        all(folded(word) in values["text"] or key_range_contains(word, key) for word in search.words)
        and (search.cone is None or _is_in_cone(search, values))
        and (search.begin is None or (end is not None and end >= search.begin))
        and (search.end is None or (begin is not None and begin <= search.end))
        and (search.stored_after is None or stored_at >= search.stored_after)
        and (search.stored_before is None or stored_at < search.stored_before)
    )


def _is_in_cone(search: Search, values: _Values) -> bool:
    position = [_number(values[name]) for name in ("x", "y", "z")]
    if search.cone is None or None in position:
        return False
    pairs = zip(search.cone.centre, position, strict=True)
    return sum((one - (other or 0.0)) ** 2 for one, other in pairs) <= search.cone.squared_chord


def _visible(
    private: list[tuple[Key, float, float | None]],
    may_see: Callable[[Entry], bool] | None,
    entries: Callable[[Iterable[Key]], Iterator[Entry]],
) -> list[tuple[Key, float | None]]:
    """Return which of the private recordings may be found; only the last ones that were stored are looked at."""
    if may_see is None:
        return []
    last = sorted(private, key=lambda one: one[1], reverse=True)[:MAX_PRIVATE]
    seen = {entry.key for entry in entries(key for key, _, _ in last) if may_see(entry)}
    return [(key, value) for key, _, value in last if key in seen]


def _decoded(raw: list[bytes | None] | None) -> _Values | None:
    """Return the fields of a recording as text; None where one is missing."""
    if raw is None or any(one is None for one in raw):
        return None
    return {name: (one or b"").decode("utf-8", "replace") for name, one in zip(_FIELDS, raw, strict=True)}


def _number(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
