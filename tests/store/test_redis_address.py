"""The URL of a store in Redis is parsed part by part, and shows no credentials."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oda_proxy.config.options import SERVE
from oda_proxy.config.sources import resolve_options
from oda_proxy.errors import InvalidPartError, UsageError
from oda_proxy.store.redis.address import (
    BucketAddress,
    FolderAddress,
    RedisAddress,
    StoreAddress,
    TlsFiles,
    Topology,
)
from oda_proxy.store.redis.clients import async_client, sync_client
from oda_proxy.store.redis.keyspace import LAYOUT, Keyspace

if TYPE_CHECKING:
    from collections.abc import Callable

BODIES = "bodies=s3://oda/recordings"
PASSWORD = "hunter2"  # noqa: S105 - it must not be shown


def redis_of(url: str) -> RedisAddress:
    return StoreAddress.parse(f"{url}{'&' if '?' in url else '?'}{BODIES}").redis


def test_a_url_names_an_index_and_where_heads_are() -> None:
    assert StoreAddress.parse(f"redis://redis.example.org/2?{BODIES}") == StoreAddress(
        RedisAddress(Topology.SINGLE, (("redis.example.org", 6379),), 2), BucketAddress("oda", "recordings")
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", RedisAddress(Topology.SINGLE, (("h", 6379),))),
        ("redis://[::1]:7000/1", RedisAddress(Topology.SINGLE, (("::1", 7000),), 1)),
        ("rediss://h", RedisAddress(Topology.SINGLE, (("h", 6379),), tls=TlsFiles())),
        (
            "rediss://h?ssl_ca_certs=/ca.pem",
            RedisAddress(Topology.SINGLE, (("h", 6379),), tls=TlsFiles(Path("/ca.pem"))),
        ),
        ("unix:///run/redis.sock", RedisAddress(Topology.SINGLE, (), socket=Path("/run/redis.sock"))),
        ("unix:///r.sock?database=3", RedisAddress(Topology.SINGLE, (), 3, socket=Path("/r.sock"))),
        (
            "redis+sentinel://a,b:26380/main/1",
            RedisAddress(Topology.SENTINEL, (("a", 26379), ("b", 26380)), 1, "main"),
        ),
        ("redis+cluster://a:7000,b", RedisAddress(Topology.CLUSTER, (("a", 7000), ("b", 6379)))),
        ("redis://u:p%40ss@h", RedisAddress(Topology.SINGLE, (("h", 6379),), username="u", password="p@ss")),  # noqa: S106
    ],
)
def test_the_address_of_redis_has_each_part(url: str, expected: RedisAddress) -> None:
    assert redis_of(url) == expected


def test_heads_are_in_a_folder_or_a_bucket() -> None:
    parse = StoreAddress.parse

    assert parse("redis://h?bodies=file:///shared/heads").bodies == FolderAddress(Path("/shared/heads"))
    assert parse("redis://h?bodies=s3://oda&endpoint=http://127.0.0.1:9000&region=here").bodies == BucketAddress(
        "oda", "", "http://127.0.0.1:9000", "here"
    )


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("http://h", "must begin with one of redis://"),
        ("redis:h", "must begin with"),
        (f"redis://h/0?{BODIES}#x", "%23"),
        (f"redis://h/0?{BODIES} ", "without spaces"),
        (f"redis://h/{'9' * 5000}?{BODIES}", "at most 4096"),
        ("redis://h/0", "add ?bodies=s3://BUCKET/PREFIX or ?bodies=file:///FOLDER"),
        ("redis://h/0?bodies=ftp://x", "neither s3://"),
        ("redis://h/0?bodies=file://folder", "not absolute"),
        ("redis://h/0?bodies=file:///", "not absolute"),
        ("redis://h/0?bodies=s3://Oda", "the bucket 'Oda'"),
        ("redis://h/0?bodies=s3://oda/a/../b", "a prefix in its bucket"),
        ("redis://h/0?bodies=s3://oda&endpoint=ftp://h", "an endpoint"),
        ("redis://h/0?bodies=s3://oda&endpoint=http://h:99999", "an endpoint"),
        ("redis://h/0?bodies=file:///x&endpoint=http://h", "the parameter 'endpoint'"),
        (f"redis://h/0?{BODIES}&timeout=3", "the parameter 'timeout'"),
        (f"redis://h/0?{BODIES}&{BODIES}", "twice"),
        (f"redis:///0?{BODIES}", "must name a host"),
        (f"redis://h:0/0?{BODIES}", "the port '0'"),
        (f"redis://h:x/0?{BODIES}", "the port 'x'"),
        (f"redis://h/one?{BODIES}", "the database 'one'"),
        (f"redis://h/0/1?{BODIES}", "nothing else as its path"),
        (f"redis://h,i/0?{BODIES}", "several hosts"),
        (f"redis://[::1/0?{BODIES}", "brackets"),
        (f"redis://h/0?ssl_ca_certs=ca.pem&{BODIES}", "needs rediss://"),
        (f"rediss://h/0?ssl_ca_certs=&{BODIES}", "an empty ssl_ca_certs"),
        (f"redis+sentinel://h?{BODIES}", "must name the service"),
        (f"redis+cluster://h/1?{BODIES}", "a cluster has only one"),
        (f"unix://host/run/redis.sock?{BODIES}", "absolute path of a socket"),
    ],
)
def test_a_wrong_part_is_named(url: str, part: str) -> None:
    with pytest.raises(InvalidPartError) as error:
        StoreAddress.parse(url)

    assert part in str(error.value)


def test_credentials_are_never_shown() -> None:
    address = StoreAddress.parse(f"redis://user:{PASSWORD}@h/0?{BODIES}")

    assert PASSWORD not in f"{address} {address!r} {address.redis!r} {sync_client(address.redis)!r}"
    assert str(address) == "redis://h:6379/0?bodies=s3://oda/recordings"
    for wrong in (
        f"redis://user:{PASSWORD}@/0?{BODIES}",
        f"redis://u:{PASSWORD}@h:1x/0",
        f"redis://u:{PASSWORD}#@h",
        f"redis://u:{PASSWORD}/x@h/0?{BODIES}",
        f"redis://u:1/{PASSWORD}@h/0?{BODIES}",
        f"redis://u:1?{PASSWORD}@h/0?{BODIES}",
        f"redis+sentinel://u:{PASSWORD}/x@h/service?{BODIES}",
    ):
        with pytest.raises(UsageError) as error:
            resolve_options(SERVE, {"store": wrong}, {}, None, warn=pytest.fail)
        assert PASSWORD not in str(error.value)
        assert str(error.value).startswith("--store")


def test_a_configuration_with_a_password_that_others_can_read_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(f'store = "redis://:{PASSWORD}@h?{BODIES}"\n')
    file.chmod(0o644)
    warnings: list[str] = []

    values = resolve_options(SERVE, {}, {}, file, warn=warnings.append)

    assert values["store"].redis.password == PASSWORD
    assert len(warnings) == 1
    assert PASSWORD not in warnings[0]


@pytest.mark.parametrize("client", [sync_client, async_client])
@pytest.mark.parametrize("url", ["redis://h", "rediss://h", "unix:///r.sock", "redis+sentinel://a,b/main"])
def test_a_client_connects_only_when_it_is_used(client: Callable[[RedisAddress], object], url: str) -> None:
    assert client(redis_of(url)) is not None


def test_the_keys_of_a_dispatcher_are_in_one_slot_and_have_the_version_of_their_layout() -> None:
    keys = Keyspace.of("https://Example.org/dispatcher/")

    assert keys == Keyspace.of("https://example.org/dispatcher")
    assert keys.key("rows", "a") == f"{{oda-proxy:{LAYOUT}:https://example.org/dispatcher}}:rows:a"
    assert keys != Keyspace.of("https://example.org/staging")
    assert keys.prefix.count("{") == keys.prefix.count("}") == 1
