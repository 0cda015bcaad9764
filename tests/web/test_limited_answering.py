"""Limits of clients over HTTP: what they get when they are over a limit."""

from __future__ import annotations

import ipaddress
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from oda_proxy.access.authentication import Authentication
from oda_proxy.access.client_limits import ClientLimiter, ClientLimits
from oda_proxy.access.hosts import HostPolicy
from oda_proxy.handlers.policy import Policy
from oda_proxy.http.front_end_headers import TrustedProxies
from oda_proxy.http.message import Request
from oda_proxy.jobs.policy import JobPolicy
from oda_proxy.proxy import Proxy
from oda_proxy.store.memory import MemoryStore
from oda_proxy.web.app import make_app
from oda_proxy.web.front_end import FrontEnd
from oda_proxy.web.limited_answering import LimitedAnswering
from oda_proxy.web.own_routes import Guard
from oda_proxy.web.server import listening
from tests.support.dispatcher_responses import SESSION, answer
from tests.support.scripted_upstream import QUERY, Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TRUSTED = (ipaddress.ip_network("127.0.0.0/8"),)
VERSIONS = {"1.0": "verbose=False&dry_run=False", "1.1.0": "oda_api_version=1.1.0", "1.3.5": "oda_api_version=1.3.5"}
"""The releases of oda_api, and the arguments by which they are known."""


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Dispatcher(Script):
    """A dispatcher whose jobs run for ever, or are done at once."""

    is_done = True

    async def send(self, ask: Any) -> Any:
        self.then(answer() if self.is_done else {**answer(query_status="submitted"), "products": {}})
        return await super().send(ask)


@dataclass(frozen=True)
class Setup:
    url: str
    client: aiohttp.ClientSession
    dispatcher: Dispatcher
    clock: Clock
    store: MemoryStore

    async def get(self, path: str, *, address: str = "192.0.2.1") -> tuple[int, dict[str, str], str]:
        """Send a request as from an address."""
        headers = {"X-Forwarded-For": address}
        async with self.client.get(self.url + path, headers=headers) as response:
            return response.status, dict(response.headers), await response.text()

    async def query(self, fields: str = "", *, status: str = "new", address: str = "192.0.2.1") -> tuple[int, Any, int]:
        """Send a query, and return the status, the answer and `Retry-After`."""
        path = f"/run_analysis?{QUERY}&query_status={status}&session_id={SESSION}&{fields}"
        code, headers, text = await self.get(path, address=address)
        return code, json.loads(text), int(headers.get("Retry-After", 0))


@asynccontextmanager
async def serving(limits: ClientLimits, jobs: int | None = None) -> AsyncIterator[Setup]:
    clock, dispatcher = Clock(), Dispatcher()
    store = MemoryStore()
    proxy = Proxy(store, dispatcher, Policy(jobs=JobPolicy(client_jobs=jobs, long_poll=0.1 if jobs else 20.0)))
    limiter = ClientLimiter(limits, clock) if limits else None
    addresses = FrontEnd(None, TrustedProxies(TRUSTED))
    app = make_app(proxy, guard=Guard(Authentication(), HostPolicy(), limiter), addresses=addresses)
    async with listening(app, "127.0.0.1", 0) as url, aiohttp.ClientSession() as client:
        yield Setup(url, client, dispatcher, clock, store)
        await proxy.close()


@pytest.mark.parametrize(("version", "status"), [("1.0", 429), ("1.1.0", 429), ("1.3.5", 200)])
async def test_a_client_over_its_rate_gets_a_job_that_waits_in_the_status_that_it_survives(
    version: str, status: int
) -> None:
    async with serving(ClientLimits(rate=0.5)) as setup:
        await setup.query(VERSIONS[version])

        code, found, retry_after = await setup.query(VERSIONS[version])

        assert (code, found["query_status"], found["job_status"], retry_after) == (status, "submitted", "submitted", 2)
        assert "more than 0.5 requests a second" in found["exit_status"]["comment"]
        assert found["session_id"] == SESSION


async def test_the_job_starts_with_the_first_poll_below_the_limit() -> None:
    async with serving(ClientLimits(rate=0.5)) as setup:
        await setup.query("RA=1&oda_api_version=1.3.5")
        _, found, retry_after = await setup.query("RA=2&oda_api_version=1.3.5")
        job = f"RA=2&oda_api_version=1.3.5&job_id={found['job_monitor']['job_id']}"
        assert len(setup.dispatcher.asked) == 1

        assert (await setup.query(job, status="submitted"))[1]["query_status"] == "submitted"
        setup.clock.now += retry_after
        assert (await setup.query(job, status="submitted"))[1]["query_status"] == "done"
        assert len(setup.dispatcher.asked) == 2


