"""The recordings that were requested lately, in memory, ready to send.

What is in memory is served only while the store has not changed since it was read, the store knows that the changes
since then were of others, or its row was found unchanged after the last change: so nothing is served that was removed
or replaced, whichever process did so.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from oda_proxy.recordings.head import MemoryHead
from oda_proxy.recordings.loaded import LoadedRecording, load
from oda_proxy.recordings.tail_template import MAX_TEMPLATES
from oda_proxy.store.cached_rows import CachedRows

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.compressed import CompressedHead
    from oda_proxy.recordings.head import Head
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Store

DEFAULT_LIMIT = 256_000_000
"""Bytes of all recordings in memory."""
LARGEST_SHARE = 4
"""A single recording takes at most one part of this many of the limit."""
OVERHEAD = 12 * 1024
"""Bytes that a recording takes beside its head and its tail (measured)."""
TAILS = MAX_TEMPLATES + 4
"""How often its tail is in memory at most: in templates, and as the members that it is written from."""
AT_ONCE = 1024 * 1024
"""Bytes of a head that is read at once where it stays in memory; a larger one is sent while it is read."""


@dataclass(slots=True)
class _Entry:
    """A recording in memory, the fingerprint of its row, and the version of the store at which that was read."""

    recording: LoadedRecording
    fingerprint: str
    version: Hashable
    size: int
    compressed: dict[str, CompressedHead | None] = field(default_factory=dict)
    """Its head by content coding; None where it does not pay."""


class HotTier:
    """Reads recordings of a store, and holds those that were read last in memory, up to `limit` bytes."""

    def __init__(self, store: Store, limit: int = DEFAULT_LIMIT) -> None:
        """Take a store and a number of bytes; with 0, no head stays in memory."""
        self.limit = limit
        self._store = store
        self._rows = CachedRows(store)
        self._lock = threading.Lock()
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._loading: dict[Key, int] = {}
        self._used = 0
        self._version: Hashable | None = None
        self._is_version_read = False

    @property
    def _largest(self) -> int:
        return self.limit // LARGEST_SHARE

    @property
    def used(self) -> int:
        """Bytes of the recordings in memory, and of those that are being read."""
        return self._used

    @property
    def count(self) -> int:
        """How many recordings are in memory."""
        return len(self._entries)

    def find(self, key: Key) -> LoadedRecording | None:
        """Return a recording that is in memory and certainly stored; call it in the event loop. Does not block."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        version = self._current_version()
        if entry.version != version:
            if version is None or self._store.may_have_changed(key, entry.version):
                return None
            entry.version = version
        self._note_use(key)
        return entry.recording

    def find_in_page_cache(self, key: Key) -> LoadedRecording | None:
        """Return a recording that does not stay in memory if the system has its head there, and it is certainly stored.

        Call it in the event loop. Does not block.
        """
        return None if self.limit else self._rows.find(key, self._current_version)

    def read(self, key: Key) -> Recording | None:
        """Return the recording of a key, or None; blocks.

        Its head is in memory if it is small; that of a large one that fits is in memory once it was read to its end.
        Raises StoreUnusableError.
        """
        if self.limit == 0 or (version := self._store.version()) is None:
            return self._rows.read(key)
        fingerprint = self._store.fingerprint(key)  # read after the version: if it changes now, it is compared again
        entry = self._entries.get(key)
        if entry is not None and fingerprint == entry.fingerprint:
            entry.version = version
            self._note_use(key)
            return entry.recording
        with self._lock:
            self._discard(key)
        recording = self._store.get(key)
        if recording is None or fingerprint is None:
            return recording
        size, head = recording.head.size, recording.head
        if size + OVERHEAD > self._largest:
            return recording
        if size > AT_ONCE and not isinstance(head, MemoryHead):
            return replace(recording, head=_LoadingHead(self, recording, fingerprint, version))
        loaded = _loaded(recording)
        self._add(loaded, fingerprint, version)
        return loaded

    def forget(self, key: Key) -> None:
        """Hold the recording of a key no longer in memory: it may have been replaced or removed."""
        with self._lock:
            self._discard(key)

    def compressed_head(self, recording: LoadedRecording, coding: str) -> tuple[bool, CompressedHead | None]:
        """Return whether a compressed head was made for a recording in memory, and the head if it pays."""
        entry = self._entries.get(recording.key)
        if entry is None or entry.recording is not recording:
            return True, None  # it left memory meanwhile
        return coding in entry.compressed, entry.compressed.get(coding)

    def add_compressed_head(self, recording: LoadedRecording, coding: str, head: CompressedHead | None) -> None:
        """Hold the compressed head of a recording, as long as that is in memory."""
        with self._lock:
            entry = self._entries.get(recording.key)
            if entry is None or entry.recording is not recording or coding in entry.compressed:
                return
            entry.compressed[coding] = head
            if head is not None:
                entry.size += head.compressed_size
                self._reserve(head.compressed_size)

    def begin_loading(self, recording: Recording) -> bool:
        """Make room for a recording; return False where it is being read already, or too much is."""
        size = recording.head.size
        with self._lock:
            if recording.key in self._loading or sum(self._loading.values()) + size > self.limit:
                return False
            self._loading[recording.key] = size
            self._reserve(size)
        return True

    def end_loading(
        self, recording: Recording, loaded: LoadedRecording | None, fingerprint: str, version: Hashable
    ) -> None:
        """Hold a recording in memory if it was read to its end."""
        with self._lock:
            self._used -= self._loading.pop(recording.key)
        if loaded is not None:
            self._add(loaded, fingerprint, version)

    def _add(self, recording: LoadedRecording, fingerprint: str, version: Hashable) -> None:
        """Hold a recording in memory, in place of those that were not requested for the longest time."""
        entry = _Entry(recording, fingerprint, version, size_of(recording))
        if entry.size > self._largest:
            return
        with self._lock:
            self._discard(recording.key)
            self._reserve(entry.size)
            self._entries[recording.key] = entry

    def _reserve(self, size: int) -> None:
        """Make room for some bytes, and count them as used."""
        self._used += size
        while self._used > self.limit and self._entries:
            self._used -= self._entries.popitem(last=False)[1].size

    def _discard(self, key: Key) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self._used -= entry.size

    def _note_use(self, key: Key) -> None:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
        self._store.note_use(key)

    def _current_version(self) -> Hashable | None:
        """Return the version of the store, which is read once for all requests that are answered in one go.

        The event loop calls `_forget_version` after everything that was ready to run when the version was read, and
        before anything that arrives later.
        """
        if not self._is_version_read:
            self._version, self._is_version_read = self._store.version(), True
            asyncio.get_running_loop().call_soon(self._forget_version)
        return self._version

    def _forget_version(self) -> None:
        self._is_version_read = False


