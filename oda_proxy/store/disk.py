"""A store in a folder, which several processes may use at once.

    index/            diskcache (SQLite): key -> JSON of everything but the head; counters
    heads/ab/abcd...  the head, written under a temporary name, flushed, renamed

A head is renamed in the transaction that adds a reference to it in the index, and removed in one that finds none: the
lock of the database serialises this across processes, and a crash may leave an orphaned file, but never a reference to
a missing one. A hit writes nothing: times of use are collected in memory and written periodically.

Where the folder cannot be written to, what it holds is read all the same. The folder may be removed, or its index
replaced by another process: what is missing is created again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store import (
    counters,
    disk_verification,
    eviction,
    filter_conditions,
    index_keys,
    rows,
    scans,
    search_index,
    secondary_index,
)
from oda_proxy.store.base import FreeSpace, OtherRecordings
from oda_proxy.store.counters import DAMAGE
from oda_proxy.store.disk_history import DiskHistory
from oda_proxy.store.disk_removal import DiskRemoval
from oda_proxy.store.disk_writing import DiskWriting
from oda_proxy.store.heads import CompressedHeadWriter
from oda_proxy.store.history_limits import HistoryLimits
from oda_proxy.store.index_keys import pin_key, used_key
from oda_proxy.store.medium_errors import reason
from oda_proxy.store.read_only_index import ReadOnlyIndex, free_space
from oda_proxy.store.search import Found, scan
from oda_proxy.store.store_folder import StoreFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry, Fault, HistoryUsage, ProductTotals, Usage
    from oda_proxy.store.index import Index
    from oda_proxy.store.search import Search
    from oda_proxy.store.selection import Filters

_log = logging.getLogger(__name__)


class DiskStore:
    """A store in a folder.

    Raises StoreUnusableError where the folder cannot be created, or has the layout of another release. Every call fails
    while the index cannot be read; those that write fail while it is read-only. A damaged index is replaced.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
        track_use: bool = True,
        history: HistoryLimits = HistoryLimits(),  # noqa: B008 - frozen
    ) -> None:
        """Take the folder; `clock` returns s since 1970 (UTC). Without `track_use`, a hit is not recorded."""
        self._folder = StoreFolder(folder)
        self._removal = DiskRemoval(self._folder)
        self._history = DiskHistory(self._folder, self._removal, history)
        self._writing = DiskWriting(self._folder, self._history)
        self._clock = clock
        self._track_use = track_use
        self._uses: dict[Key, float] = {}
        self._others: OtherRecordings | None = None

    @property
    def damaged(self) -> int:
        """How many recordings were found damaged since the start."""
        return self._folder.damaged

    def close(self) -> None:
        """Write the times of use and close the index; a thread that reads rows for secondary indexes stops."""
        self._folder.closing.set()
        try:
            self.save_use_times()
        except StoreUnusableError as error:
            _log.warning("%s", error)
        self._folder.close()

    def get(self, key: Key) -> Recording | None:
        """Return the recording for a key, or None; a damaged one is removed, and counts as absent."""
        recording = self.peek(key)
        if recording is not None:
            self.note_use(key)
        return recording

    def peek(self, key: Key) -> Recording | None:
        """Return the recording for a key as `get` does, without noting a use."""
        with self._folder.open_index() as index:
            while True:
                row_key: str = key
                text: str | None = None
                try:
                    row_key, text = index_keys.find_row(index, key)
                    if text is None:
                        return None
                    row = rows.loads(key, text)
                    recording = row.recording(self._folder.heads.open(row.head))
                except DAMAGE as error:
                    if isinstance(index, ReadOnlyIndex):
                        self._folder.damaged += 1
                        _log.warning("recording %s is damaged (%s)", key, reason(error))
                        return None
                    if self._folder.remove_damaged(index, row_key, text):
                        self._folder.damaged += 1
                        _log.warning("recording %s was damaged and is removed (%s)", key, reason(error))
                        return None
                    continue  # another writer replaced or removed it meanwhile
                return recording

    def version(self) -> Hashable | None:
        """Return a value that is another one after any change to the index, or to the folder of heads."""
        return self._folder.version()

    def may_have_changed(self, key: Key, since: Hashable) -> bool:  # noqa: ARG002 - of the protocol
        """Return True: it is not known which recordings have changed."""
        return True

    def fingerprint(self, key: Key) -> str | None:
        """Return a digest of the row of a recording, and the state of its head; None where either is missing."""
        with self._folder.open_index() as index:
            try:
                _, text = index_keys.find_row(index, key)
                if text is None:
                    return None
                stat = self._folder.heads.path(rows.loads(key, text).head.name).stat()
            except DAMAGE:
                return None
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{digest} {stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"

    def note_use(self, key: Key) -> None:
        """Note that a recording was requested that was not read from here; does not block."""
        if self._track_use:
            self._uses[key] = self._clock()

    def new_head(self, size: int) -> CompressedHeadWriter:
        """Return what compresses a head while it is made; its file is written by `put`."""
        return CompressedHeadWriter(size)

    def put(self, recording: Recording, *, same_as: Entry | None = None) -> None:
        """Store a recording, replacing any with its key; once this returns, it survives a crash.

        A recording of another release under this key stays, too. The replaced one becomes an earlier version, unless it
        is `same_as`.
        """
        self._writing.put(recording, same_as)

    def restore(self, recording: Recording, entry: Entry) -> None:
        """Store a recording of another store with the times of its metadata there, as `ManagedStore.restore`."""
        self._writing.restore(recording, entry)

    def archive(self, key: Key, valid_until: float) -> bool:
        """Make the recording of a key an earlier version, which was the answer until then; return whether it exists."""
        self._history.archive(key, valid_until)
        return self._removal.remove(key)

    def versions(self, key: Key) -> list[Entry]:
        """Return the metadata of the earlier versions of a recording, and last its own, in order of time."""
        current = self.entry(key)
        while True:
            earlier = self._history.versions(key)
            was, current = current, self.entry(key)
            if (was and was.valid_from) == (current and current.valid_from):  # else it was replaced meanwhile
                return earlier if current is None else [*earlier, current]

    def version_keys_beginning(self, text: str) -> list[Key]:
        """Return the keys with earlier versions that begin with a text, in order."""
        return self._history.keys_beginning(text)

    def get_version(self, entry: Entry) -> Recording | None:
        """Return the recording with the metadata that `versions` has returned; None if it was removed since."""
        return self._history.get(entry)

    def remove_versions(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove earlier versions, and return those that existed."""
        return self._removal.remove_versions(entries)

    def expire_versions(self, now: float) -> int:
        """Remove the earlier versions beyond the limits of the history, without pinned ones; return their number."""
        return self._history.expire(now)

    def history_usage(self) -> HistoryUsage:
        """Return the usage of earlier versions."""
        return self._history.usage()

    def remove(self, key: Key) -> bool:
        """Remove a recording; return whether it existed. One of another release stays."""
        return self._removal.remove(key)

    def remove_each(self, keys: Iterable[Key]) -> Iterator[Key]:
        """Remove recordings while their keys are iterated over, many in one transaction; as `remove`.

        The keys of those that did not exist are left out.
        """
        return self._removal.remove_each(keys)

    def pin_all(self, keys: Iterable[Key], *, pinned: bool) -> list[Key]:
        """Exempt recordings from eviction, or no longer, in one transaction; return the keys of those that exist."""
        with self._folder.open_index() as index, index.writing():
            return [key for key in keys if self.pin(key, pinned=pinned)]

    def evict(self, entry: Entry) -> bool:
        """Remove a recording to free space, unless it was replaced or pinned since; return whether it was removed."""
        return self._removal.evict(entry)

    def evict_all(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove recordings to free space, as `evict`, in one transaction; return those that were removed."""
        return self._removal.evict_all(entries)

    def pin(self, key: Key, *, pinned: bool) -> bool:
        """Exempt a recording from eviction, or no longer; return whether it exists."""
        with self._folder.open_index() as index, index.writing() as writable:
            if index_keys.find_row_unchecked(writable, key)[1] is None:
                return False
            if pinned:
                writable.set(pin_key(key), "")
            else:
                writable.delete(pin_key(key))
            return True

    def keys(self) -> Iterator[Key]:
        """Iterate over the keys, those of other releases included; the first is found at once."""
        with self._folder.open_index() as index:
            yield from index_keys.recording_keys(index)

    def keys_beginning(self, text: str) -> list[Key]:
        """Return the keys that begin with a text, those of other releases included, in order."""
        with self._folder.open_index() as index:
            return index_keys.keys_beginning(index, text)

    def entry(self, key: Key) -> Entry | None:
        """Return the metadata of a recording, or None if there is none, or its row cannot be read."""
        with self._folder.open_index() as index:
            row = counters.row(index, index_keys.find_row_unchecked(index, key)[0])
            if row is None:
                return None
            match = index_keys.TIME.fullmatch(counters.text(index, used_key(key)) or "")
            used_at = max(row.stored_at, float(match[0]) if match else 0.0, self._uses.get(key, 0.0))
            return row.entry(used_at=used_at, pinned=pin_key(key) in index)

    def entries(self) -> Iterator[Entry]:
        """Iterate over the metadata of all recordings; rows that cannot be read are left out."""
        return (entry for key in self.keys() if (entry := self.entry(key)) is not None)

    def entries_by_use(self, filters: Filters | None = None) -> Iterator[Entry]:
        """Iterate over the metadata of the recordings that meet filters, the one used last first.

        Their order is that of when times of use were written. The first are found at once, unless the medium is
        read-only and the last to write to it was an older release.
        """
        with self._folder.open_index() as index:
            if not self._folder.is_indexed(index):
                yield from scans.by_use(self.entries(), filters)
            elif not filters:
                yield from self._read_entries(index, secondary_index.by_use(index))
            else:
                ids = secondary_index.by_use(index, *filter_conditions.conditions(index, filters))
                yield from filter(filters.matches, self._read_entries(index, ids))

    def entries_of(self, instrument: str, product: str) -> Iterator[Entry]:
        """Iterate over the metadata of the public recordings of a product, the one stored last first."""
        with self._folder.open_index() as index:
            if not self._folder.is_indexed(index):
                yield from scans.of_product(self.entries(), instrument, product)
                return
            yield from self._read_entries(index, secondary_index.of_product(index, instrument, product))

    def search(self, search: Search, *, offset: int, limit: int) -> Found:
        """Return a page of the recordings that a search finds, as of when times of use were written."""
        with self._folder.open_index() as index:
            if not self._folder.is_indexed(index):
                return scan(self.entries(), search, offset=offset, limit=limit)

            def read(number: int) -> Entry | None:
                return next(self._read_entries(index, [number]), None)

            ids, total = search_index.find(index, search, offset=offset, limit=limit, read=read)
            return Found(tuple(self._read_entries(index, ids)), total)

    def groups_to_evict(self) -> Iterator[list[Entry]]:
        """Iterate over the recordings in the order of eviction, those that share a head together, without pinned ones.

        No more rows are read than the caller needs.
        """
        with self._folder.open_index() as index:
            if not self._folder.is_indexed(index):
                yield from eviction.groups_to_evict(self.entries())
                return
            for ids in secondary_index.groups_to_evict(index, self._uses.copy()):
                if group := list(self._read_entries(index, ids)):
                    yield group

    def totals(self) -> list[ProductTotals]:
        """Return the totals of each product, without those of other releases."""
        with self._folder.open_index() as index:
            return secondary_index.totals(index) if self._folder.is_indexed(index) else scans.totals(self.entries())

    def usage(self) -> Usage:
        """Return the usage; recordings of other releases are included, and of earlier versions the bytes."""
        with self._folder.open_index() as index:
            usage = counters.usage(index)
            return replace(usage, recordings=max(usage.recordings - index_keys.count_versions(index), 0))

    def other_recordings(self) -> OtherRecordings:
        """Return how much of the usage belongs to other releases; where the store is read-only, as of the last hour."""
        with self._folder.open_index() as index:
            if self._folder.is_indexed(index):
                return secondary_index.other_recordings(index)
            if self._others is None:
                others = [other for _, other in index_keys.other_rows(index)]
                heads = dict(other.head for other in others if other.head)
                formats = {str(other.format) for other in others}
                self._others = OtherRecordings(len(others), sum(heads.values()), tuple(sorted(formats)))
            return self._others

    def remove_other_recordings(self) -> int:
        """Remove the recordings of other releases, and return their number."""
        removed = 0
        with self._folder.open_index() as index, index.writing() as writable:
            for row_key, _ in index_keys.other_rows(writable):
                writable.delete(row_key)
                removed += 1
            counters.restore(writable)
        self._others = None
        return removed

    def free_space(self) -> FreeSpace:
        """Return the free bytes, and the size, of the disk."""
        with self._folder.translated_errors():
            return FreeSpace(*free_space(self._folder.path))

    def is_read_only(self) -> bool:
        """Return whether recordings can be read, and not changed."""
        with self._folder.open_index() as index:
            return isinstance(index, ReadOnlyIndex)

    def claims_maintenance(self) -> bool:
        """Return True: processes that share a folder may all maintain it."""
        return True

    def save_use_times(self) -> None:
        """Write the times of use since the last call; a read-only store has them in memory only."""
        uses = self._uses.copy()
        if not uses and not self._removal.is_pending:
            return
        with self._folder.open_index() as index:
            if isinstance(index, ReadOnlyIndex):
                return
            with index.writing() as writable:
                for key, used_at in uses.items():
                    if index_keys.find_row_unchecked(writable, key)[1] is not None:
                        writable.set(used_key(key), repr(used_at))
        for key, used_at in uses.items():
            if self._uses.get(key) == used_at:
                self._uses.pop(key, None)
        self._removal.remove_headless()

    def remove_orphans(self) -> int:
        """Remove files that crashed writers left, and return their number; those that cannot be removed are logged."""
        self._others = None
        found = list(disk_verification.orphans(self._folder, now=self._clock(), remove=True))
        failed = [f"{name} ({error.strerror or error})" for name, error in found if error]
        if failed:
            _log.warning("cannot remove %d orphaned files of %s, such as %s", len(failed), self._folder.path, failed[0])
        return len(found) - len(failed)

    def verify(self, *, fix: bool, checked: Callable[[], None] = lambda: None) -> Iterator[Fault]:
        """Check everything and report faults; with `fix`, remove what is damaged. Each recording calls `checked`."""
        return disk_verification.verify(self._folder, now=self._clock(), fix=fix, checked=checked)

    def _read_entries(self, index: Index | ReadOnlyIndex, ids: Iterable[int]) -> Iterator[Entry]:
        for row, used_at, pinned in secondary_index.read(index, ids):
            if row.valid_until is None:
                yield row.entry(used_at=max(used_at, self._uses.get(row.key, 0.0)), pinned=pinned)
            else:
                yield row.entry(used_at=row.stored_at, pinned=pinned)
