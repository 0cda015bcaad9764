"""Writes recordings to a folder: the head and its row in one transaction, with what becomes of the row before."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from oda_proxy.store import counters, disk_versions, index_keys, layout, rows, secondary_index
from oda_proxy.store.read_only_index import ReadOnlyIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry
    from oda_proxy.store.disk_history import DiskHistory
    from oda_proxy.store.index import Index
    from oda_proxy.store.rows import HeadFile
    from oda_proxy.store.store_folder import StoreFolder

    _Write = Callable[[Index, HeadFile], Iterable[str | None]]


class DiskWriting:
    """Writes recordings and earlier versions to a folder."""

    def __init__(self, folder: StoreFolder, history: DiskHistory) -> None:
        self._folder = folder
        self._history = history

    def put(self, recording: Recording, same_as: Entry | None) -> None:
        """Store a recording as `Store.put`."""
        self._write_current(recording, lambda index, key: disk_versions.archive(index, key, recording, same_as))

    def restore(self, recording: Recording, entry: Entry) -> None:
        """Store a recording with the times of its metadata in another store, as `ManagedStore.restore`."""
        if entry.valid_until is None:
            self._write_current(recording, lambda index, key: disk_versions.archive_for(index, key, entry))
            return
        times = {"valid_from": entry.valid_from, "valid_until": entry.valid_until}

        def write(index: Index, head_file: HeadFile) -> Iterable[str | None]:
            row_key = index_keys.version_key(recording.key, entry.valid_from)
            discarded = counters.delete_row(index, row_key)
            _set_row(index, row_key, rows.dumps_version(rows.dumps(recording, head_file), **times), head_file)
            return [discarded]

        self._write(recording, write)

    def _write_current(self, recording: Recording, archive: Callable[[Index, str], float | None]) -> None:
        """Store a recording in place of the row with which `archive` is called, which returns `first_stored_at`."""

        def write(index: Index, head_file: HeadFile) -> Iterable[str | None]:
            row_key, _ = index_keys.find_row_unchecked(index, recording.key)
            first_stored_at = archive(index, row_key)
            discarded = counters.delete_row(index, row_key)
            _set_row(index, row_key, rows.dumps(recording, head_file, first_stored_at), head_file)
            return [discarded, *self._history.remove_surplus(index, recording.key)]

        self._write(recording, write)

    def _write(self, recording: Recording, write: _Write) -> None:
        """Write a head, and call `write` in the transaction; it returns the names of heads that may be unneeded."""
        with self._folder.open_index() as index:
            try:
                self._write_to(index, recording, write)
            except FileNotFoundError:  # the folder was removed meanwhile
                layout.prepare(self._folder.path)
                self._write_to(self._folder.index(), recording, write)

    def _write_to(self, index: Index | ReadOnlyIndex, recording: Recording, write: _Write) -> None:
        if isinstance(index, ReadOnlyIndex):
            index.writing()
        pending = self._folder.heads.write(recording.head)
        try:
            with index.writing() as writable:
                pending.commit()
                discarded = write(writable, pending.head_file)
        except (OSError, sqlite3.Error):
            with suppress(OSError, sqlite3.Error):  # the head may have its name already, and be an orphan
                self._folder.unlink_orphan(index, pending.head_file.name)
            raise
        finally:
            pending.discard()
        for head_name in discarded:
            self._folder.discard_head(index, head_name)


def _set_row(index: Index, row_key: str, text: str, head_file: HeadFile) -> None:
    index.set(row_key, text)
    counters.count_references(index, head_file, 1)
    secondary_index.add(index, row_key)
