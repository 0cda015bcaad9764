"""How soon a client returns once the dispatcher's job has ended: through the proxy, beside the same without it.

Unmodified clients ask a mock for jobs of which it is known when they end, each with a question of its own. One half
asks the mock, the other half a proxy over it, at the same time, for jobs that take as long. A client's own pauses have
it learn of an end sooner or later, so the ends are spread over several of them.
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

sys.path.insert(0, str(Path(__file__).parent.parent))  # where the tests are, which know the clients' environments

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
"""Seconds that jobs take at least: the proxy asks more seldom the longer a job takes, up to 10 s."""
SPREAD = 8.0
"""Seconds over which the ends of jobs are spread: several times the pauses of clients, which are 1 s and 2 s."""
LIMIT = 1.05
"""What the ratio of the medians may be: it should be at most 1, but the machine is not always as busy."""
NOBODY_WAITS = ("--max-jobs", "1000", "--max-requests", "1000", "--max-rate", "1000")
"""So many jobs at once are for the benchmark to be quick: none has to wait for others."""
CLIENT = CLIENT_SCRIPTS / "on_demand.py"
PRODUCT = Path("jemx", "jemx_lc", "010200230010")
RADIUS = "radius"
"""The parameter by which questions differ."""


@dataclass(frozen=True)
class Run:
    """One client that asks once for a job of its own."""

    number: int
    version: str
    way: str
    length: float
    ends: float
    """Seconds after the question."""

    @property
    def radius(self) -> float:
        """What makes its question another one."""
        return 15.0 + self.number


def runs(repetitions: int) -> Iterator[Run]:
    """Give all runs; those that differ in their way only are beside each other."""
    number = 0
    for length in LENGTHS:
        for repetition in range(repetitions):
            ends = length + SPREAD * (repetition + 0.5) / repetitions
            for version in VERSIONS:
                for way in WAYS:
                    number += 1
                    yield Run(number, version, way, length, ends)


def write_fixtures(folder: Path, wanted: list[Run]) -> None:
    """Write a fixture for each run: a shipped one, with another parameter and a time line of its own."""
    shipped = fixtures_folder() / PRODUCT
    query, answer = (json.loads((shipped / name).read_text()) for name in ("query.json", "answer.json"))
    others = [file for file in shipped.iterdir() if file.suffix != ".json"]
    (folder / "jemx").mkdir()
    (folder / "jemx" / "instrument.json").write_bytes((shipped.parent.parent / "instrument.json").read_bytes())
    entries = [Path("jemx", "instrument.json")]
    for run in wanted:
        entry = PRODUCT.with_name(f"run-{run.number}")
        (folder / entry).mkdir(parents=True)
        asked = {**query, "parameters": {**query["parameters"], RADIUS: run.radius}}
        (folder / entry / "query.json").write_text(json.dumps(asked))
        timeline = [["submitted", 0.0], ["progress", 2.0], ["ready", run.ends]]
        (folder / entry / "answer.json").write_text(json.dumps({**answer, "timeline": timeline}))
        for file in others:
            (folder / entry / file.name).write_bytes(file.read_bytes())
        entries.append(entry)
    origin = {"kind": "synthetic", "source": "a benchmark", "modelled": ["everything"]}
    write_manifest(folder, {entry.as_posix(): origin for entry in entries})


def mock(fixtures: Path, begun: dict[float, float]) -> web.Application:
    """Make a mock that notes when each job begins, in s of the monotonic clock."""

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
    """Start a program that ends with the stack, and give its first line."""
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


async def delays(folder: Path, wanted: list[Run]) -> dict[Run, float]:
    """Have all clients ask at the same time, and give the s from the end of each job to the client's return."""
    write_fixtures(folder / "fixtures", wanted)
    begun: dict[float, float] = {}
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(listening(mock(folder / "fixtures", begun), "127.0.0.1", 0))
        serve = [sys.executable, "-m", "oda_proxy.cli", "serve", "--upstream", url, "--port", "0"]
        serve += [*NOBODY_WAITS, "--cache-dir", str(folder / "cache")]
        _, listens = await started(stack, serve, folder / "proxy.log")
        urls = {"direct": url, "through": listens.removeprefix("listening on ")}
        clients = {}
        for version in VERSIONS:
            for way in WAYS:
                command = [python_of(f"oda_api-{version}"), CLIENT]
                clients[version, way], ready = await started(stack, command, folder / f"{version}-{way}.log")
                assert ready == "ready"
        for run in wanted:
            ask(clients[run.version, run.way], run, urls[run.way])
        returned = await asyncio.gather(*(returns(client) for client in clients.values()))
    at = {number: when for told in returned for number, when in told.items()}
    return {run: at[run.number] - begun[run.radius] - run.ends for run in wanted}


def ask(client: asyncio.subprocess.Process, run: Run, url: str) -> None:
    """Have a client ask."""
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
    """Wait until all that a client was asked is over; give when each was, by the number of the run."""
    assert client.stdin is not None
    client.stdin.close()
    assert client.stdout is not None
    told = [json.loads(line) async for line in client.stdout]
    await client.wait()
    assert all(one["end"] == "data" for one in told), told
    return {one["name"]: one["returned"] for one in told}


def table(measured: dict[Run, float]) -> tuple[list[str], bool]:
    """Write the medians, and say whether all ratios are within the limit."""
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
    """Print the table; end with 1 where the limit is passed."""
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
