"""A store in Redis: what several servers see of each other, what is damaged, and what crashes leave."""

from __future__ import annotations

import os
import random
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.errors import StoreUnusableError
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.store.base import FencedError, Usage
from oda_proxy.store.eviction import Limits
from oda_proxy.store.maintenance import prune
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.objects import folder as folder_module
from oda_proxy.store.redis import writing
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.clients import sync_client
from oda_proxy.store.redis.keyspace import Keyspace, folder_of
from oda_proxy.store.redis.opening import open_store
from oda_proxy.store.search import Order, Search
from tests.store.test_search import SEARCHES, fill, own
from tests.support.recordings import KEYS, into_memory, recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.redis.store import RedisStore

pytestmark = pytest.mark.real

UPSTREAM = "https://example.org/dispatcher"
HOSTILE = int(500 * float(os.environ.get("ODA_PROXY_EXAMPLES", "1")))
"""Rows and heads that are malformed."""


@pytest.fixture
def store(address: StoreAddress) -> Iterator[RedisStore]:
    with closing(open_store(address, UPSTREAM)) as opened:
        yield opened


@pytest.fixture
def other(address: StoreAddress) -> Iterator[RedisStore]:
    """Open the same store as another server."""
    with closing(open_store(address, UPSTREAM, follow=True)) as opened:
        yield opened


def bodies(path: Path) -> list[Path]:
    return [file for file in (path / "heads").rglob("*") if file.is_file() and file.name != "index-name"]


def test_what_one_server_stores_another_serves(store: RedisStore, other: RedisStore) -> None:
    store.put(recording(text=b"x" * 1_000_000))
    assert into_memory(other.get(KEYS[0])) == recording(text=b"x" * 1_000_000)

    assert store.remove(KEYS[0])
    assert other.get(KEYS[0]) is None


def test_another_server_hears_of_each_change(store: RedisStore, other: RedisStore) -> None:
    for change in (lambda: store.put(recording()), lambda: store.remove(KEYS[0])):
        before = other.version()
        change()
        deadline = time.monotonic() + 30
        while other.version() == before:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_the_fingerprint_is_that_of_one_put(store: RedisStore) -> None:
    store.put(recording())
    first = store.fingerprint(KEYS[0])
    store.put(recording())

    assert None is not first != store.fingerprint(KEYS[0])
    assert store.fingerprint(KEYS[1]) is None


def test_each_dispatcher_has_recordings_of_its_own(store: RedisStore, address: StoreAddress) -> None:
    store.put(recording())

    with closing(open_store(address, "https://example.org/staging")) as staging:
        assert staging.get(KEYS[0]) is None
        assert staging.usage() == Usage(0, 0)


def test_a_search_finds_the_same_as_one_in_memory(store: RedisStore) -> None:
    fill(store)
    fill(memory := MemoryStore(clock=lambda: 2e9))
    for search in SEARCHES:
        for order in (Order.USE, Order.TIME):
            for ascending in (False, True):
                for sees_all, may_see in ((False, None), (False, own), (True, None)):
                    values = {"order": order, "ascending": ascending, "sees_all": sees_all, "may_see": may_see}
                    full = Search(**{name: getattr(search, name) for name in Search.__slots__} | values)
                    ours, theirs = (one.search(full, offset=2, limit=20) for one in (store, memory))
                    assert ours.total == theirs.total, full
                    assert {one.key for one in store.search(full, offset=0, limit=100).entries} == {
                        one.key for one in memory.search(full, offset=0, limit=100).entries
                    }, full


def test_recordings_are_evicted_in_the_order_of_eviction(store: RedisStore, tmp_path: Path) -> None:
    for number, key in enumerate(KEYS):
        store.put(recording(key, random.Random(number).randbytes(5000), stored_at=float(number)))  # noqa: S311 - the same each time
    store.pin(KEYS[0], pinned=True)
    into_memory(store.get(KEYS[1]))
    size = store.usage().occupied // 6

    evicted = prune(store, Limits(size * 3 + 100))

    assert [entry.key for entry in evicted] == KEYS[2:5]
    assert len(bodies(tmp_path)) == 3
    assert list(store.verify(fix=False)) == []


def test_one_server_at_a_time_maintains_a_store(store: RedisStore, other: RedisStore) -> None:
    assert store.claims_maintenance()
    assert not other.claims_maintenance()
    assert store.claims_maintenance()


