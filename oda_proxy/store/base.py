"""The protocol of a store of recordings.

A store does not look into recordings, nor decide what may be stored. Its methods block, and may be called from several
threads at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.query import Query
    from oda_proxy.recordings.head import HeadWriter
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.search import Found, Search
    from oda_proxy.store.selection import Filters


@dataclass(frozen=True, slots=True)
class Entry:
    """The metadata of a stored recording; times are in s since 1970 (UTC), sizes in bytes."""

    key: Key
    stored_at: float
    used_at: float
    """When it was last requested, or stored, if never since."""
    size: int
    """Bytes of the head, uncompressed."""
    stored_size: int
    """Bytes of the head on the medium, compressed."""
    head_name: str
    """Name of the stored head: recordings with the same products share it."""
    cost: float
    """Time that the dispatcher took, in s; 0 if unknown."""
    private: bool
    """Whether it was requested with a token."""
    pinned: bool
    """Whether it is exempt from eviction."""
    query: Query | None
    """The query; None if unknown."""
    first_stored_at: float | None = None
    """When the first of several equal answers was stored; None if that is `stored_at`."""
    valid_until: float | None = None
    """When it was replaced, for an earlier version; None for the recording that answers the query today."""

    @property
    def valid_from(self) -> float:
        """Since when it is, or was, the answer to its query."""
        return self.stored_at if self.first_stored_at is None else self.first_stored_at


@dataclass(frozen=True, slots=True)
class HistoryUsage:
    """The number of earlier versions, and the bytes of their heads on the medium that no current recording has."""

    versions: int = 0
    occupied: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """The number of recordings, and the bytes of their heads on the medium."""

    recordings: int
    occupied: int


@dataclass(frozen=True, slots=True)
class ProductTotals:
    """The totals of the public or the private recordings of a product; sizes are in bytes, the cost in s."""

    instrument: str | None
    """None where the query is unknown."""
    product: str | None
    private: bool
    recordings: int
    size: int
    """Bytes of their heads, uncompressed."""
    cost: float
    pinned: int


@dataclass(frozen=True, slots=True)
class OtherRecordings:
    """The recordings of other releases in a store, which are left alone: their number, bytes and formats."""

    recordings: int = 0
    occupied: int = 0
    formats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """The free bytes and the size of a disk."""

    free: int
    size: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault found by `verify`: what it is about, and one line for a person."""

    subject: str
    message: str


