"""Earlier versions in Redis: several servers at once, damage, crashes, and stores that an earlier release wrote."""

from __future__ import annotations

import json
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.store.base import FencedError, HistoryUsage
from oda_proxy.store.combined import CombinedStore
from oda_proxy.store.history_limits import HistoryLimits
from oda_proxy.store.redis.clients import sync_client
from oda_proxy.store.redis.keyspace import Keyspace
from oda_proxy.store.redis.opening import open_store, open_stores
from tests.store.test_history import text_at, times
from tests.support.recordings import KEYS, into_memory, recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.store.redis.address import StoreAddress
    from oda_proxy.store.redis.store import RedisStore

pytestmark = pytest.mark.real

SAMPLE = Path(__file__).parents[1] / "support/samples/redis-store-of-2026-11-29"
UPSTREAM = "http://dispatcher.example"
KEY = KEYS[0]
HOSTILE = 24
"""Rows and heads of versions that are malformed."""
MANY = 9000
"""Versions that are more than Lua returns values."""


@pytest.fixture
def client(address: StoreAddress) -> Any:
    return sync_client(address.redis)


@pytest.fixture
def store(address: StoreAddress) -> Iterator[RedisStore]:
    with closing(open_store(address, UPSTREAM)) as opened:
        yield opened


@pytest.fixture
def other(address: StoreAddress) -> Iterator[RedisStore]:
    """Open the same store as another server."""
    with closing(open_store(address, UPSTREAM)) as opened:
        yield opened


def fill(store: RedisStore, *texts: bytes) -> None:
    for number, text in enumerate(texts, 1):
        store.put(recording(KEY, text, stored_at=10.0 * number))


def heads(folder: Path) -> list[Path]:
    return sorted(file for file in (folder / "heads").rglob("*") if file.is_file() and file.name != "index-name")


def test_versions_of_one_server_are_seen_by_another(store: RedisStore, other: RedisStore) -> None:
    fill(store, b"one", b"two")
    (first, _) = other.versions(KEY)
    assert text_at(other, 15.0) == b"one"

    assert other.remove_versions([first]) == [first]

    assert times(store) == [(20.0, None)]
    assert store.get_version(first) is None


def test_servers_that_store_at_the_same_time_lose_no_version(store: RedisStore, other: RedisStore) -> None:
    def put(number: int) -> None:
        (store, other)[number % 2].put(recording(KEY, b"%d" % number, stored_at=100.0))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(24)))

    found = store.versions(KEY)
    assert all(one.valid_until == other.valid_from for one, other in pairwise(found))
    texts = {text_at(store, one.valid_from) for one in found}
    assert texts == {b"%d" % number for number in range(24)}
    assert list(store.verify(fix=False)) == []


def test_a_writer_whose_lease_was_taken_over_makes_no_version(store: RedisStore, client: Any) -> None:
    fill(store, b"one")
    client.set(Keyspace.of(UPSTREAM).key("fence", KEY), 7)

    with pytest.raises(FencedError):
        store.put_fenced(recording(KEY, b"late", stored_at=20.0), 6)
    assert times(store) == [(10.0, None)]

    store.put_fenced(recording(KEY, b"two", stored_at=30.0), 7)
    assert times(store) == [(10.0, 30.0), (30.0, None)]


def test_heads_of_versions_are_neither_garbage_nor_orphans(store: RedisStore, tmp_path: Path) -> None:
    fill(store, b"one", b"two", b"three")
    store.remove(KEY)

    assert len(heads(tmp_path)) == 2
    assert store.remove_orphans() == 0
    assert list(store.verify(fix=True)) == []
    assert [text_at(store, at) for at in (10.0, 20.0)] == [b"one", b"two"]
    store.remove_versions(store.versions(KEY))
    assert heads(tmp_path) == []
    assert store.usage().occupied == store.history_usage().occupied == 0


def test_all_keys_of_a_dispatcher_are_in_one_slot(store: RedisStore, client: Any) -> None:
    fill(store, b"one", b"two")
    store.pin(KEY, pinned=True)

    tag = Keyspace.of(UPSTREAM).prefix.encode()
    assert all(key.startswith(tag) for key in client.scan_iter())


def test_wrong_counters_of_versions_are_found_and_corrected(store: RedisStore, client: Any) -> None:
    fill(store, b"one", b"two" * 100, b"one", b"three")
    store.pin(KEY, pinned=True)
    keys = Keyspace.of(UPSTREAM)
    expected = times(store), store.usage(), store.history_usage(), store.totals()
    client.hset(keys.key("usage"), mapping={"versions": 9, "past": 1})
    client.delete(keys.key("histories"), keys.key("replaced"), keys.key("counts"), keys.key("evict"))

    assert [fault.subject for fault in store.verify(fix=True)] == ["index"]

    assert list(store.verify(fix=False)) == []
    assert (times(store), store.usage(), store.history_usage(), store.totals()) == expected
    assert store.version_keys_beginning("") == [KEY]
    assert list(store.groups_to_evict()) == []
    store.pin(KEY, pinned=False)
    assert sum(map(len, store.groups_to_evict())) == 4


