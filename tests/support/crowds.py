"""Many unmodified clients that send one query at the same moment, and failures of servers while they wait."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.support.client_forks import client_environment, start_forked
from tests.support.paths import CLIENT_SCRIPTS as CLIENTS
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.support.servers import Server

QUERY = {
    "instrument": "jemx",
    "product": "jemx_spectrum",
    "product_type": "Real",
    "jemx_num": "2",
    "scw_list": ["010200230010.001"],
    "osa_version": "OSA10.2",
    "detection_threshold": 5.0,
    "radius": 15.0,
}
PAUSE = 1.0
"""Seconds after which a client retries; its default of 10 would only make the tests longer."""
MANY_GATEWAYS = """
[every-third-poll]
summary = "Every third of the first polls meets a gateway that has lost its dispatcher"
[[every-third-poll.faults]]
do = "status"
status = 502
asked = ["submitted", "progress"]
on = [3, 6, 9]
"""

Crowd: TypeAlias = "Sequence[tuple[str, int]]"
"""(version of `oda_api`, number of clients in one process) of each process."""


@dataclass(frozen=True)
class Result:
    """How the clients ended, and what the dispatcher and the proxy counted."""

    outcomes: Counter[str]
    """Number of clients by the digest of all arrays that they got, or by their error."""
    longest_wait: float
    """Seconds that the last client waited."""
    upstream: dict[str, Any]
    proxy: dict[str, Any]
    before: dict[str, Any] | None = None
    """What a dispatcher had counted before it was killed."""

    @property
    def polls(self) -> int:
        """How often the dispatcher was asked for the state of the job."""
        return sum(self.upstream["asked"].get(status, 0) for status in ("submitted", "progress"))


class Process:
    """Some clients in one process, which wait until they are started."""

    def __init__(self, python: Path, folder: Path, url: str, count: int, *, authority: Path | None = None) -> None:
        """Start the clients of one environment; `authority` is the certificate that they trust."""
        env = {**client_environment(), "HOME": str(folder), "MPLBACKEND": "agg"}
        env |= {"REQUESTS_CA_BUNDLE": str(authority)} if authority else {}
        words = [str(CLIENTS / "crowd.py"), url, str(count), str(PAUSE), json.dumps(QUERY)]
        self._script = start_forked(python, words, folder, env)

    def wait_until_ready(self) -> None:
        """Wait until all of them are ready to send their query."""
        assert self._script.stdout.readline() == "ready\n"

    def start(self) -> None:
        """Have all of them send their query."""
        self._script.stdin.write("go\n")
        self._script.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Wait until all have ended; return how."""
        self._script.process.wait(PATIENCE * 4)
        result: dict[str, Any] = json.loads(self._script.stdout.read())
        return result

    def kill(self) -> None:
        """Kill the process, whatever its clients do."""
        self._script.close()


@dataclass
class Stage:
    """Where a scene takes place: a folder, the environments of clients, and a mock behind a proxy."""

    folder: Path
    python: Callable[[str], Path]
    crowd: Crowd
    time_scale: float = 1.0
    """Seconds: the job is in progress after twice this, and ready after five times this."""
    workers: int = 1
    """Processes of the proxy."""

    @property
    def size(self) -> int:
        """The number of clients."""
        return sum(count for _, count in self.crowd)

    @contextmanager
    def mock(self, name: str = "mock", *arguments: str, port: str = "0") -> Iterator[Server]:
        """Run the mock dispatcher until the block ends."""
        log = self.folder / f"{name}.log"
        with running(log, "mock", "--port", port, "--time-scale", str(self.time_scale), *arguments) as mock:
            yield mock

    @contextmanager
    def proxy(self, upstream: Server, name: str = "proxy", *, port: str = "0") -> Iterator[Server]:
        """Run the proxy until the block ends, always with the same folder of recordings."""
        cache = str(self.folder / "cache")
        arguments = ["--upstream", upstream.url, "--port", port, "--cache-dir", cache, "--workers", str(self.workers)]
        with running(self.folder / f"{name}.log", "serve", *arguments) as proxy:
            yield proxy

    @contextmanager
    def clients(self, url: str, crowd: Crowd) -> Iterator[list[Process]]:
        """Start processes of clients; kill those that are left when the block ends."""
        with ExitStack() as stack:
            processes = [Process(self.python(version), self.folder, url, count) for version, count in crowd]
            for process in processes:
                stack.callback(process.kill)
            for process in processes:
                process.wait_until_ready()
            yield processes

    def wait_until_all_joined(self, proxy: Server, size: int) -> None:
        """Wait until the proxy reports that all clients wait for one job."""
        wait_until(lambda: [job["sessions"] for job in page(proxy, "jobs")["jobs"]] == [size])


