"""Removal of recordings and their earlier versions from a store on disk: on request, or to free space."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store import counters, disk_versions, index_keys
from oda_proxy.store.index_keys import pin_key, used_key
from oda_proxy.store.read_only_index import ReadOnlyIndex, is_full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Entry
    from oda_proxy.store.index import Index
    from oda_proxy.store.store_folder import StoreFolder

BATCH = 100
"""Recordings that are removed in one transaction: other processes wait for it."""


class DiskRemoval:
    """Removes recordings from a folder; on a full disk, where the index cannot be changed, their heads first."""

    def __init__(self, folder: StoreFolder) -> None:
        self._folder = folder
        self._headless: set[Key] = set()
        self._headless_versions: set[Entry] = set()

    @property
    def is_pending(self) -> bool:
        """Whether rows are left whose heads were removed."""
        return bool(self._headless or self._headless_versions)

    def remove(self, key: Key) -> bool:
        """Remove a recording; return whether it existed. One of another release stays."""
        with self._folder.open_index() as index:
            return self._remove(index, key, lambda _: True)

    def remove_each(self, keys: Iterable[Key]) -> Iterator[Key]:
        """Remove recordings while their keys are iterated over, many in one transaction; as `remove`.

        The keys of those that did not exist are left out.
        """
        pending = iter(keys)
        while batch := list(islice(pending, BATCH)):
            with self._folder.open_index() as index:
                removed = self._remove_batch(index, ((key, lambda _: True) for key in batch))
            yield from removed

    def evict(self, entry: Entry) -> bool:
        """Remove a recording to free space, unless it was replaced or pinned since; return whether it was removed.

        On a full disk, where the index cannot be changed, its head is removed first.
        """
        is_version = entry.valid_until is not None
        with self._folder.open_index() as index:
            try:
                if is_version:
                    return bool(self._remove_versions(index, [entry], is_evicted=True))
                return self._remove(index, entry.key, _is_evictable(index, entry))
            except (OSError, sqlite3.Error) as error:
                if not is_full(error, self._folder.path):
                    raise
                if is_version and pin_key(entry.key) in index:
                    raise
                row_key, _ = index_keys.find_row_unchecked(index, entry.key)
                if not is_version and not _is_evictable(index, entry)(row_key):
                    raise
            self._folder.heads.remove(entry.head_name)
            with suppress(OSError):  # for processes that hold it in memory: the index is unchanged
                os.utime(self._folder.heads.folder, ns=(time.time_ns(),) * 2)
            if is_version:
                self._headless_versions.add(entry)
            else:
                self._headless.add(entry.key)
            if isinstance(index, ReadOnlyIndex):
                index.reopen_at = 0.0  # there may be room now
        with suppress(StoreUnusableError):  # the row is deleted later
            self.remove_headless()
        return True

    def evict_all(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove recordings to free space, as `evict`, in one transaction; return those that were removed."""
        versions = [entry for entry in entries if entry.valid_until is not None]
        others = [entry for entry in entries if entry.valid_until is None]
        with self._folder.open_index() as index:
            try:
                removed = set(self._remove_batch(index, ((one.key, _is_evictable(index, one)) for one in others)))
                removed_versions = self._remove_versions(index, versions, is_evicted=True) if versions else []
            except (OSError, sqlite3.Error) as error:
                if not is_full(error, self._folder.path):
                    raise
            else:
                return [*(entry for entry in others if entry.key in removed), *removed_versions]
        return [entry for entry in entries if self.evict(entry)]

    def remove_versions(self, entries: Iterable[Entry], *, is_evicted: bool = False) -> list[Entry]:
        """Remove earlier versions, to free space only those that are not pinned; return those that existed."""
        with self._folder.open_index() as index:
            return self._remove_versions(index, entries, is_evicted=is_evicted)

    def remove_headless(self) -> None:
        """Delete the rows of recordings whose heads were removed on a full disk."""
        for key in tuple(self._headless):
            with self._folder.open_index() as index:

                def is_headless(row_key: str) -> bool:
                    row = counters.row(index, row_key)
                    return row is None or not self._folder.heads.path(row.head.name).exists()

                self._remove(index, key, is_headless)
            self._headless.discard(key)
        for entry in tuple(self._headless_versions):
            if not self._folder.heads.path(entry.head_name).exists():
                self.remove_versions([entry])
            self._headless_versions.discard(entry)

    def _remove(self, index: Index | ReadOnlyIndex, key: Key, condition: Callable[[str], bool]) -> bool:
        """Remove a recording and its metadata if a condition on its row holds, which is checked in the transaction."""
        with index.writing() as writable:
            is_removed, head_name = self._delete_rows(writable, key, condition)
        self._folder.discard_head(index, head_name)
        return is_removed

    def _remove_batch(
        self, index: Index | ReadOnlyIndex, batch: Iterable[tuple[Key, Callable[[str], bool]]]
    ) -> list[Key]:
        """Remove recordings in one transaction, each if its condition holds; return the keys of those removed."""
        removed: dict[Key, str | None] = {}
        with index.writing() as writable:
            for key, condition in batch:
                is_removed, head_name = self._delete_rows(writable, key, condition)
                if is_removed:
                    removed[key] = head_name
        with index.writing():  # one transaction for the checks of all heads
            for head_name in removed.values():
                self._folder.discard_head(index, head_name)
        return list(removed)

    def _delete_rows(self, index: Index, key: Key, condition: Callable[[str], bool]) -> tuple[bool, str | None]:
        """Delete the rows of a recording in a transaction; return whether, and its head if nothing refers to it now."""
        row_key, text = index_keys.find_row_unchecked(index, key)
        if text is None or not condition(row_key):
            return False, None
        head_name = counters.delete_row(index, row_key)
        for metadata_key in (used_key(key), pin_key(key)):
            index.delete(metadata_key)
        return True, head_name

    def _remove_versions(
        self, index: Index | ReadOnlyIndex, entries: Iterable[Entry], *, is_evicted: bool = False
    ) -> list[Entry]:
        """Remove earlier versions in one transaction, to free space only those that are not pinned."""
        removed: dict[Entry, str | None] = {}
        with index.writing() as writable:
            for entry in entries:
                if is_evicted and pin_key(entry.key) in writable:
                    continue
                is_removed, head_name = disk_versions.delete(writable, entry)
                if is_removed:
                    removed[entry] = head_name
        with index.writing():  # one transaction for the checks of all heads
            for head_name in removed.values():
                self._folder.discard_head(index, head_name)
        return list(removed)


def _is_evictable(index: Index | ReadOnlyIndex, entry: Entry) -> Callable[[str], bool]:
    """Return the condition on a row that its recording was not replaced, nor pinned, since its metadata were read."""

    def is_evictable(row_key: str) -> bool:
        row = counters.row(index, row_key)
        return row is not None and row.stored_at == entry.stored_at and pin_key(entry.key) not in index

    return is_evictable
