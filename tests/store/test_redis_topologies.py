"""A store in a Redis with TLS and users, behind sentinels, or in a cluster; what cannot work is refused at start."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.collections import ADDRESS, RECORDING, Member
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.opening import open_collections, open_store
from tests.support.crowds import page
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.redis_server import running_redis
from tests.support.redis_topologies import (
    PASSWORD,
    RULES,
    USER,
    EncryptedRedis,
    encrypted_redis,
    redis_cluster,
    redis_with_sentinel,
)
from tests.support.replica_servers import QUICK
from tests.support.servers import running
from tests.support.worker_servers import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.redis_server import RedisServer
    from tests.support.servers import Server

pytestmark = [pytest.mark.real, pytest.mark.slow]

UPSTREAM = "https://example.org/dispatcher"


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EncryptedRedis]:
    with encrypted_redis(tmp_path_factory.mktemp("encrypted")) as found:
        yield found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("mock") / "log"
    with running(log, "mock", "--port", "0", "--synthetic", "--time-scale", "0.1") as server:
        yield server


def check_store(url: str, folder: Path) -> None:
    """Check that two servers see each other's recordings, and that commands work on them."""
    address = StoreAddress.parse(f"{url}bodies=file://{folder}/heads")
    with ExitStack() as stack:
        one, other = (stack.enter_context(closing(open_store(address, UPSTREAM, follow=True))) for _ in range(2))
        one.put(recording(text=b"earlier", stored_at=1.0))
        one.put(recording())
        assert into_memory(other.get(KEYS[0])) == recording()
        earlier, _ = other.versions(KEYS[0])
        assert into_memory(other.get_version(earlier)) == recording(text=b"earlier", stored_at=1.0)
        assert list(other.verify(fix=True)) == []
        assert other.pin(KEYS[0], pinned=True)
        assert [entry.key for entry in one.entries_by_use()] == [KEYS[0]]
        assert other.claims_maintenance()
        assert other.remove(KEYS[0])
        assert one.get(KEYS[0]) is None
        assert other.remove_versions([earlier]) == [earlier]
    check_collections(address)


def check_collections(address: StoreAddress) -> None:
    """Check that two servers see each other's collections."""
    one, other = (open_collections(address, UPSTREAM, lambda: 100.0) for _ in range(2))
    one.note(
        "paper", "", Member(RECORDING, KEYS[0], 1, 0.0, was_pinned=False, content=None), 10, [(ADDRESS, "http://")]
    )
    one.note_description("paper", "isgri.json", 1.0, b"{}")
    other.rename(other.find("paper"), "book")
    found = one.find("book")
    assert ([one.key for one in one.members(found)], other.descriptions(found)) == ([KEYS[0]], [("isgri.json", b"{}")])
    other.remove(found)
    assert one.list() == []


def check_job(url: str, folder: Path, mock: Server) -> None:
    """Check that clients of two servers share a job, and that each has its recording."""
    before = page(mock, "status")["asked"].get("new", 0)
    with ExitStack() as stack:
        servers = []
        for name in ("one", "other"):
            options = ("--upstream", mock.url, "--port", "0", "--cache-dir", str(folder / name))
            store = ("--store", f"{url}bodies=file://{folder}/heads")
            servers.append(
                stack.enter_context(running(folder / f"{name}.log", "serve", *options, *store, program=QUICK))
            )
        clients = [Client(server.url, f"SESSION{number:09}") for number, server in enumerate(servers)]
        first = [client.send() for client in clients]
        last = [client.get_product() for client in clients]
        hits = [Client(server.url, "SESSIONOFTHELATE") for server in servers]
        again = [client.get_product() for client in hits]

        assert {response["query_status"] for response in first} <= {"submitted", "progress", "done"}
        assert {response["query_status"] for response in (*last, *again)} == {"done"}
        assert {status for client in hits for status in client.cache_statuses} == {"oda-proxy; hit"}
        assert page(mock, "status")["asked"]["new"] == before + 1
        for server in servers:
            log = server.end()
            assert "away" not in log
            assert PASSWORD not in log


def refusal(url: str, folder: Path) -> str:
    """Return why a server does not start with a store."""
    with pytest.raises(StoreUnusableError) as error:
        open_store(StoreAddress.parse(f"{url}bodies=file://{folder}/heads"), UPSTREAM, follow=True)
    text = str(error.value)
    assert "\n" not in text
    assert PASSWORD not in text
    return text


