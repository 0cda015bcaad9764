"""Three real servers that share a real Redis: one job, whatever ends meanwhile; what one stores or removes, all see.

How soon they do is asserted in `tests/store/test_redis_watcher.py`, in looks; here it is measured, and the limit allows
for a machine that does something else.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import pytest

from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.clients import sync_client
from oda_proxy.store.redis.opening import open_store
from tests.support.crowds import kill, page, wait_until
from tests.support.image_query import IMAGE
from tests.support.recordings import KEYS, recording
from tests.support.redis_server import running_redis
from tests.support.replica_servers import Replicas, replicas_running
from tests.support.servers import PATIENCE, running
from tests.support.worker_servers import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.redis_server import RedisServer
    from tests.support.servers import Server

_log = logging.getLogger(__name__)

ADMIN = "a token of the administrator"
SOON = 15.0
"""Seconds, on a loaded machine: it is less than one on a quiet one."""

pytestmark = [pytest.mark.real, pytest.mark.slow]


class Roaming(Client):
    """A client each of whose requests goes to the next server that lives, as behind a balancer."""

    def __init__(self, replicas: Replicas, session_id: str, first: int = 0, **fields: str) -> None:
        super().__init__("", session_id, **fields)
        self._replicas = replicas
        self._next = first

    def _send(self, query_status: str, job_id: str, headers: Any) -> dict[str, Any]:
        self._next += 1
        living = [server for server in self._replicas.servers if server.process.poll() is None]
        self.url = living[self._next % len(living)].url
        return super()._send(query_status, job_id, headers)


@contextmanager
def stage(folder: Path, *, time_scale: float = 0.6) -> Iterator[tuple[RedisServer, Server, Replicas]]:
    """Run Redis, a mock whose job takes five times the scale in s, and three servers."""
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(folder / "redis"))
        mock = stack.enter_context(
            running(folder / "mock.log", "mock", "--port", "0", "--synthetic", "--time-scale", str(time_scale))
        )
        yield (
            redis,
            mock,
            stack.enter_context(replicas_running(folder, mock.url, redis, env={"ODA_PROXY_ADMIN_TOKEN": ADMIN})),
        )


def submissions(mock: Server) -> int:
    """Return how many requests submitted a job."""
    return int(page(mock, "status")["asked"].get("new", 0))


def data(response: dict[str, Any]) -> str:
    return json.dumps([response["query_status"], response["products"].get("numpy_data_product_list")])


def raw(server: Server, client: Client) -> tuple[str, bytes]:
    """Return the `Cache-Status` and the products of a response as bytes."""
    fields = "&".join(f"{name}={value}" for name, value in {**client.fields, "query_status": "new"}.items())
    with urllib.request.urlopen(f"{server.url}/run_analysis", fields.encode(), timeout=PATIENCE) as response:  # noqa: S310 - on this machine
        body = response.read().replace(server.url.encode(), b"URL")  # the program in it names the server
        return response.headers["Cache-Status"], body[
            body.index(b'"numpy_data_product_list"') : body.rindex(b'"exit_status"')
        ]


def test_one_query_is_one_job_and_a_recording_of_all_whatever_ends_meanwhile(tmp_path: Path) -> None:
    """One story with several events, because five processes take a while to start."""
    with stage(tmp_path) as (redis, mock, replicas), ThreadPoolExecutor(6) as pool:
        one_job(replicas, mock, pool, "10", lambda _: None)
        check_hits(replicas, mock)
        check_commands_of_hits(redis, replicas, mock, tmp_path)
        for name, seconds in (("replaced", seen_replaced(replicas)), ("removed", seen_removed(replicas, mock))):
            _log.info("what one server has %s was not served by the others %.3f s later", name, seconds)
            assert seconds < SOON, f"{seconds:.3f} s until what one server has {name} is not served by the others"
        one_job(replicas, mock, pool, "40", lambda leader: kill(replicas.servers[leader]))


def one_job(replicas: Replicas, mock: Server, pool: ThreadPoolExecutor, ra: str, event: Callable[[int], None]) -> None:
    """Check that clients of all servers get the same result of one job, whatever happens to its leader."""
    before, polls = submissions(mock), page(mock, "status")["asked"].get("submitted", 0)
    clients = [Roaming(replicas, f"SESSION{number:09}", number, RA=ra) for number in range(6)]
    waiting = [pool.submit(client.get_product) for client in clients]
    leader = replicas.leader()
    wait_until(lambda: page(mock, "status")["asked"].get("submitted", 0) > polls)  # the journal has the job's id
    event(leader)
    responses = [one.result(PATIENCE) for one in waiting]

    assert {response["query_status"] for response in responses} == {"done"}
    assert len({data(response) for response in responses}) == 1
    assert submissions(mock) == before + 1
    assert all(len(client.job_ids) <= 1 for client in clients)


def check_hits(replicas: Replicas, mock: Server) -> None:
    """Check that what one server has stored is a hit of all, byte for byte."""
    before, client = submissions(mock), Client("", "SESSIONOFANOTHER", RA="10")
    found = [raw(server, client) for server in replicas.servers for _ in range(2)]
    assert {status for status, _ in found} == {"oda-proxy; hit"}
    assert len({body for _, body in found}) == 1
    assert submissions(mock) == before


def check_commands_of_hits(redis: RedisServer, replicas: Replicas, mock: Server, folder: Path) -> None:
    """Check that hits of what is in memory cause no command in Redis, while another server stores other recordings."""
    (key,) = [one["key"] for one in page(replicas.servers[0], "api/recordings")["recordings"]]
    address = StoreAddress.parse(f"{redis.url}?bodies=file://{folder / 'heads'}")
    client = sync_client(address.redis)
    with closing(open_store(address, mock.url)) as another, Monitor(client) as monitor:
        for number in range(20):
            another.put(recording(KEYS[0], b"%d" % number))
            for at in range(5):
                assert hit_age(replicas.servers[1], f"SESSION{number:04}{at}", "") >= 0  # also repeated ones
        another.remove(KEYS[0])
        commands = monitor.stop()
    assert any(KEYS[0] in command for command in commands)
    written = " use "  # times of use are, once in a while
    assert [command for command in commands if key in command and written not in command] == []


class Monitor:
    """Collects the commands that Redis receives."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._commands: list[str] = []
        self._monitor: Any = client.monitor()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._monitor.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._monitor.__exit__(None, None, None)

    def stop(self) -> list[str]:
        """End it; return the commands."""
        while self._thread.is_alive():
            self._client.echo("the end")
            self._thread.join(0.1)
        return self._commands

    def _run(self) -> None:
        for one in self._monitor.listen():
            if one["command"] == "ECHO the end":
                return
            if one["client_type"] != "lua":
                self._commands.append(one["command"])


