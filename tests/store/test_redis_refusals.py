"""A Redis or a bucket that responds, and refuses: recordings wait, words say why, and all is stored later."""

from __future__ import annotations

import resource
import shutil
import threading
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.objects.bucket import _reason
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.opening import open_store
from oda_proxy.store.redis.spooling import SpoolingStore, StoredLaterError
from tests.support.faulty_bucket import CREDENTIALS, FAULTS, TRUNCATED, FaultyBucket, faulty_bucket
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.redis_server import RedisServer, running_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

UPSTREAM = "https://example.org/dispatcher"
DEBUG = {"enable-debug-command": "yes", "loading-process-events-interval-bytes": 1024, "rdbcompression": "no"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis"), fsync="everysec", options=DEBUG) as running:
        yield running


@contextmanager
def connected(server: RedisServer) -> Iterator[Any]:
    """Connect as the administrator of a Redis."""
    with redis.Redis(port=server.port, socket_timeout=30) as client:
        yield client


@contextmanager
def opened(server: RedisServer, tmp_path: Path, bodies: str = "") -> Iterator[SpoolingStore]:
    """Open a store with one recording."""
    with connected(server) as client:
        client.flushall()
    address = StoreAddress.parse(f"{server.url}?{bodies or f'bodies=file://{tmp_path}/heads'}")
    with closing(open_store(address, UPSTREAM, follow=True, spool=tmp_path / "waiting")) as store:
        assert isinstance(store, SpoolingStore)
        store.put(recording(KEYS[0], b"before"))
        yield store


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_stored(store: SpoolingStore) -> bool:
    """Return whether nothing waits any more, after another attempt."""
    with suppress(StoreUnusableError):
        store.save_use_times()
        store.check()
        return store.waiting == 0
    return False


def is_readable(store: SpoolingStore) -> bool:
    """Return whether the recording can be read: for a moment, a connection may be interrupted."""
    with suppress(StoreUnusableError):
        return into_memory(store.get(KEYS[0])) == recording(KEYS[0], b"before")
    return False


def check_refusal(store: SpoolingStore, words: str) -> None:
    """Check that a recording waits, that it answers, and what the reason is."""
    until(lambda: words in refusal(store))  # what happened may have interrupted connections for a moment
    assert into_memory(store.get(KEYS[1])) == recording(KEYS[1], b"during")


def refusal(store: SpoolingStore) -> str:
    """Return why a recording waits that is to be stored."""
    with pytest.raises(StoredLaterError) as error:
        store.put(recording(KEYS[1], b"during"))
    return str(error.value)


def check_return(store: SpoolingStore) -> None:
    """Check that what waited is stored, and nothing was lost."""
    until(lambda: is_stored(store))
    assert into_memory(store.get(KEYS[0])) == recording(KEYS[0], b"before")
    assert into_memory(store.get(KEYS[1])) == recording(KEYS[1], b"during")
    assert list(store.verify(fix=False)) == []


REFUSALS: Final[dict[str, tuple[Callable[[Any], object], Callable[[Any], object], str]]] = {
    "maxmemory is reached": (
        lambda client: client.config_set("maxmemory", 1),
        lambda client: client.config_set("maxmemory", 0),
        "has reached its maxmemory; ",
    ),
    "it became a replica": (
        lambda client: client.execute_command("REPLICAOF", "127.0.0.1", "1"),
        lambda client: client.execute_command("REPLICAOF", "NO", "ONE"),
        "this Redis is a replica, which cannot be written to",
    ),
    "the user lost a permission": (
        lambda client: client.execute_command("ACL", "SETUSER", "default", "-@scripting"),
        lambda client: client.execute_command("ACL", "SETUSER", "default", "+@all"),
        "forbids this user commands, keys or channels",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_redis_that_refuses_to_write_makes_recordings_wait(server: RedisServer, tmp_path: Path, name: str) -> None:
    begin, end, words = REFUSALS[name]
    with opened(server, tmp_path) as store, connected(server) as client:
        begin(client)
        try:
            check_refusal(store, words)
            if "permission" not in name:  # each command of ours is a script
                until(lambda: is_readable(store))
        finally:
            end(client)
        check_return(store)


@pytest.mark.slow
def test_a_redis_that_loads_its_data_makes_recordings_wait(server: RedisServer, tmp_path: Path) -> None:
    with opened(server, tmp_path) as store, connected(server) as client, connected(server) as other:
        client.config_set("key-load-delay", 20_000)  # in microseconds, for each of some dozens of keys
        for number in range(80):
            client.set(f"other-{number}", b"x" * 2048)
        loading = threading.Thread(target=lambda: client.execute_command("DEBUG", "RELOAD"))
        loading.start()
        try:
            until(lambda: other.info("persistence")["loading"] == 1)
            check_refusal(store, "Redis is loading its data")
        finally:
            loading.join()
            client.config_set("key-load-delay", 0)
        check_return(store)


def test_a_redis_whose_disk_is_full_makes_recordings_wait(server: RedisServer, tmp_path: Path) -> None:
    """It can write no more to its append-only file, here because of a limit of its process."""
    with opened(server, tmp_path) as store, connected(server) as client:
        process, (_, most) = server.process_id, resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (0, most))
        try:
            client.set("more", b"x" * 10_000)
            until(lambda: client.info("persistence")["aof_last_write_status"] == "err")
            check_refusal(store, "Redis cannot write its data to its disk")
        finally:
            resource.prlimit(process, resource.RLIMIT_FSIZE, (most, most))
        check_return(store)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyBucket]:
    pytest.importorskip("obstore", reason="obstore is not installed")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with faulty_bucket() as running:
        yield running


WORDS: Final = {
    "access denied": "it refuses access",
    "slow down": "it cannot be reached, or reports an error",
    "another region": "it cannot be reached, or reports an error",
    "no such bucket": "it does not exist",
}


@pytest.mark.parametrize("name", WORDS)
def test_a_bucket_that_refuses_makes_recordings_wait(
    server: RedisServer, bucket: FaultyBucket, tmp_path: Path, name: str
) -> None:
    with opened(server, tmp_path, bucket.parameters) as store:
        bucket.fault = FAULTS[name]
        with pytest.raises(StoredLaterError, match=f"the bucket s3://recordings/tests fails: {WORDS[name]}"):
            store.put(recording(KEYS[1], b"during"))
        assert into_memory(store.get(KEYS[1])) == recording(KEYS[1], b"during")
        with pytest.raises(StoreUnusableError):
            store.get(KEYS[0])
        with pytest.raises(StoreUnusableError):
            store.check()

        bucket.fault = None
        check_return(store)
        assert store.damaged == 0


@pytest.mark.parametrize("name", WORDS)
def test_a_bucket_that_refuses_is_named_at_the_start(
    server: RedisServer, bucket: FaultyBucket, tmp_path: Path, name: str
) -> None:
    bucket.fault = FAULTS[name]
    with connected(server) as client:
        client.flushall()
    with pytest.raises(StoreUnusableError, match=f"s3://recordings/tests fails: {WORDS[name]}") as error:
        open_store(StoreAddress.parse(f"{server.url}?{bucket.parameters}"), UPSTREAM, spool=tmp_path / "waiting")
    assert "\n" not in str(error.value)
    assert "test-secret-key" not in str(error.value)


@pytest.mark.parametrize("name", CREDENTIALS)
def test_half_a_credential_is_named_at_the_start(
    server: RedisServer, bucket: FaultyBucket, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(StoreUnusableError, match="only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set"):
        open_store(StoreAddress.parse(f"{server.url}?{bucket.parameters}"), UPSTREAM)


def test_credentials_that_are_not_set_are_named() -> None:
    """The library looks for the role of the machine last, and its message names an address that means nothing here."""
    found = _reason(OSError("Error performing PUT http://169.254.169.254/latest/api/token in 2 ms"))
    assert found.startswith("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set")


def test_a_head_that_arrives_in_part_is_an_error_of_the_bucket_and_no_damage(
    server: RedisServer, bucket: FaultyBucket, tmp_path: Path
) -> None:
    with opened(server, tmp_path, bucket.parameters) as store:
        bucket.fault = TRUNCATED
        with pytest.raises(StoreUnusableError, match="s3://recordings/tests fails"):
            store.get(KEYS[0])
        bucket.fault = None

        assert into_memory(store.get(KEYS[0])) == recording(KEYS[0], b"before")
        assert store.damaged == 0


def test_an_empty_bucket_in_the_place_of_that_with_the_heads_removes_no_recording(
    server: RedisServer, bucket: FaultyBucket, tmp_path: Path
) -> None:
    with opened(server, tmp_path, bucket.parameters) as store:
        objects, bucket.objects = bucket.objects, {}
        with pytest.raises(StoreUnusableError, match=r"index-name below .* is missing, and so perhaps all heads are"):
            store.get(KEYS[0])
        with pytest.raises(StoreUnusableError, match="and so perhaps all heads are"):
            list(store.verify(fix=True))
        with pytest.raises(StoreUnusableError, match="the heads of its recordings are not in"):
            open_store(StoreAddress.parse(f"{server.url}?{bucket.parameters}"), UPSTREAM)

        bucket.objects = objects
        assert into_memory(store.get(KEYS[0])) == recording(KEYS[0], b"before")


def test_a_folder_that_is_not_mounted_removes_no_recording(server: RedisServer, tmp_path: Path) -> None:
    with opened(server, tmp_path) as store:
        mounted = (tmp_path / "heads").rename(tmp_path / "aside")
        (tmp_path / "heads").mkdir()
        with pytest.raises(StoredLaterError, match="is gone"):
            store.put(recording(KEYS[1], b"during"))
        with pytest.raises(StoreUnusableError, match=r"is gone|and so perhaps all heads are"):
            store.get(KEYS[0])
        with pytest.raises(StoreUnusableError, match="the heads of its recordings are not in"):
            open_store(StoreAddress.parse(f"{server.url}?bodies=file://{tmp_path}/heads"), UPSTREAM)

        shutil.rmtree(tmp_path / "heads")
        mounted.rename(tmp_path / "heads")
        check_return(store)
