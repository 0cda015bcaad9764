"""The index of the recordings of a dispatcher in Redis: rows, counts, times of use, pins, orders.

What changes several keys is a script (`index.lua`), which Redis runs atomically. Nothing here reads all rows: lists
are read in batches, and totals are counted while rows change. Each method raises redis.RedisError.
"""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oda_proxy.store.base import HistoryUsage, ProductTotals, Usage
from oda_proxy.store.objects.bodies import INDEX_NAME
from oda_proxy.store.redis.fields import (
    ENTRY_FIELDS,
    read_entry,
    read_key,
    read_product_id,
    read_version_entry,
    read_version_place,
)
from oda_proxy.store.redis.scripts import read_script

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from redis import Redis

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Entry
    from oda_proxy.store.redis.fields import Fields, ProductId
    from oda_proxy.store.redis.keyspace import Keyspace

BATCH: Final = 500
"""Recordings that are read at once."""

_MICROSECONDS: Final = 1_000_000


class StoredRow(NamedTuple):
    """A row as it is in Redis, with what shows that it is complete, the number of its put, and the name of its body."""

    row: bytes | None
    check: bytes | None
    put: bytes | None
    body: bytes | None


class FormerRow(NamedTuple):
    """What a put replaces: a row, empty where there is none, and when the last version of the key was replaced."""

    row: bytes | None
    check: bytes | None
    put: bytes | None
    ended: bytes


class Change(NamedTuple):
    """What a script did: whether it changed something, the version since, and bodies that nothing needs any more."""

    is_done: bool
    version: int
    unneeded: Sequence[str]


