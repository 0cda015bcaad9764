"""Keys of a store in Redis that somebody else wrote: recordings stay, further ones are stored, `verify` repairs."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.store.collections import RECORDING, Member
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.clients import sync_client
from oda_proxy.store.redis.keyspace import Keyspace
from oda_proxy.store.redis.opening import open_collections, open_store
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.redis.store import RedisStore

pytestmark = pytest.mark.real

UPSTREAM = "http://dispatcher.example"
FIRST, SECOND, THIRD = KEYS[:3]
PREFIX = Keyspace.of(UPSTREAM).prefix


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_redis(tmp_path_factory.mktemp("redis"), fsync="no") as server:
        yield server.url


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with closing(sync_client(StoreAddress.parse(f"{url}?bodies=file:///unused").redis)) as client:
        yield client


def filled(url: str, client: Any, heads: Path) -> RedisStore:
    """Return a new store with two recordings, and an earlier version of one."""
    client.flushall()
    shutil.rmtree(heads, ignore_errors=True)
    store = open_store(StoreAddress.parse(f"{url}?bodies=file://{heads}"), UPSTREAM, clock=lambda: 100.0)
    store.put(recording(FIRST, b"one", stored_at=10.0))
    store.put(recording(SECOND, b"two", stored_at=10.0))
    store.put(recording(SECOND, b"three", stored_at=20.0))
    store.pin(FIRST, pinned=True)
    store.claims_maintenance()
    return store


def another_type(client: Any, key: bytes) -> None:
    kind = client.type(key)
    client.delete(key)
    client.rpush(key, "x") if kind == b"string" else client.set(key, "x")


def another_value(client: Any, key: bytes) -> None:
    match client.type(key):
        case b"string":
            client.set(key, "abc")
        case b"hash":
            client.hset(key, mapping=dict.fromkeys(client.hkeys(key), "abc"))
        case b"zset":
            client.zadd(key, dict.fromkeys(client.zrange(key, 0, -1), float("inf")) | {"abc": float("-inf")})
        case b"set":
            client.sadd(key, "abc")
        case _:
            client.delete(key)
            client.xadd(key, {"abc": "abc"}, id="9999999-1")


@pytest.mark.parametrize("change", [another_type, another_value])
def test_whatever_key_somebody_else_writes_the_next_recording_is_stored_and_verify_repairs_the_rest(
    url: str, client: Any, tmp_path: Path, change: Callable[[Any, bytes], None]
) -> None:
    filled(url, client, tmp_path / "heads").close()
    names = sorted(key.removeprefix(PREFIX.encode()) for key in client.scan_iter() if b"index-name" not in key)
    assert len(names) > 20
    for name in names:
        with closing(filled(url, client, tmp_path / "heads")) as store:
            change(client, PREFIX.encode() + name)

            store.put(recording(FIRST, b"new", stored_at=30.0))
            store.put(recording(THIRD, b"other", stored_at=30.0))
            assert into_memory(store.get(FIRST)) == recording(FIRST, b"new", stored_at=30.0), name
            second = into_memory(store.get(SECOND))
            assert second in (recording(SECOND, b"three", stored_at=20.0), None), name
            assert second or any(word in name for word in (b":recording:", b":head:")), name
            store.claims_maintenance()

            list(store.verify(fix=True))
            assert list(store.verify(fix=True)) == [], name
            assert {entry.key for entry in store.entries_by_use()} >= {FIRST, THIRD}, name
            assert store.remove(THIRD), name


@pytest.mark.parametrize("change", [another_type, another_value])
def test_whatever_key_of_collections_somebody_else_writes_recordings_are_noted(
    url: str, client: Any, change: Callable[[Any, bytes], None]
) -> None:
    address = StoreAddress.parse(f"{url}?bodies=file:///unused")
    collections = open_collections(address, UPSTREAM, clock=lambda: 100.0)

    def note(name: str, key: Key) -> None:
        collections.note(name, "", Member(RECORDING, key, 1, 100.0, was_pinned=False, content=b"1"), 10, [("a", "b")])

    def fill() -> None:
        client.flushall()
        note("one", FIRST)
        note("two", FIRST)
        collections.note_description("one", "file", 1.0, b"text")

    fill()
    for place in list(client.scan_iter()):
        fill()
        change(client, place)

        note("one", SECOND)
        note("three", THIRD)
        collections.note_description("one", "other", 1.0, b"text")
        three = collections.find("three", "")
        assert [one.key for one in collections.members(three)] == [THIRD], place
        collections.remove(three)


@pytest.mark.parametrize("lists", [("keys", "usage", "totals", "histories"), ("replaced", "histories", "history")])
def test_verify_finds_rows_that_no_list_has_and_no_counter_counts(
    url: str, client: Any, tmp_path: Path, lists: tuple[str, ...]
) -> None:
    with closing(filled(url, client, tmp_path / "heads")) as store:
        keys = (key for name in lists for key in client.scan_iter(f"{PREFIX}:{name}*"))
        client.delete(*keys)
        client.hset(f"{PREFIX}:usage", mapping={"versions": 0, "past": 0})

        list(store.verify(fix=True))

        assert list(store.verify(fix=False)) == []
        assert {entry.key for entry in store.entries()} == {FIRST, SECOND}
        assert len(store.versions(SECOND)) == 2


def test_verify_names_keys_of_another_type_and_leaves_the_rest_alone(url: str, client: Any, tmp_path: Path) -> None:
    with closing(filled(url, client, tmp_path / "heads")) as store:
        client.set("somebody-else", "x")
        for name in ("keys", "lease:abc", "limits:due", "collections"):
            another_type(client, f"{PREFIX}:{name}".encode())
        before = {key: client.dump(key) for key in client.scan_iter()}

        faults = list(store.verify(fix=False))

        assert {fault.subject.removeprefix(PREFIX) for fault in faults} == {":keys", ":collections"}
        assert {key: client.dump(key) for key in client.scan_iter()} == before