async def test_hits_count_too_and_other_clients_are_not_affected() -> None:
    async with serving(ClientLimits(rate=1.0)) as setup:
        statuses = [(await setup.query("oda_api_version=1.1.0"))[0] for _ in range(4)]

        assert statuses == [200, 200, 429, 429]
        assert (await setup.query("oda_api_version=1.1.0", address="192.0.2.2"))[0] == 200
        assert len(setup.dispatcher.asked) == 1


async def test_hits_that_are_repeated_count_too() -> None:
    async with serving(ClientLimits(rate=4.0, daily_bytes=10**9)) as setup:
        statuses = [(await setup.query("oda_api_version=1.1.0"))[0] for _ in range(10)]

        assert statuses == [200] * 8 + [429] * 2
        async with setup.client.get(f"{setup.url}/-/status") as response:
            assert (await response.json())["run_analysis"]["hits"] == 7


async def test_other_routes_and_other_programs_get_429(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(ClientLimits(rate=0.5)) as setup:
        await setup.get("/download_file")

        for path in ("/download_file", f"/run_analysis?{QUERY}", "/run_analysis?nothing", "/-/status"):
            status, headers, text = await setup.get(path)
            assert (status, headers["Retry-After"]) == (429, "2")
            assert "more than 0.5 requests a second" in text
        assert (await setup.get("/-/livez"))[0] == 200


async def test_a_request_for_a_description_is_held_until_it_is_within_the_limits() -> None:
    held = []

    async def sleep(seconds: float) -> None:
        held.append(seconds)
        clock.now += seconds

    clock = Clock()
    proxy = Proxy(MemoryStore(), Dispatcher(), Policy())
    limiter = ClientLimiter(ClientLimits(rate=0.5), clock)
    answer_to = LimitedAnswering(proxy.answer, limiter, proxy.limits, sleep=sleep)
    description = Request("GET", "/api/par-names", "instrument=isgri", client_address="192.0.2.1")

    statuses = [(await answer_to(description, origin="http://here")).status for _ in range(3)]

    assert (statuses, held) == ([200] * 3, [2.0, 2.0])
    limiter = ClientLimiter(ClientLimits(daily_bytes=10), clock)
    limiter.charge("address 192.0.2.1", 1000)
    answer_to = LimitedAnswering(proxy.answer, limiter, proxy.limits, sleep=sleep)
    assert (await answer_to(description, origin="http://here")).status == 429


async def test_bytes_are_counted_whether_they_are_sent_at_once_or_as_a_stream() -> None:
    for path in (f"/run_analysis?{QUERY}&session_id={SESSION}", "/download_file"):
        async with serving(ClientLimits(daily_bytes=100)) as setup:
            assert (await setup.get(path))[0] == 200
            status, headers, text = await setup.get(path)
            assert (status, "more than 100 bytes a day" in text) == (429, True)
            setup.clock.now += int(headers["Retry-After"])
            assert (await setup.get(path))[0] == 200


@pytest.mark.parametrize(("version", "status"), [("1.0", 429), ("1.3.5", 200)])
async def test_a_client_with_as_many_jobs_as_it_may_have_waits_for_one_to_end(version: str, status: int) -> None:
    async with serving(ClientLimits(), jobs=1) as setup:
        setup.dispatcher.is_done = False
        assert (await setup.query(f"DEC=1&{VERSIONS[version]}"))[0] == 200

        code, found, retry_after = await setup.query(f"DEC=2&{VERSIONS[version]}")
        assert (code, found["query_status"], retry_after) == (status, "submitted", 5)
        assert "another job of this client runs" in found["exit_status"]["comment"]
        assert (await setup.query(f"DEC=1&{VERSIONS[version]}"))[0] == 200  # it joins its job
        assert (await setup.query(f"DEC=3&{VERSIONS[version]}", address="192.0.2.2"))[0] == 200


async def test_a_job_that_waited_starts_when_another_has_ended() -> None:
    async with serving(ClientLimits(), jobs=1) as setup:
        setup.dispatcher.is_done = False
        first = (await setup.query("DEC=1&oda_api_version=1.3.5"))[1]
        second = (await setup.query("DEC=2&oda_api_version=1.3.5"))[1]
        assert "another job" in second["exit_status"]["comment"]

        setup.dispatcher.is_done = True
        for number, found in ((1, first), (2, second)):
            job = f"DEC={number}&oda_api_version=1.3.5&job_id={found['job_monitor']['job_id']}"
            while (await setup.query(job, status="submitted"))[1]["query_status"] != "done":
                pass
        assert len(list(setup.store.entries())) == 2
