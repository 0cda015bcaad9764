"""Clients of all generations read each version of an answer bit for bit, by the address alone."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp
import pytest

from mock_server.app import make_app as make_mock
from mock_server.settings import MockSettings
from oda_proxy.drift.equality import is_same_answer
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.store.disk import DiskStore
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.web.app import make_app
from oda_proxy.web.server import listening
from tests.support.crowds import QUERY
from tests.support.paths import CLIENT_SCRIPTS, FIXTURES
from tests.support.scripted_upstream import Clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.real

VERSIONS = ["1.0", "1.3.5"]
RELEASES = {"2026-01-10": 1.0, "2026-03-10": 1.1, "2026-06-10": 1.3}
"""The factor by which the values of products are higher since a date."""
DATES = {"2026-02-01": 1.0, "2026-04-01T12-30-00": 1.1, "20260630": 1.3}
"""Dates in addresses, and the factor of the answer of that time."""
RESTS = ("", "/", "/only", "/only/")
"""What may follow a date in an address."""
SCIENCE_WINDOWS = "010200230010.001"
SCENARIO = """
[calibrated]
[[calibrated.faults]]
do = "recalibrate"
factor = {}
"""


def settings(folder: Path, factor: float) -> MockSettings:
    file = folder / f"{factor}.toml"
    file.write_text(SCENARIO.format(factor))
    return MockSettings(time_scale=0.0, scenario="calibrated", scenario_files=(file,))


async def switch(http: aiohttp.ClientSession, mock: str, factor: float) -> None:
    """Switch the calibration of a mock: the faults that were added before off, and a new one on."""
    async with http.get(f"{mock}/-/faults") as response:
        faults = (await response.json())["faults"]
    for number in range(1, len(faults) + 1):
        async with http.post(f"{mock}/-/faults/{number}", json={"active": False}) as response:
            assert response.status == 200, await response.text()
    async with http.post(f"{mock}/-/faults", json={"do": "recalibrate", "factor": factor}) as response:
        assert response.status == 200, await response.text()


async def products(http: aiohttp.ClientSession, url: str, *, refresh: bool = False) -> tuple[bytes, str]:
    """Request the query until its products are there; return their bytes, and how the proxy handled the request."""
    named = {"product_type": QUERY["product"], "query_type": QUERY["product_type"], "scw_list": SCIENCE_WINDOWS}
    fields = {**QUERY, **named, "api": "True", "session_id": "ABCDEFGHIJKLMNOP", "query_status": "new"}
    del fields["product"]
    headers = {"Cache-Control": "no-cache"} if refresh else {}
    for _ in range(50):
        async with http.get(f"{url}/run_analysis?{urlencode(fields)}", headers=headers) as response:
            body, status = await response.read(), response.headers["Cache-Status"]
        answer = json.loads(body)
        if answer["query_status"] == "done":
            begin = body.index(b'"products"')
            return body[begin : body.index(b'"exit_status"')] if b'"exit_status"' in body[begin:] else body, status
        fields |= {"query_status": answer["query_status"], "job_id": answer["job_monitor"]["job_id"]}
        headers = {}
    raise AssertionError("the job did not end")


async def add_instrument(http: aiohttp.ClientSession, mock: str, name: str) -> None:
    """Add an instrument to a mock."""
    description = json.loads((FIXTURES / "polar" / "instrument.json").read_text())
    async with http.post(f"{mock}/-/instruments", json={**description, "instrument": name}) as response:
        assert response.status in {200, 201}, await response.text()


async def run_clients(pythons: list[Path], folder: Path, script: str, *arguments: str) -> list[Any]:
    """Run a script with each client, and return what it prints."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ODA_", "DISP_"))}

    async def run(python: Path) -> Any:
        home = folder / python.parent.parent.name
        home.mkdir(exist_ok=True)
        client = await asyncio.create_subprocess_exec(
            *(str(python), str(CLIENT_SCRIPTS / script), *arguments),
            env={**env, "HOME": str(home), "MPLBACKEND": "agg"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await client.communicate()
        assert client.returncode == 0, errors.decode()
        return json.loads(output)

    return await asyncio.gather(*map(run, pythons))


async def test_addresses_with_a_date_give_each_version_bit_for_bit(
    client_python: Callable[[str], Path], tmp_path: Path
) -> None:
    pythons = [client_python(version) for version in VERSIONS]
    clock = Clock()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        direct = {
            factor: await stack.enter_async_context(listening(make_mock(settings(tmp_path, factor)), "127.0.0.1", 0))
            for factor in RELEASES.values()
        }
        changing = await stack.enter_async_context(
            listening(make_mock(MockSettings(time_scale=0.0, scenario="new-calibration")), "127.0.0.1", 0)
        )
        dispatcher = await stack.enter_async_context(Dispatcher(changing))
        store = DiskStore(tmp_path / "store")
        stack.callback(store.close)
        services = Services(
            instruments=Descriptions(dispatcher, None, ttl=300.0, clock=lambda: 0.0), is_same=is_same_answer
        )
        proxy = Proxy(store, dispatcher, Policy(), services=services, runtime=Runtime(clock=clock))
        stack.push_async_callback(proxy.close)
        url = await stack.enter_async_context(listening(make_app(proxy), "127.0.0.1", 0))
        recorded = {}
        for day, factor in RELEASES.items():
            await switch(http, changing, factor)
            await add_instrument(http, changing, f"since-{day}")
            for hour in (10, 12):  # the second refresh finds an equal answer
                clock.now = datetime.fromisoformat(f"{day}T{hour}:00:00").replace(tzinfo=UTC).timestamp()
                await products(http, url, refresh=True)
                async with http.get(f"{url}/api/instr-list?instrument=mock") as response:  # as clients request it
                    assert f"since-{day}" in await response.json()
            recorded[factor] = (await products(http, url))[0]
        clock.now = datetime(2026, 7, 1, tzinfo=UTC).timestamp()

        assert len(set(recorded.values())) == 3
        (key,) = store.keys()
        assert len(store.versions(key)) == 3
        for date, factor in DATES.items():
            found, status = await products(http, f"{url}/as-of/{date}")
            assert found.replace(f"/as-of/{date}".encode(), b"") == recorded[factor], "but for the address in api_code"
            assert status == "oda-proxy; hit; detail=as-of"
        query = {"arguments": QUERY, "method": "GET"}
        addresses = {f"{date}{rest}": f"{url}/as-of/{date}{rest}" for date in DATES for rest in RESTS}
        runs = {f"as of {name}": {**query, "url": address} for name, address in addresses.items()}
        runs |= {f"direct {factor}": {**query, "url": address} for factor, address in direct.items()}
        (tmp_path / "runs").write_text(json.dumps(runs))
        for ends in await run_clients(pythons, tmp_path, "each_run.py", str(tmp_path / "runs")):
            assert {end["end"] for end in ends.values()} == {"data"}, ends
            for date, factor in DATES.items():
                for rest in RESTS:
                    assert ends[f"as of {date}{rest}"]["digest"] == ends[f"direct {factor}"]["digest"]
            assert len({end["digest"] for end in ends.values()}) == 3
        assert proxy.counts.failed == 0
        for listed in await run_clients(pythons, tmp_path, "list_instruments.py", *addresses.values()):
            since = [sum(name.startswith("since-") for name in names) for names in listed]
            assert since == [number for number in (1, 2, 3) for _ in RESTS]
