"""A server with two workers and one without share a store in Redis: one job for each query, and limits of both."""

from __future__ import annotations

import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.crowds import page, wait_until
from tests.support.redis_server import running_redis
from tests.support.replica_servers import QUICK, replicas_running
from tests.support.servers import PATIENCE, running
from tests.support.worker_servers import MANY, Client, kill, leader, wait_for_workers, workers_running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import Server

pytestmark = [pytest.mark.real, pytest.mark.slow]

ADMIN = "the administration token"
DURATION = 1.5
"""Seconds of a job."""


def test_workers_with_a_shared_store_run_one_job_for_each_query_and_hold_the_limits_of_all(tmp_path: Path) -> None:
    """One story with several events, because seven processes take a while to start."""
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(tmp_path / "redis"))
        scale = str(DURATION / 5)
        mock = stack.enter_context(
            running(tmp_path / "mock.log", "mock", "--port", "0", "--synthetic", "--time-scale", scale)
        )
        heads = tmp_path / "heads"
        env = {"ODA_PROXY_ADMIN_TOKEN": ADMIN, "ODA_PROXY_MAX_JOBS": "1"}
        (single,) = stack.enter_context(
            replicas_running(tmp_path, mock.url, redis, count=1, heads=heads, env=env)
        ).servers
        store = {"ODA_PROXY_STORE": f"{redis.url}?bodies=file://{heads}"}
        (tmp_path / "several").mkdir()
        several = stack.enter_context(workers_running(tmp_path / "several", mock.url, env=env | store, program=QUICK))
        pool = stack.enter_context(ThreadPoolExecutor(8))

        servers, begun = (several, several, single), time.monotonic()
        clients = [
            Client(server.url, f"SESSION{at:09}{ra}", RA=ra) for at, server in enumerate(servers) for ra in ("10", "40")
        ]
        responses = [found.result(PATIENCE) for found in [pool.submit(client.get_product) for client in clients]]
        assert {response["query_status"] for response in responses} == {"done"}
        assert submissions(mock) == 2
        assert time.monotonic() - begun >= 2 * DURATION, "one job at once, of all servers together"
        assert replicas_of(several) == replicas_of(single) == {"away_since": None, "leads": 0, "follows": 0}

        assert {is_hit(several, number) for number in range(MANY)} == {is_hit(single, 0)} == {True}
        remove(single)
        wait_until(lambda: not any(is_hit(several, number) for number in range(MANY)))

        polls = page(mock, "status")["asked"]["submitted"]
        waiting = [pool.submit(Client(several.url, f"SESSION{at:09}", RA="70").get_product) for at in range(3)]
        wait_until(lambda: page(mock, "status")["asked"]["submitted"] > polls)  # the journal has the job's id
        kill(killed := leader(several))
        assert {found.result(PATIENCE)["query_status"] for found in waiting} == {"done"}
        assert submissions(mock) == 3
        wait_for_workers(several, without=killed)


def submissions(mock: Server) -> int:
    """Return how many requests submitted a job."""
    return int(page(mock, "status")["asked"].get("new", 0))


def replicas_of(server: Server) -> object:
    """Return what the status page says of other servers."""
    return page(server, "status")["replicas"]


def is_hit(server: Server, number: int) -> bool:
    """Return whether a server has the recording of the first query."""
    response = Client(server.url, f"SESSION{number:09}", RA="10").send(**{"Cache-Control": "only-if-cached"})
    return bool(response["query_status"] == "done")


def remove(server: Server) -> None:
    """Remove all recordings through a server."""
    for one in page(server, "api/recordings")["recordings"]:
        url, headers = f"{server.url}/-/api/recordings/{one['key']}", {"Authorization": f"Bearer {ADMIN}"}
        request = urllib.request.Request(url, method="DELETE", headers=headers)  # noqa: S310 - on this machine
        with urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310 - as above
            pass
