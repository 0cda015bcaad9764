"""Several stores as one: that of a dispatcher, and those of its former addresses.

New recordings are written to the first store, and all are read in this order. A recording that is replaced is removed
from the others; where that fails, because one is read-only, the recording of the first store counts.
"""

from __future__ import annotations

import heapq
import logging
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store import eviction
from oda_proxy.store.base import FencedStore, HistoryUsage, OtherRecordings, ProductTotals, RemoteStore, Usage
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.history_limits import HistoryLimits
from oda_proxy.store.index import INDEX
from oda_proxy.store.search import Found, scan

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.head import HeadWriter
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry, Fault, FreeSpace, ManagedStore
    from oda_proxy.store.search import Search
    from oda_proxy.store.selection import Filters

_log = logging.getLogger(__name__)

_BATCH = 100
"""Recordings that are removed at once."""


def open_stores(
    folder: Path,
    others: Iterable[Path],
    *,
    track_use: bool = True,
    history: HistoryLimits = HistoryLimits(),  # noqa: B008 - frozen
) -> DiskStore | CombinedStore:
    """Open the store in a folder, which is created, and those of the other folders that hold one.

    Raises StoreUnusableError where one of them cannot be used.
    """
    with ExitStack() as stack:
        folders = (folder, *(other for other in others if _holds_store(other)))
        stores = [stack.enter_context(closing(DiskStore(one, track_use=track_use, history=history))) for one in folders]
        stack.pop_all()
    return CombinedStore(stores[0], stores[1:]) if len(stores) > 1 else stores[0]


def _holds_store(folder: Path) -> bool:
    """Return whether a folder holds a store; one that does not is logged: its address may be misspelt."""
    if (folder / INDEX).is_dir():
        return True
    _log.warning("there are no recordings of the former address of the dispatcher in %s", folder)
    return False


