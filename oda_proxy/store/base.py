"""What a store of recordings does, whatever it keeps them on.

A store translates and never decides: it cannot tell an image from a light curve, and what may be kept was decided
before it is asked. Its methods block, and may be called from several threads at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.key import Key
    from oda_proxy.recording import Recording


class Store(Protocol):
    """Recordings under their keys. Each method raises StoreUnusableError when the medium fails."""

    def get(self, key: Key) -> Recording | None:
        """Give the recording, whole, or None: what was damaged is removed and is not there."""

    def put(self, recording: Recording) -> None:
        """Keep a recording in place of any other with its key; once this returns, a crash does not lose it."""

    def remove(self, key: Key) -> None:
        """Forget a recording, if it is there."""

    def keys(self) -> Iterator[Key]:
        """Name what is kept, in any order."""
