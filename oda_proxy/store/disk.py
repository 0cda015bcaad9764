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

import errno
import hashlib
import logging
import math
import os
import sqlite3
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import diskcache
import zstandard

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store import (
    counters,
    disk_versions,
    eviction,
    filter_conditions,
    index_keys,
    layout,
    rows,
    scans,
    search_index,
    secondary_index,
)
from oda_proxy.store.base import Fault, FreeSpace, HistoryUsage, OtherRecordings
from oda_proxy.store.counters import DAMAGE
from oda_proxy.store.heads import CompressedHeadWriter, Heads
from oda_proxy.store.history_limits import STEP, HistoryLimits
from oda_proxy.store.index import INDEX, Index, check, is_damage, open_index
from oda_proxy.store.index_keys import pin_key, references_key, used_key
from oda_proxy.store.read_only_index import ReadOnlyIndex, free_space, is_full, is_unwritable, without_frames
from oda_proxy.store.search import Found, scan

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry, ProductTotals, Usage
    from oda_proxy.store.search import Search
    from oda_proxy.store.selection import Filters

_log = logging.getLogger(__name__)

_BATCH = 100
"""Recordings that are removed in one transaction: other processes wait for it."""

PENDING_AGE = 3600.0
"""Age, in s, from which a head under a temporary name is that of a crashed writer."""

