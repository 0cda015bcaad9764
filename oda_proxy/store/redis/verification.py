"""Checks everything in a store in Redis: recordings, heads and counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.base import Fault
from oda_proxy.store.redis import garbage
from oda_proxy.store.redis.fields import DAMAGE, body_name, read_row
from oda_proxy.store.redis.medium_errors import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.objects.bodies import Bodies
    from oda_proxy.store.redis.index import Change, RedisIndex

_TRIES: Final = 3
"""How often counters are compared while others write."""


def verify(
    index: RedisIndex, bodies: Bodies, note: Callable[[Key, Change], bool], *, fix: bool, checked: Callable[[], None]
) -> Iterator[Fault]:
    """Check everything and report faults; with `fix`, remove what is damaged. Each recording calls `checked`.

    Changes are passed to `note`. Raises what Redis, or the medium of the heads, raises.
    """
    for key in index.keys_beginning():
        yield from _verify_recording(index, bodies, note, key, fix=fix)
        checked()
    for name in garbage.orphans(index, bodies):
        yield Fault(name, "a crashed writer left it")
        if fix:
            bodies.remove(name)
    if not _counts_agree(index):
        yield Fault("index", "its counters do not agree with its rows")
        if fix:
            index.rebuild()
    if fix:
        garbage.remove_garbage(index, bodies)


def _verify_recording(
    index: RedisIndex, bodies: Bodies, note: Callable[[Key, Change], bool], key: Key, *, fix: bool
) -> Iterator[Fault]:
    """Check one recording to its end."""
    found = index.read(key)
    try:
        row = read_row(key, *(found[:2] if found else (None, None)))
        head = bodies.open(body_name(found.body if found else None, row.head.name), row.head)
        for _ in head.pieces():
            pass
        row.recording(head)
        head.close()
    except (*DAMAGE, FileNotFoundError, StoreUnusableError) as error:
        if index.read(key) != found:
            return  # it was replaced or removed meanwhile
        yield Fault(key, reason(error))
        if fix:
            note(key, index.remove_damaged(key, found.put if found else None))


def _counts_agree(index: RedisIndex) -> bool:
    """Return whether the counters are those of the rows; while others write, they may differ in between."""
    for _ in range(_TRIES):
        version = index.version()
        usage, totals = index.usage(), index.totals()
        entries = list(index.entries_in_batches(index.keys_beginning(), {}))
        occupied = sum({entry.head_name: entry.stored_size for entry in entries}.values())
        by_product = sum(one.recordings for one in totals), sum(one.pinned for one in totals)
        if (usage.recordings, usage.occupied, *by_product) == (
            len(entries),
            occupied,
            len(entries),
            sum(entry.pinned for entry in entries),
        ):
            return True
        if index.version() == version:
            return False
    return True
