"""Maintenance of a store in the background: times of use, eviction, orphaned files."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager, suppress
from itertools import count, islice
from typing import TYPE_CHECKING

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store import eviction
from oda_proxy.store.base import RemoteStore
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


def maintain(store: Store, limits: Limits, *, remove_orphans: bool, evictions: EvictionCounts | None = None) -> int:
    """Run once: evict what exceeds the limits, count that, and write times of use.

    Of processes that share a store on several hosts, one does all of it, the others only the last.

    Eviction comes first: on a full disk it makes room for the rest. Returns the bytes that are still to be freed where
    nothing more can be evicted. Raises StoreUnusableError.
    """
    if not store.claims_maintenance():
        store.save_use_times()
        return 0
    begin, end = limits.watermarks()
    occupied, excess = _occupied(store), 0
    if begin.target(occupied, store.free_space()) is not None:
        evicted = prune(store, end)
        freed = (evictions or EvictionCounts()).add(evicted, "size" if occupied > begin.max_size else "disk")
        if evicted:
            _log.info("evicted %d recordings of %d bytes to free space", len(evicted), freed)
        excess = exceeded(store, limits)
    store.save_use_times()
    if remove_orphans and (removed := store.remove_orphans()):
        _log.info("removed %d files that crashed writers left", removed)
    return excess


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
    had_excess = False
    for number in count(1):
        await asyncio.sleep(INTERVAL)
        try:
            remove_orphans = number % ORPHANS_EVERY == 0
            excess = await asyncio.to_thread(
                maintain, store, limits(), remove_orphans=remove_orphans, evictions=evictions
            )
            if excess and not had_excess:
                _log.warning("%s", await asyncio.to_thread(_excess_warning, store, excess))
            had_excess = excess > 0
            is_due = number % ORPHANS_EVERY == 1  # soon after a start, whose limits may be lower than before
            if is_due and (expired := await asyncio.to_thread(store.expire_versions, time.time())):
                _log.info("removed %d earlier versions, which are more or older than --history allows", expired)
            faults.note_success("maintained")
            if any(faults) and isinstance(store, RemoteStore) and await asyncio.to_thread(store.check):
                faults.note_return()
        except StoreUnusableError as error:
            faults.note_failure("maintained", error)


def _excess_warning(store: Store, excess: int) -> str:
    """Return why recordings exceed a limit although all that may be evicted are gone."""
    totals = store.totals()
    if pinned := sum(one.pinned for one in totals):
        reason = f"{pinned} pinned recordings stay; unpin some (oda-proxy unpin), or raise --max-size"
    elif recordings := sum(one.recordings for one in totals):
        reason = f"{recordings} recordings could not be removed"
    else:
        reason = "there is nothing left to evict, other files fill the disk"
    return f"{excess} bytes over the limits of the store: {reason}"