class _LoadingHead:
    """The head of a recording that is held in memory once it was read to its end."""

    def __init__(self, tier: HotTier, recording: Recording, fingerprint: str, version: Hashable) -> None:
        self._tier = tier
        self._recording = recording
        self._fingerprint = fingerprint
        self._version = version

    @property
    def _head(self) -> Head:
        return self._recording.head

    @property
    def size(self) -> int:
        """Bytes of the text."""
        return self._head.size

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal digits."""
        return self._head.digest

    def pieces(self) -> Iterator[bytes]:
        """Yield the text from its beginning; may be called again. Blocks. Raises StoreUnusableError."""
        if not self._tier.begin_loading(self._recording):
            yield from self._head.pieces()
            return
        loaded, parts = None, []
        try:
            for piece in self._head.pieces():
                parts.append(piece)
                yield piece
            loaded = load(self._recording, parts)
        finally:
            self._tier.end_loading(self._recording, loaded, self._fingerprint, self._version)

    def close(self) -> None:
        """Release the medium."""
        self._head.close()


def size_of(recording: LoadedRecording) -> int:
    """Return the bytes that a recording takes in memory."""
    return recording.head.size + recording.template.size * TAILS + OVERHEAD


def _loaded(recording: Recording) -> LoadedRecording:
    """Read the head of a recording into memory, unless it is there, and close the file that it is read from."""
    with closing(recording.head) as head:
        return load(recording, (head.text,) if isinstance(head, MemoryHead) else (b"".join(head.pieces()),))
