"""Writes recordings to Redis: first the head, under a new name that Redis has noted, then the row that names it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.base import FencedError
from oda_proxy.store.heads import CompressedHeadWriter, UnwrittenHead
from oda_proxy.store.objects.bodies import BodiesUnusableError, new_name
from oda_proxy.store.redis import history
from oda_proxy.store.redis.fields import fields, version_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.head import Head
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry
    from oda_proxy.store.history_limits import HistoryLimits
    from oda_proxy.store.objects.bodies import Bodies
    from oda_proxy.store.redis.history import Replacement
    from oda_proxy.store.redis.index import Change, FormerRow, RedisIndex

WRITE_TIME: Final = 3600
"""Seconds after which a writer of a head is given up."""

_TRIES: Final = 3


class RecordingWriter:
    """Writes recordings and earlier versions; changes are passed to `note`.

    Raises what Redis, or the medium of the heads, raises; StoreUnusableError where that takes too long at `place`.
    """

    def __init__(
        self,
        place: str,
        index: RedisIndex,
        bodies: Bodies,
        limits: HistoryLimits,
        note: Callable[[Key, Change], object],
    ) -> None:
        self._place = place
        self._index = index
        self._bodies = bodies
        self._limits = limits
        self._note = note

    def put(self, recording: Recording, same_as: Entry | None, fence: int | None) -> None:
        """Store a recording as `Store.put`, with a fencing token if any. Raises FencedError."""
        self._write(recording, lambda former: history.replacement(former, recording, same_as), fence)

    def restore(self, recording: Recording, entry: Entry) -> None:
        """Store a recording with the times of its metadata in another store, as `ManagedStore.restore`."""
        if entry.valid_until is None:
            self._write(recording, lambda former: history.restored(former, entry), None)
            return
        head = _compressed(recording.head)
        version = version_fields(
            recording.key,
            fields(recording, head.head_file)["row"],
            valid_from=entry.valid_from,
            valid_until=entry.valid_until,
        )
        self._write_head(recording.key, head, lambda name: self._index.put_version(recording.key, name, version))

    def _write(self, recording: Recording, replaced: Callable[[FormerRow], Replacement], fence: int | None) -> None:
        """Store a recording in place of the row that `replaced` is called with."""
        head = _compressed(recording.head)

        def put(name: str) -> tuple[str, Change]:
            while True:
                former, version, first_stored_at = replaced(self._index.read_former(recording.key))
                result, change = self._index.put(
                    recording.key,
                    name,
                    fields(recording, head.head_file, first_stored_at),
                    former=former,
                    version=version,
                    fence=fence,
                    max_versions=self._limits.max_versions,
                )
                if result != "changed":  # else another writer stored one meanwhile
                    return result, change

        self._write_head(recording.key, head, put)

    def _write_head(self, key: Key, head: UnwrittenHead, put: Callable[[str], tuple[str, Change]]) -> None:
        """Write a head, and then the row that names it with `put`."""
        for _ in range(_TRIES):
            name = new_name(head.head_file.name)
            self._index.begin(name, WRITE_TIME)
            self._bodies.write(name, head.content)
            result, change = put(name)
            self._note(key, change)
            if result == "stored":
                return
            with suppress(BodiesUnusableError):  # the sweeper finds it
                self._bodies.remove(name)
            if result == "fenced":
                raise FencedError
        raise StoreUnusableError(self._place, f"writing a head took more than {WRITE_TIME} s", "look at the network")


def _compressed(head: Head) -> UnwrittenHead:
    if isinstance(head, UnwrittenHead):
        return head
    writer = CompressedHeadWriter(head.size)
    for piece in head.pieces():
        writer.write(piece)
    return writer.finish()
