"""The behaviour of every store."""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oda_proxy.query.query import Query
from oda_proxy.store.base import Usage
from oda_proxy.store.combined import CombinedStore
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.opening import open_store
from tests.support.object_server import running_objects
from tests.support.recordings import KEYS, into_memory, recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Entry, Store
    from tests.support.object_server import ObjectServer
    from tests.support.redis_server import RedisServer

TIMELINE = (("submitted", 0.0), ("progress", 1.25), ("ready", 3.5))
QUERY = Query("isgri", "isgri_image", "Real", (("RA", ("83.0",)), ("scw_list", ("1", "2"))), api=True)

LARGEST_PIECE = 256 * 1024
"""Bytes of a piece of a head: many clients read at once."""


class Clock:
    """A clock that stands until it is set; s since 1970."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with running_objects(tmp_path_factory.mktemp("objects") / "served") as server:
        yield server


@pytest.fixture
def bodies(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the parameters of a URL for the heads of a store in Redis."""
    if request.node.callspec.params["store"] == "redis and a folder":
        return f"bodies=file://{tmp_path}/heads"
    objects: ObjectServer = request.getfixturevalue("object_server")
    for name, value in objects.environment.items():
        monkeypatch.setenv(name, value)
    return objects.parameters


REAL = [pytest.param(name, marks=pytest.mark.real) for name in ("redis and a folder", "redis and a bucket")]


@pytest.fixture(params=["memory", "disk", "combined", *REAL])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    if request.param.startswith("redis"):
        server: RedisServer = request.getfixturevalue("redis_server")
        address = StoreAddress.parse(f"{server.url}?{request.getfixturevalue('bodies')}")
        with closing(open_store(address, f"http://{tmp_path.name}", clock=clock)) as in_redis:
            yield in_redis
        return
    if request.param == "memory":
        yield MemoryStore(clock=clock)
        return
    if request.param == "combined":
        folders = (tmp_path / "first", tmp_path / "former")
        first, former = (DiskStore(folder, clock=clock) for folder in folders)
        with closing(CombinedStore(first, [former])) as combined:
            yield combined
        return
    with closing(DiskStore(tmp_path, clock=clock)) as on_disk:
        yield on_disk


def entry(store: Store, key: Key) -> Entry:
    (found,) = [entry for entry in store.entries() if entry.key == key]
    assert store.entry(key) == found
    return found


def test_peeking_at_a_recording_is_no_use_of_it(store: Store, clock: Clock) -> None:
    store.put(recording(stored_at=clock()))
    clock.now += 60

    assert into_memory(store.peek(KEYS[0])) == into_memory(store.peek(KEYS[0]))
    assert store.peek(KEYS[1]) is None
    assert (entry := store.entry(KEYS[0])) is not None
    assert entry.used_at == 1000.0
    into_memory(store.get(KEYS[0]))
    assert (entry := store.entry(KEYS[0])) is not None
    assert entry.used_at == 1060.0


def test_an_empty_store_has_nothing(store: Store) -> None:
    assert store.get(KEYS[0]) is None
    assert list(store.keys()) == []
    assert list(store.entries()) == []
    assert store.entry(KEYS[0]) is None
    assert store.usage() == Usage(0, 0)


def test_a_stored_recording_is_returned(store: Store) -> None:
    stored = [
        recording(KEYS[0]),
        recording(KEYS[1], b"x" * 1_000_000, cost=3.5, query=QUERY, timeline=TIMELINE),
        recording(KEYS[2], b""),
    ]

    for one in stored:
        store.put(one)

    assert [into_memory(store.get(one.key)) for one in stored] == stored
    assert sorted(store.keys()) == KEYS[:3]


def test_a_second_recording_replaces_the_first(store: Store) -> None:
    store.put(recording(text=b"first"))
    store.put(recording(text=b"second", cost=1.0))

    assert into_memory(store.get(KEYS[0])) == recording(text=b"second", cost=1.0)
    assert store.usage().recordings == 1


def test_a_private_recording_stays_private(store: Store) -> None:
    store.put(recording(KEYS[0], private=True))

    found = store.get(KEYS[0])

    assert found is not None
    assert found.private
    found.head.close()
    entry = store.entry(KEYS[0])
    assert entry is not None
    assert entry.private


def test_a_removed_recording_is_gone(store: Store) -> None:
    store.put(recording())

    assert store.remove(KEYS[0])
    assert not store.remove(KEYS[0])
    assert not store.remove(KEYS[1])
    assert store.get(KEYS[0]) is None
    assert store.usage() == Usage(0, 0)


