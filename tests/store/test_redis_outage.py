"""While Redis is away, what is in memory is served and the rest waits on the local disk; later it is stored."""

from __future__ import annotations

import errno
import os
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import redis

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.hot_tier import HotTier
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.keyspace import Keyspace
from oda_proxy.store.redis.opening import open_store
from oda_proxy.store.redis.spooling import SpoolingStore, StoredLaterError
from oda_proxy.store.redis.store import RedisStore
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.real

UPSTREAM = "https://example.org/dispatcher"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path / "redis") as running:
        yield running


@pytest.fixture
def store(server: RedisServer, tmp_path: Path) -> Iterator[SpoolingStore]:
    address = StoreAddress.parse(f"{server.url}?bodies=file://{tmp_path}/heads")
    with closing(open_store(address, UPSTREAM, follow=True, spool=tmp_path / "waiting")) as opened:
        assert isinstance(opened, SpoolingStore)
        yield opened


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_connected(store: SpoolingStore) -> bool:
    return store.watcher is not None and store.watcher.is_connected


async def test_what_is_in_memory_is_served_without_redis(server: RedisServer, store: SpoolingStore) -> None:
    store.put(recording())
    until(lambda: store.version() == 2)  # it has noted the change, and heard of it
    tier = HotTier(store)
    tier.read(KEYS[0])

    server.kill()
    until(lambda: not is_connected(store))

    assert tier.find(KEYS[0]) is not None
    assert tier.find(KEYS[1]) is None
    with pytest.raises(StoreUnusableError, match="Redis cannot be reached"):
        store.get(KEYS[1])


def test_what_cannot_be_stored_waits_answers_and_is_stored_later(server: RedisServer, store: SpoolingStore) -> None:
    store.put(recording(KEYS[1], stored_at=5.0))
    server.kill()
    for key in KEYS[:3]:
        assert store.entry(key) is None
        with pytest.raises(StoredLaterError, match="recordings wait on this machine"):
            store.put(recording(key, key.encode(), stored_at=1.0))
    assert store.waiting == 3
    assert into_memory(store.get(KEYS[0])) == recording(KEYS[0], KEYS[0].encode(), stored_at=1.0)
    with pytest.raises(StoreUnusableError):
        store.save_use_times()

    with pytest.raises(StoreUnusableError):
        store.remove(KEYS[2])
    server.start()
    until(lambda: is_connected(store))
    store.save_use_times()

    assert store.waiting == 0
    assert into_memory(store.get(KEYS[0])) == recording(KEYS[0], KEYS[0].encode(), stored_at=1.0)
    assert into_memory(store.get(KEYS[1])) == recording(KEYS[1], stored_at=5.0), "the newer one stays"
    assert store.get(KEYS[2]) is None, "what was to be removed does not come back"


def test_no_more_waits_than_may(server: RedisServer, store: SpoolingStore) -> None:
    store._max_waiting = 105
    server.kill()
    with pytest.raises(StoredLaterError):
        store.put(recording(KEYS[0], b"x" * 100))

    with pytest.raises(StoreUnusableError) as error:
        store.put(recording(KEYS[1], b"y" * 100))

    assert not isinstance(error.value, StoredLaterError)
    assert store.waiting == 1


def test_a_redis_that_was_killed_has_what_it_acknowledged(server: RedisServer, store: SpoolingStore) -> None:
    for key in KEYS:
        store.put(recording(key, key.encode()))
    server.kill()
    server.start()
    until(lambda: is_connected(store) and store.waiting == 0)

    assert [into_memory(store.get(key)) for key in KEYS] == [recording(key, key.encode()) for key in KEYS]
    assert list(store.verify(fix=False)) == []


