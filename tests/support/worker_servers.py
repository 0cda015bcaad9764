"""A proxy with several workers, its processes, and clients each of whose requests may reach any of them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tests.support.crowds import page, wait_until
from tests.support.image_query import IMAGE
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.support.servers import Server

MANY = 24
"""Connections of which each of two workers accepts at least one: all but once in ten million runs."""
PAUSE = 0.1
"""Seconds between two polls."""


@contextmanager
def workers_running(
    folder: Path,
    upstream: str,
    *,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "oda_proxy.cli"),
) -> Iterator[Server]:
    """Run a proxy with two workers until the block ends, and see that no process of it is left."""
    serve = ["serve", "--workers", "2", "--upstream", upstream, "--port", "0", "--cache-dir", str(folder / "cache")]
    with running(folder / "proxy.log", *serve, env=env, program=program) as proxy:
        processes = [worker["pid"] for worker in workers(proxy)]
        yield proxy
    wait_until(lambda: not any(map(is_alive, processes)))


def workers(proxy: Server) -> list[dict[str, Any]]:
    """Return what the status page says of each worker."""
    found: list[dict[str, Any]] = page(proxy, "status")["workers"]
    return found


def leader(proxy: Server) -> int:
    """Return the process id of the leader."""
    (found,) = [worker["pid"] for worker in workers(proxy) if worker["leads"]]
    return int(found)


def follower(proxy: Server) -> int:
    """Return the process id of a worker that does not lead."""
    return next(int(worker["pid"]) for worker in workers(proxy) if not worker["leads"])


def kill(process: int) -> None:
    """Kill a process, without any time to report it."""
    os.kill(process, signal.SIGKILL)


def is_alive(process: int) -> bool:
    """Return whether a process exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_workers(proxy: Server, *, without: int, count: int = 2) -> None:
    """Wait until all workers are ready, and one process is none of them."""

    def are_ready() -> bool:
        try:
            processes = [worker["pid"] for worker in workers(proxy)]
        except (OSError, http.client.HTTPException):
            return False
        return len(processes) == count and without not in processes

    wait_until(are_ready)


class Client:
    """A client with a session, which sends each request on a new connection, and again where that is reset."""

    def __init__(self, url: str, session_id: str, **fields: str) -> None:
        self.url = url
        self.fields = {**IMAGE, "session_id": session_id, **fields}
        self.cache_statuses: list[str] = []
        self.job_ids: set[str] = set()

    def send(self, query_status: str = "new", job_id: str = "", **headers: str) -> dict[str, Any]:
        """Send one request and return its response, also if it is a failure."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self._send(query_status, job_id, headers)
            except urllib.error.HTTPError as error:
                with error:
                    return dict(json.load(error))
            except (OSError, http.client.HTTPException):  # the worker was killed
                assert time.monotonic() < deadline
                time.sleep(PAUSE)  # as clients do

    def _send(self, query_status: str, job_id: str, headers: Mapping[str, str]) -> dict[str, Any]:
        fields = {**self.fields, "query_status": query_status} | ({"job_id": job_id} if job_id else {})
        request = urllib.request.Request(f"{self.url}/run_analysis", urlencode(fields).encode(), dict(headers))  # noqa: S310 - on this machine
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310 - as above
            self.cache_statuses.append(response.headers["Cache-Status"])
            answer: dict[str, Any] = json.load(response)
        monitor = answer.get("job_monitor") or {}
        self.job_ids.add(monitor.get("job_id", ""))
        return answer

    def get_product(self, **headers: str) -> dict[str, Any]:
        """Follow a query to its end, as clients do; return the last response."""
        answer = self.send(**headers)
        deadline = time.monotonic() + PATIENCE
        while answer["query_status"] not in {"done", "failed"}:
            assert time.monotonic() < deadline, answer
            time.sleep(PAUSE)  # as clients do
            status = answer["query_status"]
            answer = self.send(status, answer["job_monitor"]["job_id"])
        return answer
