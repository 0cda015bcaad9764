"""Maintenance of a store in the background: times of use, eviction, orphaned files."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from itertools import count, islice
from typing import TYPE_CHECKING

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store import eviction
from oda_proxy.store.eviction import EvictionCounts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from oda_proxy.store.base import Entry, Store
    from oda_proxy.store.eviction import Limits
    from oda_proxy.store.faults import StoreFaults

_log = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between two runs."""

BATCH = 100
"""Recordings that are evicted at once: other processes that write wait for it."""

ORPHANS_EVERY = 360
"""Number of runs after which orphaned files are removed: each hour."""


def prune(store: Store, limits: Limits) -> list[Entry]:
    """Evict recordings until the limits are met, and return them. Raises StoreUnusableError."""
    return list(evictions(store, limits))


def evictions(store: Store, limits: Limits) -> Iterator[Entry]:
    """Evict recordings while they are iterated over, until the limits are met. Raises StoreUnusableError."""
    occupied = _occupied(store)
    target = limits.target(occupied, store.free_space())
    if target is None:
        return
    victims = eviction.victims(store.groups_to_evict(), occupied=occupied, target=target)
    while batch := list(islice(victims, BATCH)):
        yield from store.evict_all(batch)


def exceeded(store: Store, limits: Limits) -> int:
    """Return the bytes that are to be freed to meet the limits. Raises StoreUnusableError."""
    return limits.excess(_occupied(store), store.free_space())


def maintain(store: Store, limits: Limits, *, remove_orphans: bool, evictions: EvictionCounts | None = None) -> None:
    """Run once: evict what exceeds the limits, count that, and write times of use. Raises StoreUnusableError.

    Eviction comes first: on a full disk it makes room for the rest.
    """
    begin, end = limits.watermarks()
    occupied = _occupied(store)
    if begin.target(occupied, store.free_space()) is not None:
        evicted = prune(store, end)
        freed = (evictions or EvictionCounts()).add(evicted, "size" if occupied > begin.max_size else "disk")
        if evicted:
            _log.info("evicted %d recordings of %d bytes to free space", len(evicted), freed)
    store.save_use_times()
    if remove_orphans and (removed := store.remove_orphans()):
        _log.info("removed %d files that crashed writers left", removed)


def _occupied(store: Store) -> int:
    """Return the bytes of the recordings that may be evicted: those of other releases are not."""
    return max(store.usage().occupied - store.other_recordings().occupied, 0)


@asynccontextmanager
async def background_maintenance(
    store: Store, limits: Callable[[], Limits], faults: StoreFaults, evictions: EvictionCounts
) -> AsyncIterator[None]:
    """Maintain a store in the background until the block ends; times of use are written once more at the end.

    `limits` returns the limits of now; evictions are added to `evictions`.
    """
    task = asyncio.create_task(_run(store, limits, faults, evictions))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with suppress(StoreUnusableError):
            await asyncio.to_thread(store.save_use_times)


async def _run(store: Store, limits: Callable[[], Limits], faults: StoreFaults, evictions: EvictionCounts) -> None:
    for number in count(1):
        await asyncio.sleep(INTERVAL)
        try:
            remove_orphans = number % ORPHANS_EVERY == 0
            await asyncio.to_thread(maintain, store, limits(), remove_orphans=remove_orphans, evictions=evictions)
            faults.note_success("maintained")
        except StoreUnusableError as error:
            faults.note_failure("maintained", error)
