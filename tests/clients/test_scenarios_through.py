"""In every scenario of the mock, clients of four generations end through the proxy as without it, or with the data."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from mock_server.app import make_app as make_mock
from mock_server.scenarios import load_scenarios
from mock_server.settings import MockSettings
from mock_server.tokens import make_token
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.jobs.policy import JobPolicy
from oda_proxy.proxy import Proxy
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.store.memory import MemoryStore
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.upstream.throttling import ThrottledUpstream
from oda_proxy.web.app import make_app
from oda_proxy.web.server import listening
from tests.support.crowds import QUERY
from tests.support.paths import CLIENT_SCRIPTS as CLIENTS
from tests.support.paths import DOCS as DOCS_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.real

DOCS = DOCS_FOLDER / "jobs.md"
VERSIONS = ["1.0", "1.1.0", "1.2.1", "1.3.5"]
SHORTER = """
[slow-job]
summary = "Every job takes twice as long as its fixture says"
time_scale = 2.0

[timeout]
summary = "The third request for an analysis is not answered for longer than clients wait; then the connection ends"
[[timeout.faults]]
do = "hang"
seconds = 4.0
on = [3]

[slow-drip]
summary = "Answers with products come in sixteen pieces, a tenth of a second apart"
[[slow-drip.faults]]
do = "drip"
asked = ["ready"]
seconds = 0.1
"""
"""Shorter forms of the scenarios that take minutes; all others are the shipped ones."""
TIME_SCALE = 1.4
"""The job takes 7 s: the client that polls least, 1.1.0, sends its third poll after 6 s."""
SEED = 1
"""With this seed, the first poll in `unreliable` fails."""
PATIENCE = 1.0
"""Seconds for which the proxy holds a poll: less than clients wait, as with the defaults (20 and 120)."""
EXIT = "SystemExit"

# Scenario -> how each client ends without the proxy, and through it, in the order of VERSIONS. Old clients end the
# program on every failure; "data" is the whole data.
ALL_DATA = ("data",) * 4
ENDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "slow-job": (ALL_DATA, ALL_DATA),
    "failing-job": ((EXIT, EXIT, "RemoteException", "RemoteException"),) * 2,
    "bad-gateway": ((EXIT, EXIT, "data", "data"), ALL_DATA),
    "timeout": ((EXIT, "data", "data", "data"), ALL_DATA),
    "cut-off-json": ((EXIT, EXIT, "RemoteException", "RemoteException"), ALL_DATA),
    "lost-connection": ((EXIT, "data", "ChunkedEncodingError", "ChunkedEncodingError"), ALL_DATA),
    "html-instead-of-json": ((EXIT, EXIT, "RemoteException", "RemoteException"), ALL_DATA),
    "token-expires": ((EXIT, EXIT, "Unauthorized", "Unauthorized"),) * 2,
    "changed-job-id": ((EXIT, "data", "RuntimeError", "RuntimeError"), ALL_DATA),
    "redirected-post": (("data", "data", "URLRedirected", "URLRedirected"),) * 2,
    "slow-drip": (ALL_DATA, ALL_DATA),
    "new-calibration": (ALL_DATA, ALL_DATA),
    "unreliable": ((EXIT, EXIT, "data", "data"), ALL_DATA),
}

Ends = dict[str, dict[str, Any]]
"""How the runs of one client ended, by the name of the run."""


def arguments_for(scenario: str) -> dict[str, Any]:
    """Return the arguments of a query, with a token for the scenario in which it expires."""
    if scenario != "token-expires":
        return QUERY
    claims = {"sub": "somebody@example.org", "name": "Somebody", "roles": "general", "exp": int(time.time()) + 3600}
    return {**QUERY, "token": make_token(claims, "any key")}


async def mock(stack: AsyncExitStack, scenario: str, scenarios: Path) -> str:
    """Start a new mock; return its URL."""
    settings = MockSettings(time_scale=TIME_SCALE, scenario=scenario, scenario_files=(scenarios,), seed=SEED)
    return await stack.enter_async_context(listening(make_mock(settings), "127.0.0.1", 0))


async def proxy(stack: AsyncExitStack, upstream: str) -> str:
    """Start a proxy without recordings, as `oda-proxy serve` does; return its URL."""
    dispatcher = ThrottledUpstream(await stack.enter_async_context(Dispatcher(upstream)), max_concurrent=32, rate=20)
    tokens = TokenVerifier(Sharing.SUBJECT, secret_key=None, trust=300.0, clock=time.time)
    instruments = Descriptions(dispatcher, None, ttl=300.0, clock=time.monotonic)
    services = Services(instruments=instruments, tokens=tokens)
    one = Proxy(MemoryStore(), dispatcher, Policy(jobs=JobPolicy(long_poll=PATIENCE)), services=services)
    stack.push_async_callback(one.close)
    return await stack.enter_async_context(listening(make_app(one), "127.0.0.1", 0))


async def ends_of(python: Path, folder: Path) -> Ends:
    """Run all scenarios at once with one client, each with and without a proxy."""
    scenarios = folder / "scenarios.toml"
    scenarios.write_text(SHORTER)
    async with AsyncExitStack() as stack:
        runs = {}
        for name in ENDS:
            query = {"arguments": arguments_for(name), "method": "POST" if name == "redirected-post" else "GET"}
            runs[f"{name} direct"] = {**query, "url": await mock(stack, name, scenarios)}
            runs[f"{name} through"] = {**query, "url": await proxy(stack, await mock(stack, name, scenarios))}
        (folder / "runs").write_text(json.dumps(runs))
        env = {name: value for name, value in os.environ.items() if not name.startswith(("ODA_", "DISP_"))}
        client = await asyncio.create_subprocess_exec(
            *(python, CLIENTS / "each_run.py", folder / "runs"),
            env={**env, "HOME": str(folder), "MPLBACKEND": "agg"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await client.communicate()
    assert client.returncode == 0, errors.decode()
    ends: Ends = json.loads(output)
    return ends


@pytest.fixture(scope="module")
def ends(client_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ends]:
    """Run all clients at once."""
    pythons = [client_python(version) for version in VERSIONS]

    async def all_ends() -> dict[str, Ends]:
        runs = [ends_of(python, tmp_path_factory.mktemp("client")) for python in pythons]
        return dict(zip(VERSIONS, await asyncio.gather(*runs), strict=True))

    return asyncio.run(all_ends())


def ends_in(ends: dict[str, Ends], scenario: str, way: str) -> tuple[str, ...]:
    return tuple(ends[version][f"{scenario} {way}"]["end"] for version in VERSIONS)


def messages_in(ends: dict[str, Ends], scenario: str, way: str) -> list[str]:
    """Return the message with which each client ended."""
    return [ends[version][f"{scenario} {way}"].get("message", "") for version in VERSIONS]


@pytest.mark.parametrize("scenario", ENDS)
def test_without_the_proxy_clients_end_as_the_table_says(ends: dict[str, Ends], scenario: str) -> None:
    assert ends_in(ends, scenario, "direct") == ENDS[scenario][0], messages_in(ends, scenario, "direct")


@pytest.mark.parametrize("scenario", ENDS)
def test_through_the_proxy_clients_end_as_the_table_says(ends: dict[str, Ends], scenario: str) -> None:
    assert ends_in(ends, scenario, "through") == ENDS[scenario][1], messages_in(ends, scenario, "through")


def test_all_who_get_data_get_the_same_bits(ends: dict[str, Ends]) -> None:
    got: dict[bool, set[str]] = {False: set(), True: set()}
    for of_client in ends.values():
        for name, end in of_client.items():
            if end["end"] == "data":
                got[name.startswith("new-calibration")].add(end["digest"])

    assert [len(digests) for digests in got.values()] == [1, 1]
    assert got[False] != got[True]


def test_the_table_has_all_shipped_scenarios() -> None:
    assert set(ENDS) == set(load_scenarios())


@pytest.mark.parametrize("scenario", ENDS)
def test_nobody_ends_worse_through_the_proxy(scenario: str) -> None:
    """According to the table, which the other tests check: with the same end, or with the data."""
    for without, through in zip(*ENDS[scenario], strict=True):
        assert through in (without, "data")


def test_the_table_in_the_documentation_is_from_this_run(ends: dict[str, Ends]) -> None:
    rows = []
    for scenario in ENDS:
        ways = zip(ends_in(ends, scenario, "direct"), ends_in(ends, scenario, "through"), strict=True)
        cells = [without if without == through else f"{without} → **{through}**" for without, through in ways]
        rows.append(f"| `{scenario}` | {' | '.join(cells)} |")

    undocumented = [row for row in rows if row not in DOCS.read_text(encoding="utf-8").splitlines()]
    assert not undocumented, "\n".join(rows)
