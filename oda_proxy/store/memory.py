"""A store in memory, for as long as the process lives."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING

from oda_proxy.recordings.head import MemoryHeadWriter
from oda_proxy.store import eviction, scans
from oda_proxy.store.base import Entry, FreeSpace, OtherRecordings, Usage
from oda_proxy.store.search import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import ProductTotals
    from oda_proxy.store.search import Found, Search
    from oda_proxy.store.selection import Filters


class MemoryStore:
    """A store without a medium: it never fails."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        """Take a clock, which returns s since 1970 (UTC)."""
        self._clock = clock
        self._recordings: dict[Key, Recording] = {}
        self._uses: dict[Key, float] = {}
        self._pins: set[Key] = set()
        self._changes = count(1)
        self._version = 0
        self._changed: dict[Key, int] = {}
        self.damaged = 0

    def get(self, key: Key) -> Recording | None:
        """Return the recording for a key, or None."""
        recording = self._recordings.get(key)
        if recording is not None:
            self._uses[key] = self._clock()
        return recording

    def peek(self, key: Key) -> Recording | None:
        """Return the recording for a key, without noting a use."""
        return self._recordings.get(key)

    def version(self) -> int:
        """Return the number of changes."""
        return self._version

    def fingerprint(self, key: Key) -> str | None:
        """Return the number of the change that stored the recording of a key, or None where there is none."""
        number = self._changed.get(key)
        return None if number is None else str(number)

    def note_use(self, key: Key) -> None:
        """Note that a recording was requested that was not read from here."""
        self._uses[key] = self._clock()

    def new_head(self, size: int) -> MemoryHeadWriter:  # noqa: ARG002 - it is not compressed
        """Return what takes a head, uncompressed."""
        return MemoryHeadWriter()

    def put(self, recording: Recording) -> None:
        """Store a recording."""
        self._recordings[recording.key] = recording
        self._version = self._changed[recording.key] = next(self._changes)

    def remove(self, key: Key) -> bool:
        """Remove a recording; return whether it existed."""
        self._uses.pop(key, None)
        self._pins.discard(key)
        self._changed.pop(key, None)
        self._version = next(self._changes)
        return self._recordings.pop(key, None) is not None

    def evict(self, entry: Entry) -> bool:
        """Remove a recording to free space, unless it was replaced or pinned since; return whether it was removed."""
        recording = self._recordings.get(entry.key)
        if recording is None or recording.stored_at != entry.stored_at or entry.key in self._pins:
            return False
        return self.remove(entry.key)

    def evict_all(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove recordings to free space, as `evict`; return those that were removed."""
        return [entry for entry in entries if self.evict(entry)]

    def pin(self, key: Key, *, pinned: bool) -> bool:
        """Exempt a recording from eviction, or no longer; return whether it exists."""
        if key not in self._recordings:
            return False
        (self._pins.add if pinned else self._pins.discard)(key)
        return True

    def keys(self) -> Iterator[Key]:
        """Iterate over the keys."""
        return iter(list(self._recordings))

    def keys_beginning(self, text: str) -> list[Key]:
        """Return the keys that begin with a text, in order."""
        return sorted(key for key in self._recordings if key.startswith(text))

    def entry(self, key: Key) -> Entry | None:
        """Return the metadata of a recording, or None."""
        recording = self._recordings.get(key)
        if recording is None:
            return None
        return Entry(
            key=key,
            stored_at=recording.stored_at,
            used_at=max(self._uses.get(key, 0.0), recording.stored_at),
            size=recording.head.size,
            stored_size=recording.head.size,
            head_name=recording.head.digest,
            cost=recording.cost,
            private=recording.private,
            pinned=key in self._pins,
            query=recording.query,
        )

    def entries(self) -> Iterator[Entry]:
        """Iterate over the metadata of all recordings."""
        return (entry for key in self.keys() if (entry := self.entry(key)) is not None)

    def entries_by_use(self, filters: Filters | None = None) -> Iterator[Entry]:
        """Iterate over the metadata of the recordings that meet filters, the one used last first."""
        return iter(scans.by_use(self.entries(), filters))

    def entries_of(self, instrument: str, product: str) -> Iterator[Entry]:
        """Iterate over the metadata of the public recordings of a product, the one stored last first."""
        return iter(scans.of_product(self.entries(), instrument, product))

    def search(self, search: Search, *, offset: int, limit: int) -> Found:
        """Return a page of the recordings that a search finds."""
        return scan(self.entries(), search, offset=offset, limit=limit)

    def groups_to_evict(self) -> Iterator[list[Entry]]:
        """Iterate over the recordings in the order of eviction, without pinned ones; those with one head together."""
        return iter(eviction.groups_to_evict(self.entries()))

    def totals(self) -> list[ProductTotals]:
        """Return the totals of each product."""
        return scans.totals(self.entries())

    def usage(self) -> Usage:
        """Return the usage."""
        heads = {recording.head.digest: recording.head.size for recording in list(self._recordings.values())}
        return Usage(len(self._recordings), sum(heads.values()))

    def other_recordings(self) -> OtherRecordings:
        """Return nothing: other releases cannot write here."""
        return OtherRecordings()

    def free_space(self) -> FreeSpace | None:
        """Return None: there is no disk."""
        return None

    def save_use_times(self) -> None:
        """Do nothing: times of use are in memory only."""

    def remove_orphans(self) -> int:
        """Do nothing: a crash leaves no files."""
        return 0
