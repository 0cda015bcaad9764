"""Recordings kept in a folder that several processes may use at once.

    index/            diskcache (SQLite): key -> JSON of everything but the head, and what is counted
    heads/ab/abcd...  the head, written under a temporary name, flushed, renamed

A head gets its name in the transaction that names it in the index, and loses it in one that finds it unnamed there: the
lock of the database keeps writers and removers apart, in all processes, and a crash leaves a file too many and never a
name too many. A hit writes nothing: when it was is noted in memory and written down now and then.

Beside each key the index has `used:<key>` and `pin:<key>`, for each head the number of keys that share it, and the
number and size of all.
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
"""How old, in s, a head under a temporary name must be to be a crashed writer's."""

_TRY_AGAIN = 10.0
"""How long, in s, an index that could not be opened is left alone."""

_FILLING = "filling"
_NUMBER = re.compile(r"\d{1,18}(\.\d{1,18})?")
_NUMBERS = re.compile(r"(\d{1,18}) (\d{1,18})")
_KEY = re.compile("[0-9a-f]{64}")
_DAMAGE = (ValueError, KeyError, TypeError, FileNotFoundError)
"""What reading a damaged recording raises."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a store, in a line for a person."""

    subject: str
    message: str


class DiskStore:
    """A store in a folder. Raises StoreUnusableError where the folder cannot be made.

    An index that cannot be opened fails every call until it can; one that is damaged is moved aside and begun anew.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time, track_use: bool = True) -> None:
        """Take the folder; `clock` gives s since 1970 (UTC). Who only looks on uses no recording by reading it."""
        self._folder = folder
        self._clock = clock
        self._heads = Heads(folder / "heads")
        self._lock = threading.Lock()
        self._opened: diskcache.Cache | None = None
        self._doubted = False
        self._failed: tuple[float, Exception] | None = None
        self._uses: dict[Key, float] = {}
        self._track_use = track_use
        with self._errors():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # some recordings are for one person
            self._heads.folder.mkdir(exist_ok=True)

    def close(self) -> None:
        """Write down what was noted, and let go of the index."""
        try:
            self.save_use_times()
        except StoreUnusableError as error:
            _log.warning("%s", error)
        if self._opened is not None:
            self._opened.close()

    def get(self, key: Key) -> Recording | None:
        """Give the recording, whole, or None: what was damaged is removed and is not there."""
        with self._medium() as index:
            while True:
                text = None
                try:
                    text = index.get(key)
                    if text is None:
                        return None
                    row = rows.read(key, text)
                    recording = row.recording(self._heads.open(row.kept))
                except _DAMAGE as error:
                    if self._drop(index, key, text):
                        _log.warning("a recording was damaged and is removed: %s (%s)", key, error)
                        return None
                    continue  # another has put it anew, or removed it, while we read
                if self._track_use:
                    self._uses[key] = self._clock()
                return recording

    def put(self, recording: Recording) -> None:
        """Keep a recording in place of any other with its key; once this returns, a crash does not lose it."""
        with self._medium() as index:
            unfinished = self._heads.write(recording.head)
            try:
                with index.transact():
                    unfinished.finish()
                    replaced = _take_out(index, recording.key)
                    index.set(recording.key, rows.written(recording, unfinished.kept))
                    _count(index, unfinished.kept, 1)
            finally:
                unfinished.discard()
            self._unlink(index, replaced)

    def remove(self, key: Key) -> bool:
        """Forget a recording; tell whether it was there."""
        with self._medium() as index:
            return self._remove(index, key, lambda: key in index)

    def evict(self, entry: Entry) -> bool:
        """Forget a recording for lack of space, unless it was replaced or pinned since; tell whether it was done."""

        def may_go() -> bool:
            row = _row(index, entry.key)
            return row is not None and row.stored_at == entry.stored_at and _pin(entry.key) not in index

        with self._medium() as index:
            return self._remove(index, entry.key, may_go)

    def pin(self, key: Key, *, pinned: bool) -> bool:
        """Say whether a recording is never to be given up for lack of space; tell whether it is there."""
        with self._medium() as index, index.transact():
            if key not in index:
                return False
            if pinned:
                index.set(_pin(key), "")
            else:
                index.delete(_pin(key))
            return True

    def keys(self) -> Iterator[Key]:
        """Name what is kept; the first is found at once, however many there are."""
        with self._medium() as index:
            yield from (Key(key) for key in index if _KEY.fullmatch(key))

    def entry(self, key: Key) -> Entry | None:
        """Describe a recording, or give None where there is none, or its row cannot be read."""
        with self._medium() as index:
            row = _row(index, key)
            if row is None:
                return None
            noted = _NUMBER.fullmatch(_text(index, _used(key)) or "")
            used_at = max(row.stored_at, float(noted[0]) if noted else 0.0, self._uses.get(key, 0.0))
            return row.entry(used_at=used_at, pinned=_pin(key) in index)

    def entries(self) -> Iterator[Entry]:
        """Describe what is kept; a row that cannot be read is left out, and removed when it is asked for."""
        return (entry for key in self.keys() if (entry := self.entry(key)) is not None)

    def usage(self) -> Usage:
        """Tell how much is kept, at once."""
        with self._medium() as index:
            return _filling(index)

    def save_use_times(self) -> None:
        """Write down when recordings were asked for since the last time."""
        if not (uses := self._uses.copy()):
            return
        with self._medium() as index, index.transact():
            for key, used_at in uses.items():
                if key in index:
                    index.set(_used(key), repr(used_at))
        for key, used_at in uses.items():
            if self._uses.get(key) == used_at:
                self._uses.pop(key, None)

    def remove_orphans(self) -> int:
        """Remove what crashed writers left, and tell how many files that were."""
        return len(list(self._orphans(remove=True)))

    def verify(self, *, fix: bool) -> Iterator[Fault]:
        """Read everything and say what is wrong; where told so, mend it.

        What is mended is gone: the damaged recording, the leftover file, the index that is no database.
        """
        with self._errors():
            fault = check(self._folder)
        if fault:
            yield Fault("index", fault)
            if not fix:
                return
            self._opened, self._doubted = None, True
        for key in self.keys():
            yield from self._verify(key, fix=fix)
        for name in self._orphans(remove=fix):
            yield Fault(name, "a crashed writer left it")
        with self._medium() as index, index.transact():
            miscounted = list(_recount(index, fix=fix))
        yield from miscounted

    def _verify(self, key: Key, *, fix: bool) -> Iterator[Fault]:
        """Read one recording to its end."""
        with self._medium() as index:
            text = None
            try:
                text = index.get(key)
                if text is None:
                    return  # removed meanwhile
                row = rows.read(key, text)
                with closing(self._heads.open(row.kept)) as head:
                    row.recording(head)
                    for _ in head.pieces():
                        pass
            except (*_DAMAGE, zstandard.ZstdError, StoreUnusableError) as error:
                yield Fault(key, str(error))
                if fix:
                    self._drop(index, key, text)

    def _orphans(self, *, remove: bool) -> Iterator[str]:
        """Name the files that belong to no recording; where told so, remove them."""
        with self._medium() as index:
            for file in self._heads.unfinished(before=self._clock() - PENDING_AGE):
                if remove:
                    file.unlink(missing_ok=True)
                yield file.name
            for name in self._heads.names():
                if _named(name) not in index and (not remove or self._unlink(index, name)):
                    yield name

    def _remove(self, index: diskcache.Cache, key: Key, may_go: Callable[[], bool]) -> bool:
        """Remove a recording, and all that is said of it, where it may go; that is asked within the transaction."""
        with index.transact():
            if not may_go():
                return False
            kept = _take_out(index, key)
            for beside in (_used(key), _pin(key)):
                index.delete(beside)
        self._unlink(index, kept)
        return True

    def _drop(self, index: diskcache.Cache, key: Key, text: str | None) -> bool:
        """Forget a damaged recording where it still is the one that was read; None stands for one that cannot be."""
        with index.transact():
            try:
                if index.get(key) != text:
                    return False
            except ValueError:
                pass
            kept = _take_out(index, key)
        self._unlink(index, kept)
        return True

    def _unlink(self, index: diskcache.Cache, name: str | None) -> bool:
        """Remove the file of a head, unless a recording names it, maybe one that is being written just now."""
        if name is None:
            return False
        with index.transact():
            if unnamed := _named(name) not in index:
                self._heads.file(name).unlink(missing_ok=True)
        return unnamed

    @contextmanager
    def _medium(self) -> Iterator[diskcache.Cache]:
        """Give the index, and turn what the medium raises into our error."""
        with self._errors():
            yield self._index()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the medium raises into our error."""
        try:
            yield
        except (OSError, sqlite3.Error, diskcache.Timeout, zstandard.ZstdError) as error:
            if is_damage(error):
                self._opened, self._doubted = None, True
            raise StoreUnusableError(self._folder, _reason(error)) from error

    def _index(self) -> diskcache.Cache:
        """Open the index where it is not open, now and then where that fails."""
        with self._lock:
            if self._opened is not None:
                return self._opened
            if self._failed is not None and time.monotonic() < self._failed[0]:
                raise self._failed[1]
            try:
                self._opened = open_index(self._folder, _count_anew, doubted=self._doubted)
            except (OSError, sqlite3.Error, diskcache.Timeout) as error:
                self._failed = (time.monotonic() + _TRY_AGAIN, error)
                raise
            self._failed, self._doubted = None, False
            return self._opened