def test_tls_with_certificates_of_clients_and_a_user(encrypted: EncryptedRedis, tmp_path: Path, mock: Server) -> None:
    check_store(encrypted.url(), tmp_path)
    check_job(encrypted.url(), tmp_path, mock)


def test_what_is_wrong_with_tls_is_said_in_one_line(encrypted: EncryptedRedis, tmp_path: Path) -> None:
    files, url = encrypted.files, encrypted.url()
    wrong = encrypted.url(authority=files.other_authority)
    assert "its certificate is not valid" in refusal(wrong, tmp_path)
    assert "Hostname mismatch" in refusal(url.replace("@127.0.0.1", "@localhost"), tmp_path)
    without = url.partition("ssl_certfile")[0]
    assert "name the right ssl_certfile and ssl_keyfile in --store" in refusal(without, tmp_path)
    missing = encrypted.url(client=tmp_path / "missing.pem")
    assert f"ssl_certfile={tmp_path}/missing.pem cannot be read (No such file or directory)" in refusal(
        missing, tmp_path
    )
    plain = f"redis://127.0.0.1:{encrypted.port}/0?"
    assert "where it uses TLS, begin the URL in --store with rediss" in refusal(plain, tmp_path)


def test_a_user_who_is_refused_is_told_so_in_one_line(encrypted: EncryptedRedis, tmp_path: Path) -> None:
    for url in (encrypted.url(password=USER), encrypted.url(user="other")):
        assert "Redis refuses the user or the password; correct the credentials in --store" in refusal(url, tmp_path)


@pytest.mark.parametrize("lacking", ["&{oda-proxy:*", "~{oda-proxy:*", "+@all"])
def test_a_user_without_the_permissions_of_a_store_is_refused_at_the_start(tmp_path: Path, lacking: str) -> None:
    """Without the channels, which Redis forbids by default, each change would fail half-way, and nothing be read."""
    rules = RULES.replace(lacking, "+@read" if lacking == "+@all" else "")
    with running_redis(tmp_path / "redis", options={"user": f"{USER} on >{PASSWORD} {rules}"}) as server:
        url = f"redis://{USER}:{PASSWORD.replace(':', '%3A').replace('@', '%40')}@127.0.0.1:{server.port}/0?"
        assert "forbids this user commands, keys or channels" in refusal(url, tmp_path)


def test_sentinels_name_the_master(tmp_path: Path, mock: Server) -> None:
    with redis_with_sentinel(tmp_path) as watched:
        check_store(f"{watched.url}?", tmp_path)
        check_job(f"{watched.url}?", tmp_path, mock)
        assert "knows a master of this service" in refusal(f"{watched.url.replace('recordings', 'other')}?", tmp_path)
        assert "this is a sentinel" in refusal(f"redis://127.0.0.1:{watched.sentinel_port}/0?", tmp_path)
        master = f"redis+sentinel://127.0.0.1:{watched.master.port}/recordings/0?"
        assert "lacks commands that are needed" in refusal(master, tmp_path)
        cluster = f"redis+cluster://127.0.0.1:{watched.master.port}?"
        assert "no server of a cluster of Redis can be reached" in refusal(cluster, tmp_path)


def test_a_replica_is_refused_at_the_start(tmp_path: Path) -> None:
    with running_redis(tmp_path / "redis", options={"replicaof": "127.0.0.1 1"}) as server:
        url = f"redis://127.0.0.1:{server.port}/0?"
        assert "is a replica, which cannot be written to; name its master" in refusal(url, tmp_path)


def test_a_cluster_of_three_masters(cluster: list[RedisServer], tmp_path: Path, mock: Server) -> None:
    url = f"redis+cluster://127.0.0.1:1,127.0.0.1:{cluster[0].port}?"
    check_store(url, tmp_path)
    check_job(url, tmp_path, mock)


def test_a_part_of_a_cluster_is_refused_at_the_start(cluster: list[RedisServer], tmp_path: Path) -> None:
    for server in cluster:
        assert "begin the URL in --store with redis+cluster://" in refusal(f"{server.url}?", tmp_path)