def test_a_damaged_version_is_found_and_removed(store: RedisStore, tmp_path: Path, client: Any) -> None:
    fill(store, b"one", b"two", b"three")
    first, second, _ = store.versions(KEY)
    name = client.hget(Keyspace.of(UPSTREAM).key("head", first.head_name), "body").decode()
    next(file for file in heads(tmp_path) if file.name == name).write_bytes(b"damaged")

    (fault,) = store.verify(fix=False)
    assert (fault.subject, fault.message) == (KEY, "an earlier version is damaged: its head was changed")
    assert store.get_version(first) is None
    assert store.damaged == 1
    assert times(store) == [(20.0, 30.0), (30.0, None)]
    client.delete(Keyspace.of(UPSTREAM).key("head", second.head_name))
    fault, *_ = store.verify(fix=True)
    assert fault.message.startswith("an earlier version is damaged")
    assert times(store) == [(30.0, None)]


def test_malformed_versions_are_refused_and_never_served(store: RedisStore, client: Any, tmp_path: Path) -> None:
    draws = random.Random(17)  # noqa: S311 - the same each time
    keys = Keyspace.of(UPSTREAM)
    texts = [b"one", b"two", b"three"]
    for number in range(HOSTILE):
        fill(store, *texts)
        first, *_ = store.versions(KEY)
        place = keys.key("earlier", KEY, "00000000010.000000")
        row = client.hget(place, "row")
        at = draws.randrange(len(row))
        match number % 6:
            case 0:  # that of another version
                client.hset(place, mapping=client.hgetall(keys.key("earlier", KEY, "00000000020.000000")))
            case 1:  # cut off
                client.hset(place, "row", row[:at])
            case 2:  # with another byte
                client.hset(place, "row", row[:at] + bytes([row[at] ^ 1]) + row[at + 1 :])
            case 3:  # of another type
                client.delete(place)
                client.set(place, draws.randbytes(20))
            case 4:  # the row of the recording itself
                current = client.hmget(keys.key("recording", KEY), "row", "check")
                client.hset(place, mapping={"row": current[0], "check": current[1]})
            case _:  # a head elsewhere
                client.hset(keys.key("head", first.head_name), "body", "../../secret")

        assert into_memory(store.get_version(first)) is None, number
        assert text_at(store, 25.0) == b"two"
        assert into_memory(store.get(KEY)) == recording(KEY, b"three", stored_at=30.0)
        store.remove(KEY)
        store.remove_versions(store.versions(KEY))
        client.flushall()
        shutil.rmtree(tmp_path / "heads", ignore_errors=True)
        assert store.claims_maintenance()  # the index gets another name


def test_a_lower_limit_removes_more_versions_than_a_script_may_return(address: StoreAddress, client: Any) -> None:
    with closing(open_store(address, UPSTREAM)) as store:
        fill(store, b"one", b"two")
    keys, tag = Keyspace.of(UPSTREAM), "0" * 16
    pipeline = client.pipeline(transaction=False)
    for number in range(MANY):
        digest = f"{number:064x}"
        pipeline.hset(keys.key("head", digest), mapping={"body": f"{digest}-{tag}", "stored_size": 1})
        version = {"row": "", "check": "", "head": digest, "stored_size": 1, "valid_until": repr(number + 1.5)}
        pipeline.hset(keys.key("earlier", KEY, f"{number + 1:018.6f}"), mapping=version)
    pipeline.execute()
    with closing(open_store(address, UPSTREAM, history=HistoryLimits(1))) as store:
        store._index.rebuild()
        assert store.history_usage().versions == MANY

        assert store.expire_versions(100.0) == MANY - 1

        assert store.history_usage() == HistoryUsage(1, 1)
        assert client.scard(keys.key("garbage")) > 0
        store.remove_orphans()
        assert client.scard(keys.key("garbage")) == 0


def test_a_former_address_keeps_its_versions(address: StoreAddress) -> None:
    with closing(open_store(address, "http://former.example")) as former:
        fill(former, b"one", b"two")
    with closing(open_stores(address, [UPSTREAM, "http://former.example"])) as store:
        assert isinstance(store, CombinedStore)
        store.put(recording(KEY, b"three", stored_at=40.0))

        assert times(store) == [(10.0, 20.0), (20.0, 40.0), (40.0, None)]
        assert [text_at(store, at) for at in (10.0, 20.0, 40.0)] == [b"one", b"two", b"three"]


def restore_sample(client: Any) -> None:
    """Write the keys of the sample to Redis."""
    for key, one in json.loads((SAMPLE / "redis.json").read_text()).items():
        value = one["value"]
        match one["type"]:
            case "hash":
                client.hset(key, mapping=value)
            case "zset":
                client.zadd(key, {member: float(score) for member, score in value})
            case "set":
                client.sadd(key, *value)
            case _:
                client.set(key, value)


def test_a_store_that_an_earlier_release_wrote_has_its_recordings_as_first_versions(
    address: StoreAddress, client: Any, tmp_path: Path
) -> None:
    shutil.copytree(SAMPLE / "heads", tmp_path / "heads")
    restore_sample(client)

    with closing(open_store(address, UPSTREAM)) as store:
        assert list(store.verify(fix=False)) == []
        assert [times(store, key) for key in KEYS[:3]] == [[(10.0, None)], [(20.0, None)], [(30.0, None)]]
        assert store.history_usage() == HistoryUsage()
        occupied = store.usage().occupied
        for key, text in ((KEYS[0], b"new"), (KEYS[1], b"other")):
            store.put(recording(key, text, stored_at=50.0))

        assert [times(store, key) for key in KEYS[:2]] == [[(10.0, 50.0), (50.0, None)], [(20.0, 50.0), (50.0, None)]]
        assert [text_at(store, 20.0, key) for key in KEYS[:2]] == [b"one", b"shared"]
        assert [one.pinned for one in store.versions(KEYS[1])] == [True, True]
        assert store.usage().occupied > occupied
        assert list(store.verify(fix=True)) == []
