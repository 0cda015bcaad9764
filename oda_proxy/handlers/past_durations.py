"""How long jobs took, read from the last recordings of each product."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING

from oda_proxy.errors import StoreUnusableError
from oda_proxy.jobs.estimates import MAX_PRODUCTS, MAX_RUNS

if TYPE_CHECKING:
    from oda_proxy.jobs.estimates import Estimates
    from oda_proxy.store.base import Store
    from oda_proxy.store.faults import StoreFaults


async def add_past_durations(estimates: Estimates, store: Store, faults: StoreFaults) -> None:
    """Add the durations of the last recordings of each product; one product after the other."""
    try:
        totals = await asyncio.to_thread(store.totals)
        for one in islice((one for one in totals if not one.private), MAX_PRODUCTS):
            if one.instrument is not None and one.product is not None:
                last = islice(store.entries_of(one.instrument, one.product), MAX_RUNS)
                entries = await asyncio.to_thread(list, last)
                estimates.add_recordings(reversed(entries))
    except StoreUnusableError as error:
        faults.note_failure("read", error)