def test_a_recording_that_was_replaced_or_pinned_since_is_not_evicted(store: Store) -> None:
    store.put(recording(stored_at=1.0))
    before = entry(store, KEYS[0])
    store.put(recording(stored_at=2.0))
    assert not store.evict(before)

    now = entry(store, KEYS[0])
    store.pin(KEYS[0], pinned=True)
    assert not store.evict(now)

    store.pin(KEYS[0], pinned=False)
    assert store.evict(now)
    assert not store.evict(now)
    assert store.evict_all(store.versions(KEYS[0])) != []
    assert store.usage() == Usage(0, 0)


def test_a_head_has_a_size_and_a_digest_and_can_be_read_repeatedly(store: Store) -> None:
    text = bytes(range(251)) * (3 * LARGEST_PIECE // 251 + 1)
    store.put(recording(text=text))

    found = store.get(KEYS[0])

    assert found is not None
    with closing(found.head) as head:
        assert (head.size, head.digest) == (len(text), hashlib.sha256(text).hexdigest())
        one, other = head.pieces(), head.pieces()
        assert b"".join(chunk for pair in zip(one, other, strict=True) for chunk in pair[:1]) == text
        assert all(0 < len(chunk) <= LARGEST_PIECE for chunk in head.pieces())
        assert b"".join(head.pieces()) == text


def test_an_open_head_can_be_read_after_its_recording_is_removed(store: Store) -> None:
    store.put(recording(text=b"text" * 100_000))
    found = store.get(KEYS[0])

    store.remove(KEYS[0])

    assert into_memory(found) == recording(text=b"text" * 100_000)


def test_recordings_of_the_same_products_share_a_head(store: Store) -> None:
    store.put(recording(KEYS[0], b"text"))
    once = store.usage().occupied
    store.put(recording(KEYS[1], b"text"))

    assert store.usage() == Usage(2, once)
    assert entry(store, KEYS[0]).head_name == entry(store, KEYS[1]).head_name

    store.remove(KEYS[0])
    assert into_memory(store.get(KEYS[1])) == recording(KEYS[1], b"text")
    assert store.usage() == Usage(1, once)


def test_an_entry_describes_a_recording(store: Store) -> None:
    store.put(recording(text=b"text", cost=3.5, query=QUERY))

    found = entry(store, KEYS[0])

    assert (found.size, found.cost, found.query, found.stored_at, found.used_at) == (4, 3.5, QUERY, 12.5, 12.5)
    assert found.stored_size == store.usage().occupied
    assert not found.pinned


def test_the_time_of_use_is_known_before_and_after_it_is_written(store: Store, clock: Clock) -> None:
    store.put(recording())
    into_memory(store.get(KEYS[0]))
    assert entry(store, KEYS[0]).used_at == 1000.0

    store.save_use_times()
    assert entry(store, KEYS[0]).used_at == 1000.0

    clock.now = 2000.0
    into_memory(store.get(KEYS[0]))
    store.save_use_times()
    assert entry(store, KEYS[0]).used_at == 2000.0


def test_a_pin_stays_until_it_is_removed(store: Store) -> None:
    store.put(recording())

    assert not store.pin(KEYS[1], pinned=True)
    assert store.pin(KEYS[0], pinned=True)
    store.put(recording(text=b"new"))
    assert entry(store, KEYS[0]).pinned

    assert store.pin(KEYS[0], pinned=False)
    assert not entry(store, KEYS[0]).pinned


def test_a_pin_does_not_outlive_its_recording(store: Store) -> None:
    store.put(recording())
    store.pin(KEYS[0], pinned=True)
    store.remove(KEYS[0])
    store.put(recording())

    assert not entry(store, KEYS[0]).pinned


def test_the_usage_agrees_after_any_operations(store: Store) -> None:
    draws = random.Random(5)  # noqa: S311 - the same each time
    for _ in range(200):
        key, text = draws.choice(KEYS), draws.choice([b"one", b"two", b"three" * 1000])
        if draws.random() < 0.7:
            store.put(recording(key, text, stored_at=draws.random()))
        else:
            store.remove(key)

    versions = [one for key in KEYS for one in store.versions(key)]
    heads = {one.head_name: one.stored_size for one in versions}
    assert store.usage() == Usage(len(list(store.entries())), sum(heads.values()))


def test_threads_put_get_and_remove_concurrently(store: Store) -> None:
    texts = {key: key[0].encode() * 50_000 for key in KEYS}

    def work(seed: int) -> None:
        draws = random.Random(seed)  # noqa: S311 - the same each time
        for _ in range(15):
            key = draws.choice(KEYS)
            match draws.randrange(3):
                case 0:
                    store.put(recording(key, texts[key], stored_at=draws.random()))
                case 1:
                    found = into_memory(store.get(key))
                    assert found is None or b"".join(found.head.pieces()) == texts[key]
                case 2:
                    store.remove(key)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    heads = {one.head_name: one.stored_size for key in KEYS for one in store.versions(key)}
    assert store.usage() == Usage(len(list(store.entries())), sum(heads.values()))
