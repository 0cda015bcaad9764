"""A real server whose Redis, bucket or both are away: what clients get, and what status, metrics and readyz report."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.opening import open_store
from tests.support.crowds import kill, page, wait_until
from tests.support.object_server import ObjectServer, running_objects
from tests.support.redis_server import RedisServer, running_redis
from tests.support.servers import PATIENCE, running
from tests.support.worker_servers import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import Server

pytestmark = [pytest.mark.real, pytest.mark.slow]

PROGRAM = (
    "from oda_proxy.store import maintenance; maintenance.INTERVAL = 0.3;"
    "from oda_proxy.servers import replicas; replicas.ORPHANS_EVERY = 0.3;"
    "import sys; from oda_proxy.cli import main; sys.exit(main())"
)
"""A server that looks at its store, and for jobs that nobody leads, more often than each ten seconds."""
DEGRADED = (200, "ok, but recordings cannot be read or stored for now\n")
HIT = "oda-proxy; hit"


@dataclass(frozen=True)
class Deployment:
    """A mock, a Redis, a bucket, and what starts a server."""

    folder: Path
    mock: Server
    redis: RedisServer
    objects: ObjectServer

    @property
    def store(self) -> str:
        return f"{self.redis.url}?{self.objects.parameters}"

    @property
    def options(self) -> tuple[str, ...]:
        place = ("--store", self.store, "--cache-dir", str(self.folder / "cache"))
        return ("serve", "--upstream", self.mock.url, "--port", "0", *place)

    @contextmanager
    def serving(self, name: str) -> Iterator[Server]:
        """Run a server until the block ends."""
        env = self.objects.environment
        with running(self.folder / f"{name}.log", *self.options, program=("-c", PROGRAM), env=env) as server:
            yield server

    def refusal(self) -> str:
        """Return what a server prints that does not start."""
        command = [sys.executable, "-m", "oda_proxy.cli", *self.options]
        ended = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=PATIENCE, env=self.objects.environment
        )
        assert ended.returncode not in {0, -9}
        assert ended.stdout == ""
        return ended.stderr

    def recordings(self) -> int:
        """Return how many recordings the store has, as another server sees it."""
        with closing(open_store(StoreAddress.parse(self.store), self.mock.url)) as store:
            assert list(store.verify(fix=False)) == []
            return store.usage().recordings


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(tmp_path / "redis"))
        objects = stack.enter_context(running_objects(tmp_path / "objects" / "served"))
        words = ("mock", "--port", "0", "--synthetic", "--time-scale", "0")
        mock = stack.enter_context(running(tmp_path / "mock.log", *words))
        for name, value in objects.environment.items():
            monkeypatch.setenv(name, value)
        yield Deployment(tmp_path, mock, redis, objects)


def request(server: Server, ra: str) -> str:
    """Send a query, see that it has its product, and return the last `Cache-Status`."""
    client = Client(server.url, "SESSIONOFSOMEONE", RA=ra)
    assert client.get_product()["query_status"] == "done"
    return client.cache_statuses[-1]


def readiness(server: Server) -> tuple[int, str]:
    with urllib.request.urlopen(f"{server.url}/-/readyz", timeout=PATIENCE) as response:  # noqa: S310 - on this machine
        return response.status, response.read().decode()


def failures(server: Server) -> float:
    """Return how often operations of the store have failed, as the metrics have it."""
    with urllib.request.urlopen(f"{server.url}/-/metrics", timeout=PATIENCE) as response:  # noqa: S310 - as above
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("oda_proxy_store_failures_total{"))


def messages(server: Server) -> set[str]:
    return {fault["message"] for fault in page(server, "status")["store"]["faults"]}


def check_outage(server: Server, ra: str, reason: str) -> None:
    """Check what a server does that has the recording of the query with `ra` 1.0 in memory, and not this one."""
    before = failures(server)
    assert request(server, "1.0") == HIT
    assert request(server, ra).endswith("; detail=stored-later")
    assert request(server, ra) == HIT, "what waits answers"
    assert any(reason in message for message in messages(server)), messages(server)
    assert failures(server) > before
    assert readiness(server) == DEGRADED


def check_return(server: Server) -> None:
    """Check that a server notices without a request that all is well again."""
    wait_until(lambda: readiness(server) == (200, "ok\n"))
    assert messages(server) == set()
    wait_until(lambda: page(server, "status")["replicas"]["away_since"] is None)


def test_redis_the_bucket_and_both_may_be_away_and_come_back(deployment: Deployment) -> None:
    redis, objects = deployment.redis, deployment.objects
    with deployment.serving("first") as server:
        assert request(server, "1.0").endswith("; stored")
        assert request(server, "1.0") == HIT
        assert (failures(server), readiness(server), messages(server)) == (0.0, (200, "ok\n"), set())

        redis.kill()
        wait_until(lambda: page(server, "status")["replicas"]["away_since"] is not None)
        check_outage(server, "2.0", "Redis cannot be reached")
        redis.start()
        check_return(server)
        assert deployment.recordings() == 2

        objects.kill()
        check_outage(server, "3.0", "the bucket s3://recordings/tests fails")
        objects.start()
        check_return(server)
        assert deployment.recordings() == 3

        objects.kill()
        redis.kill()
        check_outage(server, "4.0", "Redis cannot be reached")
        kill(server)
    log = server.log.read_text()
    for warning in ("Redis cannot be reached", "the bucket s3://recordings/tests fails", "is away (", "is back after"):
        assert warning in log
    assert "Traceback" not in log

    redis.start()
    assert "the bucket s3://recordings/tests fails" in one_line(deployment.refusal())
    objects.start()
    with deployment.serving("second") as server:
        assert request(server, "4.0") == HIT, "a server that was killed has left what waits"
        check_return(server)
        wait_until(lambda: deployment.recordings() == 4)
    assert deployment.mock.process.poll() is None
    assert page(deployment.mock, "status")["asked"]["new"] == 4

    redis.kill()
    assert "Redis cannot be reached; look at the Redis that --store names" in one_line(deployment.refusal())


def one_line(text: str) -> str:
    """Return the last line of what a program prints: the reason for which it ends."""
    lines = text.splitlines()
    assert "Traceback" not in text
    return lines[-1]