def test_heads_that_are_away_make_recordings_wait(store: SpoolingStore, tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    heads.rename(aside := tmp_path / "aside")
    heads.write_bytes(b"")

    with pytest.raises(StoredLaterError):
        store.put(recording())

    heads.unlink()
    aside.rename(heads)
    store.save_use_times()
    assert store.waiting == 0
    assert into_memory(store.get(KEYS[0])) == recording()


def read(tier: HotTier, key: Key) -> tuple[float, bytes] | None:
    """Return the time and the head of what a server answers with."""
    found = tier.read(key)
    return None if found is None else (found.stored_at, b"".join(found.head.pieces()))


@pytest.mark.parametrize("what", ["redis", "heads"])
async def test_what_waits_answers_whatever_is_away_and_in_place_of_older_recordings(
    server: RedisServer, store: SpoolingStore, tmp_path: Path, what: str
) -> None:
    store.put(recording(KEYS[0], b"old", stored_at=1.0))
    tier = HotTier(store)
    heads, aside = tmp_path / "heads", tmp_path / "aside"
    if what == "redis":
        server.kill()
    else:
        heads.rename(aside)
        heads.write_bytes(b"")
    for key in KEYS[:2]:
        with pytest.raises(StoredLaterError):
            store.put(recording(key, b"new", stored_at=2.0))

    for _ in range(2):
        assert [read(tier, key) for key in KEYS[:2]] == [(2.0, b"new")] * 2
    assert (entry := store.entry(KEYS[0])) is not None
    assert entry.stored_at == 2.0
    assert into_memory(store.get_version(entry)) == recording(KEYS[0], b"new", stored_at=2.0)

    if what == "redis":
        server.start()
        until(lambda: is_connected(store))
    else:
        heads.unlink()
        aside.rename(heads)
    store.check()
    store.save_use_times()
    assert store.waiting == 0
    assert [read(tier, key) for key in KEYS[:2]] == [(2.0, b"new")] * 2


def test_what_waits_replaces_no_newer_recording_that_answers_again_when_redis_is_back(
    server: RedisServer, store: SpoolingStore, tmp_path: Path
) -> None:
    server.kill()
    with pytest.raises(StoredLaterError):
        store.put(recording(KEYS[0], b"old", stored_at=1.0))
    server.start()
    until(lambda: is_connected(store))
    address = StoreAddress.parse(f"{server.url}?bodies=file://{tmp_path}/heads")
    with closing(open_store(address, UPSTREAM)) as other:
        other.put(recording(KEYS[0], b"new", stored_at=2.0))

    assert into_memory(store.get(KEYS[0])) == recording(KEYS[0], b"new", stored_at=2.0)
    store.save_use_times()
    assert into_memory(store.get(KEYS[0])) == recording(KEYS[0], b"new", stored_at=2.0)


def test_a_leader_that_was_cut_off_does_not_replace_the_recording_of_its_successor_later(
    server: RedisServer, store: SpoolingStore
) -> None:
    server.kill()
    with pytest.raises(StoredLaterError):
        store.put_fenced(recording(KEYS[0], b"of the former leader", stored_at=9.0), 7)
    server.start()
    until(lambda: is_connected(store))
    with redis.Redis(port=server.port) as client:
        client.set(Keyspace.of(UPSTREAM).key("fence", KEYS[0]), 8)
    RedisStore.put_fenced(store, recording(KEYS[1], b"of another query"), 1)
    store.write_waiting()

    assert store.waiting == 0
    assert store.get(KEYS[0]) is None


def test_a_full_disk_of_the_server_is_named_and_loses_nothing_that_waits(
    server: RedisServer, store: SpoolingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    server.kill()
    with pytest.raises(StoredLaterError):
        store.put(recording(KEYS[0]))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreUnusableError, match=r"waiting: No space left on device") as error:
            store.put(recording(KEYS[1], b"another"))
    assert not isinstance(error.value, StoredLaterError)

    assert store.waiting == 1
    assert into_memory(store.get(KEYS[0])) == recording()


def test_a_folder_for_what_waits_that_cannot_be_read_fails_nothing_else(store: SpoolingStore, tmp_path: Path) -> None:
    store.put(recording())
    (tmp_path / "waiting" / "index").mkdir(parents=True)
    (tmp_path / "waiting" / "index" / "cache.db").mkdir()

    assert into_memory(store.get(KEYS[0])) == recording()
    assert store.fingerprint(KEYS[0])
    store.put(recording(KEYS[1]))


def test_what_waited_when_a_server_ended_is_stored_by_the_next_one(
    server: RedisServer, store: SpoolingStore, tmp_path: Path
) -> None:
    server.kill()
    with pytest.raises(StoredLaterError):
        store.put(recording())
    server.start()

    address = StoreAddress.parse(f"{server.url}?bodies=file://{tmp_path}/heads")
    with closing(open_store(address, UPSTREAM, follow=True, spool=tmp_path / "waiting")) as successor:
        assert into_memory(successor.get(KEYS[0])) == recording()
        successor.save_use_times()
        assert isinstance(successor, SpoolingStore)
        assert successor.waiting == 0
