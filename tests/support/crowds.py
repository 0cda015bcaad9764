"""Many unmodified clients who ask one question at the same moment, and what may happen while they wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.support.paths import CLIENT_SCRIPTS as CLIENTS
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.support.servers import Server

QUESTION = {
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
"""Seconds after which a client tries again; 10 by default, which would only make the tests longer."""
MANY_GATEWAYS = f"""
[every-third-poll]
summary = "Every third poll meets a gateway that has lost its dispatcher"
[[every-third-poll.faults]]
do = "status"
status = 502
asked = ["submitted", "progress"]
on = {[*range(3, 3000, 3)]}
"""

Crowd: TypeAlias = "Sequence[tuple[str, int]]"
"""(version of `oda_api`, number of clients in one process) of each process."""


@dataclass(frozen=True)
class Seen:
    """What came of it: how the clients ended, and what the dispatcher and the proxy counted."""

    ends: Counter[str]
    """By the digest of all arrays that a client got, or by its error."""
    longest: float
    """Seconds that the client waited who waited longest."""
    upstream: dict[str, Any]
    proxy: dict[str, Any]
    before: dict[str, Any] | None = None
    """What a dispatcher that was killed had counted."""

    @property
    def polls(self) -> int:
        """How often the dispatcher was asked how the job stands."""
        return sum(self.upstream["asked"].get(status, 0) for status in ("submitted", "progress"))


class Process:
    """Some clients in one process, who wait for the word."""

    def __init__(self, python: Path, folder: Path, url: str, count: int) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("ODA_", "DISP_"))}
        self._process = subprocess.Popen(
            [python, CLIENTS / "crowd.py", url, str(count), str(PAUSE), json.dumps(QUESTION)],
            cwd=folder,
            env={**env, "HOME": str(folder), "MPLBACKEND": "agg"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def are_there(self) -> None:
        """Wait until all of them could ask."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def go(self) -> None:
        """Have them ask."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Wait until all have ended, and tell how."""
        said, _ = self._process.communicate(timeout=PATIENCE * 4)
        told: dict[str, Any] = json.loads(said)
        return told

    def kill(self) -> None:
        """End them at once, whatever they do."""
        self._process.kill()
        self._process.communicate()


@dataclass
class Stage:
    """Where a story plays: a folder, the environments of clients, and a mock behind a proxy, whose ports stay."""

    folder: Path
    python: Callable[[str], Path]
    crowd: Crowd
    time_scale: float = 1.0
    """The job is in progress after two times this, and ready after five times, in s."""

    @property
    def size(self) -> int:
        """The number of clients."""
        return sum(count for _, count in self.crowd)

    @contextmanager
    def mock(self, name: str = "mock", *arguments: str, port: str = "0") -> Iterator[Server]:
        """Run the mock dispatcher."""
        log = self.folder / f"{name}.log"
        with running(log, "mock", "--port", port, "--time-scale", str(self.time_scale), *arguments) as mock:
            yield mock

    @contextmanager
    def proxy(self, upstream: Server, name: str = "proxy", *, port: str = "0") -> Iterator[Server]:
        """Run the proxy, always with the same recordings."""
        cache = str(self.folder / "cache")
        arguments = ["--upstream", upstream.url, "--port", port, "--cache-dir", cache]
        with running(self.folder / f"{name}.log", "serve", *arguments) as proxy:
            yield proxy

    @contextmanager
    def clients(self, url: str, crowd: Crowd) -> Iterator[list[Process]]:
        """Start clients, and end those that are left."""
        with ExitStack() as stack:
            processes = [Process(self.python(version), self.folder, url, count) for version, count in crowd]
            for process in processes:
                stack.callback(process.kill)
            for process in processes:
                process.are_there()
            yield processes

    def all_have_joined(self, proxy: Server, size: int) -> None:
        """Wait until all who asked are known to wait for one job."""
        until(lambda: [job["sessions"] for job in told_by(proxy, "jobs")["jobs"]] == [size])


