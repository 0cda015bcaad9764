"""The earlier versions of recordings in the index of a store on disk.

They are rows like those of recordings, and refer to heads in the same way: versions with the same products share one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from oda_proxy.store import counters, index_keys, rows, secondary_index
from oda_proxy.store.counters import DAMAGE
from oda_proxy.store.history_limits import next_valid_from, not_before, restored_from
from oda_proxy.store.index_keys import pin_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry
    from oda_proxy.store.index import Index
    from oda_proxy.store.read_only_index import ReadOnlyIndex

_MAX_TIME: Final = 1e11
"""Seconds since 1970 below which a time has a place in the order of keys."""


def archive(index: Index, row_key: str, recording: Recording, same_as: Entry | None) -> float | None:
    """Make an earlier version of the row that a recording replaces, within a transaction.

    Nothing is made of it where it is `same_as`, or damaged. Returns the `first_stored_at` of the recording.
    """
    replaced, end = counters.row(index, row_key), _end(index, recording.key)
    if same_as is not None and (replaced is None or replaced.stored_at == same_as.stored_at):
        begin = not_before(end, min(same_as.valid_from, recording.stored_at))
    elif replaced is None:
        begin = not_before(end, recording.stored_at)
    else:
        begin = next_valid_from(replaced.entry(used_at=0.0, pinned=False), recording.stored_at)
        add(index, row_key, replaced, begin)
    return None if begin == recording.stored_at else begin


def archive_for(index: Index, row_key: str, entry: Entry) -> float | None:
    """Make an earlier version of the row that the recording of another store replaces, within a transaction.

    Nothing is made of it where both have been the answer since the same time. Returns the `first_stored_at` of the
    recording, whose metadata in the other store are `entry`.
    """
    row = counters.row(index, row_key)
    replaced = None if row is None else row.entry(used_at=0.0, pinned=False)
    begin = restored_from(entry, replaced, _end(index, entry.key))
    if row is not None and row.valid_from != entry.valid_from:
        add(index, row_key, row, begin)
    return None if begin == entry.stored_at else begin


def _end(index: Index, key: Key) -> float | None:
    """Return when the last of the earlier versions of a recording was replaced; None where there is none."""
    entries = versions(index, key)
    return entries[-1].valid_until if entries else None


def add(index: Index, row_key: str, replaced: rows.Row, valid_until: float) -> None:
    """Add the row of a recording as an earlier version, which was the answer until then; within a transaction."""
    if not 0 <= replaced.valid_from < _MAX_TIME:
        return
    version_key = index_keys.version_key(replaced.key, replaced.valid_from)
    counters.delete_row(index, version_key)
    text = rows.dumps_version(index.get(row_key), valid_from=replaced.valid_from, valid_until=valid_until)
    index.set(version_key, text)
    counters.count_references(index, replaced.head, 1)
    secondary_index.add(index, version_key)


def versions(index: Index | ReadOnlyIndex, key: Key) -> list[Entry]:
    """Return the metadata of the earlier versions of a recording, in order of time; damaged rows are left out."""
    pinned = pin_key(key) in index
    found = (row for _, row in rows_of(index, key))
    entries = [row.entry(used_at=row.stored_at, pinned=pinned) for row in found if row is not None]
    return sorted(entries, key=lambda entry: entry.valid_from)


def rows_of(index: Index | ReadOnlyIndex, text: str = "") -> Iterator[tuple[str, rows.Row | None]]:
    """Iterate over the rows of the earlier versions of recordings whose keys begin with a text; None for damage."""
    for row_key, key, value in index_keys.version_rows(index, text):
        try:
            yield row_key, rows.loads_version(key, value)
        except (*DAMAGE, RecursionError):
            yield row_key, None


def find_row(index: Index | ReadOnlyIndex, entry: Entry) -> tuple[str, rows.Row | None]:
    """Return the key and the row of a version; None where there is none, or the row is damaged."""
    row_key = index_keys.version_key(entry.key, entry.valid_from)
    return row_key, counters.row(index, row_key)


def delete(index: Index, entry: Entry) -> tuple[bool, str | None]:
    """Delete the row of a version, in a transaction; return whether, and its head if nothing refers to it now."""
    row_key, row = find_row(index, entry)
    return (False, None) if row is None else (True, counters.delete_row(index, row_key))