def _used(key: Key) -> str:
    return f"used:{key}"


def _pin(key: Key) -> str:
    return f"pin:{key}"


def _named(name: str) -> str:
    return f"head:{name}"


def _row(index: diskcache.Cache, key: Key) -> rows.Row | None:
    try:
        return rows.read(key, index.get(key) or "")
    except _DAMAGE:
        return None


def _filling(index: diskcache.Cache) -> Usage:
    numbers = _NUMBERS.fullmatch(_text(index, _FILLING) or "")
    return Usage(int(numbers[1]), int(numbers[2])) if numbers else Usage(0, 0)


def _set_filling(index: diskcache.Cache, recordings: int, occupied: int) -> None:
    index.set(_FILLING, f"{max(recordings, 0)} {max(occupied, 0)}")


def _take_out(index: diskcache.Cache, key: Key) -> str | None:
    """Delete a row, within a transaction, and give the name of its head where no other row has it."""
    if key not in index:
        return None
    row = _row(index, key)
    index.delete(key)
    if row is None:  # what it named cannot be told: its head is found when all are counted again
        usage = _filling(index)
        _set_filling(index, usage.recordings - 1, usage.occupied)
        return None
    return None if _count(index, row.kept, -1) else row.kept.name


def _count(index: diskcache.Cache, kept: HeadFile, by: int) -> int:
    """Count a row that names a head in or out, within a transaction, and give the number of them."""
    before = int(_text(index, _named(kept.name)) or "0")
    after = max(before + by, 0)
    if after:
        index.set(_named(kept.name), str(after))
    else:
        index.delete(_named(kept.name))
    usage = _filling(index)
    heads = bool(after) - bool(before)
    _set_filling(index, usage.recordings + by, usage.occupied + heads * kept.stored_size)
    return after


