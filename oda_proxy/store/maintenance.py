"""Keeping a store within its limits, beside the requests and never within one."""

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

ROUND = 10.0
"""How often, in s, it is looked after."""

SWEEP = 360
"""After how many rounds what crashed writers left is looked for: each hour."""


def prune(store: Store, limit: int) -> list[Entry]:
    """Give up recordings so that `limit` bytes are enough, and say which. Raises StoreUnusableError."""
    return [entry for entry in eviction.victims(store.entries(), most=limit) if store.evict(entry)]


def maintain(store: Store, limit: int, *, remove_orphans: bool) -> None:
    """Do one round: write down what was noted, give up what is too much. Raises StoreUnusableError."""
    store.save_use_times()
    if store.usage().occupied > limit * eviction.HIGH:
        given_up = prune(store, int(limit * eviction.LOW))
        freed = sum({entry.head_name: entry.stored_size for entry in given_up}.values())
        _log.info("gave up %d recordings of %d bytes for lack of space", len(given_up), freed)
    if remove_orphans and (swept := store.remove_orphans()):
        _log.info("removed %d files that crashed writers left", swept)


@asynccontextmanager
async def background_maintenance(store: Store, limit: int, faults: StoreFaults) -> AsyncIterator[None]:
    """Look after a store in the background until the block ends, and once more at the end."""
    task = asyncio.create_task(_rounds(store, limit, faults))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with suppress(StoreUnusableError):
            await asyncio.to_thread(store.save_use_times)


async def _rounds(store: Store, limit: int, faults: StoreFaults) -> None:
    for number in count(1):
        await asyncio.sleep(ROUND)
        try:
            await asyncio.to_thread(maintain, store, limit, remove_orphans=number % SWEEP == 0)
            faults.note_success("looked after")
        except StoreUnusableError as error:
            faults.note_failure("looked after", error)
