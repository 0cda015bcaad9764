"""What a store of recordings does, whatever it keeps them on.

A store translates and never decides: it cannot tell an image from a light curve, and what may be kept was decided
before it is asked. Its methods block, and may be called from several threads at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.query import Query
    from oda_proxy.recordings.recording import Recording


@dataclass(frozen=True, slots=True)
class Entry:
    """What a store says of a recording without reading it; times are in s since 1970 (UTC), sizes in bytes."""

    key: Key
    stored_at: float
    used_at: float
    """When it was last asked for; when it was stored, if never since."""
    size: int
    """Bytes of the head as it is sent."""
    stored_size: int
    """Bytes of the head on the medium."""
    head_name: str
    """What holds the head: recordings with the same products may share it."""
    cost: float
    """How long the dispatcher took, in s; 0 where that is not known."""
    private: bool
    """Whether it was asked for with a token."""
    pinned: bool
    """Whether it is never given up for lack of space."""
    query: Query | None
    """What was asked; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How much a store holds: recordings, and bytes that their heads occupy on the medium."""

    recordings: int
    occupied: int


class Store(Protocol):
    """Recordings under their keys. Each method raises StoreUnusableError when the medium fails."""

    def get(self, key: Key) -> Recording | None:
        """Give the recording, whole, or None: what was damaged is removed and is not there.

        The head is open: whoever gets it closes it. It can be read to its end even where the recording is removed
        meanwhile.
        """

    def put(self, recording: Recording) -> None:
        """Keep a recording in place of any other with its key; once this returns, a crash does not lose it."""

    def remove(self, key: Key) -> bool:
        """Forget a recording; tell whether it was there."""

    def evict(self, entry: Entry) -> bool:
        """Forget a recording for lack of space, unless it was replaced or pinned since; tell whether it was done."""

    def pin(self, key: Key, *, pinned: bool) -> bool:
        """Say whether a recording is never to be given up for lack of space; tell whether it is there."""

    def keys(self) -> Iterator[Key]:
        """Name what is kept, in any order; the first is found at once, however many there are."""

    def entry(self, key: Key) -> Entry | None:
        """Describe a recording, or give None where there is none, or its row cannot be read."""

    def entries(self) -> Iterator[Entry]:
        """Describe what is kept, in any order."""

    def usage(self) -> Usage:
        """Tell how much is kept, at once."""

    def save_use_times(self) -> None:
        """Write down when recordings were asked for since the last time: a hit writes nothing."""

    def remove_orphans(self) -> int:
        """Remove what crashed writers left, and tell how many files that were."""
