"""Queries of a store whose recordings are used and will expire."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from oda_proxy.recordings.obstacles import rerun_obstacle
from oda_proxy.warming.plan import PlannedQuery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.store.base import Entry, Store
    from oda_proxy.store.freshness import Freshness

DAY: Final = 86400.0
_YOUNG: Final = 0.5
"""Fraction of its lifetime up to which a recording is not computed again: a second run finds those of the first."""


@dataclass(frozen=True, slots=True)
class StoreSelection:
    """Which recordings are selected: the `last_used` used last, and of them those that expire within some days."""

    last_used: int | None = None
    expiring_within: float | None = None

    def queries(self, store: Store, freshness: Freshness, now: float) -> Iterator[PlannedQuery]:
        """Iterate over the queries of the selected public recordings, those used last first.

        `now` is in s since 1970 (UTC). One that expires is computed again, any other only if it is missing by then.
        """
        usable = (entry for entry in store.entries_by_use() if _is_usable(entry))
        for entry in islice(usable, self.last_used):
            assert entry.query is not None  # noqa: S101 - for the type checker
            if self.expiring_within is None:
                yield PlannedQuery(entry.query)
            elif _expires(store, entry, freshness, now, now + self.expiring_within * DAY):
                yield PlannedQuery(entry.query, refresh=True)


def _is_usable(entry: Entry) -> bool:
    return not entry.private and entry.query is not None and not rerun_obstacle(entry.query)


def _expires(store: Store, entry: Entry, freshness: Freshness, now: float, until: float) -> bool:
    """Return whether a recording is stale at a time, and not young."""
    recording = store.get(entry.key)
    if recording is None:
        return False
    with closing(recording.head):
        lifetime = freshness.lifetime(recording)
    age = now - recording.stored_at
    return recording.stored_at + lifetime <= until and age >= lifetime * _YOUNG
