"""The folder of a store on disk: its heads, and its index, which is opened again where it has to be.

The folder may be removed, its index damaged or replaced by another process, or made read-only and writable again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import diskcache
import zstandard

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store import counters, layout, secondary_index
from oda_proxy.store.heads import Heads
from oda_proxy.store.index import INDEX, Index, is_damage, open_index
from oda_proxy.store.index_keys import references_key
from oda_proxy.store.medium_errors import advice, reason
from oda_proxy.store.read_only_index import ReadOnlyIndex, is_unwritable, without_frames

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)

_REOPEN_AFTER = 10.0
"""Seconds after which an index that could not be opened for writing is tried again."""


class StoreFolder:
    """A folder with an index and heads; raises StoreUnusableError where it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heads = Heads(path / layout.HEADS)
        self.closing = threading.Event()
        """Set when the store is closed: a thread that reads rows for secondary indexes stops."""
        self.damaged = 0
        """How many recordings were found damaged since the start."""
        self._heads_folder = str(path / layout.HEADS)
        self._lock = threading.Lock()
        self._index: Index | ReadOnlyIndex | None = None
        self._is_suspect = False
        self._open_failure: tuple[float, Exception] | None = None
        with self.translated_errors():
            layout.prepare(path)

    def close(self) -> None:
        """Close the index."""
        if self._index is not None:
            self._index.close_all()

    def replace_index(self) -> None:
        """Have the index, which is damaged, replaced when it is next opened."""
        self._index, self._is_suspect = None, True

    def version(self) -> Hashable | None:
        """Return a value that is another one after any change to the index, or to the folder of heads."""
        index = self._index
        if index is None or (version := index.version()) is None:
            return None
        try:
            stat = os.stat(self._heads_folder)  # noqa: PTH116 - each hit does so, and a Path takes longer than the call
        except OSError:
            return None
        return version, stat.st_dev, stat.st_ino, stat.st_mtime_ns

    @contextmanager
    def open_index(self) -> Iterator[Index | ReadOnlyIndex]:
        """Return the index, and raise StoreUnusableError where the medium fails."""
        with self.translated_errors():
            yield self.index()

    def index(self) -> Index | ReadOnlyIndex:
        """Open the index if it is not open, or no longer there; after a failure, only every now and then."""
        index = self._index
        if index is not None and index.is_current():
            return index
        with self._lock:
            if self._index is not None and self._index.is_current():
                return self._index
            if self._open_failure is not None and time.monotonic() < self._open_failure[0]:
                raise without_frames(self._open_failure[1])
            try:
                self._index = self._open(self._index)
            except (OSError, sqlite3.Error, diskcache.Timeout) as error:
                failure = without_frames(error)
                self._index, self._open_failure = None, (time.monotonic() + _REOPEN_AFTER, failure)
                raise
            self._open_failure, self._is_suspect = None, False
            return self._index

    def is_indexed(self, index: Index | ReadOnlyIndex) -> bool:
        """Bring the secondary indexes up to date, and return whether they can be used."""
        if isinstance(index, Index):
            try:
                secondary_index.update(index, self.closing.is_set)
            except (OSError, sqlite3.Error) as error:
                if not is_unwritable(error):
                    raise
        return self.closing.is_set() or secondary_index.is_complete(index)  # at the end, nobody waits for the result

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Raise StoreUnusableError where the medium fails."""
        try:
            yield
        except (OSError, sqlite3.Error, diskcache.Timeout, zstandard.ZstdError) as error:
            if is_damage(error):
                self.replace_index()
            raise StoreUnusableError(self.path, reason(error), advice(error, self.path)) from error

    def remove_damaged(self, index: Index | ReadOnlyIndex, row_key: str, text: str | None) -> bool:
        """Remove a damaged recording if its row is still `text`, which is None where it cannot be read."""
        with index.writing() as writable:
            with suppress(ValueError):
                if writable.get(row_key) != text:
                    return False
            head_name = counters.delete_row(writable, row_key)
        self.discard_head(index, head_name)
        return True

    def discard_head(self, index: Index | ReadOnlyIndex, name: str | None) -> None:
        """Remove a head without references; one that cannot be removed is logged, and an orphan from now on."""
        try:
            if name is not None:
                self.unlink_orphan(index, name)
        except OSError as error:
            _log.warning("cannot remove %s: %s", self.heads.path(name or ""), error.strerror or error)

    def unlink_orphan(self, index: Index | ReadOnlyIndex, name: str) -> bool:
        """Remove the file of a head unless a recording refers to it, perhaps one that is just being written."""
        with index.writing() as writable:
            if is_orphan := references_key(name) not in writable:
                self.heads.remove(name)
        return is_orphan

    def _open(self, previous: Index | ReadOnlyIndex | None) -> Index | ReadOnlyIndex:
        """Open the index, for reading only where it cannot be written to."""
        if isinstance(previous, Index):
            _log.warning("the index in %s was removed or replaced, and is opened again", self.path)
            previous.close_all()
        elif previous is not None and previous.is_unchanged():
            previous.reconnect()
        layout.prepare(self.path)
        try:
            index = open_index(self.path, counters.restore, is_suspect=self._is_suspect)
            try:
                secondary_index.create(index)
            except BaseException:
                index.close_all()
                raise
        except (OSError, sqlite3.OperationalError) as error:
            if not is_unwritable(error) or not (self.path / INDEX).is_dir():
                raise
            cause, reopen_at = without_frames(error), time.monotonic() + _REOPEN_AFTER
        else:
            return index
        if isinstance(previous, ReadOnlyIndex) and previous.is_unchanged():
            previous.reopen_at = reopen_at
            return previous
        try:
            return ReadOnlyIndex(self.path / INDEX, cause, reopen_at=reopen_at)
        except sqlite3.Error:
            raise cause from None