class Store(Protocol):
    """Recordings by key. Each method raises StoreUnusableError when the medium fails."""

    @property
    def damaged(self) -> int:
        """How many recordings were found damaged since the start."""

    def get(self, key: Key) -> Recording | None:
        """Return the recording for a key, or None; a damaged one is removed, and counts as absent.

        The caller closes its head, which can be read to its end even where the recording is removed meanwhile.
        """

    def peek(self, key: Key) -> Recording | None:
        """Return the recording for a key as `get` does, without noting that it was requested."""

    def version(self) -> Hashable | None:
        """Return a value that is another one after any change by any process; None where that is not known.

        Takes some microseconds, does not wait for other processes, and may be called in an event loop.
        """

    def may_have_changed(self, key: Key, since: Hashable) -> bool:
        """Return whether the recording of a key may be another one than at a version; does not block.

        Where a store does not know which recordings have changed, all may have.
        """

    def fingerprint(self, key: Key) -> str | None:
        """Return a text that is another one after the recording of a key was replaced; None where there is none."""

    def note_use(self, key: Key) -> None:
        """Note that a recording was requested that was not read from here; does not block."""

    def new_head(self, size: int) -> HeadWriter:
        """Return what takes the head of a recording that may be stored; `size` is about that of its text in bytes."""

    def put(self, recording: Recording, *, same_as: Entry | None = None) -> None:
        """Store a recording, replacing any with its key; once this returns, it survives a crash.

        The replaced one becomes an earlier version, as far as the limits of the history allow. Where it is `same_as`,
        whose content was found equal, both are one version that has been the answer since that one was.
        """

    def versions(self, key: Key) -> list[Entry]:
        """Return the metadata of the earlier versions of a recording, and last its own, in order of time.

        Earlier versions may exist without a recording. Their times do not overlap, also where a clock was set back:
        what is stored then is the answer after what was stored before. Between them there may be gaps.
        """

    def version_keys_beginning(self, text: str) -> list[Key]:
        """Return the keys with earlier versions that begin with a text, in order."""

    def get_version(self, entry: Entry) -> Recording | None:
        """Return the recording with the metadata that `versions` has returned; None if it was removed since.

        It is not noted as requested; otherwise as `get`. One that was replaced since is returned as it was.
        """

    def remove_versions(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove earlier versions, and return those that existed."""

    def expire_versions(self, now: float) -> int:
        """Remove the earlier versions that are more, or older, than the limits of the history allow.

        Those of pinned recordings stay. Returns their number.
        """

    def history_usage(self) -> HistoryUsage:
        """Return the usage of earlier versions."""

    def remove(self, key: Key) -> bool:
        """Remove a recording; return whether it existed. Its earlier versions stay."""

    def evict(self, entry: Entry) -> bool:
        """Remove a recording to free space, unless it was replaced or pinned since; return whether it was removed."""

    def evict_all(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove recordings to free space, as `evict`; return those that were removed."""

    def pin(self, key: Key, *, pinned: bool) -> bool:
        """Exempt a recording from eviction, or no longer; return whether it exists."""

    def keys(self) -> Iterator[Key]:
        """Iterate over the keys, in any order; the first is found at once, however many there are."""

    def keys_beginning(self, text: str) -> list[Key]:
        """Return the keys that begin with a text, in order; soon, however many other keys there are."""

    def entry(self, key: Key) -> Entry | None:
        """Return the metadata of a recording, or None if there is none, or its row cannot be read."""

    def entries(self) -> Iterator[Entry]:
        """Iterate over the metadata of all recordings, in any order."""

    def entries_by_use(self, filters: Filters | None = None) -> Iterator[Entry]:
        """Iterate over the metadata of the recordings that meet filters, the one used last first.

        Without filters, the first is found soon, however many there are.
        """

    def entries_of(self, instrument: str, product: str) -> Iterator[Entry]:
        """Iterate over the metadata of the public recordings of a product, the one stored last first."""

    def search(self, search: Search, *, offset: int, limit: int) -> Found:
        """Return at most `limit` of the recordings that a search finds, from the one with this number on (from 0)."""

    def groups_to_evict(self) -> Iterator[list[Entry]]:
        """Iterate over what may be evicted in order: earlier versions, then recordings, without those that are pinned.

        Those that share a head are evicted together; earlier versions whose head a recording has, with that.
        Recordings may be removed meanwhile. No more are read than the caller needs.
        """

    def totals(self) -> list[ProductTotals]:
        """Return the totals of each product, in constant time."""

    def usage(self) -> Usage:
        """Return the usage, soon; the bytes of earlier versions are included, and their number is not."""

    def other_recordings(self) -> OtherRecordings:
        """Return how much of the usage belongs to other releases."""

    def free_space(self) -> FreeSpace | None:
        """Return the free space of the disk; None for a store without one."""

    def claims_maintenance(self) -> bool:
        """Return whether this process maintains the store for now: of several that share one, only one does."""

    def save_use_times(self) -> None:
        """Write the times of use since the last call: a hit writes nothing."""

    def remove_orphans(self) -> int:
        """Remove files that crashed writers left, and return their number."""


@runtime_checkable
class RemoteStore(Protocol):
    """A store whose servers may be away for a while."""

    def check(self) -> bool:
        """Check that recordings can be read and stored; return False where that shows only in use.

        Raises StoreUnusableError.
        """


@runtime_checkable
class FencedStore(Protocol):
    """A store that several servers write, each under a lease for the key."""

    def put_fenced(self, recording: Recording, fence: int, *, same_as: Entry | None = None) -> None:
        """Store a recording as `put` does, unless a lease with a higher fencing token was taken since.

        Raises FencedError where one was: another server computes the recording now.
        """


class FencedError(OdaProxyError):
    """A recording was not stored: another server has taken over the lease for its key."""

    detail = "fenced"

    def __init__(self) -> None:
        super().__init__("another server computes this recording now, and stores it")


class ManagedStore(Store, Protocol):
    """A store that outlives the process, with what commands do to it."""

    def close(self) -> None:
        """Write the times of use, and release the medium."""

    def remove_each(self, keys: Iterable[Key]) -> Iterator[Key]:
        """Remove recordings while their keys are iterated over; the keys of those that did not exist are left out."""

    def restore(self, recording: Recording, entry: Entry) -> None:
        """Store a recording of another store with the times of its metadata there.

        It becomes an earlier version, or the recording of today; what it replaces as such becomes an earlier version,
        unless both have been the answer since the same time.
        """

    def archive(self, key: Key, valid_until: float) -> bool:
        """Make the recording of a key an earlier version, which was the answer until then; return whether it exists."""

    def pin_all(self, keys: Iterable[Key], *, pinned: bool) -> list[Key]:
        """Exempt recordings from eviction, or no longer; return the keys of those that exist."""

    def is_read_only(self) -> bool:
        """Return whether recordings can be read, and not changed."""

    def remove_other_recordings(self) -> int:
        """Remove the recordings of other releases, and return their number."""

    def verify(self, *, fix: bool, checked: Callable[[], None] = lambda: None) -> Iterator[Fault]:
        """Check everything and report faults; with `fix`, remove what is damaged. Each recording calls `checked`."""
