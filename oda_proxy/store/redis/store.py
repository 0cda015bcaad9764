"""A store whose index is in Redis, and whose heads are in a folder that hosts share, or in a bucket.

A head is written under a new name, which Redis was told before, and named by the row after. A writer that was given up
(`WRITE_TIME`) cannot name its head any more: it writes it again. What no row names is garbage, which the next sweeper
removes: a crash leaves nothing else.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import redis

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.base import FencedError, HistoryUsage, OtherRecordings
from oda_proxy.store.heads import CompressedHeadWriter, UnwrittenHead
from oda_proxy.store.objects.bodies import BodiesUnusableError, new_name
from oda_proxy.store.redis import garbage, searches, verification
from oda_proxy.store.redis.fields import DAMAGE, body_name, fields, read_row
from oda_proxy.store.redis.medium_errors import DEFAULT_ADVICE, advice, reason, redis_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.head import Head
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry, Fault, FreeSpace, ProductTotals, Usage
    from oda_proxy.store.objects.bodies import Bodies
    from oda_proxy.store.redis.address import StoreAddress
    from oda_proxy.store.redis.index import Change, RedisIndex
    from oda_proxy.store.redis.watcher import ChangeWatcher
    from oda_proxy.store.search import Found, Search
    from oda_proxy.store.selection import Filters

_log = logging.getLogger(__name__)

WRITE_TIME: Final = 3600
"""Seconds after which a writer of a head is given up."""

_SWEEPER: Final = "sweeper"
_SWEEPER_TIME: Final = 60
"""Seconds for which a process maintains the store, unless it extends that."""

_TRIES: Final = 3


class RedisStore:
    """A store in Redis. Each method raises StoreUnusableError where Redis, or the medium of the heads, fails."""

    def __init__(
        self,
        address: StoreAddress,
        index: RedisIndex,
        bodies: Bodies,
        watcher: ChangeWatcher | None = None,
        *,
        clock: Callable[[], float] = time.time,
        track_use: bool = True,
    ) -> None:
        """Take the parts; `clock` returns s since 1970 (UTC). Without a watcher, its version cannot be told."""
        self._address = address
        self._index = index
        self._bodies = bodies
        self._clock = clock
        self._track_use = track_use
        self._uses: dict[Key, float] = {}
        self._lock = threading.Lock()
        self._owner = secrets.token_hex(16)
        self.watcher = watcher
        """What follows the changes by other processes."""
        self.damaged = 0
        """How many recordings were found damaged since the start."""

    def probe(self) -> None:
        """Check that Redis and the medium of the heads can be used, and begin to follow changes."""
        with self._translated_errors():
            self._index.version()
            self._bodies.probe()
            if self.watcher is not None:
                for weakness in self._index.weaknesses():
                    _log.warning("the Redis at %s: %s (docs/scale.md)", self._address.redis, weakness)
                self.watcher.start()

    def close(self) -> None:
        """Write the times of use, and stop following changes."""
        try:
            self.save_use_times()
        except StoreUnusableError as error:
            _log.warning("%s", error)
        if self.watcher is not None:
            self.watcher.stop()

    def get(self, key: Key) -> Recording | None:
        """Return the recording for a key, or None; a damaged one is removed, and counts as absent."""
        recording = self.peek(key)
        if recording is not None:
            self.note_use(key)
        return recording

    def peek(self, key: Key) -> Recording | None:
        """Return the recording for a key as `get` does, without noting a use."""
        with self._translated_errors():
            for _ in range(_TRIES):
                found = self._index.read(key)
                if found is None:
                    return None
                try:
                    row = read_row(key, found.row, found.check)
                    name = body_name(found.body, row.head.name)
                    return row.recording(self._bodies.open(name, row.head))
                except (*DAMAGE, FileNotFoundError) as error:
                    if self._index.read(key) != found:
                        continue  # another writer replaced or removed it meanwhile
                    self._note(key, self._index.remove_damaged(key, found.put))
                    with self._lock:
                        self.damaged += 1
                    _log.warning("recording %s was damaged and is removed (%s)", key, reason(error))
                    return None
        return None

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

        The replaced one does not become an earlier version: a store in Redis has no history. Where it is `same_as`,
        whose content was found equal, the recording has been the answer since that one was.
        """
        self._put(recording, same_as, None)

    def put_fenced(self, recording: Recording, fence: int, *, same_as: Entry | None = None) -> None:
        """Store a recording as `put` does, unless a lease with a higher fencing token was taken since.

        Raises FencedError where one was.
        """
        self._put(recording, same_as, fence)

    def _put(self, recording: Recording, same_as: Entry | None, fence: int | None) -> None:
        head = _compressed(recording.head)
        first_stored_at = None if same_as is None else min(same_as.valid_from, recording.stored_at)
        values = fields(recording, head.head_file, first_stored_at)
        with self._translated_errors():
            for _ in range(_TRIES):
                name = new_name(head.head_file.name)
                self._index.begin(name, WRITE_TIME)
                self._bodies.write(name, head.content)
                result, change = self._index.put(recording.key, name, values, fence)
                self._note(recording.key, change)
                if result == "stored":
                    return
                with suppress(BodiesUnusableError):  # the sweeper finds it
                    self._bodies.remove(name)
                if result == "fenced":
                    raise FencedError
        raise StoreUnusableError(
            str(self._address), f"writing a head took more than {WRITE_TIME} s", "look at the network"
        )

    def archive(self, key: Key, valid_until: float) -> bool:  # noqa: ARG002 - of the protocol
        """Remove the recording of a key, and return whether it existed: there are no earlier versions."""
        return self.remove(key)

    def versions(self, key: Key) -> list[Entry]:
        """Return the metadata of the recording: there are no earlier versions."""
        entry = self.entry(key)
        return [] if entry is None else [entry]

    def version_keys_beginning(self, text: str) -> list[Key]:  # noqa: ARG002 - of the protocol
        """Return nothing: there are no earlier versions."""
        return []

    def get_version(self, entry: Entry) -> Recording | None:
        """Return the recording with the metadata that `versions` has returned; None if it was replaced since."""
        recording = self.peek(entry.key)
        if recording is not None and recording.stored_at != entry.stored_at:
            recording.head.close()
            return None
        return recording

    def remove_versions(self, entries: Sequence[Entry]) -> list[Entry]:  # noqa: ARG002 - of the protocol
        """Return nothing: there are no earlier versions."""
        return []

    def expire_versions(self, now: float) -> int:  # noqa: ARG002 - of the protocol
        """Return 0: there are no earlier versions."""
        return 0

    def history_usage(self) -> HistoryUsage:
        """Return the usage of no versions."""
        return HistoryUsage()

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
            return self._note(entry.key, self._index.evict(entry))

    def evict_all(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove recordings to free space, as `evict`; return those that were removed."""
        return [entry for entry in entries if self.evict(entry)]

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
        """Iterate over the recordings in the order of eviction, those that share a head together, without pinned ones.

        Times of use are written before.
        """
        self.save_use_times()
        with self._translated_errors():
            for head in self._index.heads_to_evict():
                if group := list(self._index.entries(self._index.with_head(head), self._uses)):
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
        """Return whether this process maintains the store for the next minute; it alone does."""
        with self._translated_errors():
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
            yield from verification.verify(self._index, self._bodies, self._note, fix=fix, checked=checked)

    def _note(self, key: Key, change: Change) -> bool:
        """Note a change by this process, and remove the head that nothing needs any more."""
        if self.watcher is not None and change.version:
            self.watcher.note(key)
        garbage.discard(self._index, self._bodies, change.unneeded)
        return change.is_done

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise StoreUnusableError where Redis, or the medium of the heads, fails.

        While the watcher finds Redis away, nothing waits for it.
        """
        if self.watcher is not None and not self.watcher.is_connected:
            raise StoreUnusableError(str(self._address.redis), "Redis cannot be reached", DEFAULT_ADVICE)
        try:
            yield
        except redis.RedisError as error:
            if self.watcher is not None and isinstance(error, redis.ConnectionError | redis.TimeoutError):
                self.watcher.note_failure()
            raise StoreUnusableError(str(self._address.redis), redis_reason(error), advice(error)) from error
        except BodiesUnusableError as error:
            bodies_advice = "look at the folder or the bucket that --store names"
            raise StoreUnusableError(str(self._address.bodies), reason(error), bodies_advice) from error


def _compressed(head: Head) -> UnwrittenHead:
    if isinstance(head, UnwrittenHead):
        return head
    writer = CompressedHeadWriter(head.size)
    for piece in head.pieces():
        writer.write(piece)
    return writer.finish()
