"""A store whose index is in Redis, and whose heads are in a folder that hosts share, or in a bucket.

A head is written under a new name, noted in Redis before, and named by the row after. A writer that was given up
(`WRITE_TIME`) cannot name its head any more: it writes it again. What no row names is garbage, which the next sweeper
removes: a crash leaves nothing else.
"""

from __future__ import annotations

import logging
import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import redis

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.base import OtherRecordings
from oda_proxy.store.heads import CompressedHeadWriter
from oda_proxy.store.history_limits import HistoryLimits
from oda_proxy.store.objects.bodies import confirm
from oda_proxy.store.redis import garbage, history, searches, verification
from oda_proxy.store.redis.medium_errors import DEFAULT_ADVICE, REDIS_ERRORS, advice, redis_reason, translated_bodies
from oda_proxy.store.redis.reading import RecordingReader
from oda_proxy.store.redis.writing import WRITE_TIME, RecordingWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry, Fault, FreeSpace, HistoryUsage, ProductTotals, Usage
    from oda_proxy.store.objects.bodies import Bodies
    from oda_proxy.store.redis.address import StoreAddress
    from oda_proxy.store.redis.index import Change, RedisIndex
    from oda_proxy.store.redis.watcher import ChangeWatcher
    from oda_proxy.store.search import Found, Search
    from oda_proxy.store.selection import Filters

_log = logging.getLogger(__name__)

_SWEEPER: Final = "sweeper"
_SWEEPER_TIME: Final = 60
"""Seconds for which a process maintains the store, unless it extends that."""