_REOPEN_AFTER = 10.0
"""Seconds after which an index that could not be opened for writing is tried again."""


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
        self._folder = folder
        self._history = history
        self._clock = clock
        self._heads = Heads(folder / layout.HEADS)
        self._heads_folder = str(folder / layout.HEADS)
        self._lock = threading.Lock()
        self._cache: Index | ReadOnlyIndex | None = None
        self._is_suspect = False
        self._open_failure: tuple[float, Exception] | None = None
        self._uses: dict[Key, float] = {}
        self._headless: set[Key] = set()
        self._headless_versions: set[Entry] = set()
        self._track_use = track_use
        self._others: OtherRecordings | None = None
        self._closing = threading.Event()
        self.damaged = 0
        """How many recordings were found damaged since the start."""
        with self._translated_errors():
            layout.prepare(folder)

    def close(self) -> None:
        """Write the times of use and close the index; a thread that reads rows for secondary indexes stops."""
        self._closing.set()
        try:
            self.save_use_times()
        except StoreUnusableError as error:
            _log.warning("%s", error)
        if self._cache is not None:
            self._cache.close_all()

    def get(self, key: Key) -> Recording | None:
        """Return the recording for a key, or None; a damaged one is removed, and counts as absent."""
        recording = self.peek(key)
        if recording is not None:
            self.note_use(key)
        return recording

    def peek(self, key: Key) -> Recording | None:
        """Return the recording for a key as `get` does, without noting a use."""
        with self._open_index() as index:
            while True:
                row_key: str = key
                text: str | None = None
                try:
                    row_key, text = index_keys.find_row(index, key)
                    if text is None:
                        return None
                    row = rows.loads(key, text)
                    recording = row.recording(self._heads.open(row.head))
                except DAMAGE as error:
                    if isinstance(index, ReadOnlyIndex):
                        self.damaged += 1
                        _log.warning("recording %s is damaged (%s)", key, _reason(error))
                        return None
                    if self._remove_damaged(index, row_key, text):
                        self.damaged += 1
                        _log.warning("recording %s was damaged and is removed (%s)", key, _reason(error))
                        return None
                    continue  # another writer replaced or removed it meanwhile
                return recording

    def version(self) -> Hashable | None:
        """Return a value that is another one after any change to the index, or to the folder of heads."""
        index = self._cache
        if index is None or (version := index.version()) is None:
            return None
        try:
            stat = os.stat(self._heads_folder)  # noqa: PTH116 - each hit does so, and a Path takes longer than the call
        except OSError:
            return None
        return version, stat.st_dev, stat.st_ino, stat.st_mtime_ns

    def fingerprint(self, key: Key) -> str | None:
        """Return a digest of the row of a recording, and the state of its head; None where either is missing."""
        with self._open_index() as index:
            try:
                _, text = index_keys.find_row(index, key)
                if text is None:
                    return None
                stat = self._heads.path(rows.loads(key, text).head.name).stat()
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
        with self._open_index() as index:
            try:
                self._put(index, recording, same_as)
            except FileNotFoundError:  # the folder was removed meanwhile
                layout.prepare(self._folder)
                self._put(self._index(), recording, same_as)

    def _put(self, index: Index | ReadOnlyIndex, recording: Recording, same_as: Entry | None) -> None:
        if isinstance(index, ReadOnlyIndex):
            index.writing()
        pending = self._heads.write(recording.head)
        try:
            with index.writing() as writable:
                pending.commit()
                row_key, _ = _find_row(writable, recording.key)
                first_stored_at = disk_versions.archive(writable, row_key, recording, same_as)
                discarded = [counters.delete_row(writable, row_key)]
                writable.set(row_key, rows.dumps(recording, pending.head_file, first_stored_at))
                counters.count_references(writable, pending.head_file, 1)
                secondary_index.add(writable, row_key)
                if first_stored_at is None and self._history.max_versions != math.inf:
                    surplus = self._history.exceeding(disk_versions.versions(writable, recording.key), -math.inf)
                    discarded += [_delete_version(writable, one)[1] for one in surplus if not one.pinned]
        except (OSError, sqlite3.Error):
            with suppress(OSError, sqlite3.Error):  # the head may have its name already, and be an orphan
                self._unlink_orphan(index, pending.head_file.name)
            raise
        finally:
            pending.discard()
        for head_name in discarded:
            self._discard_head(index, head_name)

    def archive(self, key: Key, valid_until: float) -> bool:
        """Make the recording of a key an earlier version, which was the answer until then; return whether it exists."""
        with self._open_index() as index:
            with index.writing() as writable:
                row_key, _ = _find_row(writable, key)
                replaced = counters.row(writable, row_key)
                if replaced is not None:
                    disk_versions.add(writable, row_key, replaced, max(valid_until, replaced.valid_from + STEP))
            return self._remove(index, key, lambda _: True)

    def versions(self, key: Key) -> list[Entry]:
        """Return the metadata of the earlier versions of a recording, and last its own, in order of time."""
        current = self.entry(key)
        while True:
            with self._open_index() as index:
                earlier = disk_versions.versions(index, key)
            was, current = current, self.entry(key)
            if (was and was.valid_from) == (current and current.valid_from):  # else it was replaced meanwhile
                return earlier if current is None else [*earlier, current]

    def version_keys_beginning(self, text: str) -> list[Key]:
        """Return the keys with earlier versions that begin with a text, in order."""
        with self._open_index() as index:
            return list(dict.fromkeys(key for _, key, _ in index_keys.version_rows(index, text)))

    def get_version(self, entry: Entry) -> Recording | None:
        """Return the recording with the metadata that `versions` has returned; None if it was removed since."""
        with self._open_index() as index:
            row_key, _ = _find_row(index, entry.key)
            row = counters.row(index, row_key)
            if row is None or entry.valid_until is not None or row.valid_from != entry.valid_from:
                row_key, row = disk_versions.find_row(index, entry)  # it may have been replaced meanwhile
            if row is None:
                return None
            try:
                return row.recording(self._heads.open(row.head))
            except DAMAGE as error:
                self.damaged += 1
                _log.warning("an earlier version of recording %s is damaged (%s)", entry.key, _reason(error))
                if not isinstance(index, ReadOnlyIndex):
                    self._remove_damaged(index, row_key, counters.text(index, row_key))
                return None

    def remove_versions(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove earlier versions, and return those that existed."""
        with self._open_index() as index:
            return self._remove_versions(index, entries)

    def expire_versions(self, now: float) -> int:
        """Remove the earlier versions beyond the limits of the history, without pinned ones; return their number."""
        removed = 0
        if math.isinf(self._history.max_age):
            return removed
        with self._open_index() as index:
            if isinstance(index, ReadOnlyIndex) or not self._is_indexed(index):
                return removed
            expired = secondary_index.versions_replaced_before(index, now - self._history.max_age)
            for at in range(0, len(expired), _BATCH):
                batch = list(self._read_entries(index, expired[at : at + _BATCH]))
                removed += len(self._remove_versions(index, batch, is_evicted=True))
        return removed

    def history_usage(self) -> HistoryUsage:
        """Return the usage of earlier versions."""
        with self._open_index() as index:
            if self._is_indexed(index):
                return secondary_index.history_usage(index)
            heads = [row.head for _, row in disk_versions.rows_of(index) if row is not None]
            return HistoryUsage(len(heads), sum({head.name: head.stored_size for head in heads}.values()))

    def _remove_versions(
        self, index: Index | ReadOnlyIndex, entries: Iterable[Entry], *, is_evicted: bool = False
    ) -> list[Entry]:
        """Remove earlier versions in one transaction, to free space only those that are not pinned."""
        removed: dict[Entry, str | None] = {}
        with index.writing() as writable:
            for entry in entries:
                if is_evicted and pin_key(entry.key) in writable:
                    continue
                is_removed, head_name = _delete_version(writable, entry)
                if is_removed:
                    removed[entry] = head_name
        with index.writing():  # one transaction for the checks of all heads
            for head_name in removed.values():
                self._discard_head(index, head_name)
        return list(removed)

    def remove(self, key: Key) -> bool:
        """Remove a recording; return whether it existed. One of another release stays."""
        with self._open_index() as index:
            return self._remove(index, key, lambda _: True)

    def remove_each(self, keys: Iterable[Key]) -> Iterator[Key]:
        """Remove recordings while their keys are iterated over, many in one transaction; as `remove`.

        The keys of those that did not exist are left out.
        """
        pending = iter(keys)
        while batch := list(islice(pending, _BATCH)):
            with self._open_index() as index:
                removed = self._remove_batch(index, ((key, lambda _: True) for key in batch))
            yield from removed

    def pin_all(self, keys: Iterable[Key], *, pinned: bool) -> list[Key]:
        """Exempt recordings from eviction, or no longer, in one transaction; return the keys of those that exist."""
        with self._open_index() as index, index.writing():
            return [key for key in keys if self.pin(key, pinned=pinned)]

    def evict(self, entry: Entry) -> bool:
        """Remove a recording to free space, unless it was replaced or pinned since; return whether it was removed.

        On a full disk, where the index cannot be changed, its head is removed first.
        """
        is_version = entry.valid_until is not None
        with self._open_index() as index:
            try:
                if is_version:
                    return bool(self._remove_versions(index, [entry], is_evicted=True))
                return self._remove(index, entry.key, _is_evictable(index, entry))
            except (OSError, sqlite3.Error) as error:
                if not is_full(error, self._folder):
                    raise
                if is_version and pin_key(entry.key) in index:
                    raise
                if not is_version and not _is_evictable(index, entry)(_find_row(index, entry.key)[0]):
                    raise
            self._heads.remove(entry.head_name)
            with suppress(OSError):  # for processes that hold it in memory: the index is unchanged
                os.utime(self._heads.folder, ns=(time.time_ns(),) * 2)
            if is_version:
                self._headless_versions.add(entry)
            else:
                self._headless.add(entry.key)
            if isinstance(index, ReadOnlyIndex):
                index.reopen_at = 0.0  # there may be room now
        with suppress(StoreUnusableError):  # the row is deleted later
            self._remove_headless()
        return True

    def evict_all(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove recordings to free space, as `evict`, in one transaction; return those that were removed."""
        versions = [entry for entry in entries if entry.valid_until is not None]
        others = [entry for entry in entries if entry.valid_until is None]
        with self._open_index() as index:
            try:
                removed = set(self._remove_batch(index, ((one.key, _is_evictable(index, one)) for one in others)))
                removed_versions = self._remove_versions(index, versions, is_evicted=True) if versions else []
            except (OSError, sqlite3.Error) as error:
                if not is_full(error, self._folder):
                    raise
            else:
                return [*(entry for entry in others if entry.key in removed), *removed_versions]
        return [entry for entry in entries if self.evict(entry)]

    def pin(self, key: Key, *, pinned: bool) -> bool:
        """Exempt a recording from eviction, or no longer; return whether it exists."""
        with self._open_index() as index, index.writing() as writable:
            if _find_row(writable, key)[1] is None:
                return False
            if pinned:
                writable.set(pin_key(key), "")
            else:
                writable.delete(pin_key(key))
            return True

    def keys(self) -> Iterator[Key]:
        """Iterate over the keys, those of other releases included; the first is found at once."""
        with self._open_index() as index:
            yield from index_keys.recording_keys(index)

    def keys_beginning(self, text: str) -> list[Key]:
        """Return the keys that begin with a text, those of other releases included, in order."""
        with self._open_index() as index:
            return index_keys.keys_beginning(index, text)

    def entry(self, key: Key) -> Entry | None:
        """Return the metadata of a recording, or None if there is none, or its row cannot be read."""
        with self._open_index() as index:
            row = counters.row(index, _find_row(index, key)[0])
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
        with self._open_index() as index:
            if not self._is_indexed(index):
                yield from scans.by_use(self.entries(), filters)
            elif not filters:
                yield from self._read_entries(index, secondary_index.by_use(index))
            else:
                ids = secondary_index.by_use(index, *filter_conditions.conditions(index, filters))
                yield from filter(filters.matches, self._read_entries(index, ids))

    def entries_of(self, instrument: str, product: str) -> Iterator[Entry]:
        """Iterate over the metadata of the public recordings of a product, the one stored last first."""
        with self._open_index() as index:
            if not self._is_indexed(index):
                yield from scans.of_product(self.entries(), instrument, product)
                return
            yield from self._read_entries(index, secondary_index.of_product(index, instrument, product))

    def search(self, search: Search, *, offset: int, limit: int) -> Found:
        """Return a page of the recordings that a search finds, as of when times of use were written."""
        with self._open_index() as index:
            if not self._is_indexed(index):
                return scan(self.entries(), search, offset=offset, limit=limit)

            def read(number: int) -> Entry | None:
                return next(self._read_entries(index, [number]), None)

            ids, total = search_index.find(index, search, offset=offset, limit=limit, read=read)
            return Found(tuple(self._read_entries(index, ids)), total)

    def groups_to_evict(self) -> Iterator[list[Entry]]:
        """Iterate over the recordings in the order of eviction, those that share a head together, without pinned ones.

        No more rows are read than the caller needs.
        """
        with self._open_index() as index:
            if not self._is_indexed(index):
                yield from eviction.groups_to_evict(self.entries())
                return
            for ids in secondary_index.groups_to_evict(index, self._uses.copy()):
                if group := list(self._read_entries(index, ids)):
                    yield group

    def totals(self) -> list[ProductTotals]:
        """Return the totals of each product, without those of other releases."""
        with self._open_index() as index:
            return secondary_index.totals(index) if self._is_indexed(index) else scans.totals(self.entries())

    def usage(self) -> Usage:
        """Return the usage; recordings of other releases are included, and of earlier versions the bytes."""
        with self._open_index() as index:
            usage = counters.usage(index)
            return replace(usage, recordings=max(usage.recordings - index_keys.count_versions(index), 0))

    def other_recordings(self) -> OtherRecordings:
        """Return how much of the usage belongs to other releases; where the store is read-only, as of the last hour."""
        with self._open_index() as index:
            if self._is_indexed(index):
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
        with self._open_index() as index, index.writing() as writable:
            for row_key, _ in index_keys.other_rows(writable):
                writable.delete(row_key)
                removed += 1
            counters.restore(writable)
        self._others = None
        return removed

    def free_space(self) -> FreeSpace:
        """Return the free bytes, and the size, of the disk."""
        with self._translated_errors():
            return FreeSpace(*free_space(self._folder))

    def is_read_only(self) -> bool:
        """Return whether recordings can be read, and not changed."""
        with self._open_index() as index:
            return isinstance(index, ReadOnlyIndex)

    def claims_maintenance(self) -> bool:
        """Return True: processes that share a folder may all maintain it."""
        return True

    def save_use_times(self) -> None:
        """Write the times of use since the last call; a read-only store has them in memory only."""
        uses = self._uses.copy()
        if not uses and not self._headless and not self._headless_versions:
            return
        with self._open_index() as index:
            if isinstance(index, ReadOnlyIndex):
                return
            with index.writing() as writable:
                for key, used_at in uses.items():
                    if _find_row(writable, key)[1] is not None:
                        writable.set(used_key(key), repr(used_at))
        for key, used_at in uses.items():
            if self._uses.get(key) == used_at:
                self._uses.pop(key, None)
        self._remove_headless()

    def remove_orphans(self) -> int:
        """Remove files that crashed writers left, and return their number; those that cannot be removed are logged."""
        self._others = None
        found = list(self._orphans(remove=True))
        failed = [f"{name} ({error.strerror or error})" for name, error in found if error]
        if failed:
            _log.warning("cannot remove %d orphaned files of %s, such as %s", len(failed), self._folder, failed[0])
        return len(found) - len(failed)

    def verify(self, *, fix: bool, checked: Callable[[], None] = lambda: None) -> Iterator[Fault]:
        """Check everything and report faults; with `fix`, remove what is damaged. Each recording calls `checked`.

        Removed are damaged recordings and orphaned files; a damaged index is replaced. What cannot be read is reported
        and stays, and recordings of other releases are left alone.
        """
        with self._translated_errors():
            fault = check(self._folder) if (self._folder / INDEX).is_dir() else ""
        if fault:
            yield Fault("index", fault)
            if not fix:
                return
            self._cache, self._is_suspect = None, True
        for key in self.keys():
            yield from self._verify(key, fix=fix)
            checked()
        yield from self._verify_versions(fix=fix, checked=checked)
        for name, error in self._orphans(remove=fix):
            cause = f", and cannot be removed: {error.strerror or error}" if error else ""
            yield Fault(name, f"a crashed writer left it{cause}")
        with self._open_index() as index:
            with index.snapshot():
                miscounted = _differences(index)
            if fix and miscounted:
                with index.writing() as writable:
                    counters.restore(writable)
                    if not secondary_index.is_correct(writable):
                        secondary_index.rebuild(writable)
        yield from miscounted

    def _is_indexed(self, index: Index | ReadOnlyIndex) -> bool:
        """Bring the secondary indexes up to date, and return whether they can be used."""
        if isinstance(index, Index):
            try:
                secondary_index.update(index, self._closing.is_set)
            except (OSError, sqlite3.Error) as error:
                if not is_unwritable(error):
                    raise
        return self._closing.is_set() or secondary_index.is_complete(index)  # at the end, nobody waits for the result

    def _read_entries(self, index: Index | ReadOnlyIndex, ids: Iterable[int]) -> Iterator[Entry]:
        for row, used_at, pinned in secondary_index.read(index, ids):
            if row.valid_until is None:
                yield row.entry(used_at=max(used_at, self._uses.get(row.key, 0.0)), pinned=pinned)
            else:
                yield row.entry(used_at=row.stored_at, pinned=pinned)

    def _verify(self, key: Key, *, fix: bool) -> Iterator[Fault]:
        """Check one recording to its end."""
        with self._open_index() as index:
            row_key: str = key
            text: str | None = None
            try:
                row_key, text = index_keys.find_row(index, key)
                if text is None:
                    return  # it was removed meanwhile, or belongs to another release
                row = rows.loads(key, text)
                with closing(self._heads.open(row.head, is_thorough=True)) as head:
                    row.recording(head)
                    for _ in head.pieces():
                        pass
            except (*DAMAGE, zstandard.ZstdError, StoreUnusableError) as error:
                yield Fault(key, _reason(error))
                if fix:
                    self._remove_damaged(index, row_key, text)
            except OSError as error:
                yield Fault(key, f"its head cannot be read: {error.strerror or error}")

    def _verify_versions(self, *, fix: bool, checked: Callable[[], None]) -> Iterator[Fault]:
        """Check the earlier versions to their end."""
        with self._open_index() as index:
            for row_key, key, text in list(index_keys.version_rows(index)):
                fault = None
                try:
                    row = rows.loads_version(key, text)
                    with closing(self._heads.open(row.head, is_thorough=True)) as head:
                        row.recording(head)
                        for _ in head.pieces():
                            pass
                except (*DAMAGE, zstandard.ZstdError, StoreUnusableError) as error:
                    if counters.text(index, row_key) == text:  # it was not removed meanwhile
                        fault = Fault(key, f"an earlier version is damaged: {_reason(error)}")
                        if fix:
                            self._remove_damaged(index, row_key, text)
                except OSError as error:
                    fault = Fault(key, f"the head of an earlier version cannot be read: {error.strerror or error}")
                if fault:
                    yield fault
                checked()

    def _orphans(self, *, remove: bool) -> Iterator[tuple[str, OSError | None]]:
        """Iterate over the names of files that belong to no recording; with `remove`, remove them.

        With each is the error where it cannot be removed, or a folder cannot be read.
        """
        with self._open_index() as index:
            for file in self._heads.pending(before=self._clock() - PENDING_AGE):
                yield file.name, _unlink(file) if remove else None
            for name, error in self._heads.names():
                if error is not None:
                    yield name, error
                elif references_key(name) not in index:
                    try:
                        if not remove or self._unlink_orphan(index, name):
                            yield name, None
                    except OSError as failure:
                        yield name, failure

    def _remove(self, index: Index | ReadOnlyIndex, key: Key, condition: Callable[[str], bool]) -> bool:
        """Remove a recording and its metadata if a condition on its row holds, which is checked in the transaction."""
        with index.writing() as writable:
            is_removed, head_name = self._delete_rows(writable, key, condition)
        self._discard_head(index, head_name)
        return is_removed

    def _remove_batch(
        self, index: Index | ReadOnlyIndex, batch: Iterable[tuple[Key, Callable[[str], bool]]]
    ) -> list[Key]:
        """Remove recordings in one transaction, each if its condition holds; return the keys of those removed."""
        removed: dict[Key, str | None] = {}
        with index.writing() as writable:
            for key, condition in batch:
                is_removed, head_name = self._delete_rows(writable, key, condition)
                if is_removed:
                    removed[key] = head_name
        with index.writing():  # one transaction for the checks of all heads
            for head_name in removed.values():
                self._discard_head(index, head_name)
        return list(removed)

    def _delete_rows(self, index: Index, key: Key, condition: Callable[[str], bool]) -> tuple[bool, str | None]:
        """Delete the rows of a recording in a transaction; return whether, and its head if nothing refers to it now."""
        row_key, text = _find_row(index, key)
        if text is None or not condition(row_key):
            return False, None
        head_name = counters.delete_row(index, row_key)
        for metadata_key in (used_key(key), pin_key(key)):
            index.delete(metadata_key)
        return True, head_name

    def _remove_damaged(self, index: Index | ReadOnlyIndex, row_key: str, text: str | None) -> bool:
        """Remove a damaged recording if its row is still `text`, which is None where it cannot be read."""
        with index.writing() as writable:
            with suppress(ValueError):
                if writable.get(row_key) != text:
                    return False
            head_name = counters.delete_row(writable, row_key)
        self._discard_head(index, head_name)
        return True

    def _remove_headless(self) -> None:
        """Delete the rows of recordings whose heads were removed on a full disk."""
        for key in tuple(self._headless):
            with self._open_index() as index:

                def is_headless(row_key: str) -> bool:
                    row = counters.row(index, row_key)
                    return row is None or not self._heads.path(row.head.name).exists()

                self._remove(index, key, is_headless)
            self._headless.discard(key)
        for entry in tuple(self._headless_versions):
            if not self._heads.path(entry.head_name).exists():
                self.remove_versions([entry])
            self._headless_versions.discard(entry)

    def _discard_head(self, index: Index | ReadOnlyIndex, name: str | None) -> None:
        """Remove a head without references; one that cannot be removed is logged, and an orphan from now on."""
        try:
            if name is not None:
                self._unlink_orphan(index, name)
        except OSError as error:
            _log.warning("cannot remove %s: %s", self._heads.path(name or ""), error.strerror or error)

    def _unlink_orphan(self, index: Index | ReadOnlyIndex, name: str) -> bool:
        """Remove the file of a head unless a recording refers to it, perhaps one that is just being written."""
        with index.writing() as writable:
            if is_orphan := references_key(name) not in writable:
                self._heads.remove(name)
        return is_orphan

    @contextmanager
    def _open_index(self) -> Iterator[Index | ReadOnlyIndex]:
        """Return the index, and raise StoreUnusableError where the medium fails."""
        with self._translated_errors():
            yield self._index()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise StoreUnusableError where the medium fails."""
        try:
            yield
        except (OSError, sqlite3.Error, diskcache.Timeout, zstandard.ZstdError) as error:
            if is_damage(error):
                self._cache, self._is_suspect = None, True
            raise StoreUnusableError(self._folder, _reason(error), _advice(error, self._folder)) from error

    def _index(self) -> Index | ReadOnlyIndex:
        """Open the index if it is not open, or no longer there; after a failure, only every now and then."""
        index = self._cache
        if index is not None and index.is_current():
            return index
        with self._lock:
            if self._cache is not None and self._cache.is_current():
                return self._cache
            if self._open_failure is not None and time.monotonic() < self._open_failure[0]:
                raise without_frames(self._open_failure[1])
            try:
                self._cache = self._open(self._cache)
            except (OSError, sqlite3.Error, diskcache.Timeout) as error:
                failure = without_frames(error)
                self._cache, self._open_failure = None, (time.monotonic() + _REOPEN_AFTER, failure)
                raise
            self._open_failure, self._is_suspect = None, False
            return self._cache

    def _open(self, previous: Index | ReadOnlyIndex | None) -> Index | ReadOnlyIndex:
        """Open the index, for reading only where it cannot be written to."""
        if isinstance(previous, Index):
            _log.warning("the index in %s was removed or replaced, and is opened again", self._folder)
            previous.close_all()
        elif previous is not None and previous.is_unchanged():
            previous.reconnect()
        layout.prepare(self._folder)
        try:
            index = open_index(self._folder, counters.restore, is_suspect=self._is_suspect)
            secondary_index.create(index)
        except (OSError, sqlite3.OperationalError) as error:
            if not is_unwritable(error) or not (self._folder / INDEX).is_dir():
                raise
            cause, reopen_at = without_frames(error), time.monotonic() + _REOPEN_AFTER
        else:
            return index
        if isinstance(previous, ReadOnlyIndex) and previous.is_unchanged():
            previous.reopen_at = reopen_at
            return previous
        try:
            return ReadOnlyIndex(self._folder / INDEX, cause, reopen_at=reopen_at)
        except sqlite3.Error:
            raise cause from None


def _find_row(index: Index | ReadOnlyIndex, key: Key) -> tuple[str, str | None]:
    """Return the key of a row, and its text, or an empty one where it is pickled, or None where there is none."""
    try:
        return index_keys.find_row(index, key)
    except ValueError:
        return key, ""


def _delete_version(index: Index, entry: Entry) -> tuple[bool, str | None]:
    """Delete the row of an earlier version, within a transaction, as `DiskStore._delete_rows`."""
    row_key, row = disk_versions.find_row(index, entry)
    return (False, None) if row is None else (True, counters.delete_row(index, row_key))


def _is_evictable(index: Index | ReadOnlyIndex, entry: Entry) -> Callable[[str], bool]:
    """Return the condition on a row that its recording was not replaced, nor pinned, since its metadata were read."""

    def is_evictable(row_key: str) -> bool:
        row = counters.row(index, row_key)
        return row is not None and row.stored_at == entry.stored_at and pin_key(entry.key) not in index

    return is_evictable


def _differences(index: Index | ReadOnlyIndex) -> list[Fault]:
    """Return the faults of counters, of metadata, and of secondary indexes."""
    found = [Fault(*one) for one in counters.differences(index)]
    if not secondary_index.is_correct(index):
        found.append(Fault("index", "its secondary indexes do not agree with its rows"))
    return found


def _unlink(file: Path) -> OSError | None:
    """Remove a file; return the error where that fails."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        return error
    return None


def _reason(error: Exception) -> str:
    """Return the message of an error of the medium."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error) or type(error).__name__


def _advice(error: Exception, folder: Path) -> str:
    """Return what to do about an error of the medium."""
    code = getattr(error, "sqlite_errorcode", None)
    base = None if code is None else code & 0xFF
    if (isinstance(error, OSError) or base is not None) and is_full(error, folder):
        return "free space on its disk, or evict recordings with oda-proxy prune --max-size SIZE"
    if (isinstance(error, OSError) and error.errno == errno.EROFS) or base == sqlite3.SQLITE_READONLY:
        return "recordings can be read, not changed: make the folder writable, or name another one with --cache-dir"
    if (isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM}) or base == sqlite3.SQLITE_PERM:
        return "give its files to the user who runs oda-proxy (chown -R), or name another folder with --cache-dir"
    if isinstance(error, diskcache.Timeout) or base in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return "another process is writing to it: try again later"
    return "name another folder with --cache-dir"
