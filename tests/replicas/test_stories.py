"""Three real servers that share a real Redis: one job, whatever ends meanwhile; what one stores or removes, all see."""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.crowds import kill, page, wait_until
from tests.support.redis_server import running_redis
from tests.support.replica_servers import Replicas, replicas_running
from tests.support.servers import PATIENCE, running
from tests.support.worker_servers import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.redis_server import RedisServer
    from tests.support.servers import Server

ADMIN = "a token of the administrator"

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
    with stage(tmp_path) as (_, mock, replicas), ThreadPoolExecutor(6) as pool:
        one_job(replicas, mock, pool, "10", lambda _: None)
        check_hits_and_removal(replicas, mock)
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


def check_hits_and_removal(replicas: Replicas, mock: Server) -> None:
    """Check that what one server has stored is a hit of all, byte for byte, and is gone at all once one removes it."""
    before, client = submissions(mock), Client("", "SESSIONOFANOTHER", RA="10")
    found = [raw(server, client) for server in replicas.servers for _ in range(2)]
    assert {status for status, _ in found} == {"oda-proxy; hit"}
    assert len({body for _, body in found}) == 1
    (key,) = [one["key"] for one in page(replicas.servers[0], "api/recordings")["recordings"]]
    url = f"{replicas.servers[2].url}/-/api/recordings/{key}"
    request = urllib.request.Request(url, method="DELETE", headers={"Authorization": f"Bearer {ADMIN}"})  # noqa: S310 - on this machine
    with urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310 - as above
        pass
    wait_until(lambda: not any(is_hit(server, client) for server in replicas.servers))
    assert submissions(mock) == before


def is_hit(server: Server, client: Client) -> bool:
    """Return whether a server has the recording of a client's query."""
    client.url = server.url
    return bool(client.send(**{"Cache-Control": "only-if-cached"})["query_status"] == "done")
