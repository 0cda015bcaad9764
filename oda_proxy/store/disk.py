"""A store in a folder, which several processes may use at once.

    index/            diskcache (SQLite): key -> JSON of everything but the head; counters
    heads/ab/abcd...  the head, written under a temporary name, flushed, renamed

A head is renamed in the transaction that adds a reference to it in the index, and removed in one that finds none: the
lock of the database serialises this across processes, and a crash may leave an orphaned file, but never a reference to
a missing one. A hit writes nothing: times of use are collected in memory and written periodically.

Beside each key the index has `used:<key>` and `pin:<key>`, for each head the number of keys that refer to it
(`head:<name>`), and the number and size of all (`filling`).
"""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import diskcache
import zstandard

from oda_proxy.errors import StoreUnusableError
from oda_proxy.query.cache_key import Key
from oda_proxy.store import rows
from oda_proxy.store.base import Entry, Usage
from oda_proxy.store.heads import Heads
from oda_proxy.store.index import check, is_damage, open_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.rows import HeadFile

_log = logging.getLogger(__name__)

PENDING_AGE = 3600.0
"""Age, in s, from which a head under a temporary name is that of a crashed writer."""

_REOPEN_AFTER = 10.0
"""Seconds after which an index that could not be opened is tried again."""

_USAGE = "filling"
_NUMBER = re.compile(r"\d{1,18}(\.\d{1,18})?")
_NUMBERS = re.compile(r"(\d{1,18}) (\d{1,18})")
_KEY = re.compile("[0-9a-f]{64}")
_DAMAGE = (ValueError, KeyError, TypeError, FileNotFoundError)
"""Exceptions of reading a damaged recording."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault found by `verify`: what it is about, and one line for a person."""

    subject: str
    message: str