def hit_age(server: Server, session_id: str, cache_control: str = "only-if-cached") -> int:
    """Return the age of the recording of a query at a server in s; -1 where there is none."""
    fields = urlencode({**IMAGE, "RA": "10", "session_id": session_id, "query_status": "new"})
    request = urllib.request.Request(  # noqa: S310 - on this machine
        f"{server.url}/run_analysis?{fields}", headers={"Cache-Control": cache_control} if cache_control else {}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310 - as above
            response.read()
            return int(response.headers["Age"]) if response.headers["Cache-Status"] == "oda-proxy; hit" else -1
    except urllib.error.HTTPError as error:
        error.close()
        return -1


def seen_replaced(replicas: Replicas) -> float:
    """Return after how many s all servers serve a new result that one of them has stored, instead of the one before."""
    first, _, third = replicas.servers
    assert all(hit_age(server, "SESSIONOFANOTHER") >= 0 for server in replicas.servers)
    begun = time.time()
    refreshed = Client(third.url, "SESSIONOFANOTHER", RA="10").get_product(**{"Cache-Control": "no-cache"})
    stored = time.monotonic()
    assert refreshed["query_status"] == "done"
    wait_until(lambda: time.time() - hit_age(first, "SESSIONOFANOTHER") >= int(begun) + 1)
    return time.monotonic() - stored


def seen_removed(replicas: Replicas, mock: Server) -> float:
    """Return after how many s no server serves a recording that one of them has removed."""
    before, client = submissions(mock), Client("", "SESSIONOFANOTHER", RA="10")
    assert all(is_hit(server, client) for server in replicas.servers)
    recordings = page(replicas.servers[0], "api/recordings")["recordings"]
    (key,) = [one["key"] for one in recordings]
    url = f"{replicas.servers[2].url}/-/api/recordings/{key}"
    request = urllib.request.Request(url, method="DELETE", headers={"Authorization": f"Bearer {ADMIN}"})  # noqa: S310 - on this machine
    with urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310 - as above
        removed = time.monotonic()
    wait_until(lambda: not any(is_hit(server, client) for server in replicas.servers))
    assert submissions(mock) == before
    return time.monotonic() - removed


def is_hit(server: Server, client: Client) -> bool:
    """Return whether a server has the recording of a client's query."""
    client.url = server.url
    return bool(client.send(**{"Cache-Control": "only-if-cached"})["query_status"] == "done")