def test_a_writer_whose_lease_was_taken_over_stores_nothing(store: RedisStore, address: StoreAddress) -> None:
    sync_client(address.redis).set(Keyspace.of(UPSTREAM).key("fence", KEYS[0]), 7)
    store.put_fenced(recording(text=b"new"), 7)

    with pytest.raises(FencedError):
        store.put_fenced(recording(text=b"late"), 6)

    assert into_memory(store.get(KEYS[0])) == recording(text=b"new")


def test_a_writer_that_was_given_up_writes_its_head_again(
    store: RedisStore, other: RedisStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = folder_module.FolderBodies.write, list[str]()

    def slow(self: Any, name: str, content: Any) -> None:
        write(self, name, content)
        calls.append(name)
        if len(calls) == 1:
            other.remove_orphans()  # meanwhile it is taken for crashed

    monkeypatch.setattr(writing, "WRITE_TIME", 0)
    monkeypatch.setattr(folder_module.FolderBodies, "write", slow)
    store.put(recording())

    assert len(calls) == 2
    assert into_memory(store.get(KEYS[0])) == recording()
    assert [one.name for one in bodies(tmp_path)] == calls[1:]


def test_what_a_crashed_writer_left_is_removed(store: RedisStore, tmp_path: Path) -> None:
    store.put(recording())
    [head] = bodies(tmp_path)
    orphan = head.with_name(head.name[:-16] + "0" * 16)
    orphan.write_bytes(b"x")

    assert [fault.subject for fault in store.verify(fix=False)] == [orphan.name]
    assert store.remove_orphans() == 1
    assert bodies(tmp_path) == [head]


def test_wrong_counters_are_found_and_corrected(store: RedisStore, address: StoreAddress) -> None:
    for key in KEYS[:3]:
        store.put(recording(key, key[0].encode() * 1000))
    expected = store.usage(), sorted(store.keys()), store.totals()
    client: Any = sync_client(address.redis)
    keys = Keyspace.of(UPSTREAM)
    client.hset(keys.key("usage"), "occupied", 5)
    client.delete(keys.key("totals"), keys.key("by", "used"))

    assert [fault.subject for fault in store.verify(fix=True)] == ["index"]

    assert list(store.verify(fix=False)) == []
    assert (store.usage(), sorted(store.keys()), store.totals()) == expected
    assert len(list(store.entries_by_use())) == 3


class Attacker:
    """Changes what a store has, in one of `KINDS` ways at a time."""

    KINDS = 9

    def __init__(self, client: Any, heads: Path) -> None:
        self._client = client
        self._heads = heads
        self._keys = Keyspace.of(UPSTREAM)
        self._draws = random.Random(16)  # noqa: S311 - the same each time

    def change(self, kind: int, key: Key, other: Key) -> None:
        """Damage the recording of a key, perhaps with parts of another one."""
        place = self._keys.key("recording", key)
        sound, of_other = self._client.hgetall(place), self._client.hgetall(self._keys.key("recording", other))
        if kind < 6:
            self._change_row(kind, place, sound[b"row"], of_other)
        else:
            self._change_head(kind, sound[b"head"].decode(), of_other[b"head"].decode())

    def _change_row(self, kind: int, place: str, row: bytes, of_other: dict[bytes, bytes]) -> None:
        at = self._draws.randrange(len(row))
        if kind == 0:  # that of another key
            self._client.hset(place, mapping=of_other)
        elif kind == 1:  # cut off
            self._client.hset(place, "row", row[:at])
        elif kind == 2:  # with another byte
            self._client.hset(place, "row", row[:at] + bytes([row[at] ^ 1]) + row[at + 1 :])
        elif kind == 3:  # of another type
            self._client.delete(place)
            self._client.set(place, self._draws.randbytes(50))
        elif kind == 4:  # incomplete
            self._client.hdel(place, self._draws.choice(["row", "check", "head"]))
        else:  # of another format
            number = b'"format":%d' % self._draws.randrange(3, 99)
            self._client.hset(place, "row", row.replace(b'"format":2', number))

    def _change_head(self, kind: int, digest: str, of_other: str) -> None:
        place = self._keys.key("head", digest)
        name = self._client.hget(place, "body").decode()
        file = self._heads / folder_of(UPSTREAM) / name[:2] / name
        content = file.read_bytes()
        at = self._draws.randrange(len(content))
        if kind == 6:  # cut off, or with more
            file.write_bytes(self._draws.choice([content[:at], content + b"x"]))
        elif kind == 7:  # that of another recording
            other = self._client.hget(self._keys.key("head", of_other), "body")
            self._client.hset(place, "body", self._draws.choice([other, b"../../secret"]))
        else:  # with another byte
            file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def test_malformed_rows_and_heads_are_refused_and_never_served(
    store: RedisStore, address: StoreAddress, tmp_path: Path
) -> None:
    attacker = Attacker(sync_client(address.redis), tmp_path / "heads")
    texts = {key: key.encode() * 5 for key in KEYS[:3]}
    for number in range(HOSTILE):
        for key, text in texts.items():
            store.put(recording(key, text))
        attacker.change(number % Attacker.KINDS, KEYS[0], KEYS[1])

        assert store.get(KEYS[0]) is None, number
        assert store.entry(KEYS[0]) is None, "it is removed"
        assert into_memory(store.get(KEYS[2])) == recording(KEYS[2], texts[KEYS[2]])
    assert store.damaged == HOSTILE


@pytest.mark.parametrize(
    ("field", "value"),
    [("used_at", None), ("used_at", "now"), ("stored_at", "nan"), ("size", "1.5"), ("begin", None), ("totals", None)],
)
def test_counters_are_repaired_beside_a_recording_whose_fields_are_damaged(
    store: RedisStore, address: StoreAddress, field: str, value: str | None
) -> None:
    client: Any = sync_client(address.redis)
    keys = Keyspace.of(UPSTREAM)
    for key in KEYS[:2]:
        store.put(recording(key))
    place = keys.key("recording", KEYS[0])
    client.hdel(place, field) if value is None else client.hset(place, field, value)
    client.hincrby(keys.key("usage"), "recordings", 40)

    list(store.verify(fix=True))

    assert list(store.verify(fix=False)) == []
    assert list(store.keys()) == [KEYS[1]]
    assert store.get(KEYS[1]) is not None


def test_lists_leave_out_what_is_malformed(store: RedisStore, address: StoreAddress) -> None:
    store.put(recording(KEYS[0]))
    store.put(recording(KEYS[1], b"other"))
    client: Any = sync_client(address.redis)
    keys = Keyspace.of(UPSTREAM)
    client.hset(keys.key("recording", KEYS[0]), "row", b"[" * 100_000)
    client.zadd(keys.key("keys"), {b"\xff\xfe": 0, "short": 0})
    client.hset(keys.key("totals"), mapping={b"\xff": b"x", "[1]|recordings": "many", "[[],2,3]|size": 10**30})

    assert [entry.key for entry in store.entries()] == [KEYS[1]]
    assert [entry.key for entry in store.entries_by_use()] == [KEYS[1]]
    assert list(store.keys()) == KEYS[:2]
    assert store.usage().recordings == 2
    assert {one.instrument for one in store.totals()} == {None}


def test_errors_name_neither_credentials_nor_commands(tmp_path: Path) -> None:
    address = StoreAddress.parse(f"redis://user:hunter2@127.0.0.1:1/0?bodies=file://{tmp_path}")

    with pytest.raises(StoreUnusableError) as error:
        open_store(address, UPSTREAM)

    assert "redis://127.0.0.1:1/0: Redis cannot be reached" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_redis_that_may_lose_recordings_is_reported_at_the_start(
    address: StoreAddress, caplog: pytest.LogCaptureFixture
) -> None:
    client: Any = sync_client(address.redis)
    client.config_set("appendonly", "no")
    try:
        open_store(address, UPSTREAM, follow=True).close()
    finally:
        client.config_set("appendonly", "yes")

    assert "it has no append-only file (appendonly yes)" in caplog.text


def test_a_large_head_is_read_in_pieces(store: RedisStore) -> None:
    text = random.Random(1).randbytes(3_000_000)  # noqa: S311 - the same each time
    store.put(recording(text=text))

    found = store.get(KEYS[0])

    assert found is not None
    assert not isinstance(found.head, MemoryHead)
    assert into_memory(found) == recording(text=text)
