"""Searches of recordings in the secondary indexes."""

# ruff: noqa: S608 - names of tables and columns cannot be bound; they are constants, and all values are bound

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from oda_proxy.store import index_keys, secondary_index
from oda_proxy.store.search import MAX_PRIVATE, Order, folded, key_range

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oda_proxy.store.base import Entry
    from oda_proxy.store.index import Index
    from oda_proxy.store.read_only_index import ReadOnlyIndex
    from oda_proxy.store.search import Search

_COLUMNS: Final[Mapping[Order, str]] = {
    Order.USE: "used_at",
    Order.STORED: "stored_at",
    Order.SIZE: "size",
    Order.COST: "microseconds",
    Order.TIME: "begin_mjd",
}
_OF_THIS_RELEASE: Final = "format IS NULL"
_WORD: Final = "instr(subject, ?) > 0"
_KEY: Final = "id IN (SELECT rowid FROM Cache WHERE raw = 1 AND ((key >= ? AND key < ?) OR (key >= ? AND key < ?)))"
_CONE: Final = "(x - ?) * (x - ?) + (y - ?) * (y - ?) + (z - ?) * (z - ?) <= ?"


def find(
    index: Index | ReadOnlyIndex,
    search: Search,
    *,
    offset: int,
    limit: int,
    read: Callable[[int], Entry | None],
) -> tuple[list[int], int]:
    """Return the ids of a page of the recordings that a search finds, and how many it finds in all.

    `read` returns the metadata of one recording; only those of private ones are read.
    """
    names = secondary_index.table_names()
    entries = names["entries"]
    condition, values = _condition(search)
    is_for_all = condition == _OF_THIS_RELEASE and search.may_see is None
    if not search.sees_all:
        visible = ["private = 0"]
        if search.may_see is not None:
            private = f"SELECT id FROM {entries} WHERE {condition} AND private = 1 ORDER BY stored_at DESC LIMIT ?"
            ids = [number for (number,) in index.select(private, *values, MAX_PRIVATE)]
            seen = [str(number) for number in ids if (entry := read(number)) and search.may_see(entry)]
            visible.append(f"id IN ({','.join(seen)})")
        condition = f"{condition} AND ({' OR '.join(visible)})"
    if is_for_all:
        [(total,)] = index.select(
            f"SELECT total(recordings) FROM {names['totals']} WHERE private <= ?", search.sees_all
        )
    else:
        [(total,)] = index.select(f"SELECT count(*) FROM {entries} WHERE {condition}", *values)
    direction = "ASC" if search.ascending else "DESC"
    order = f"{_COLUMNS[search.order]} {direction} NULLS LAST, id {direction}"
    page = f"SELECT id FROM {entries} WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?"
    return [number for (number,) in index.select(page, *values, limit, offset)], int(total)


def _condition(search: Search) -> tuple[str, list[object]]:
    """Return the conditions of a search, apart from what may be seen, as SQL and its values."""
    parts, values = [_OF_THIS_RELEASE], list[object]()
    for word in search.words:
        parts.append(f"({_WORD} OR {_KEY})" if (keys := key_range(word)) else _WORD)
        values += [folded(word), *_ranges(keys)] if keys else [folded(word)]
    conditions: list[tuple[str, object]] = [
        ("instrument = ?", _storable(search.instrument)),
        ("product = ?", _storable(search.product)),
        ("end_mjd >= ?", search.begin),
        ("begin_mjd <= ?", search.end),
        ("stored_at >= ?", search.stored_after),
        ("stored_at < ?", search.stored_before),
    ]
    for condition, value in conditions:
        if value is not None:
            parts.append(condition)
            values.append(value)
    if search.cone is not None:
        x, y, z = search.cone.centre
        parts.append(_CONE)
        values += [x, x, y, y, z, z, search.cone.squared_chord]
    return " AND ".join(parts), values


def _storable(name: str | None) -> str | None:
    """Return a name that SQLite can compare; none is stored that has other characters."""
    return name and name.encode("utf-8", "replace").decode()


def _ranges(keys: tuple[str, str]) -> tuple[str, ...]:
    """Return a range of keys, and the same of rows that have the key of another release beside them."""
    prefix = index_keys.aside_prefix()
    return *keys, *(f"{prefix}{key}" for key in keys)