def _count_anew(index: diskcache.Cache) -> None:
    """Count what is there, within a transaction."""
    for _ in _recount(index, fix=True):
        pass


def _recount(index: diskcache.Cache, *, fix: bool) -> Iterator[Fault]:
    """Compare what was counted with what is there, within a transaction."""
    keys = [key for key in index if key]
    found = [row for key in keys if _KEY.fullmatch(key) and (row := _row(index, Key(key)))]
    counts: dict[str, int] = {}
    for row in found:
        counts[row.kept.name] = counts.get(row.kept.name, 0) + 1
    occupied = sum({row.kept.name: row.kept.stored_size for row in found}.values())
    wanted = {_named(name): str(number) for name, number in counts.items()}
    wanted[_FILLING] = f"{len(found)} {occupied}"
    counted = {key: _text(index, key) for key in keys if key == _FILLING or key.startswith(_named(""))}
    if not found and counted.keys() <= {_FILLING}:
        counted.setdefault(_FILLING, "0 0")
    if wanted != counted:
        yield Fault("index", "its numbers do not agree with what it holds")
        if fix:
            for key in counted.keys() - wanted.keys():
                index.delete(key)
            for key, number in wanted.items():
                index.set(key, number)
    present = {row.key for row in found}
    for key in keys:
        kind, _, about = key.rpartition(":")
        if kind in {"used", "pin"} and about not in present:
            yield Fault(key, "it is said of nothing")
            if fix:
                index.delete(key)


def _text(index: diskcache.Cache, key: str) -> str | None:
    """Read a text; one that was pickled, or is none, is not there."""
    try:
        text = index.get(key)
    except ValueError:
        return None
    return text if isinstance(text, str) else None


def _reason(error: Exception) -> str:
    """Say what the medium said, in a few words."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error) or type(error).__name__