def port_of(server: Server) -> str:
    return server.url.rpartition(":")[2]


def told_by(server: Server, page: str) -> dict[str, Any]:
    """Read a page about a server."""
    with urllib.request.urlopen(f"{server.url}/-/{page}", timeout=PATIENCE) as response:  # noqa: S310 - on this machine
        told: dict[str, Any] = json.load(response)
    return told


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)  # what programs do elsewhere can only be looked at now and then


def seen(processes: list[Process], upstream: Server, proxy: Server) -> Seen:
    """Wait for the end of all clients, and look at what was counted."""
    results = [process.result() for process in processes]
    ends: Counter[str] = Counter()
    for result in results:
        ends.update(result["ends"])
    longest = max(result["longest"] for result in results)
    return Seen(ends, longest, told_by(upstream, "status"), told_by(proxy, "status")["run_analysis"])


def all_go(processes: list[Process]) -> None:
    for process in processes:
        process.go()


def together(stage: Stage, *arguments: str) -> Seen:
    """Have all ask at the same moment; `arguments` are for the mock."""
    with (
        stage.mock("mock", *arguments) as mock,
        stage.proxy(mock) as proxy,
        stage.clients(proxy.url, stage.crowd) as processes,
    ):
        all_go(processes)
        return seen(processes, mock, proxy)


def first_killed(stage: Stage) -> Seen:
    """Have another client begin the job, and kill it once the dispatcher has the job; then all ask."""
    with (
        stage.mock() as mock,
        stage.proxy(mock) as proxy,
        stage.clients(proxy.url, [("1.3.5", 1), *stage.crowd]) as (first, *processes),
    ):
        first.go()
        until(lambda: told_by(mock, "status")["asked"].get("new") == 1)
        first.kill()
        all_go(processes)
        return seen(processes, mock, proxy)


def bad_gateways(stage: Stage) -> Seen:
    """Have every third poll answered with 502."""
    scenarios = stage.folder / "scenarios.toml"
    scenarios.write_text(MANY_GATEWAYS)
    return together(stage, "--scenarios", str(scenarios), "--scenario", "every-third-poll")


def upstream_restarted(stage: Stage) -> Seen:
    """Kill the dispatcher once it has been asked how the job stands, and start it again."""
    with ExitStack() as stack:
        mock = stack.enter_context(stage.mock())
        proxy = stack.enter_context(stage.proxy(mock))
        processes = stack.enter_context(stage.clients(proxy.url, stage.crowd))
        all_go(processes)
        stage.all_have_joined(proxy, stage.size)
        until(lambda: told_by(mock, "status")["asked"].get("submitted", 0) > 0)
        before = told_by(mock, "status")
        end(mock)
        again = stack.enter_context(stage.mock("again", port=port_of(mock)))
        return replace(seen(processes, again, proxy), before=before)


def proxy_killed(stage: Stage) -> Seen:
    """Kill the proxy once all wait, and start it again."""
    with ExitStack() as stack:
        mock = stack.enter_context(stage.mock())
        proxy = stack.enter_context(stage.proxy(mock))
        processes = stack.enter_context(stage.clients(proxy.url, stage.crowd))
        all_go(processes)
        stage.all_have_joined(proxy, stage.size)
        end(proxy)
        again = stack.enter_context(stage.proxy(mock, "again", port=port_of(proxy)))
        return seen(processes, mock, again)


def end(server: Server) -> None:
    """Kill a server, so that it can say nothing to anybody."""
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(PATIENCE)


STORIES: dict[str, Callable[[Stage], Seen]] = {
    "all at once": together,
    "the first client killed": first_killed,
    "502 on every third poll": bad_gateways,
    "the dispatcher killed and started again": upstream_restarted,
    "the proxy killed and started again": proxy_killed,
}
