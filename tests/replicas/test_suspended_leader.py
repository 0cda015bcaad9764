"""A leader that was suspended for longer than its lease: its late result is refused, and all get that of its successor.

Which of two different results clients get is asserted in `test_coordination.py`: the mock computes the same twice.
"""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.crowds import page, wait_until
from tests.support.redis_server import running_redis
from tests.support.replica_servers import QUICK, replicas_running
from tests.support.servers import PATIENCE, running
from tests.support.worker_servers import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import Server

pytestmark = [pytest.mark.real, pytest.mark.slow]

REFUSED = "the store has refused a result"
WITHOUT_BEATS = (
    "-c",
    f"""
import asyncio, logging
from oda_proxy.replicas.coordination import Coordination
from oda_proxy.store.base import FencedError

Coordination._wait_for_change = lambda *_: asyncio.Event().wait()
original = FencedError.__init__
def log_and_raise(error):
    original(error)
    logging.getLogger("oda_proxy").warning("{REFUSED}")
FencedError.__init__ = log_and_raise
"""
    + QUICK[1],
)
"""A server that does not notice by itself that its lease is another's: it has its late result before it does."""


@contextmanager
def suspended(server: Server) -> Iterator[None]:
    """Suspend a server until the block ends."""
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def test_clients_of_a_leader_that_was_suspended_get_the_result_of_its_successor(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(tmp_path / "redis"))
        mock = stack.enter_context(
            running(tmp_path / "mock.log", "mock", "--port", "0", "--synthetic", "--time-scale", "0.4")
        )
        heads = tmp_path / "heads"
        parts = (mock.url, redis)
        (one,) = stack.enter_context(
            replicas_running(tmp_path / "first", *parts, count=1, heads=heads, program=WITHOUT_BEATS)
        ).servers
        (other,) = stack.enter_context(replicas_running(tmp_path / "second", *parts, count=1, heads=heads)).servers
        pool = stack.enter_context(ThreadPoolExecutor(2))
        waiting = [pool.submit(Client(one.url, "SESSIONOFTHEFIRST").get_product)]
        wait_until(lambda: asked(mock, "submitted") > 0)  # the journal has the job's id
        with suspended(one):
            waiting.append(pool.submit(Client(other.url, "SESSIONOFTHENEXT").get_product))
            assert waiting[1].result(PATIENCE)["query_status"] == "done"
            (stored,) = page(other, "api/recordings")["recordings"]
        responses = [found.result(PATIENCE) for found in waiting]
        log = one.log.read_text()

        assert {response["query_status"] for response in responses} == {"done"}
        assert len({str(response["products"]["numpy_data_product_list"]) for response in responses}) == 1
        assert page(other, "api/recordings")["recordings"] == [stored], "nothing has replaced it"
        assert asked(mock, "new") == 1
        assert "another server leads the job" in log
        assert log.count(REFUSED) == 1


def asked(mock: Server, query_status: str) -> int:
    """Return how many requests with a `query_status` the mock has received."""
    return int(page(mock, "status")["asked"].get(query_status, 0))
