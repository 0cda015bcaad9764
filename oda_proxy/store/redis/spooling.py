"""A store in Redis whose recordings wait on the local disk while Redis, or the medium of the heads, is away.

The waiting recordings are a store in a folder, as bounded and as free of secrets as any. They answer queries until they
are written to Redis, which each call of `save_use_times` tries.
"""

from __future__ import annotations

import logging
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.base import FencedError
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.history_limits import HistoryLimits
from oda_proxy.store.redis.store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

MAX_WAITING: Final = 1_000_000_000
"""Bytes of the heads that wait; further recordings are not stored."""


class StoredLaterError(StoreUnusableError):
    """A recording is not in the store yet: it waits on the local disk."""

    detail = "stored-later"


class SpoolingStore(RedisStore):
    """A store in Redis with a folder for the recordings that wait; it is created when it is needed."""

    def __init__(self, *arguments: Any, folder: Path, max_waiting: int = MAX_WAITING, **options: Any) -> None:
        """Take the arguments of RedisStore, a folder, and the bytes that may wait in it."""
        super().__init__(*arguments, **options)
        self._folder = folder
        self._max_waiting = max_waiting
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: DiskStore | None = None
        self._fences: dict[Key, int] = {}

    @property
    def waiting(self) -> int:
        """How many recordings wait. Raises StoreUnusableError."""
        spool = self._spool(create=False)
        return spool.usage().recordings if spool else 0

    def close(self) -> None:
        """Write the times of use, and close both stores."""
        super().close()
        if self._waiting is not None:
            self._waiting.close()

    def peek(self, key: Key) -> Recording | None:
        """Return the recording for a key: one that waits, if the store is away or has an older one."""
        if (found := self._read_spool(lambda spool: spool.peek(key))) is None:
            return super().peek(key)
        if self._is_newest(key, found.stored_at):
            return found
        found.head.close()
        return super().peek(key)

    def entry(self, key: Key) -> Entry | None:
        """Return the metadata of the recording that `peek` returns, or None; also while the store is away."""
        waiting = self._read_spool(lambda spool: spool.entry(key))
        try:
            stored = super().entry(key)
        except StoreUnusableError:
            return waiting
        if waiting is not None and (stored is None or stored.stored_at < waiting.stored_at):
            return waiting
        return stored

    def fingerprint(self, key: Key) -> str | None:
        """Return a text that is another one after the recording that `peek` returns was replaced; None for none."""
        if (waiting := self._read_spool(lambda spool: spool.fingerprint(key))) is None:
            return super().fingerprint(key)
        try:
            return f"{super().fingerprint(key)} {waiting}"
        except StoreUnusableError:
            return f"- {waiting}"

    def get_version(self, entry: Entry) -> Recording | None:
        """Return the recording with the metadata that `versions` or `entry` has returned; None if it was removed."""
        found = self._read_spool(lambda spool: spool.get_version(entry))
        return super().get_version(entry) if found is None else found

    def remove(self, key: Key) -> bool:
        """Remove a recording, also one that waits; return whether it existed."""
        spool = self._spool(create=False)
        was_waiting = spool is not None and spool.remove(key)
        return super().remove(key) or was_waiting

    def save_use_times(self) -> None:
        """Write the times of use, and the recordings that wait, since the last call."""
        super().save_use_times()
        self.write_waiting()

    def write_waiting(self) -> int:
        """Store the recordings that wait, and return how many; one that was replaced meanwhile is dropped.

        Raises StoreUnusableError where the store is still away.
        """
        spool = self._spool(create=False)
        if spool is None or not self._writing.acquire(blocking=False):
            return 0
        written = 0
        try:
            for key in list(spool.keys()):
                if (entry := spool.entry(key)) is None or (recording := spool.get_version(entry)) is None:
                    continue
                with closing(recording.head):
                    present = RedisStore.entry(self, key)
                    if present is None or present.stored_at < recording.stored_at:
                        with suppress(FencedError):  # another server has computed it since
                            super()._put(recording, None, self._fences.get(key))
                            written += 1
                    spool.evict(entry)
        finally:
            self._writing.release()
        if written:
            _log.warning("%d recordings that waited on this machine are stored", written)
        return written

    def _put(self, recording: Recording, same_as: Entry | None, fence: int | None) -> None:
        """Store a recording; where the store is away, it waits, and StoredLaterError is raised."""
        try:
            super()._put(recording, same_as, fence)
        except StoreUnusableError as error:
            spool = self._spool(create=True)
            if spool is None or spool.usage().occupied + recording.head.size > self._max_waiting:
                raise
            spool.put(recording)
            self._fences.pop(recording.key, None)
            if fence is not None:
                self._fences[recording.key] = fence
            raise StoredLaterError(
                error.place, error.reason, "recordings wait on this machine until it is back"
            ) from error
        if (spool := self._spool(create=False)) is not None:
            with suppress(StoreUnusableError):  # it is older, and dropped when it would be written
                spool.remove(recording.key)

    def _read_spool(self, read: Callable[[DiskStore], _T | None]) -> _T | None:
        """Return what is read of the recordings that wait; None where none does, or their disk fails."""
        try:
            spool = self._spool(create=False)
            return read(spool) if spool else None
        except StoreUnusableError as error:
            _log.debug("cannot read the recordings that wait: %s", error)
            return None

    def _is_newest(self, key: Key, stored_at: float) -> bool:
        """Return whether the store is away, or has no recording that is as new."""
        try:
            stored = super().entry(key)
        except StoreUnusableError:
            return True
        return stored is None or stored.stored_at < stored_at

    def _spool(self, *, create: bool) -> DiskStore | None:
        """Return the store of waiting recordings; None where nothing has ever waited."""
        with self._opening:
            if self._waiting is None and (create or self._folder.is_dir()):
                self._waiting = DiskStore(self._folder, track_use=False, history=HistoryLimits(max_versions=0))
            return self._waiting
