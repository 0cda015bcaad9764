"""Maintenance of a store in the background: times of use, eviction, orphaned files."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store import eviction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oda_proxy.store.base import Entry, Store
    from oda_proxy.store.faults import StoreFaults

_log = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between two runs."""

ORPHANS_EVERY = 360
"""Number of runs after which orphaned files are removed: each hour."""


def prune(store: Store, limit: int) -> list[Entry]:
    """Evict recordings until `limit` bytes suffice, and return them. Raises StoreUnusableError."""
    return [entry for entry in eviction.victims(store.entries(), max_bytes=limit) if store.evict(entry)]


def maintain(store: Store, limit: int, *, remove_orphans: bool) -> None:
    """Run once: write times of use, and evict what exceeds the limit. Raises StoreUnusableError."""
    store.save_use_times()
    if store.usage().occupied > limit * eviction.HIGH_WATERMARK:
        evicted = prune(store, int(limit * eviction.LOW_WATERMARK))
        freed = sum({entry.head_name: entry.stored_size for entry in evicted}.values())
        _log.info("evicted %d recordings of %d bytes to free space", len(evicted), freed)
    if remove_orphans and (removed := store.remove_orphans()):
        _log.info("removed %d files that crashed writers left", removed)


@asynccontextmanager
async def background_maintenance(store: Store, limit: int, faults: StoreFaults) -> AsyncIterator[None]:
    """Maintain a store in the background until the block ends; times of use are written once more at the end."""
    task = asyncio.create_task(_run(store, limit, faults))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with suppress(StoreUnusableError):
            await asyncio.to_thread(store.save_use_times)


async def _run(store: Store, limit: int, faults: StoreFaults) -> None:
    for number in count(1):
        await asyncio.sleep(INTERVAL)
        try:
            await asyncio.to_thread(maintain, store, limit, remove_orphans=number % ORPHANS_EVERY == 0)
            faults.note_success("maintained")
        except StoreUnusableError as error:
            faults.note_failure("maintained", error)
