"""The earlier versions in a store on disk, within the limits of its history."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from oda_proxy.http.scope import after
from oda_proxy.store import counters, disk_versions, index_keys, secondary_index
from oda_proxy.store.base import HistoryUsage
from oda_proxy.store.counters import DAMAGE
from oda_proxy.store.disk_removal import BATCH
from oda_proxy.store.medium_errors import reason
from oda_proxy.store.read_only_index import ReadOnlyIndex

if TYPE_CHECKING:
    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry
    from oda_proxy.store.disk_removal import DiskRemoval
    from oda_proxy.store.history_limits import HistoryLimits
    from oda_proxy.store.index import Index
    from oda_proxy.store.store_folder import StoreFolder

_log = logging.getLogger(__name__)


class DiskHistory:
    """The earlier versions in a folder."""

    def __init__(self, folder: StoreFolder, removal: DiskRemoval, limits: HistoryLimits) -> None:
        self._folder = folder
        self._removal = removal
        self._limits = limits

    def archive(self, key: Key, valid_until: float) -> None:
        """Make the recording of a key an earlier version, which was the answer until then."""
        with self._folder.open_index() as index, index.writing() as writable:
            row_key, _ = index_keys.find_row_unchecked(writable, key)
            replaced = counters.row(writable, row_key)
            if replaced is not None:
                disk_versions.add(writable, row_key, replaced, max(valid_until, after(replaced.valid_from)))

    def remove_surplus(self, index: Index, key: Key) -> list[str | None]:
        """Remove versions of a recording beyond their number, in a transaction; return heads without references."""
        if self._limits.max_versions == math.inf:
            return []
        surplus = self._limits.exceeding(disk_versions.versions(index, key), -math.inf)
        return [disk_versions.delete(index, one)[1] for one in surplus if not one.pinned]

    def versions(self, key: Key) -> list[Entry]:
        """Return the metadata of the earlier versions of a recording, in order of time."""
        with self._folder.open_index() as index:
            return disk_versions.versions(index, key)

    def keys_beginning(self, text: str) -> list[Key]:
        """Return the keys with earlier versions that begin with a text, in order."""
        with self._folder.open_index() as index:
            return list(dict.fromkeys(key for _, key, _ in index_keys.version_rows(index, text)))

    def get(self, entry: Entry) -> Recording | None:
        """Return the version with these metadata, which may be the recording itself; None if it was removed since."""
        with self._folder.open_index() as index:
            row_key, _ = index_keys.find_row_unchecked(index, entry.key)
            row = counters.row(index, row_key)
            if row is None or entry.valid_until is not None or row.valid_from != entry.valid_from:
                row_key, row = disk_versions.find_row(index, entry)  # it may have been replaced meanwhile
            if row is None:
                return None
            try:
                return row.recording(self._folder.heads.open(row.head))
            except DAMAGE as error:
                self._folder.damaged += 1
                _log.warning("an earlier version of recording %s is damaged (%s)", entry.key, reason(error))
                if not isinstance(index, ReadOnlyIndex):
                    self._folder.remove_damaged(index, row_key, counters.text(index, row_key))
                return None

    def expire(self, now: float) -> int:
        """Remove the earlier versions beyond the limits of the history, without pinned ones; return their number."""
        removed = 0
        with self._folder.open_index() as index:
            if isinstance(index, ReadOnlyIndex):
                return removed
            for key in self._keys_with_surplus(index):
                surplus = self._limits.exceeding(disk_versions.versions(index, key), -math.inf)
                removed += self._evict([one for one in surplus if not one.pinned])
            if math.isinf(self._limits.max_age) or not self._folder.is_indexed(index):
                return removed
            expired = secondary_index.versions_replaced_before(index, now - self._limits.max_age)
            for at in range(0, len(expired), BATCH):
                found = secondary_index.read(index, expired[at : at + BATCH])
                removed += self._evict([row.entry(used_at=row.stored_at, pinned=pinned) for row, _, pinned in found])
        return removed

    def _keys_with_surplus(self, index: Index) -> list[Key]:
        """Return the keys with more versions than the limits allow: they were lower when those were stored."""
        if math.isinf(self._limits.max_versions):
            return []
        return index_keys.keys_with_versions(index, more_than=int(self._limits.max_versions))

    def _evict(self, entries: list[Entry]) -> int:
        return len(self._removal.remove_versions(entries, is_evicted=True))

    def usage(self) -> HistoryUsage:
        """Return the usage of earlier versions."""
        with self._folder.open_index() as index:
            if self._folder.is_indexed(index):
                return secondary_index.history_usage(index)
            heads = [row.head for _, row in disk_versions.rows_of(index) if row is not None]
            return HistoryUsage(len(heads), sum({head.name: head.stored_size for head in heads}.values()))
