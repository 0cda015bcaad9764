"""Time from the end of a job to the client's return, with and without the proxy.

Unmodified clients send different queries to a mock whose jobs end at known times. One half uses the mock, the other
half a proxy in front of it, at the same time, with jobs of the same lengths. Clients pause between polls, so the ends
are spread over several of their pauses.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent.parent))  # for tests.support, which finds the clients' environments

from mock_server.app import make_app
from mock_server.settings import MockSettings, fixtures_folder
from oda_proxy.fixture.writing import write_manifest
from oda_proxy.web.server import listening
from tests.support.environments import EnvironmentNotBuiltError, python_of
from tests.support.paths import CLIENT_SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

VERSIONS = ("1.0", "1.3.5")
WAYS = ("direct", "through")
LENGTHS = (6.0, 30.0)
"""Minimum lengths of jobs in s."""
SPREAD = 8.0
"""Seconds over which the ends of jobs are spread: several pauses of the clients, which are 1 s and 2 s."""
LIMIT = 1.05
"""Limit for the ratio of the medians: at most 1 is expected, with a margin for the load of the machine."""
NO_QUEUES = ("--max-jobs", "1000", "--max-requests", "1000", "--max-rate", "1000")
"""All jobs run at once, so that the benchmark is fast."""
CLIENT = CLIENT_SCRIPTS / "on_demand.py"
PRODUCT = Path("jemx", "jemx_lc", "010200230010")
RADIUS = "radius"
"""The parameter that makes queries different."""


@dataclass(frozen=True)
class Run:
    """One query of one client, with a separate job."""

    number: int
    version: str
    way: str
    length: float
    ends: float
    """End of the job in s after the query."""

    @property
    def radius(self) -> float:
        """The value that makes the query different."""
        return 15.0 + self.number


def runs(repetitions: int) -> Iterator[Run]:
    """Return all runs; those that only differ in their way are next to each other."""
    number = 0
    for length in LENGTHS:
        for repetition in range(repetitions):
            ends = length + SPREAD * (repetition + 0.5) / repetitions
            for version in VERSIONS:
                for way in WAYS:
                    number += 1
                    yield Run(number, version, way, length, ends)


def write_fixtures(folder: Path, all_runs: list[Run]) -> None:
    """Write a fixture for each run: a shipped one, with another parameter and its own timeline."""
    shipped = fixtures_folder() / PRODUCT
    query, answer = (json.loads((shipped / name).read_text()) for name in ("query.json", "answer.json"))
    others = [file for file in shipped.iterdir() if file.suffix != ".json"]
    (folder / "jemx").mkdir()
    (folder / "jemx" / "instrument.json").write_bytes((shipped.parent.parent / "instrument.json").read_bytes())
    entries = [Path("jemx", "instrument.json")]
    for run in all_runs:
        entry = PRODUCT.with_name(f"run-{run.number}")
        (folder / entry).mkdir(parents=True)
        run_query = {**query, "parameters": {**query["parameters"], RADIUS: run.radius}}
        (folder / entry / "query.json").write_text(json.dumps(run_query))
        timeline = [["submitted", 0.0], ["progress", 2.0], ["ready", run.ends]]
        (folder / entry / "answer.json").write_text(json.dumps({**answer, "timeline": timeline}))
        for file in others:
            (folder / entry / file.name).write_bytes(file.read_bytes())
        entries.append(entry)
    origin = {"kind": "synthetic", "source": "a benchmark", "modelled": ["everything"]}
    write_manifest(folder, {entry.as_posix(): origin for entry in entries})


def mock(fixtures: Path, begun: dict[float, float]) -> web.Application:
    """Return a mock that stores the start of each job, in s of the monotonic clock."""

    @web.middleware
    async def note(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
        sent = {**request.query, **(await request.post())}
        if sent.get("query_status") == "new":
            begun.setdefault(float(str(sent[RADIUS])), time.monotonic())
        return await handler(request)

    app = make_app(MockSettings(fixtures=(fixtures,)))
    app.middlewares.append(note)
    return app


async def started(
    stack: AsyncExitStack, command: Sequence[str | Path], log: Path
) -> tuple[asyncio.subprocess.Process, str]:
    """Start a program that is stopped with the stack; return its process and first line."""
    errors = stack.enter_context(log.open("w"))
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors
    )

    async def end() -> None:
        if process.returncode is None:
            process.terminate()
        await process.wait()

    stack.push_async_callback(end)
    assert process.stdout is not None
    return process, (await process.stdout.readline()).decode().strip()


async def delays(folder: Path, all_runs: list[Run]) -> dict[Run, float]:
    """Run all clients at the same time; return the s from the end of each job to the client's return."""
    write_fixtures(folder / "fixtures", all_runs)
    begun: dict[float, float] = {}
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(listening(mock(folder / "fixtures", begun), "127.0.0.1", 0))
        serve = [sys.executable, "-m", "oda_proxy.cli", "serve", "--upstream", url, "--port", "0"]
        serve += [*NO_QUEUES, "--cache-dir", str(folder / "cache")]
        _, listens = await started(stack, serve, folder / "proxy.log")
        urls = {"direct": url, "through": listens.removeprefix("listening on ")}
        clients = {}
        for version in VERSIONS:
            for way in WAYS:
                command = [python_of(f"oda_api-{version}"), CLIENT]
                clients[version, way], ready = await started(stack, command, folder / f"{version}-{way}.log")
                assert ready == "ready"
        for run in all_runs:
            send_query(clients[run.version, run.way], run, urls[run.way])
        returned = await asyncio.gather(*(returns(client) for client in clients.values()))
    at = {number: when for times in returned for number, when in times.items()}
    return {run: at[run.number] - begun[run.radius] - run.ends for run in all_runs}


