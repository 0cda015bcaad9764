"""Collections in Redis, beside the index of the recordings: all servers of a store note in the same ones.

What changes several keys is a script (`collections.lua`), which Redis runs atomically.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from oda_proxy.query.cache_key import Key
from oda_proxy.store import collections
from oda_proxy.store.collections import Collection, CollectionError, Member, NoCollectionError, choose
from oda_proxy.store.redis.medium_errors import translated
from oda_proxy.store.redis.scripts import read_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from redis import Redis

    from oda_proxy.store.redis.address import RedisAddress
    from oda_proxy.store.redis.keyspace import Keyspace

BATCH: Final = 100
"""Members that are merged, or recordings that are looked up, by one script."""

_MEMBER: Final = re.compile(r"(\d{1,15})\|(-?[0-9.e+-]{1,30})\|\d{1,18}\|([01])")
_KINDS: Final = (collections.RECORDING, collections.FAILURE)


class RedisCollections:
    """The collections of a dispatcher in Redis; limits are those of `collections`.

    Each method blocks, and raises StoreUnusableError. `clock` returns s since 1970 (UTC); `max_size` is as for
    CollectionIndex.
    """

    def __init__(
        self,
        address: RedisAddress,
        client: Redis,
        keys: Keyspace,
        clock: Callable[[], float],
        *,
        max_size: int | None = None,
    ) -> None:
        self.max_size = max_size
        self._address = address
        self._client: Any = client
        self._keys = keys
        self._clock = clock
        script = read_script(Path(__file__).with_name("collections.lua"))
        self._script = self._client.register_script(script)

    def note(self, name: str, owner: str, member: Member, size: int, facts: Sequence[tuple[str, str]]) -> bool:
        """Add a use of a recording or a failure to a collection, as `Collections.note`."""
        word = self._word(
            *("note", owner, name, member.kind, member.key, int(member.was_pinned), member.content or b"", size),
            repr(self._clock()),
            "" if self.max_size is None else self.max_size,
            collections.MAX_COLLECTIONS,
            collections.MAX_MEMBERS,
            collections.MAX_FACTS,
            *map("|".join, facts),
        )
        if word not in {"new", "known"}:
            self._raise_limit(word, name, member.kind)
        return word == "new"

    def note_description(self, name: str, file: str, fetched: float, content: bytes) -> None:
        """Note a description that was requested through the address of a collection, with its file."""
        limits = collections.MAX_DESCRIPTIONS, collections.MAX_LONE
        word = self._word("describe", name, file, repr(fetched), content, int(self.max_size == 0), *limits)
        if word != "noted":
            self._raise_limit(word, name, "description")

    def merge(
        self, collection: Collection, members: Sequence[tuple[Member, int]], facts: Sequence[tuple[str, str]]
    ) -> None:
        """Add what a collection of another store has, as `Collections.merge`."""
        times = repr(collection.created), repr(collection.changed)
        for start in range(0, max(len(members), 1), BATCH):
            values = [value for one, size in members[start : start + BATCH] for value in _merged(one, size)]
            known = list(map("|".join, facts))
            limits = collections.MAX_FACTS, len(known)
            self._call("merge", collection.owner, collection.name, *times, *limits, *known, *values)

    def list(self, owner: str | None = None) -> Sequence[Collection]:
        """Return the collections of an owner, None for all, by name."""
        found = [_collection(one) for one in self._call("list", "*" if owner is None else owner)]
        return sorted((one for one in found if one is not None), key=lambda one: (one.name, one.owner))

    def find(self, name: str, owner: str | None = None, *, beginning: str | None = None) -> Collection:
        """Return the collection of a name and an owner, as `Collections.find`."""
        return choose(self.list(owner), name, beginning)

    def members(self, collection: Collection) -> Sequence[Member]:
        """Return the recordings and failures of a collection, in the order of their first use."""
        values = iter(self._call("members", collection.id))
        found = [_member(*one) for one in zip(values, values, values, strict=True)]
        return sorted((one for one in found if one is not None), key=lambda one: (one.first, one.key))

    def facts(self, collection: Collection, kind: str) -> Sequence[str]:
        """Return the facts of a kind about a collection, in order."""
        with translated(self._address):
            facts = sorted(_text(one) for one in self._client.smembers(self._keys.key("facts", str(collection.id))))
        return [value for known, _, value in (one.partition("|") for one in facts) if known == kind]

    def descriptions(self, collection: Collection) -> Sequence[tuple[str, bytes]]:
        """Return the descriptions of a collection: name and content of their files."""
        with translated(self._address):
            found = self._client.hgetall(self._keys.key("descriptions", collection.name))
        return sorted((_text(file), content) for file, content in found.items())

    def names_with(self, keys: Iterable[str]) -> Sequence[str]:
        """Return the names of the collections that have any of these recordings, in order."""
        wanted = list(keys)
        batches = (wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH))
        return sorted({_text(name) for batch in batches for name in self._call("names_with", *batch)})

    def is_member(self, key: str) -> bool:
        """Return whether a recording is in any collection."""
        with translated(self._address):
            return bool(self._client.exists(self._keys.key("with", key)))

    def rename(self, collection: Collection, name: str) -> None:
        """Rename a collection. Raises CollectionError where its owner has one of the new name."""
        word = self._word("rename", collection.id, name)
        if word == "taken":
            raise CollectionError(f"there is a collection {name} already; choose another name")
        if word == "gone":
            raise NoCollectionError(f"there is no collection {collection.name}")

    def unpinned_by_removal(self, collection: Collection) -> Sequence[Key]:
        """Return the keys of recordings that nothing but this collection exempts from eviction."""
        return [Key(_text(one)) for one in self._call("unpinned_by_removal", collection.id)]

    def remove(self, collection: Collection) -> None:
        """Remove a collection. Callers unpin its recordings before: after a crash it is still there to be removed."""
        self._call("remove", collection.id)

    def _raise_limit(self, word: str, name: str, kind: str) -> NoReturn:
        """Raise CollectionError for what a script refuses."""
        limit, _, version = word.partition(" ")
        match limit:
            case "off":
                raise collections.no_collections()
            case "version":
                raise collections.other_version(name, version.encode() or None)
            case "collections":
                raise collections.too_many_collections()
            case "members" | "descriptions":
                number = collections.MAX_DESCRIPTIONS if word == "descriptions" else collections.MAX_MEMBERS
                raise collections.full_collection(name, kind, number)
            case _:
                raise collections.full_collections(self.max_size)

    def _word(self, *arguments: Any) -> str:
        return _text(self._call(*arguments))

    def _call(self, *arguments: Any) -> Any:
        with translated(self._address):
            return self._script(keys=[self._keys.prefix], args=arguments)


def _merged(one: Member, size: int) -> tuple[Any, ...]:
    """Return a member, with its bytes, as the script takes it."""
    return one.kind, one.key, one.uses, repr(one.first), size, int(one.was_pinned), one.content or b""


def _collection(values: Sequence[bytes]) -> Collection | None:
    """Return a collection from its number and fields; None where they are damaged."""
    number, *rest = map(_text, values)
    fields = dict(zip(rest[::2], rest[1::2], strict=True))
    try:
        recordings, failures = (int(fields.get(f"count|{kind}", 0)) for kind in _KINDS)
        times = float(fields["created"]), float(fields["changed"])
        size = int(fields["size"])
        return Collection(int(number), fields["name"], fields["owner"], *times, recordings, failures, size)
    except (KeyError, ValueError):
        return None


def _member(place: bytes, values: bytes, content: bytes | None) -> Member | None:
    """Return a member from its fields; None where they are damaged."""
    kind, _, key = _text(place).partition("|")
    found = _MEMBER.fullmatch(_text(values))
    if found is None:
        return None
    try:
        return Member(kind, Key(key), int(found[1]), float(found[2]), found[3] == "1", content)
    except ValueError:
        return None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
