"""Checks everything in a store in Redis: recordings, earlier versions, heads and counters."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store import version_times
from oda_proxy.store.base import Fault, HistoryUsage
from oda_proxy.store.objects.bodies import confirm
from oda_proxy.store.redis import garbage, history
from oda_proxy.store.redis.fields import DAMAGE, body_name, read_row, read_version_row
from oda_proxy.store.redis.medium_errors import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.objects.bodies import Bodies
    from oda_proxy.store.redis.index import Change, RedisIndex, StoredRow
    from oda_proxy.store.rows import Row

_TRIES: Final = 3
"""How often counters are compared while others write."""


def verify(
    index: RedisIndex,
    bodies: Bodies,
    note: Callable[[Key, Change], bool],
    *,
    now: float,
    fix: bool,
    checked: Callable[[], None],
) -> Iterator[Fault]:
    """Check everything and report faults; with `fix`, remove what is damaged. Each recording calls `checked`.

    `now` is in s since 1970 (UTC). Recordings with a wrong time are reported, and stay.
    Changes are passed to `note`. Raises what Redis, or the medium of the heads, raises.
    """
    wrong = index.keys_of_wrong_type()
    for place in wrong:
        yield Fault(place, "this key of Redis is of another type: somebody else wrote it")
        if fix:
            index.delete(place)
    if fix or not wrong:  # else the rest cannot be read
        yield from _verify_rows(index, bodies, note, now=now, fix=fix, checked=checked)
        yield from _verify_heads(index, bodies, fix=fix)
        if wrong or not index.has_all_rows() or not _counts_agree(index):
            yield Fault("index", "its counters do not agree with its rows")
            if fix:
                index.rebuild()
    if fix:
        garbage.remove_garbage(index, bodies)


def _verify_rows(
    index: RedisIndex,
    bodies: Bodies,
    note: Callable[[Key, Change], bool],
    *,
    now: float,
    fix: bool,
    checked: Callable[[], None],
) -> Iterator[Fault]:
    """Check recordings and earlier versions."""
    for key in index.keys_beginning():
        yield from _verify_recording(index, bodies, note, key, fix=fix)
        checked()
    for key in index.version_keys_beginning():
        for time in index.version_times(key):
            yield from _verify_version(index, bodies, note, key, time, fix=fix)
            checked()
    for key in sorted({*index.keys_beginning(), *index.version_keys_beginning()}):
        times = [(one.valid_from, one.valid_until) for one in history.versions(index, key, {})]
        yield from version_times.faults(key, times, now)


def _verify_heads(index: RedisIndex, bodies: Bodies, *, fix: bool) -> Iterator[Fault]:
    """Check that each head has a row."""
    for name in garbage.orphans(index, bodies):
        yield Fault(name, "a crashed writer left it")
        if fix:
            bodies.remove(name)


def _verify_recording(
    index: RedisIndex, bodies: Bodies, note: Callable[[Key, Change], bool], key: Key, *, fix: bool
) -> Iterator[Fault]:
    """Check one recording to its end."""
    found = index.read(key)
    fault = _fault(bodies, key, found, read_row)
    if fault is None or index.read(key) != found:
        return  # it is sound, or was replaced or removed meanwhile
    yield Fault(key, fault)
    if fix:
        note(key, index.remove_damaged(key, found.put if found else None))


def _verify_version(
    index: RedisIndex, bodies: Bodies, note: Callable[[Key, Change], bool], key: Key, time: str, *, fix: bool
) -> Iterator[Fault]:
    """Check one earlier version to its end."""
    found = index.read_version(key, time)
    fault = _fault(bodies, key, found, lambda key, row, check: read_version_row(key, time, row, check))
    if fault is None or index.read_version(key, time) != found:
        return
    yield Fault(key, f"an earlier version is damaged: {fault}")
    if fix:
        note(key, index.remove_damaged_version(key, time, found.check if found else None))


def _fault(
    bodies: Bodies,
    key: Key,
    found: StoredRow | None,
    parse: Callable[[Key, bytes | None, bytes | None], Row],
) -> str | None:
    """Return what is wrong with a row or its head; None if nothing is. Raises BodiesUnusableError."""
    try:
        row = parse(key, *(found[:2] if found else (None, None)))
        head = bodies.open(body_name(found.body if found else None, row.head.name), row.head)
        with closing(head):
            row.recording(head)
            for _ in head.pieces():
                pass
    except FileNotFoundError as error:
        confirm(bodies)
        return reason(error)
    except (*DAMAGE, StoreUnusableError) as error:
        return reason(error)
    return None


def _counts_agree(index: RedisIndex) -> bool:
    """Return whether the counters are those of the rows; while others write, they may differ in between."""
    for _ in range(_TRIES):
        version = index.version()
        usage, totals, history_usage = index.usage(), index.totals(), index.history_usage()
        entries = list(index.entries_in_batches(index.keys_beginning(), {}))
        current = {entry.head_name: entry.stored_size for entry in entries}
        number, heads = 0, dict[str, int]()
        for key in index.version_keys_beginning():
            earlier = history.versions(index, key, {})
            earlier = [one for one in earlier if one.valid_until is not None]
            number += len(earlier)
            heads |= {one.head_name: one.stored_size for one in earlier}
        occupied = sum((heads | current).values())
        past = HistoryUsage(number, sum(size for name, size in heads.items() if name not in current))
        by_product = sum(one.recordings for one in totals), sum(one.pinned for one in totals)
        if (usage.recordings, usage.occupied, history_usage, *by_product) == (
            len(entries),
            occupied,
            past,
            len(entries),
            sum(entry.pinned for entry in entries),
        ):
            return True
        if index.version() == version:
            return False
    return True
