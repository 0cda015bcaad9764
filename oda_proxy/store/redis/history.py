"""Earlier versions of recordings in Redis: what a recording becomes that is replaced, and what is listed or removed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from oda_proxy.http.scope import after
from oda_proxy.store.history_limits import next_valid_from, not_before, restored_from
from oda_proxy.store.redis.fields import (
    DAMAGE,
    has_place,
    read_entry,
    read_row,
    read_version_entry,
    version_fields,
    version_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry
    from oda_proxy.store.history_limits import HistoryLimits
    from oda_proxy.store.redis.fields import Fields
    from oda_proxy.store.redis.index import Change, FormerRow, RedisIndex
    from oda_proxy.store.rows import Row

BATCH = 100
"""Versions that are removed by one script."""


class Replacement(NamedTuple):
    """What a put replaces, the version that this becomes, and since when the answer is the same."""

    former: FormerRow
    version: Fields | None
    first_stored_at: float | None


def replacement(former: FormerRow, recording: Recording, same_as: Entry | None) -> Replacement:
    """Return what becomes of the row that a recording replaces: as `Store.put`; a damaged one becomes nothing."""
    row, end = _row(recording.key, former), _end(former)
    version = None
    if same_as is not None and (row is None or row.stored_at == same_as.stored_at):
        begin = not_before(end, min(same_as.valid_from, recording.stored_at))
    elif row is None:
        begin = not_before(end, recording.stored_at)
    else:
        begin = next_valid_from(row.entry(used_at=0.0, pinned=False), recording.stored_at)
        version = _version(former, row, begin)
    return Replacement(former, version, None if begin == recording.stored_at else begin)


def restored(former: FormerRow, entry: Entry) -> Replacement:
    """Return what becomes of the row that the recording of another store replaces, with its metadata there."""
    row = _row(entry.key, former)
    replaced = None if row is None else row.entry(used_at=0.0, pinned=False)
    begin = restored_from(entry, replaced, _end(former))
    is_other = row is not None and row.valid_from != entry.valid_from
    version = _version(former, row, begin) if row is not None and is_other else None
    return Replacement(former, version, None if begin == entry.stored_at else begin)


def archive(index: RedisIndex, key: Key, valid_until: float, limits: HistoryLimits) -> Change:
    """Make the recording of a key an earlier version, which was the answer until then; a damaged one is removed."""
    while True:
        former = index.read_former(key)
        row = _row(key, former)
        version = _version(former, row, max(valid_until, after(row.valid_from))) if row else None
        if version is None:
            return index.remove(key)
        word, change = index.archive(key, version, former=former, max_versions=limits.max_versions)
        if word == "stored":
            return change


def versions(index: RedisIndex, key: Key, uses: Mapping[Key, float]) -> list[Entry]:
    """Return the metadata of the versions of a recording, and last its own; rows that are damaged are left out."""
    earlier, current = index.versions(key)
    pinned = current[-1] == b"1"
    entries = [read_version_entry(key, (time or b"").decode(), one, pinned=pinned) for time, *one in earlier]
    entries.append(read_entry(key, current, used_at=uses.get(key, 0.0)))
    return [one for one in entries if one is not None]


def remove(
    index: RedisIndex, entries: Sequence[Entry], discard: Callable[[Change], object], *, is_evicted: bool
) -> list[Entry]:
    """Remove earlier versions, to free space only those that are not pinned; return those that existed.

    Bodies that nothing needs any more are passed to `discard`.
    """
    removed: list[Entry] = []
    for start in range(0, len(entries), BATCH):
        batch = entries[start : start + BATCH]
        found, change = index.remove_versions(list(map(_name, batch)), is_evicted=is_evicted)
        discard(change)
        removed += [one for one in batch if _name(one) in found]
    return removed


def expire(index: RedisIndex, limits: HistoryLimits, now: float, discard: Callable[[Change], object]) -> int:
    """Remove the versions beyond the limits of the history, without pinned ones, as `remove`; return their number."""
    removed = pinned = 0
    if not math.isinf(limits.max_versions):
        for key in index.keys_with_versions(more_than=int(limits.max_versions)):
            number, change = index.trim(key, limits.max_versions)
            discard(change)
            removed += number
    if math.isinf(limits.max_age):
        return removed
    while names := index.replaced_before(now - limits.max_age, pinned):
        found, change = index.remove_versions(names, is_evicted=True)
        discard(change)
        removed += len(found)
        pinned += len(names) - len(found)
    return removed


def _name(entry: Entry) -> str:
    return f"{entry.key}:{version_time(entry.valid_from)}"


def _row(key: Key, former: FormerRow) -> Row | None:
    """Return the row that is replaced; None where there is none, or it is damaged."""
    try:
        return read_row(key, former.row, former.check)
    except DAMAGE:
        return None


def _end(former: FormerRow) -> float | None:
    """Return when the last version was replaced; None where there is none."""
    try:
        return float(former.ended)
    except ValueError:
        return None


def _version(former: FormerRow, row: Row, valid_until: float) -> Fields | None:
    """Return the fields of the version that a row becomes; None where its time has no place among versions."""
    if former.row is None or not has_place(row.valid_from):
        return None
    return version_fields(row.key, former.row, valid_from=row.valid_from, valid_until=valid_until)
