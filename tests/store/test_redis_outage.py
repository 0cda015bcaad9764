"""While Redis is away, what is in memory is served and the rest waits on the local disk; later it is stored."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.hot_tier import HotTier
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.opening import open_store
from oda_proxy.store.redis.spooling import SpoolingStore, StoredLaterError
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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
