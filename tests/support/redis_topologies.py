"""Redis with TLS, with users, as a master that sentinels watch, and as a cluster, for tests."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import redis
import trustme

from tests.support.redis_server import PROGRAM, RedisServer, free_port, require_redis, running_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SERVICE: Final = "recordings"
USER, PASSWORD = "archive", "correct-horse:battery@staple"
RULES: Final = "~{oda-proxy:* &{oda-proxy:* +@all -@admin -@dangerous +info"
"""What docs/scale.md has a Redis permit the user of a server."""
_PATIENCE: Final = 60.0


@dataclass(frozen=True)
class Certificates:
    """Files with the certificates of an authority, of Redis and of a client, and an authority that signed neither."""

    authority: Path
    server: Path
    client: Path
    other_authority: Path


def certificates(folder: Path) -> Certificates:
    """Write certificates to a folder."""
    folder.mkdir()
    authority = trustme.CA()
    names = ("authority", "server", "client", "other")
    found = Certificates(*(folder / f"{name}.pem" for name in names))
    authority.cert_pem.write_to_path(found.authority)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(found.server)
    authority.issue_cert("client.example.org").private_key_and_cert_chain_pem.write_to_path(found.client)
    trustme.CA().cert_pem.write_to_path(found.other_authority)
    return found


@dataclass(frozen=True)
class EncryptedRedis:
    """A Redis with TLS, for one user, that requires a certificate of its clients."""

    port: int
    files: Certificates

    def url(
        self, *, user: str = USER, password: str = PASSWORD, authority: Path | None = None, client: Path | None = None
    ) -> str:
        """Return the beginning of the URL of a store, with an `&` at its end."""
        certificate = client or self.files.client
        return (
            f"rediss://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/0?"
            f"ssl_ca_certs={authority or self.files.authority}&ssl_certfile={certificate}&ssl_keyfile={certificate}&"
        )


@contextmanager
def encrypted_redis(folder: Path, *, rules: str = RULES) -> Iterator[EncryptedRedis]:
    """Run such a Redis until the block ends; `rules` are what it permits its user."""
    port, files = free_port(), certificates(folder / "certificates")
    options = {
        "tls-port": port,
        "tls-cert-file": files.server,
        "tls-key-file": files.server,
        "tls-ca-cert-file": files.authority,
        "tls-auth-clients": "yes",
        "user": f"{USER} on >{PASSWORD} {rules}",
        "requirepass": "of-the-default-user",
    }
    with running_redis(folder / "redis", options=options):
        yield EncryptedRedis(port, files)


@dataclass(frozen=True)
class WatchedRedis:
    """A master, its replicas, and a sentinel that watches them."""

    master: RedisServer
    replicas: list[RedisServer]
    sentinel_port: int

    @property
    def url(self) -> str:
        """The beginning of the URL of a store."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel_port}/{SERVICE}/0"


@contextmanager
def redis_with_sentinel(folder: Path, *, replicas: int = 0) -> Iterator[WatchedRedis]:
    """Run a master, replicas that have its data, and a sentinel that replaces the master after a second."""
    require_redis()
    assert PROGRAM is not None
    with ExitStack() as stack:
        master = stack.enter_context(running_redis(folder / "master", options={"repl-diskless-sync-delay": 0}))
        options = {"replicaof": f"127.0.0.1 {master.port}"}
        others = [
            stack.enter_context(running_redis(folder / f"replica-{number}", options=options))
            for number in range(replicas)
        ]
        port, configuration = free_port(), folder / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor {SERVICE} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\nsentinel failover-timeout {SERVICE} 5000\n"
        )
        sentinel = subprocess.Popen([PROGRAM, str(configuration), "--sentinel"], stdout=subprocess.DEVNULL)
        stack.callback(_end, sentinel)
        watched = WatchedRedis(master, others, port)
        _wait_until(lambda: _replicas_of(watched) == replicas)
        yield watched


def _replicas_of(watched: WatchedRedis) -> int:
    """Return how many replicas the sentinel knows, if all have the data of the master."""
    for replica in watched.replicas:
        with redis.Redis(host="127.0.0.1", port=replica.port) as client:
            if client.info("replication").get("master_link_status") != "up":
                return -1
    with redis.Redis(host="127.0.0.1", port=watched.sentinel_port) as client:
        return len(client.sentinel_slaves(SERVICE))


@contextmanager
def redis_cluster(folder: Path, masters: int = 3) -> Iterator[list[RedisServer]]:
    """Run a cluster of masters until the block ends."""
    require_redis()
    program = shutil.which("redis-cli")
    assert program is not None
    with ExitStack() as stack:
        servers, nodes = [], []
        for number in range(masters):
            bus = free_port()
            options = {"cluster-enabled": "yes", "cluster-port": bus, "cluster-node-timeout": 5000}
            server = stack.enter_context(running_redis(folder / f"node-{number}", options=options))
            servers.append(server)
            nodes.append(f"127.0.0.1:{server.port}@{bus}")
        subprocess.run([program, "--cluster", "create", *nodes, "--cluster-yes"], check=True, stdout=subprocess.DEVNULL)
        _wait_until(lambda: all(_is_complete(server) for server in servers))
        yield servers


def _is_complete(server: RedisServer) -> bool:
    with redis.Redis(host="127.0.0.1", port=server.port) as client:
        return bool(client.cluster("INFO")["cluster_state"] == "ok")


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, "Redis does not become ready"
        time.sleep(0.05)  # the state of another program can only be polled


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
