"""Recordings kept in memory, for as long as the process lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.key import Key
    from oda_proxy.recording import Recording


class MemoryStore:
    """A store without a medium; it never fails."""

    def __init__(self) -> None:
        self._recordings: dict[Key, Recording] = {}

    def get(self, key: Key) -> Recording | None:
        """Give the recording, or None."""
        return self._recordings.get(key)

    def put(self, recording: Recording) -> None:
        """Keep a recording."""
        self._recordings[recording.key] = recording

    def remove(self, key: Key) -> None:
        """Forget a recording, if it is there."""
        self._recordings.pop(key, None)

    def keys(self) -> Iterator[Key]:
        """Name what is kept."""
        return iter(list(self._recordings))