class DiskStore:
    """A store in a folder. Raises StoreUnusableError where the folder cannot be created.

    Every call fails while the index cannot be opened; a damaged index is replaced.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time, track_use: bool = True) -> None:
        """Take the folder; `clock` returns s since 1970 (UTC). Without `track_use`, a hit is not recorded."""
        self._folder = folder
        self._clock = clock
        self._heads = Heads(folder / "heads")
        self._lock = threading.Lock()
        self._cache: diskcache.Cache | None = None
        self._is_suspect = False
        self._open_failure: tuple[float, Exception] | None = None
        self._uses: dict[Key, float] = {}
        self._track_use = track_use
        with self._translated_errors():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # some recordings are private
            self._heads.folder.mkdir(exist_ok=True)

    def close(self) -> None:
        """Write the times of use and close the index."""
        try:
            self.save_use_times()
        except StoreUnusableError as error:
            _log.warning("%s", error)
        if self._cache is not None:
            self._cache.close()

    def get(self, key: Key) -> Recording | None:
        """Return the recording for a key, or None; a damaged one is removed, and counts as absent."""
        with self._open_index() as index:
            while True:
                text = None
                try:
                    text = index.get(key)
                    if text is None:
                        return None
                    row = rows.loads(key, text)
                    recording = row.recording(self._heads.open(row.head))
                except _DAMAGE as error:
                    if self._remove_damaged(index, key, text):
                        _log.warning("recording %s was damaged and is removed (%s)", key, error)
                        return None
                    continue  # another writer replaced or removed it meanwhile
                if self._track_use:
                    self._uses[key] = self._clock()
                return recording

    def put(self, recording: Recording) -> None:
        """Store a recording, replacing any with its key; once this returns, it survives a crash."""
        with self._open_index() as index:
            pending = self._heads.write(recording.head)
            try:
                with index.transact():
                    pending.commit()
                    replaced = _delete_row(index, recording.key)
                    index.set(recording.key, rows.dumps(recording, pending.head_file))
                    _count_references(index, pending.head_file, 1)
            finally:
                pending.discard()
            self._unlink_orphan(index, replaced)

    def remove(self, key: Key) -> bool:
        """Remove a recording; return whether it existed."""
        with self._open_index() as index:
            return self._remove(index, key, lambda: key in index)

    def evict(self, entry: Entry) -> bool:
        """Remove a recording to free space, unless it was replaced or pinned since; return whether it was removed."""

        def is_evictable() -> bool:
            row = _row(index, entry.key)
            return row is not None and row.stored_at == entry.stored_at and _pin_key(entry.key) not in index

        with self._open_index() as index:
            return self._remove(index, entry.key, is_evictable)

    def pin(self, key: Key, *, pinned: bool) -> bool:
        """Exempt a recording from eviction, or no longer; return whether it exists."""
        with self._open_index() as index, index.transact():
            if key not in index:
                return False
            if pinned:
                index.set(_pin_key(key), "")
            else:
                index.delete(_pin_key(key))
            return True

    def keys(self) -> Iterator[Key]:
        """Iterate over the keys; the first is found at once, however many there are."""
        with self._open_index() as index:
            yield from (Key(key) for key in index if _KEY.fullmatch(key))

    def entry(self, key: Key) -> Entry | None:
        """Return the metadata of a recording, or None if there is none, or its row cannot be read."""
        with self._open_index() as index:
            row = _row(index, key)
            if row is None:
                return None
            match = _NUMBER.fullmatch(_text(index, _used_key(key)) or "")
            used_at = max(row.stored_at, float(match[0]) if match else 0.0, self._uses.get(key, 0.0))
            return row.entry(used_at=used_at, pinned=_pin_key(key) in index)

    def entries(self) -> Iterator[Entry]:
        """Iterate over the metadata of all recordings; rows that cannot be read are left out."""
        return (entry for key in self.keys() if (entry := self.entry(key)) is not None)

    def usage(self) -> Usage:
        """Return the usage, in constant time."""
        with self._open_index() as index:
            return _usage(index)

    def save_use_times(self) -> None:
        """Write the times of use since the last call."""
        if not (uses := self._uses.copy()):
            return
        with self._open_index() as index, index.transact():
            for key, used_at in uses.items():
                if key in index:
                    index.set(_used_key(key), repr(used_at))
        for key, used_at in uses.items():
            if self._uses.get(key) == used_at:
                self._uses.pop(key, None)

    def remove_orphans(self) -> int:
        """Remove files that crashed writers left, and return their number."""
        return len(list(self._orphans(remove=True)))

    def verify(self, *, fix: bool) -> Iterator[Fault]:
        """Check everything and report faults; with `fix`, remove what is damaged.

        Removed are damaged recordings and orphaned files; a damaged index is replaced.
        """
        with self._translated_errors():
            fault = check(self._folder)
        if fault:
            yield Fault("index", fault)
            if not fix:
                return
            self._cache, self._is_suspect = None, True
        for key in self.keys():
            yield from self._verify(key, fix=fix)
        for name in self._orphans(remove=fix):
            yield Fault(name, "a crashed writer left it")
        with self._open_index() as index, index.transact():
            miscounted = list(_recount(index, fix=fix))
        yield from miscounted

    def _verify(self, key: Key, *, fix: bool) -> Iterator[Fault]:
        """Check one recording to its end."""
        with self._open_index() as index:
            text = None
            try:
                text = index.get(key)
                if text is None:
                    return  # it was removed meanwhile
                row = rows.loads(key, text)
                with closing(self._heads.open(row.head)) as head:
                    row.recording(head)
                    for _ in head.pieces():
                        pass
            except (*_DAMAGE, zstandard.ZstdError, StoreUnusableError) as error:
                yield Fault(key, str(error))
                if fix:
                    self._remove_damaged(index, key, text)

    def _orphans(self, *, remove: bool) -> Iterator[str]:
        """Iterate over the names of files that belong to no recording; with `remove`, remove them."""
        with self._open_index() as index:
            for file in self._heads.pending(before=self._clock() - PENDING_AGE):
                if remove:
                    file.unlink(missing_ok=True)
                yield file.name
            for name in self._heads.names():
                if _references_key(name) not in index and (not remove or self._unlink_orphan(index, name)):
                    yield name

    def _remove(self, index: diskcache.Cache, key: Key, condition: Callable[[], bool]) -> bool:
        """Remove a recording and its metadata if a condition holds, which is evaluated within the transaction."""
        with index.transact():
            if not condition():
                return False
            head_name = _delete_row(index, key)
            for metadata_key in (_used_key(key), _pin_key(key)):
                index.delete(metadata_key)
        self._unlink_orphan(index, head_name)
        return True

    def _remove_damaged(self, index: diskcache.Cache, key: Key, text: str | None) -> bool:
        """Remove a damaged recording if its row is still `text`, which is None where it cannot be read."""
        with index.transact():
            try:
                if index.get(key) != text:
                    return False
            except ValueError:
                pass
            head_name = _delete_row(index, key)
        self._unlink_orphan(index, head_name)
        return True

    def _unlink_orphan(self, index: diskcache.Cache, name: str | None) -> bool:
        """Remove the file of a head unless a recording refers to it, perhaps one that is just being written."""
        if name is None:
            return False
        with index.transact():
            if is_orphan := _references_key(name) not in index:
                self._heads.path(name).unlink(missing_ok=True)
        return is_orphan

    @contextmanager
    def _open_index(self) -> Iterator[diskcache.Cache]:
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
            raise StoreUnusableError(self._folder, _reason(error)) from error

    def _index(self) -> diskcache.Cache:
        """Open the index if it is not open; after a failure, only every now and then."""
        with self._lock:
            if self._cache is not None:
                return self._cache
            if self._open_failure is not None and time.monotonic() < self._open_failure[0]:
                raise self._open_failure[1]
            try:
                self._cache = open_index(self._folder, _restore_counters, is_suspect=self._is_suspect)
            except (OSError, sqlite3.Error, diskcache.Timeout) as error:
                self._open_failure = (time.monotonic() + _REOPEN_AFTER, error)
                raise
            self._open_failure, self._is_suspect = None, False
            return self._cache


def _used_key(key: Key) -> str:
    return f"used:{key}"


def _pin_key(key: Key) -> str:
    return f"pin:{key}"


def _references_key(name: str) -> str:
    return f"head:{name}"


def _row(index: diskcache.Cache, key: Key) -> rows.Row | None:
    try:
        return rows.loads(key, index.get(key) or "")
    except _DAMAGE:
        return None


def _usage(index: diskcache.Cache) -> Usage:
    match = _NUMBERS.fullmatch(_text(index, _USAGE) or "")
    return Usage(int(match[1]), int(match[2])) if match else Usage(0, 0)


def _set_usage(index: diskcache.Cache, recordings: int, occupied: int) -> None:
    index.set(_USAGE, f"{max(recordings, 0)} {max(occupied, 0)}")


def _delete_row(index: diskcache.Cache, key: Key) -> str | None:
    """Delete a row, within a transaction; return the name of its head if no other row refers to it."""
    if key not in index:
        return None
    row = _row(index, key)
    index.delete(key)
    if row is None:  # its head is unknown: the next recount finds it
        usage = _usage(index)
        _set_usage(index, usage.recordings - 1, usage.occupied)
        return None
    return None if _count_references(index, row.head, -1) else row.head.name


def _count_references(index: diskcache.Cache, head: HeadFile, change: int) -> int:
    """Change the number of references to a head, within a transaction, and return it."""
    before = int(_text(index, _references_key(head.name)) or "0")
    after = max(before + change, 0)
    if after:
        index.set(_references_key(head.name), str(after))
    else:
        index.delete(_references_key(head.name))
    usage = _usage(index)
    change_in_heads = bool(after) - bool(before)
    _set_usage(index, usage.recordings + change, usage.occupied + change_in_heads * head.stored_size)
    return after


def _restore_counters(index: diskcache.Cache) -> None:
    """Correct all counters, within a transaction."""
    for _ in _recount(index, fix=True):
        pass


def _recount(index: diskcache.Cache, *, fix: bool) -> Iterator[Fault]:
    """Compare the counters with the rows, within a transaction."""
    keys = [key for key in index if key]
    found = [row for key in keys if _KEY.fullmatch(key) and (row := _row(index, Key(key)))]
    counts: dict[str, int] = {}
    for row in found:
        counts[row.head.name] = counts.get(row.head.name, 0) + 1
    occupied = sum({row.head.name: row.head.stored_size for row in found}.values())
    expected = {_references_key(name): str(number) for name, number in counts.items()}
    expected[_USAGE] = f"{len(found)} {occupied}"
    counted = {key: _text(index, key) for key in keys if key == _USAGE or key.startswith(_references_key(""))}
    if not found and counted.keys() <= {_USAGE}:
        counted.setdefault(_USAGE, "0 0")
    if expected != counted:
        yield Fault("index", "its counters do not agree with its rows")
        if fix:
            for key in counted.keys() - expected.keys():
                index.delete(key)
            for key, number in expected.items():
                index.set(key, number)
    present = {row.key for row in found}
    for key in keys:
        kind, _, subject = key.rpartition(":")
        if kind in {"used", "pin"} and subject not in present:
            yield Fault(key, "it belongs to no recording")
            if fix:
                index.delete(key)


def _text(index: diskcache.Cache, key: str) -> str | None:
    """Return a text, or None where there is none, or it is pickled."""
    try:
        text = index.get(key)
    except ValueError:
        return None
    return text if isinstance(text, str) else None


def _reason(error: Exception) -> str:
    """Return the message of an error of the medium."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error) or type(error).__name__