class RedisStore:
    """A store in Redis. Each method raises StoreUnusableError where Redis, or the medium of the heads, fails."""

    def __init__(
        self,
        address: StoreAddress,
        index: RedisIndex,
        bodies: Bodies,
        watcher: ChangeWatcher | None = None,
        pair: Callable[[], None] = lambda: None,
        *,
        clock: Callable[[], float] = time.time,
        track_use: bool = True,
        history: HistoryLimits = HistoryLimits(),  # noqa: B008 - frozen
    ) -> None:
        """Take the parts; `clock` returns s since 1970 (UTC). Without a watcher, its version is not known.

        `pair` checks that the index and the heads belong together, and raises StoreUnusableError.
        """
        self._address = address
        self._index = index
        self._bodies = bodies
        self._pair = pair
        self._clock = clock
        self._track_use = track_use
        self._history = history
        self._reader = RecordingReader(index, bodies, self._note)
        self._writer = RecordingWriter(str(address), index, bodies, history, self._note)
        self._uses: dict[Key, float] = {}
        self._owner = secrets.token_hex(16)
        self.watcher = watcher
        """What follows the changes by other processes."""

    @property
    def damaged(self) -> int:
        """How many recordings were found damaged since the start."""
        return self._reader.damaged

    def probe(self) -> None:
        """Check that Redis and the medium of the heads can be used, and begin to follow changes."""
        with self._translated_errors():
            self._index.version()
            self._bodies.probe()
            if self.watcher is not None:
                self.watcher.start()

    def check(self) -> bool:
        """Check that recordings can be read and stored, and return True."""
        with self._translated_errors():
            self._index.claim(f"check:{self._owner}", self._owner, 1)
            confirm(self._bodies)
            self._bodies.probe()
            return True

    def close(self) -> None:
        """Write the times of use, stop following changes, and end the connections."""
        try:
            self.save_use_times()
        except StoreUnusableError as error:
            _log.warning("%s", error)
        if self.watcher is not None:
            self.watcher.stop()
        self._index.close()

    def get(self, key: Key) -> Recording | None:
        """Return the recording for a key, or None; a damaged one is removed, and counts as absent."""
        recording = self.peek(key)
        if recording is not None:
            self.note_use(key)
        return recording

    def peek(self, key: Key) -> Recording | None:
        """Return the recording for a key as `get` does, without noting a use."""
        with self._translated_errors():
            return self._reader.recording(key)

    def version(self) -> Hashable | None:
        """Return the number of changes, as this process knows it; while Redis is away, the last one."""
        return None if self.watcher is None else self.watcher.moment

    def may_have_changed(self, key: Key, since: Hashable) -> bool:
        """Return whether the recording of a key may be another one than at a version, as this process knows it."""
        return self.watcher is None or self.watcher.may_have_changed(key, since)

    def fingerprint(self, key: Key) -> str | None:
        """Return a text that is another one after the recording of a key was replaced; None where there is none."""
        with self._translated_errors():
            return self._index.fingerprint(key)

    def note_use(self, key: Key) -> None:
        """Note that a recording was requested that was not read from here; does not block."""
        if self._track_use:
            self._uses[key] = self._clock()

    def new_head(self, size: int) -> CompressedHeadWriter:
        """Return what compresses a head while it is made; it is written by `put`."""
        return CompressedHeadWriter(size)

    def put(self, recording: Recording, *, same_as: Entry | None = None) -> None:
        """Store a recording, replacing any with its key; once this returns, it survives a crash.

        The replaced one becomes an earlier version, as far as the limits of the history allow. Where it is `same_as`,
        whose content was found equal, both are one version that has been the answer since that one was.
        """
        self._put(recording, same_as, None)

    def put_fenced(self, recording: Recording, fence: int, *, same_as: Entry | None = None) -> None:
        """Store a recording as `put` does, unless a lease with a higher fencing token was taken since.

        Raises FencedError where one was.
        """
        self._put(recording, same_as, fence)

    def _put(self, recording: Recording, same_as: Entry | None, fence: int | None) -> None:
        with self._translated_errors():
            self._writer.put(recording, same_as, fence)

    def restore(self, recording: Recording, entry: Entry) -> None:
        """Store a recording of another store with the times of its metadata there, as `ManagedStore.restore`."""
        with self._translated_errors():
            self._writer.restore(recording, entry)

    def archive(self, key: Key, valid_until: float) -> bool:
        """Make the recording of a key an earlier version, which was the answer until then; return whether it exists."""
        with self._translated_errors():
            return self._note(key, history.archive(self._index, key, valid_until, self._history))

    def versions(self, key: Key) -> list[Entry]:
        """Return the metadata of the earlier versions of a recording, and last its own, in order of time."""
        with self._translated_errors():
            return history.versions(self._index, key, self._uses)

    def version_keys_beginning(self, text: str) -> list[Key]:
        """Return the keys with earlier versions that begin with a text, in order."""
        with self._translated_errors():
            return list(self._index.version_keys_beginning(text))

    def get_version(self, entry: Entry) -> Recording | None:
        """Return the recording with the metadata that `versions` has returned; None if it was removed since."""
        with self._translated_errors():
            return self._reader.version(entry)

    def remove_versions(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove earlier versions, and return those that existed."""
        with self._translated_errors():
            return history.remove(self._index, entries, self._discard, is_evicted=False)

    def expire_versions(self, now: float) -> int:
        """Remove the earlier versions beyond the limits of the history, without pinned ones; return their number."""
        with self._translated_errors():
            return history.expire(self._index, self._history, now, self._discard)

    def history_usage(self) -> HistoryUsage:
        """Return the usage of earlier versions, in constant time."""
        with self._translated_errors():
            return self._index.history_usage()

    def remove(self, key: Key) -> bool:
        """Remove a recording; return whether it existed."""
        with self._translated_errors():
            return self._note(key, self._index.remove(key))

    def remove_each(self, keys: Iterable[Key]) -> Iterator[Key]:
        """Remove recordings while their keys are iterated over; the keys of those that did not exist are left out."""
        return (key for key in keys if self.remove(key))

    def evict(self, entry: Entry) -> bool:
        """Remove a recording to free space, unless it was replaced or pinned since; return whether it was removed."""
        with self._translated_errors():
            if entry.valid_until is not None:
                return bool(history.remove(self._index, [entry], self._discard, is_evicted=True))
            return self._note(entry.key, self._index.evict(entry))

    def evict_all(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove recordings to free space, as `evict`; return those that were removed."""
        versions = [entry for entry in entries if entry.valid_until is not None]
        removed = [entry for entry in entries if entry.valid_until is None and self.evict(entry)]
        with self._translated_errors():
            return [*removed, *history.remove(self._index, versions, self._discard, is_evicted=True)]

    def pin(self, key: Key, *, pinned: bool) -> bool:
        """Exempt a recording from eviction, or no longer; return whether it exists."""
        with self._translated_errors():
            return self._index.pin(key, pinned=pinned)

    def pin_all(self, keys: Iterable[Key], *, pinned: bool) -> list[Key]:
        """Exempt recordings from eviction, or no longer; return the keys of those that exist."""
        return [key for key in keys if self.pin(key, pinned=pinned)]

    def keys(self) -> Iterator[Key]:
        """Iterate over the keys, in order."""
        with self._translated_errors():
            yield from self._index.keys_beginning()

    def keys_beginning(self, text: str) -> list[Key]:
        """Return the keys that begin with a text, in order."""
        with self._translated_errors():
            return list(self._index.keys_beginning(text))

    def entry(self, key: Key) -> Entry | None:
        """Return the metadata of a recording, or None if there is none, or its row cannot be read."""
        with self._translated_errors():
            return next(self._index.entries([key], self._uses), None)

    def entries(self) -> Iterator[Entry]:
        """Iterate over the metadata of all recordings; rows that cannot be read are left out."""
        with self._translated_errors():
            yield from self._index.entries_in_batches(self._index.keys_beginning(), self._uses)

    def entries_by_use(self, filters: Filters | None = None) -> Iterator[Entry]:
        """Iterate over the metadata of the recordings that meet filters, the one used last first."""
        with self._translated_errors():
            yield from searches.by_use(self._index, filters, self._uses)

    def entries_of(self, instrument: str, product: str) -> Iterator[Entry]:
        """Iterate over the metadata of the public recordings of a product, the one stored last first."""
        with self._translated_errors():
            yield from searches.of_product(self._index, instrument, product, self._uses)

    def search(self, search: Search, *, offset: int, limit: int) -> Found:
        """Return a page of the recordings that a search finds, as of when times of use were written."""
        with self._translated_errors():
            return searches.find(self._index, search, self._uses, offset=offset, limit=limit)

    def groups_to_evict(self) -> Iterator[list[Entry]]:
        """Iterate over what may be evicted in order, those that share a head together, without what is pinned.

        Times of use are written before.
        """
        self.save_use_times()
        with self._translated_errors():
            for head in self._index.heads_to_evict():
                if group := self._index.with_head(head, self._uses):
                    yield group

    def totals(self) -> list[ProductTotals]:
        """Return the totals of each product, in constant time."""
        with self._translated_errors():
            return self._index.totals()

    def usage(self) -> Usage:
        """Return the usage, in constant time."""
        with self._translated_errors():
            return self._index.usage()

    def other_recordings(self) -> OtherRecordings:
        """Return nothing: those of other releases have keys of their own."""
        return OtherRecordings()

    def remove_other_recordings(self) -> int:
        """Do nothing: those of other releases have keys of their own."""
        return 0

    def free_space(self) -> FreeSpace | None:
        """Return None: a bucket has no limit that could be read."""
        return None

    def is_read_only(self) -> bool:
        """Return False: a store in Redis that cannot be written to is unusable."""
        return False

    def claims_maintenance(self) -> bool:
        """Return whether this process maintains the store for the next minute; it alone does.

        Where Redis has lost its data, or the heads are gone, StoreUnusableError says what to do.
        """
        with self._translated_errors():
            if not self._index.has_its_name():
                self._pair()
            return self._index.claim(_SWEEPER, self._owner, _SWEEPER_TIME)

    def save_use_times(self) -> None:
        """Write the times of use since the last call."""
        uses = self._uses.copy()
        if not uses:
            return
        with self._translated_errors():
            self._index.use(uses)
        for key, used_at in uses.items():
            if self._uses.get(key) == used_at:
                self._uses.pop(key, None)

    def remove_orphans(self) -> int:
        """Remove heads that crashed writers left, and return their number."""
        with self._translated_errors():
            removed = garbage.remove_garbage(self._index, self._bodies)
            for name in garbage.orphans(self._index, self._bodies):
                self._bodies.remove(name)
                removed += 1
            return removed + self._bodies.remove_leftovers(before=self._clock() - WRITE_TIME)

    def verify(self, *, fix: bool, checked: Callable[[], None] = lambda: None) -> Iterator[Fault]:
        """Check everything and report faults; with `fix`, remove what is damaged. Each recording calls `checked`."""
        with self._translated_errors():
            now = self._clock()
            yield from verification.verify(self._index, self._bodies, self._note, now=now, fix=fix, checked=checked)

    def _note(self, key: Key, change: Change) -> bool:
        """Note a change by this process to a recording, and remove the heads that nothing needs any more."""
        if self.watcher is not None and change.version:
            self.watcher.note(key)
        self._discard(change)
        return change.is_done

    def _discard(self, change: Change) -> None:
        """Remove the heads that nothing needs after a change."""
        garbage.discard(self._index, self._bodies, change.unneeded)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise StoreUnusableError where Redis, or the medium of the heads, fails.

        While the watcher finds Redis away, nothing waits for it.
        """
        if self.watcher is not None and not self.watcher.is_connected:
            raise StoreUnusableError(str(self._address.redis), "Redis cannot be reached", DEFAULT_ADVICE)
        try:
            with translated_bodies(self._address.bodies):
                yield
        except REDIS_ERRORS as error:
            if self.watcher is not None and isinstance(error, redis.ConnectionError | redis.TimeoutError):
                self.watcher.note_failure()
            raise StoreUnusableError(str(self._address.redis), redis_reason(error), advice(error)) from error