class RedisIndex:
    """The index of the recordings of a dispatcher."""

    def __init__(self, client: Redis, keys: Keyspace) -> None:
        self.name = b""
        """The name of the index, which `pairing` checks; a script of an index with another one fails. Empty for any."""
        self._client: Any = client
        self._keys = keys
        script = read_script(Path(__file__).with_name("index.lua"))
        self._script = self._client.register_script(script)

    def close(self) -> None:
        """End the connections; a later command connects again."""
        self._client.close()

    def begin(self, body: str, seconds: int) -> None:
        """Announce a body that is to be written within some s."""
        self._call("begin", body, seconds)

    def put(
        self,
        key: Key,
        body: str,
        fields: Fields,
        *,
        former: FormerRow,
        version: Fields | None,
        fence: int | None,
        max_versions: float,
    ) -> tuple[str, Change]:
        """Store a recording whose body was written, in place of the one that `read_former` has returned.

        `version` are the fields of what that one becomes. Returns `stored`, `expired`, `changed` where it was replaced
        since, or `fenced`, and the change.
        """
        was = _flat(version or {})
        replaced = former.put or b"", former.ended
        fencing, limit = "" if fence is None else fence, _limit(max_versions)
        return self._put("put", key, body, fencing, *replaced, limit, len(was), *was, *_flat(fields))

    def read_former(self, key: Key) -> FormerRow:
        """Return what a put of a recording will replace."""
        return FormerRow(*self._call("read_former", key))

    def put_version(self, key: Key, body: str, fields: Fields) -> tuple[str, Change]:
        """Store an earlier version whose body was written; returns `stored` or `expired`, and the change."""
        return self._put("put_version", key, body, *_flat(fields))

    def archive(self, key: Key, fields: Fields, *, former: FormerRow, max_versions: float) -> tuple[str, Change]:
        """Make a recording an earlier version; returns `stored` or `changed`, and the change, as `put`."""
        return self._put("archive", key, former.put or b"", _limit(max_versions), *_flat(fields))

    def read(self, key: Key) -> StoredRow | None:
        """Return the row of a recording, or None."""
        found = StoredRow(*self._call("read", key))
        return None if found == (None, None, None, None) else found

    def remove(self, key: Key) -> Change:
        """Remove a recording."""
        return self._change("remove", key)

    def evict(self, entry: Entry) -> Change:
        """Remove a recording unless it was replaced or pinned since."""
        return self._change("evict", entry.key, repr(entry.stored_at))

    def remove_damaged(self, key: Key, put: bytes | None) -> Change:
        """Remove a damaged recording unless it was replaced since."""
        return self._change("remove_damaged", key, put or b"")

    def read_version(self, key: Key, time: str) -> StoredRow | None:
        """Return the row of the earlier version that was the answer since a time, without `put`, or None."""
        row, check, body = self._call("read_version", key, time)
        return None if row is check is body is None else StoredRow(row, check, None, body)

    def versions(self, key: Key) -> tuple[list[list[bytes | None]], list[bytes | None]]:
        """Return times, rows and checks of earlier versions, in order, and `ENTRY_FIELDS` of the recording."""
        *earlier, current = self._call("versions", key)
        return earlier, current

    def remove_versions(self, members: Sequence[str], *, is_evicted: bool) -> tuple[set[str], Change]:
        """Remove earlier versions, KEY:TIME each; return those that existed.

        To free space, only those of recordings that are not pinned are removed.
        """
        version, found, unneeded = self._call("remove_versions", int(is_evicted), *members)
        return set(map(_text, found)), Change(bool(found), int(version), list(map(_text, unneeded)))

    def remove_damaged_version(self, key: Key, time: str, check: bytes | None) -> Change:
        """Remove a damaged version unless it was replaced since."""
        return self._change("remove_damaged_version", key, time, check or b"")

    def version_keys_beginning(self, beginning: str = "") -> Iterator[Key]:
        """Iterate over the keys with earlier versions that begin with a text, in order."""
        return self._beginning("histories", beginning)

    def version_times(self, key: Key) -> list[str]:
        """Return the times since which the earlier versions of a recording were the answer."""
        return list(map(_text, self._client.zrange(self._key("history", key), 0, -1)))

    def keys_with_versions(self, *, more_than: int) -> list[Key]:
        """Return the keys of recordings that have more earlier versions than a number."""
        members = self._client.zrangebyscore(self._key("counts"), f"({more_than}", "+inf")
        return [key for member in members if (key := read_key(member)) is not None]

    def trim(self, key: Key, max_versions: float) -> tuple[int, Change]:
        """Remove the first versions of a recording beyond a number, unless it is pinned; return their number."""
        removed, version, *unneeded = self._call("trim", key, _limit(max_versions))
        return removed, Change(bool(removed), int(version), list(map(_text, unneeded)))

    def replaced_before(self, time: float, offset: int) -> list[str]:
        """Return some of the versions, KEY:TIME each, that were replaced before a time, after the first `offset`."""
        found = self._client.zrangebyscore(self._key("replaced"), "-inf", f"({time!r}", start=offset, num=BATCH)
        return list(map(_text, found))

    def pin(self, key: Key, *, pinned: bool) -> bool:
        """Exempt a recording from eviction, or no longer; return whether it exists."""
        return bool(self._call("pin", key, int(pinned)))

    def use(self, uses: Mapping[Key, float]) -> None:
        """Note times of use, in s since 1970 (UTC)."""
        for batch in _batches(list(uses.items())):
            self._call("use", *(part for key, used_at in batch for part in (key, repr(used_at))))

    def garbage(self) -> list[str]:
        """Return some bodies that are to be removed."""
        return [_text(one) for one in self._call("garbage", BATCH)]

    def forget_garbage(self, bodies: Iterable[str]) -> None:
        """Note that bodies were removed."""
        if names := list(bodies):
            self._client.srem(self._key("garbage"), *names)

    def orphans(self, bodies: Sequence[str]) -> list[str]:
        """Return those of some bodies that no recording has or will have."""
        return [_text(one) for batch in _batches(bodies) for one in self._call("orphans", *batch)]

    def claim(self, name: str, owner: str, seconds: int) -> bool:
        """Take or extend a claim for some s; return whether `owner` has it."""
        return bool(self._call("claim", name, owner, seconds))

    def rebuild(self) -> None:
        """Compute all but the rows again, in one go: other clients of Redis wait for it."""
        self._call("rebuild")

    def has_its_name(self) -> bool:
        """Return whether Redis has the index of this name: it may have lost its data."""
        name: bytes = (self._client.get(self._key(INDEX_NAME)) or b"").partition(b" ")[0]
        return name == self.name

    def version(self) -> int:
        """Return the number of changes so far."""
        return _whole(self._client.get(self._key("version")))

    def changes(self, first: str) -> tuple[int, list[tuple[str, str]]]:
        """Return the version, and the last changes, beginning with the one that has an ID: their IDs and keys."""
        version, *rest = self._script(keys=[self._keys.prefix], args=(b"", "changes", first))  # of any name
        texts = iter([_text(one) for one in rest])
        return _whole(version), list(zip(texts, texts, strict=True))

    def wait_for_change(self, last: str, seconds: float) -> None:
        """Wait for a change after the one that has an ID, at most some s."""
        self._client.xread({self._key("changes"): last}, count=1, block=max(round(seconds * 1000), 1))

    def fingerprint(self, key: Key) -> str | None:
        """Return a text that is another one after a recording was replaced; None where there is none."""
        [(_, values)] = self.values([key], ("put", "check"))
        put, check = values or (None, None)
        return None if put is None or check is None else f"{_text(put)} {_text(check)}"

    def history_usage(self) -> HistoryUsage:
        """Return the number of earlier versions, and the bytes of their heads that no recording has."""
        versions, occupied = self._client.hmget(self._key("usage"), "versions", "past")
        return HistoryUsage(max(_whole(versions), 0), max(_whole(occupied), 0))

    def keys_of_wrong_type(self) -> list[str]:
        """Return the keys of this dispatcher that are not of their type: somebody else wrote them."""
        found, keys = list[str](), self._client.scan_iter(match=self._key("*"), count=BATCH)
        while batch := list(islice(keys, BATCH)):
            pipeline = self._client.pipeline(transaction=False)
            for key in batch:
                pipeline.type(key)
            types = zip(map(_text, batch), pipeline.execute(), strict=True)
            found += [key for key, of in types if not self._keys.may_have_type(key, _text(of))]
        return found

    def has_all_rows(self) -> bool:
        """Return whether the lists have each recording and each earlier version that there is."""
        return self._has_all("recording", "keys") and self._has_all("earlier", "replaced")

    def _has_all(self, name: str, sorted_set: str) -> bool:
        rows, beginning = self._client.scan_iter(match=self._key(name, "*"), count=BATCH), len(self._key(name, ""))
        while batch := list(islice(rows, BATCH)):
            scores = self._client.zmscore(self._key(sorted_set), [_text(row)[beginning:] for row in batch])
            absent = [row for row, score in zip(batch, scores, strict=True) if score is None]
            if any(self._client.exists(row) for row in absent):  # else it was removed meanwhile
                return False
        return True

    def delete(self, key: str) -> None:
        """Delete what `keys_of_wrong_type` has returned."""
        self._client.delete(key)

    def usage(self) -> Usage:
        """Return the number of recordings, and the bytes of their heads."""
        recordings, occupied = self._client.hmget(self._key("usage"), "recordings", "occupied")
        return Usage(max(_whole(recordings), 0), max(_whole(occupied), 0))

    def totals(self) -> list[ProductTotals]:
        """Return the totals of each product."""
        found: dict[ProductId, dict[str, int]] = {}
        for name, value in self._client.hgetall(self._key("totals")).items():
            text, _, what = _text(name).rpartition("|")
            if (product := read_product_id(text)) is not None:
                found.setdefault(product, {})[what] = _whole(value)
        return [
            ProductTotals(
                *product,
                recordings=counts.get("recordings", 0),
                size=counts.get("size", 0),
                cost=counts.get("microseconds", 0) / _MICROSECONDS,
                pinned=counts.get("pinned", 0),
            )
            for product, counts in found.items()
            if counts.get("recordings", 0) > 0
        ]

    def keys_beginning(self, beginning: str = "") -> Iterator[Key]:
        """Iterate over the keys that begin with a text, in order."""
        return self._beginning("keys", beginning)

    def _beginning(self, name: str, beginning: str) -> Iterator[Key]:
        start = b"[" + beginning.encode("utf-8", "replace")
        while members := self._client.zrangebylex(self._key(name), start, "+", start=0, num=BATCH):
            for member in members:
                if not member.startswith(beginning.encode("utf-8", "replace")):
                    return
                if (key := read_key(member)) is not None:
                    yield key
            start = b"(" + members[-1]

    def ordered(self, name: str, *, ascending: bool = False) -> Iterator[Key]:
        """Iterate over the keys in a sorted set, such as `by:used`; those with the greatest score come first."""
        seen: set[bytes] = set()
        step = self._client.zrange if ascending else self._client.zrevrange
        at = 0
        while members := step(self._key(name), at, at + BATCH - 1):
            for member in members:
                if member not in seen and (key := read_key(member)) is not None:
                    yield key
            seen, at = set(members), at + len(members)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Iterate over the ids of texts in which words are searched, and the texts."""
        for number, text in self._client.hscan_iter(self._key("texts"), count=BATCH):
            yield _text(number), _text(text)

    def with_text(self, number: str) -> set[Key]:
        """Return the keys of the recordings that have a text."""
        members = self._client.sscan_iter(self._key("text", number), count=BATCH)
        return {key for member in members if (key := read_key(member)) is not None}

    def between(self, order: str, lowest: float, highest: float) -> set[Key]:
        """Return the keys between two values of an order, both included."""
        members = self._client.zrangebyscore(self._key("by", order), lowest, highest)
        return {key for member in members if (key := read_key(member)) is not None}

    def values(self, keys: Iterable[Key], names: Sequence[str]) -> Iterator[tuple[Key, list[bytes | None] | None]]:
        """Iterate over fields of recordings; None where they are of another type."""
        for batch in _batches(list(keys)):
            pipeline = self._client.pipeline(transaction=False)
            for key in batch:
                pipeline.hmget(self._key("recording", key), list(names))
            for key, values in zip(batch, pipeline.execute(raise_on_error=False), strict=True):
                yield key, _checked(values)

    def entries(self, keys: Iterable[Key], uses: Mapping[Key, float]) -> Iterator[Entry]:
        """Iterate over the metadata of recordings; those that cannot be read, or are gone, are left out.

        `uses` are later times of use that are not written yet.
        """
        for key, values in self.values(keys, ENTRY_FIELDS):
            if (entry := read_entry(key, values, used_at=uses.get(key, 0.0))) is not None:
                yield entry

    def entries_in_batches(self, keys: Iterator[Key], uses: Mapping[Key, float]) -> Iterator[Entry]:
        """Iterate over the metadata of recordings as `entries`, while their keys are iterated over."""
        while batch := list(islice(keys, BATCH)):
            yield from self.entries(batch, uses)

    def heads_to_evict(self) -> Iterator[str]:
        """Iterate over heads without pinned recordings in the order of eviction; they may be removed meanwhile."""
        seen: set[bytes] = set()
        lowest = "-inf"
        while True:
            found = self._client.zrangebyscore(self._key("evict"), lowest, "+inf", start=0, num=BATCH, withscores=True)
            fresh = [(member, score) for member, score in found if member not in seen]
            if not fresh:
                return
            for member, _ in fresh:
                yield _text(member)
            seen, lowest = {member for member, _ in found}, repr(float(found[-1][1]))

    def with_head(self, head: str, uses: Mapping[Key, float]) -> list[Entry]:
        """Return the metadata of the recordings that have a head, and then of the versions; `uses` as in `entries`."""
        members = self._client.zrange(self._key("members", head), 0, -1)
        keys = [key for member in members if (key := read_key(member)) is not None]
        places = [place for member in members if (place := read_version_place(member)) is not None]
        return [*self.entries(keys, uses), *self._version_entries(places)]

    def _version_entries(self, places: Sequence[tuple[Key, str]]) -> Iterator[Entry]:
        """Iterate over the metadata of versions of recordings without pins; those that cannot be read are left out."""
        for batch in _batches(places):
            pipeline = self._client.pipeline(transaction=False)
            for key, time in batch:
                pipeline.hmget(self._key("earlier", key, time), "row", "check")
            for (key, time), values in zip(batch, pipeline.execute(raise_on_error=False), strict=True):
                if (entry := read_version_entry(key, time, _checked(values), pinned=False)) is not None:
                    yield entry

    def _change(self, *arguments: str | bytes) -> Change:
        done, version, *unneeded = self._call(*arguments)
        return Change(bool(done), int(version), list(map(_text, unneeded)))

    def _put(self, *arguments: str | bytes | int) -> tuple[str, Change]:
        word, version, *unneeded = self._call(*arguments)
        return _text(word), Change(word == b"stored", int(version), list(map(_text, unneeded)))

    def _call(self, *arguments: Any) -> Any:
        return self._script(keys=[self._keys.prefix], args=(self.name, *arguments))

    def _key(self, *names: str) -> str:
        return self._keys.key(*names)


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _flat(fields: Fields) -> list[str | bytes]:
    return [part for pair in fields.items() for part in pair]


def _limit(number: float) -> str:
    """Return a number of versions for a script; an empty text for no limit."""
    return "" if math.isinf(number) else str(int(number))


def _checked(values: Any) -> list[bytes | None] | None:
    """Return the response to one command of a pipeline; None where it is that of a key of another type."""
    from redis import ResponseError

    if isinstance(values, ResponseError):
        return None
    if isinstance(values, Exception):
        raise values
    found: list[bytes | None] = values
    return found


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _whole(value: bytes | None) -> int:
    """Return a whole number; 0 where it is damaged."""
    return int(value) if value is not None and value.lstrip(b"-").isdigit() and len(value) < 20 else 0  # noqa: PLR2004 - as Redis counts
