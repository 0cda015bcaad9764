"""Reads recordings and earlier versions from Redis, with their heads; removes those that are damaged."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from oda_proxy.store.objects.bodies import confirm
from oda_proxy.store.redis.fields import DAMAGE, body_name, read_row, read_version_row, version_time
from oda_proxy.store.redis.medium_errors import reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry
    from oda_proxy.store.objects.bodies import Bodies
    from oda_proxy.store.redis.index import Change, RedisIndex, StoredRow
    from oda_proxy.store.rows import Row

_log = logging.getLogger(__name__)

_TRIES: Final = 3


class _ReplacedError(Exception):
    """The recording of a key is not the one that is wanted."""


class RecordingReader:
    """Reads recordings; changes are passed to `note`. Raises what Redis, or the medium of the heads, raises."""

    def __init__(self, index: RedisIndex, bodies: Bodies, note: Callable[[Key, Change], object]) -> None:
        self._index = index
        self._bodies = bodies
        self._note = note
        self._lock = threading.Lock()
        self.damaged = 0
        """How many were found damaged."""

    def recording(
        self, key: Key, parse: Callable[[Key, bytes | None, bytes | None], Row] = read_row
    ) -> Recording | None:
        """Return the recording for a key whose row can be parsed, or None."""
        return self._open(
            key,
            read=lambda: self._index.read(key),
            parse=parse,
            remove=lambda found: self._index.remove_damaged(key, found.put),
            what="recording",
        )

    def version(self, entry: Entry) -> Recording | None:
        """Return the version with these metadata, which may be the recording itself; None if it was removed since."""
        key, time = entry.key, version_time(entry.valid_from)

        def parse(key: Key, row: bytes | None, check: bytes | None) -> Row:
            found = read_row(key, row, check)
            if found.valid_from != entry.valid_from:
                raise _ReplacedError
            return found

        if entry.valid_until is None:
            with suppress(_ReplacedError):  # it may be an earlier version since
                if (current := self.recording(key, parse)) is not None:
                    return current
        return self._open(
            key,
            read=lambda: self._index.read_version(key, time),
            parse=lambda key, row, check: read_version_row(key, time, row, check),
            remove=lambda found: self._index.remove_damaged_version(key, time, found.check),
            what="an earlier version of recording",
        )

    def _open(
        self,
        key: Key,
        *,
        read: Callable[[], StoredRow | None],
        parse: Callable[[Key, bytes | None, bytes | None], Row],
        remove: Callable[[StoredRow], Change],
        what: str,
    ) -> Recording | None:
        """Open what a row describes; None where there is none, or it is damaged, and so removed."""
        for _ in range(_TRIES):
            found = read()
            if found is None:
                return None
            try:
                row = parse(key, found.row, found.check)
                name = body_name(found.body, row.head.name)
                return row.recording(self._bodies.open(name, row.head))
            except (*DAMAGE, FileNotFoundError) as error:
                if read() != found:
                    continue  # another writer replaced or removed it meanwhile
                if isinstance(error, FileNotFoundError):
                    confirm(self._bodies)
                self._note(key, remove(found))
                with self._lock:
                    self.damaged += 1
                _log.warning("%s %s was damaged and is removed (%s)", what, key, reason(error))
                return None
        return None