class CombinedStore:
    """The store of a dispatcher, and those of its former addresses, which it closes."""

    def __init__(self, first: ManagedStore, others: Sequence[ManagedStore]) -> None:
        self._first = first
        self._others = tuple(others)
        self._all = (first, *others)

    def close(self) -> None:
        """Close all stores."""
        with ExitStack() as stack:
            for store in self._all:
                stack.callback(store.close)

    @property
    def damaged(self) -> int:
        """How many recordings were found damaged since the start."""
        return sum(store.damaged for store in self._all)

    def check(self) -> bool:
        """Check that recordings can be read and stored; return False where that shows only in use, as on a disk."""
        return all(isinstance(store, RemoteStore) and store.check() for store in self._all)

    def get(self, key: Key) -> Recording | None:
        """Return the recording for a key from the first store that has it, or None."""
        return next((found for store in self._all if (found := store.get(key)) is not None), None)

    def peek(self, key: Key) -> Recording | None:
        """Return the recording for a key as `get` does, without noting a use."""
        return next((found for store in self._all if (found := store.peek(key)) is not None), None)

    def version(self) -> Hashable | None:
        """Return a value that is another one after any change to any store; None where that is not known."""
        versions = tuple(store.version() for store in self._all)
        return None if None in versions else versions

    def may_have_changed(self, key: Key, since: Hashable) -> bool:
        """Return whether the recording of a key may be another one than at a version."""
        if not isinstance(since, tuple) or len(since) != len(self._all):
            return True
        now = self.version()
        versions = now if isinstance(now, tuple) else (None,) * len(self._all)
        return any(
            one != then and store.may_have_changed(key, then)
            for store, one, then in zip(self._all, versions, since, strict=True)
        )

    def fingerprint(self, key: Key) -> str | None:
        """Return a text that is another one after the recording of a key was replaced; None where there is none."""
        for number, store in enumerate(self._all):
            if (found := store.fingerprint(key)) is not None:
                return f"{number} {found}"
        return None

    def note_use(self, key: Key) -> None:
        """Note that a recording was requested; stores without it ignore that when they write times of use."""
        for store in self._all:
            store.note_use(key)

    def new_head(self, size: int) -> HeadWriter:
        """Return what takes the head of a recording that may be stored in the first store."""
        return self._first.new_head(size)

    def put(self, recording: Recording, *, same_as: Entry | None = None) -> None:
        """Store a recording in the first store; any with its key in the others becomes an earlier version there."""
        self._first.put(recording, same_as=same_as)
        self._replace_in_others(recording, same_as)

    def _replace_in_others(self, recording: Recording, same_as: Entry | None) -> None:
        for store in self._others:
            with suppress(StoreUnusableError):  # the first store is read first
                found = store.entry(recording.key)
                if found is not None and same_as is not None and found.stored_at == same_as.stored_at:
                    store.remove(recording.key)
                elif found is not None:
                    store.archive(recording.key, recording.stored_at)
                elif store.fingerprint(recording.key) is not None:
                    store.remove(recording.key)

    def restore(self, recording: Recording, entry: Entry) -> None:
        """Store a recording of another store with the times of its metadata there, in the first store."""
        self._first.restore(recording, entry)

    def archive(self, key: Key, valid_until: float) -> bool:
        """Make the recordings of a key earlier versions, which were the answer until then; whether any exists."""
        archived = [store.archive(key, valid_until) for store in self._all]
        return any(archived)

    def versions(self, key: Key) -> list[Entry]:
        """Return the metadata of the earlier versions in all stores, and last of the recording, in order of time."""
        found = [one for store in self._all for one in store.versions(key)]
        current = self.entry(key)
        earlier = (one for one in found if one.valid_until is not None)
        return [*sorted(earlier, key=lambda one: one.valid_from), *([] if current is None else [current])]

    def version_keys_beginning(self, text: str) -> list[Key]:
        """Return the keys with earlier versions that begin with a text, in order."""
        return sorted({key for store in self._all for key in store.version_keys_beginning(text)})

    def get_version(self, entry: Entry) -> Recording | None:
        """Return the recording with the metadata that `versions` has returned; None if it was removed since."""
        return next((found for store in self._all if (found := store.get_version(entry)) is not None), None)

    def remove_versions(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove earlier versions, and return those that existed; stores without them may be read-only."""
        removed: list[Entry] = []
        for store in self._all:
            if own := [one for one in entries if _has(store, one)]:
                removed += store.remove_versions(own)
        return removed

    def expire_versions(self, now: float) -> int:
        """Remove the earlier versions beyond the limits of the history, without pinned ones; return their number."""
        return sum(store.expire_versions(now) for store in self._evictable())

    def history_usage(self) -> HistoryUsage:
        """Return the usage of earlier versions; bytes that eviction cannot free are not counted."""
        found = [(store, store.history_usage()) for store in self._all]
        evictable = set(map(id, self._evictable()))
        occupied = sum(one.occupied for store, one in found if id(store) in evictable)
        return HistoryUsage(sum(one.versions for _, one in found), occupied)

    def put_fenced(self, recording: Recording, fence: int, *, same_as: Entry | None = None) -> None:
        """Store a recording as `put` does, under a lease where the first store knows leases."""
        if isinstance(self._first, FencedStore):
            self._first.put_fenced(recording, fence, same_as=same_as)
        else:
            self._first.put(recording, same_as=same_as)
        self._replace_in_others(recording, same_as)

    def remove(self, key: Key) -> bool:
        """Remove a recording from all stores; return whether it existed."""
        return bool(list(self.remove_each([key])))

    def remove_each(self, keys: Iterable[Key]) -> Iterator[Key]:
        """Remove recordings while their keys are iterated over; the keys of those that did not exist are left out."""
        pending = iter(keys)
        while batch := list(islice(pending, _BATCH)):
            removed: set[Key] = set()
            for store in self._all:  # one without them may be read-only
                removed.update(store.remove_each([key for key in batch if store.keys_beginning(key)]))
            yield from (key for key in batch if key in removed)

    def evict(self, entry: Entry) -> bool:
        """Remove a recording to free space, unless it was replaced or pinned since; return whether it was removed."""
        return any(store.evict(entry) for store in self._all if _has(store, entry))

    def evict_all(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove recordings to free space, as `evict`; return those that were removed."""
        removed: list[Entry] = []
        for store in self._all:
            removed += store.evict_all([one for one in entries if _has(store, one)])
        return removed

    def pin(self, key: Key, *, pinned: bool) -> bool:
        """Exempt a recording from eviction, or no longer; return whether it exists."""
        return bool(self.pin_all([key], pinned=pinned))

    def pin_all(self, keys: Iterable[Key], *, pinned: bool) -> list[Key]:
        """Exempt recordings from eviction, or no longer; return the keys of those that exist."""
        found = []
        for key in keys:
            if store := next((store for store in self._all if store.entry(key) is not None), None):
                store.pin(key, pinned=pinned)
                found.append(key)
        return found

    def keys(self) -> Iterator[Key]:
        """Iterate over the keys, each once."""
        for number, store in enumerate(self._all):
            yield from (key for key in store.keys() if self._is_served_by(number, key))  # noqa: SIM118 - no mapping

    def keys_beginning(self, text: str) -> list[Key]:
        """Return the keys that begin with a text, in order."""
        return sorted({key for store in self._all for key in store.keys_beginning(text)})

    def entry(self, key: Key) -> Entry | None:
        """Return the metadata of a recording, or None."""
        return next((found for store in self._all if (found := store.entry(key)) is not None), None)

    def entries(self) -> Iterator[Entry]:
        """Iterate over the metadata of all recordings, in any order."""
        return (entry for entries in self._each(lambda store: store.entries()) for entry in entries)

    def entries_by_use(self, filters: Filters | None = None) -> Iterator[Entry]:
        """Iterate over the metadata of the recordings that meet filters, the one used last first."""
        return heapq.merge(
            *self._each(lambda store: store.entries_by_use(filters)), key=lambda entry: entry.used_at, reverse=True
        )

    def entries_of(self, instrument: str, product: str) -> Iterator[Entry]:
        """Iterate over the metadata of the public recordings of a product, the one stored last first."""
        entries = self._each(lambda store: store.entries_of(instrument, product))
        return heapq.merge(*entries, key=lambda entry: entry.stored_at, reverse=True)

    def search(self, search: Search, *, offset: int, limit: int) -> Found:
        """Return a page of the recordings that a search finds; one that a former address has, too, may count twice."""
        found = [store.search(search, offset=0, limit=offset + limit) for store in self._all]
        entries = (self._served_by(number, iter(one.entries)) for number, one in enumerate(found))
        page = scan(chain.from_iterable(entries), search, offset=offset, limit=limit)
        return Found(page.entries, sum(one.total for one in found))

    def groups_to_evict(self) -> Iterator[list[Entry]]:
        """Iterate over the recordings in the order of eviction, those that share a head in a store together."""
        groups = (store.groups_to_evict() for store in self._evictable())
        return heapq.merge(*groups, key=eviction.order)

    def totals(self) -> list[ProductTotals]:
        """Return the totals of each product; a recording that could not be removed from a store counts twice."""
        sums: dict[tuple[str | None, str | None, bool], ProductTotals] = {}
        for one in (one for store in self._all for one in store.totals()):
            product = (one.instrument, one.product, one.private)
            if same := sums.get(product):
                one = replace(  # noqa: PLW2901 - the sum takes its place
                    same,
                    recordings=same.recordings + one.recordings,
                    size=same.size + one.size,
                    cost=same.cost + one.cost,
                    pinned=same.pinned + one.pinned,
                )
            sums[product] = one
        return list(sums.values())

    def usage(self) -> Usage:
        """Return the usage of all stores together; bytes that eviction cannot free are not counted."""
        recordings = sum(store.usage().recordings for store in self._all)
        return Usage(recordings, sum(store.usage().occupied for store in self._evictable()))

    def other_recordings(self) -> OtherRecordings:
        """Return how much of the usage belongs to other releases."""
        others = [store.other_recordings() for store in self._all]
        return OtherRecordings(
            sum(one.recordings for one in others),
            sum(one.occupied for one in others),
            tuple(sorted({name for one in others for name in one.formats})),
        )

    def remove_other_recordings(self) -> int:
        """Remove the recordings of other releases, and return their number."""
        return sum(store.remove_other_recordings() for store in self._all)

    def free_space(self) -> FreeSpace | None:
        """Return the free space of the disk of the first store."""
        return self._first.free_space()

    def claims_maintenance(self) -> bool:
        """Return whether this process maintains all of them for now."""
        return all(store.claims_maintenance() for store in self._all)

    def is_read_only(self) -> bool:
        """Return whether nothing can be stored."""
        return self._first.is_read_only()

    def save_use_times(self) -> None:
        """Write the times of use since the last call."""
        for store in self._all:
            store.save_use_times()

    def remove_orphans(self) -> int:
        """Remove files that crashed writers left, and return their number."""
        return sum(store.remove_orphans() for store in self._all)

    def verify(self, *, fix: bool, checked: Callable[[], None] = lambda: None) -> Iterator[Fault]:
        """Check all stores, one after the other, and report faults; with `fix`, remove what is damaged."""
        for store in self._all:
            yield from store.verify(fix=fix, checked=checked)

    def _evictable(self) -> Iterator[ManagedStore]:
        """Iterate over the first store, and those of the others that can be changed."""
        return (store for store in self._all if store is self._first or not store.is_read_only())

    def _each(self, entries_of: Callable[[ManagedStore], Iterator[Entry]]) -> Iterator[Iterator[Entry]]:
        """Iterate over the entries of each store, without those that an earlier store has."""
        for number, store in enumerate(self._all):
            yield self._served_by(number, entries_of(store))

    def _served_by(self, number: int, entries: Iterator[Entry]) -> Iterator[Entry]:
        return (entry for entry in entries if self._is_served_by(number, entry.key))

    def _is_served_by(self, number: int, key: Key) -> bool:
        """Return whether no store before that with this number has a recording."""
        return not any(store.entry(key) is not None for store in self._all[:number])


def _has(store: ManagedStore, entry: Entry) -> bool:
    """Return whether a store has the recording of an entry, and not an earlier or later one with its key."""
    if entry.valid_until is not None:
        return any(one.valid_from == entry.valid_from for one in store.versions(entry.key) if one.valid_until)
    found = store.entry(entry.key)
    return found is not None and found.stored_at == entry.stored_at