def port_of(server: Server) -> str:
    return server.url.rpartition(":")[2]


def page(server: Server, name: str) -> dict[str, Any]:
    """Read one of the `/-/` pages of a server."""
    with urllib.request.urlopen(f"{server.url}/-/{name}", timeout=PATIENCE) as response:  # noqa: S310 - on this machine
        content: dict[str, Any] = json.load(response)
    return content


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.05)  # the state of another program can only be polled


def result_of(processes: list[Process], upstream: Server, proxy: Server) -> Result:
    """Wait for the end of all clients, and read what the servers counted."""
    results = [process.result() for process in processes]
    outcomes: Counter[str] = Counter()
    for result in results:
        outcomes.update(result["outcomes"])
    longest_wait = max(result["longest_wait"] for result in results)
    return Result(outcomes, longest_wait, page(upstream, "status"), page(proxy, "status")["run_analysis"])


def start_all(processes: list[Process]) -> None:
    for process in processes:
        process.start()


def together(stage: Stage, *arguments: str) -> Result:
    """Have all clients send the query at the same moment; `arguments` are for the mock."""
    with (
        stage.mock("mock", *arguments) as mock,
        stage.proxy(mock) as proxy,
        stage.clients(proxy.url, stage.crowd) as processes,
    ):
        start_all(processes)
        return result_of(processes, mock, proxy)


def first_killed(stage: Stage) -> Result:
    """Have another client start the job, and kill it when the dispatcher has the job; then start all clients."""
    with (
        stage.mock() as mock,
        stage.proxy(mock) as proxy,
        stage.clients(proxy.url, [("1.3.5", 1), *stage.crowd]) as (first, *processes),
    ):
        first.start()
        wait_until(lambda: page(mock, "status")["asked"].get("new") == 1)
        first.kill()
        start_all(processes)
        return result_of(processes, mock, proxy)


def bad_gateways(stage: Stage) -> Result:
    """Let every third poll fail with 502."""
    scenarios = stage.folder / "scenarios.toml"
    scenarios.write_text(MANY_GATEWAYS)
    return together(stage, "--scenarios", str(scenarios), "--scenario", "every-third-poll")


def upstream_restarted(stage: Stage) -> Result:
    """Kill the dispatcher after the first poll, and start it again."""
    with ExitStack() as stack:
        mock = stack.enter_context(stage.mock())
        proxy = stack.enter_context(stage.proxy(mock))
        processes = stack.enter_context(stage.clients(proxy.url, stage.crowd))
        start_all(processes)
        stage.wait_until_all_joined(proxy, stage.size)
        wait_until(lambda: page(mock, "status")["asked"].get("submitted", 0) > 0)
        before = page(mock, "status")
        kill(mock)
        again = stack.enter_context(stage.mock("again", port=port_of(mock)))
        return replace(result_of(processes, again, proxy), before=before)


def proxy_killed(stage: Stage) -> Result:
    """Kill the proxy while all clients wait, and start it again."""
    with ExitStack() as stack:
        mock = stack.enter_context(stage.mock())
        proxy = stack.enter_context(stage.proxy(mock))
        processes = stack.enter_context(stage.clients(proxy.url, stage.crowd))
        start_all(processes)
        stage.wait_until_all_joined(proxy, stage.size)
        wait_until(lambda: page(mock, "status")["asked"].get("submitted", 0) > 0)  # the journal has the job's id
        kill(proxy)
        again = stack.enter_context(stage.proxy(mock, "again", port=port_of(proxy)))
        return result_of(processes, mock, again)


def leader_killed(stage: Stage) -> Result:
    """Kill the worker that runs the job while all clients wait."""
    with ExitStack() as stack:
        mock = stack.enter_context(stage.mock())
        proxy = stack.enter_context(stage.proxy(mock))
        processes = stack.enter_context(stage.clients(proxy.url, stage.crowd))
        start_all(processes)
        stage.wait_until_all_joined(proxy, stage.size)
        wait_until(lambda: page(mock, "status")["asked"].get("submitted", 0) > 0)  # the journal has the job's id
        (leader,) = [worker["pid"] for worker in page(proxy, "status")["workers"] if worker["leads"]]
        os.kill(leader, signal.SIGKILL)
        return result_of(processes, mock, proxy)


def kill(server: Server) -> None:
    """Kill a server, without any time to report it."""
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(PATIENCE)


SCENES: dict[str, Callable[[Stage], Result]] = {
    "all at once": together,
    "the first client killed": first_killed,
    "502 on every third poll": bad_gateways,
    "the dispatcher killed and started again": upstream_restarted,
    "the proxy killed and started again": proxy_killed,
}
