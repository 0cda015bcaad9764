"""The rows of recordings whose heads do not stay in memory, so that only the head is read for the next hit.

A small head that the system has in its page cache is read in the event loop, without waiting for a disk: a hand-over to
a thread and back takes longer than that. It is checked each time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from oda_proxy.recordings.loaded import LoadedHead, LoadedRecording, load
from oda_proxy.store.heads import SmallHead

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Store

MAX_ROWS: Final = 256
MAX_ROW: Final = 16 * 1024
"""Bytes of the tail of a recording whose row is held; it is in memory several times."""
MAX_HEAD: Final = 64 * 1024
"""Bytes of a head that is read in the event loop: to check and decompress it takes less than 0.1 ms."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A recording without its head, what reads that, and the version of the store at which its row was read."""

    recording: LoadedRecording
    head: SmallHead
    version: Hashable


class CachedRows:
    """Reads recordings of a store, and holds the rows of those that were requested twice."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._rows: OrderedDict[Key, _Row | None] = OrderedDict()
        """None for those that were requested once."""

    def find(self, key: Key, current_version: Callable[[], Hashable | None]) -> LoadedRecording | None:
        """Return a recording if its row is held and certainly stored, and its head in the page cache.

        Does not block.
        """
        row = self._rows.get(key)
        if row is None or row.version != current_version() or (text := row.head.read_again()) is None:
            return None
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
        self._store.note_use(key)
        head = row.recording.head
        return replace(row.recording, head=LoadedHead((text,), head.size, head.digest))

    def read(self, key: Key) -> Recording | None:
        """Return the recording of a key, or None; blocks. Raises StoreUnusableError."""
        version = self._store.version()  # read before the row: if that changes now, it is not found later
        recording = self._store.get(key)
        with self._lock:
            is_wanted = key in self._rows
            self._rows.pop(key, None)
            if recording is None or version is None or not isinstance(recording.head, SmallHead):
                return recording
            if recording.head.size > MAX_HEAD:
                return recording
            self._rows[key] = None
            if len(self._rows) > MAX_ROWS:
                self._rows.popitem(last=False)
        if is_wanted:
            self._add(recording, recording.head, version)
        return recording

    def _add(self, recording: Recording, head: SmallHead, version: Hashable) -> None:
        headless = load(replace(recording, head=LoadedHead((), head.size, head.digest)), ())
        if headless.template.size <= MAX_ROW:
            with self._lock:
                self._rows[recording.key] = _Row(headless, replace(head, text=b""), version)
