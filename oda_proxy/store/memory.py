"""A store in memory, for as long as the process lives."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import chain, count
from typing import TYPE_CHECKING

from oda_proxy.recordings.head import MemoryHeadWriter
from oda_proxy.store import eviction, scans
from oda_proxy.store.base import Entry, FreeSpace, HistoryUsage, OtherRecordings, Usage
from oda_proxy.store.history_limits import HistoryLimits, next_valid_from, not_before
from oda_proxy.store.search import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import ProductTotals
    from oda_proxy.store.search import Found, Search
    from oda_proxy.store.selection import Filters


class MemoryStore:
    """A store without a medium: it never fails."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        history: HistoryLimits = HistoryLimits(),  # noqa: B008 - frozen
    ) -> None:
        """Take a clock, which returns s since 1970 (UTC)."""
        self._clock = clock
        self._history = history
        self._first_stored_at: dict[Key, float | None] = {}
        self._versions: dict[Key, list[tuple[Entry, Recording]]] = {}
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

    def may_have_changed(self, key: Key, since: Hashable) -> bool:  # noqa: ARG002 - of the protocol
        """Return True: it is not known which recordings have changed."""
        return True

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

    def put(self, recording: Recording, *, same_as: Entry | None = None) -> None:
        """Store a recording; the one that it replaces becomes an earlier version, unless it is `same_as`."""
        replaced = self.entry(recording.key)
        end = max((one.valid_until or 0.0 for one, _ in self._versions.get(recording.key, ())), default=None)
        begin = not_before(end, recording.stored_at)
        if same_as is not None and (replaced is None or replaced.stored_at == same_as.stored_at):
            begin = not_before(end, min(same_as.valid_from, recording.stored_at))
        elif replaced is not None:
            begin = next_valid_from(replaced, recording.stored_at)
            self._archive(replaced, begin)
        first_stored_at = None if begin == recording.stored_at else begin
        self._recordings[recording.key] = recording
        self._first_stored_at[recording.key] = first_stored_at
        self._version = self._changed[recording.key] = next(self._changes)

    def _archive(self, replaced: Entry, valid_until: float) -> None:
        version = replace(replaced, first_stored_at=replaced.valid_from, valid_until=valid_until)
        self._versions.setdefault(replaced.key, []).append((version, self._recordings[replaced.key]))
        if self._history.max_versions != float("inf"):
            exceeding = self._history.exceeding(self.versions(replaced.key), float("-inf"))
            self.remove_versions([one for one in exceeding if not one.pinned])

    def versions(self, key: Key) -> list[Entry]:
        """Return the metadata of the earlier versions of a recording, and last its own, in order of time."""
        earlier = [replace(entry, pinned=key in self._pins) for entry, _ in self._versions.get(key, ())]
        current = self.entry(key)
        return [*sorted(earlier, key=lambda one: one.valid_from), *([] if current is None else [current])]

    def version_keys_beginning(self, text: str) -> list[Key]:
        """Return the keys with earlier versions that begin with a text, in order."""
        return sorted(key for key in self._versions if key.startswith(text))

    def get_version(self, entry: Entry) -> Recording | None:
        """Return the recording with the metadata that `versions` has returned; None if it was removed since."""
        current = self.entry(entry.key)
        if current is not None and entry.valid_until is None and current.valid_from == entry.valid_from:
            return self._recordings.get(entry.key)
        found = (one for version, one in self._versions.get(entry.key, ()) if version.valid_from == entry.valid_from)
        return next(found, None)

    def remove_versions(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove earlier versions, and return those that existed."""
        removed = []
        for entry in entries:
            versions = self._versions.get(entry.key, [])
            remaining = [one for one in versions if one[0].valid_from != entry.valid_from]
            if len(remaining) < len(versions):
                removed.append(entry)
                self._version = next(self._changes)
            if remaining:
                self._versions[entry.key] = remaining
            else:
                self._versions.pop(entry.key, None)
        return removed

    def expire_versions(self, now: float) -> int:
        """Remove the earlier versions beyond the limits of the history, without pinned ones; return their number."""
        exceeding = chain.from_iterable(
            self._history.exceeding(self.versions(key), now) for key in list(self._versions) if key not in self._pins
        )
        return len(self.remove_versions(list(exceeding)))

    def history_usage(self) -> HistoryUsage:
        """Return the usage of earlier versions."""
        versions = [one for several in self._versions.values() for one, _ in several]
        current = {recording.head.digest for recording in self._recordings.values()}
        heads = {one.head_name: one.stored_size for one in versions if one.head_name not in current}
        return HistoryUsage(len(versions), sum(heads.values()))

    def remove(self, key: Key) -> bool:
        """Remove a recording; return whether it existed. Its earlier versions stay."""
        self._uses.pop(key, None)
        self._pins.discard(key)
        self._changed.pop(key, None)
        self._version = next(self._changes)
        return self._recordings.pop(key, None) is not None

    def evict(self, entry: Entry) -> bool:
        """Remove a recording to free space, unless it was replaced or pinned since; return whether it was removed."""
        if entry.valid_until is not None:
            return entry.key not in self._pins and bool(self.remove_versions([entry]))
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
            first_stored_at=self._first_stored_at.get(key),
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
        """Iterate over what may be evicted in order, without what is pinned; what has one head together."""
        versions = [one for key in list(self._versions) for one in self.versions(key) if one.valid_until is not None]
        return iter(eviction.groups_to_evict(self.entries(), versions))

    def totals(self) -> list[ProductTotals]:
        """Return the totals of each product."""
        return scans.totals(self.entries())

    def usage(self) -> Usage:
        """Return the usage."""
        heads = {recording.head.digest: recording.head.size for recording in list(self._recordings.values())}
        heads |= {one.head_name: one.stored_size for several in self._versions.values() for one, _ in several}
        return Usage(len(self._recordings), sum(heads.values()))

    def other_recordings(self) -> OtherRecordings:
        """Return nothing: other releases cannot write here."""
        return OtherRecordings()

    def free_space(self) -> FreeSpace | None:
        """Return None: there is no disk."""
        return None

    def claims_maintenance(self) -> bool:
        """Return True: no other process has this store."""
        return True

    def save_use_times(self) -> None:
        """Do nothing: times of use are in memory only."""

    def remove_orphans(self) -> int:
        """Do nothing: a crash leaves no files."""
        return 0
