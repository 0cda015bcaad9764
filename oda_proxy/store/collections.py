"""The collections of a store: what they are, what limits them, and the protocol of a place for them."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

from oda_proxy.errors import OdaProxyError
from oda_proxy.http.scope import time_text
from oda_proxy.query.cache_key import PUBLIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Store

MAX_COLLECTIONS: Final = 1000
"""Collections of one owner; those without an owner count together."""
MAX_MEMBERS: Final = 10_000
"""Recordings and failures of a collection, each."""
MAX_DESCRIPTIONS: Final = 1024
"""Descriptions of a name, as many as a server has in memory."""
MAX_FACTS: Final = 100
"""Addresses, and versions of the client, that are noted of a collection."""
MAX_LONE: Final = 5_000
"""Descriptions under names of which there is no collection yet."""

RECORDING: Final = "recording"
FAILURE: Final = "failure"
LEFT_OUT: Final = "answer that was not stored"
CLIENT: Final = "oda_api"
ADDRESS: Final = "address"


class CollectionError(OdaProxyError):
    """A collection cannot take what is requested through its address, or cannot be changed so."""

    http_status = 400
    detail = "collection"


class OtherVersionError(CollectionError):
    """A collection has another version of a recording; `version` is since when it was the answer, None for the last."""

    def __init__(self, name: str, version: float | None) -> None:
        has = "the answer of today" if version is None else f"the version of {time_text(version)}"
        super().__init__(
            f"the collection {name} has {has} to this query, and a capsule has one: use a collection for each date"
        )
        self.version = version


class NoCollectionError(CollectionError):
    """There is no collection of a name, as far as one may see."""

    http_status = 404


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection; times are in s since 1970 (UTC), sizes in bytes as stored."""

    id: int = field(repr=False)
    name: str
    owner: str
    """A digest of the audience that it belongs to; empty where requests had no token."""
    created: float
    changed: float
    recordings: int
    failures: int
    size: int


@dataclass(frozen=True, slots=True)
class Member:
    """A recording or a failure of a collection: its key, how often it was requested, and when first."""

    kind: str
    key: Key
    uses: int
    first: float
    was_pinned: bool
    """Whether somebody had pinned it before."""
    content: bytes | None
    """The text of a failure; of a recording, which version it is, None for the last one."""

    @property
    def version(self) -> float | None:
        """Since when the version of a recording was the answer, in s since 1970 (UTC); None for the last one."""
        return float(self.content) if self.kind == RECORDING and self.content else None


def owner_of(audience: str | None) -> str:
    """Return the owner for an audience: it is stored in no other form."""
    return "" if audience in {None, PUBLIC} else hashlib.sha256(str(audience).encode()).hexdigest()[:32]


def choose(collections: Iterable[Collection], name: str, beginning: str | None) -> Collection:
    """Return the collection of a name and an owner, whose `beginning` may be named, as `Collections.find`."""
    found = [one for one in collections if one.name == name and one.owner.startswith(beginning or "")]
    if not found:
        raise NoCollectionError(f"there is no collection {name}; requests to the address with /in/{name} make it")
    if len(found) > 1:
        owners = ", ".join(one.owner[:12] or "nobody" for one in found)
        raise CollectionError(f"several owners have a collection {name}: name one with --owner ({owners})")
    return found[0]


def no_collections() -> CollectionError:
    """Return the error of a server that makes no collections."""
    return CollectionError("this server makes no collections (--collections 0); use its address without /in/")


def too_many_collections() -> CollectionError:
    """Return the error of an owner with too many collections."""
    return CollectionError(f"there are {MAX_COLLECTIONS} collections, which is the limit; remove one")


def full_collection(name: str, kind: str, limit: int) -> CollectionError:
    """Return the error of a collection with too many members of a kind."""
    return CollectionError(f"the collection {name} has {limit} {kind}s, which is the limit")


def other_version(name: str, content: bytes | None) -> OtherVersionError:
    """Return the error of a collection that has another version of a recording: a capsule has one answer."""
    return OtherVersionError(name, float(content) if content else None)


def full_collections(max_size: int | None) -> CollectionError:
    """Return the error of collections that take too much space together."""
    return CollectionError(
        f"the recordings of all collections would take more than {max_size} bytes (--collections); remove "
        "a collection, or use the address without /in/"
    )


_MAX_SHOWN: Final = 40
"""Characters of its name that a collection has while it is removed."""


class Collections(Protocol):
    """The collections of a store; each method blocks, and raises StoreUnusableError where the medium fails."""

    def note(self, name: str, owner: str, member: Member, size: int, facts: Sequence[tuple[str, str]]) -> bool:
        """Add a use of a recording or a failure to a collection, which is made; return whether it was not there.

        `size` is that of a recording in bytes, as stored, `facts` are kinds and values. Raises CollectionError where
        the collection or the server has no room for it.
        """

    def note_description(self, name: str, file: str, fetched: float, content: bytes) -> None:
        """Note a description that was requested through the address of a collection, with its file.

        Descriptions are the same for everyone: they are noted for all collections of a name. Raises CollectionError.
        """

    def merge(
        self, collection: Collection, members: Sequence[tuple[Member, int]], facts: Sequence[tuple[str, str]]
    ) -> None:
        """Add what a collection of another store has to the one of its owner and name, which is made, without limits.

        With each member are its bytes, as stored. One that there is has the greater number of uses: the same call
        again changes nothing.
        """

    def list(self, owner: str | None = None) -> Sequence[Collection]:
        """Return the collections of an owner, None for all, by name."""

    def find(self, name: str, owner: str | None = None, *, beginning: str | None = None) -> Collection:
        """Return the collection of a name and an owner, whose `beginning` may be named; None is any.

        Raises NoCollectionError where there is none, CollectionError for several.
        """

    def members(self, collection: Collection) -> Sequence[Member]:
        """Return the recordings and failures of a collection, in the order of their first use."""

    def facts(self, collection: Collection, kind: str) -> Sequence[str]:
        """Return the facts of a kind about a collection."""

    def descriptions(self, collection: Collection) -> Sequence[tuple[str, bytes]]:
        """Return the descriptions of a collection: name and content of their files."""

    def names_with(self, keys: Iterable[str]) -> Sequence[str]:
        """Return the names of the collections that have any of these recordings, in order."""

    def is_member(self, key: str) -> bool:
        """Return whether a recording is in any collection."""

    def rename(self, collection: Collection, name: str) -> None:
        """Rename a collection. Raises CollectionError where its owner has one of the new name."""

    def unpinned_by_removal(self, collection: Collection) -> Sequence[Key]:
        """Return the keys of recordings that nothing but this collection exempts from eviction."""

    def remove(self, collection: Collection) -> None:
        """Remove a collection. Callers unpin its recordings before: after a crash it is still there to be removed."""


def remove_collection(index: Collections, store: Store, collection: Collection) -> None:
    """Remove a collection; recordings that nothing else exempts from eviction may be evicted then. Blocks.

    Requests that are noted meanwhile make a collection of its name again, whose recordings stay pinned.
    """
    hidden = replace(collection, name=f"{collection.name[:_MAX_SHOWN]}-removed-{secrets.token_hex(4)}")
    index.rename(collection, hidden.name)
    keys = index.unpinned_by_removal(hidden)
    for key in keys:
        store.pin(key, pinned=False)
    index.remove(hidden)
    for key in filter(index.is_member, keys):
        store.pin(key, pinned=True)