def send_query(client: asyncio.subprocess.Process, run: Run, url: str) -> None:
    """Send a query to a client process."""
    query = json.loads((fixtures_folder() / PRODUCT / "query.json").read_text())
    arguments = {
        "instrument": query["instrument"],
        "product": query["product_type"],
        "product_type": query["query_type"],
        **query["parameters"],
        RADIUS: run.radius,
    }
    assert client.stdin is not None
    client.stdin.write(json.dumps({"name": run.number, "url": url, "arguments": arguments}).encode() + b"\n")


async def returns(client: asyncio.subprocess.Process) -> dict[int, float]:
    """Wait for a client's queries to end; return their end times by the number of the run."""
    assert client.stdin is not None
    client.stdin.close()
    assert client.stdout is not None
    results = [json.loads(line) async for line in client.stdout]
    await client.wait()
    assert all(one["end"] == "data" for one in results), results
    return {one["name"]: one["returned"] for one in results}


def table(measured: dict[Run, float]) -> tuple[list[str], bool]:
    """Return the rows with medians, and whether all ratios are within the limit."""
    of: defaultdict[tuple[float, str, str], list[float]] = defaultdict(list)
    for run, delay in measured.items():
        of[run.length, run.version, run.way].append(delay)
    rows, all_good = [], True
    for length in LENGTHS:
        for version in VERSIONS:
            direct, through = (of[length, version, way] for way in WAYS)
            before, after = statistics.median(direct), statistics.median(through)
            rows.append(
                f"| {version} | {length:.0f} to {length + SPREAD:.0f} s | {before:.2f} s | {after:.2f} s "
                f"| {after / before:.2f} | {max(direct):.2f} s | {max(through):.2f} s |"
            )
            all_good = all_good and after / before <= LIMIT
    return rows, all_good


def main() -> int:
    """Print the table; return 1 if the limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=20, help="jobs of each kind")
    repetitions = parser.parse_args().repetitions
    try:
        for version in VERSIONS:
            python_of(f"oda_api-{version}")
    except EnvironmentNotBuiltError as error:
        print(f"not measured: {error}")
        return bool(os.environ.get("ODA_PROXY_REQUIRE_REAL"))
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "fixtures").mkdir()
        measured = asyncio.run(delays(Path(place), list(runs(repetitions))))
    rows, all_good = table(measured)
    print(f"from the end of a job to the client's return, {repetitions} jobs each, side by side (limit {LIMIT}):")
    print("| oda_api | job | median, direct | through | ratio | longest, direct | through |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    return not all_good


if __name__ == "__main__":
    sys.exit(main())
