"""The proxy's comments on a job: queue, joining, earlier runs, outages; in simulated time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import StoreUnusableError, UpstreamUnreachableError
from oda_proxy.handlers.policy import Policy
from oda_proxy.jobs.estimates import Estimates, format_duration
from oda_proxy.proxy import Proxy
from oda_proxy.query.query import Query
from oda_proxy.store.memory import MemoryStore
from tests.support.recordings import KEYS, recording
from tests.support.scripted import QUERY, Client, Dispatcher, Response, bad_gateway, proxied, simulated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.query.cache_key import Key

IMAGE = Query("isgri", "isgri_image", "Real", (), api=True)
OTHER_QUERY = QUERY.replace("83.0", "84.0")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.6, "60 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1.5 h"), (86400, "24.0 h")],
)
def test_durations_are_formatted_for_people(seconds: float, said: str) -> None:
    assert format_duration(seconds) == said


def test_an_estimate_is_made_of_the_runs_of_the_same_product() -> None:
    estimates = Estimates()
    for cost in (60.0, 0.0, 600.0, 120.0):
        estimates.add(IMAGE, cost)
    estimates.add(Query("isgri", "isgri_lc", "Real", (), api=True), 1e6)
    estimates.add(None, 1e6)

    assert str(estimates.estimate(IMAGE)) == "3 earlier runs took 60 s to 10 min, the median is 2 min"
    assert estimates.estimate(Query("jemx", "isgri_image", "Real", (), api=True)) is None


def test_one_run_is_one_run() -> None:
    estimates = Estimates()
    estimates.add(IMAGE, 60.0)

    assert str(estimates.estimate(IMAGE)) == "an earlier run took 60 s"


def test_estimates_use_public_recordings() -> None:
    store = MemoryStore(clock=lambda: 0.0)
    for key, private, cost in zip(KEYS, (False, False, True), (60.0, 0.0, 7000.0), strict=False):
        store.put(recording(key, query=IMAGE, private=private, cost=cost))
    estimates = Estimates()

    estimates.add_recordings(store.entries())

    assert str(estimates.estimate(IMAGE)) == "an earlier run took 60 s"


def comment(response: Response) -> str:
    body = response.json
    assert body["job_monitor"]["comment"] == body["exit_status"]["comment"]
    return str(body["exit_status"]["comment"])


@simulated
async def test_a_client_that_joins_a_job_gets_a_comment_and_its_owner_does_not() -> None:
    async with proxied(Dispatcher()) as proxy:
        first, second = Client(proxy, "SESSIONOFTHEFIRST"), Client(proxy, "SESSIONOFTHENEXT")
        assert comment(await first.ask()) == ""
        await asyncio.sleep(5)
        assert (
            comment(await second.ask()) == "oda-proxy: the same was asked 5 s ago, and this request has joined that job"
        )


@simulated
async def test_a_comment_mentions_earlier_runs() -> None:
    async with proxied(Dispatcher()) as proxy:
        await Client(proxy).get_product()
        response = await Client(proxy, query=OTHER_QUERY).ask()

        assert comment(response).startswith("oda-proxy: an earlier run took 6")


@simulated
async def test_a_comment_says_how_many_jobs_wait_before() -> None:
    async with proxied(Dispatcher(), max_jobs=1, long_poll=1.0) as proxy:
        clients = [Client(proxy, query=QUERY.replace("83.0", f"{ra}.5")) for ra in (1, 2, 3, 4)]
        said = [comment(await client.ask()) for client in clients]

        assert said == [
            "",
            "oda-proxy: the job waits for a place at the proxy; it is the next",
            "oda-proxy: the job waits for a place at the proxy; one job waits before it",
            "oda-proxy: the job waits for a place at the proxy; 2 jobs wait before it",
        ]


@simulated
async def test_a_comment_mentions_an_outage() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        client = Client(proxy)
        begun = await client.ask()
        dispatcher.instead = lambda request: UpstreamUnreachableError("x", "y") if request.number % 2 else bad_gateway()
        await asyncio.sleep(100)
        response = await client.ask("submitted", begun.job_id)

        assert "the dispatcher has not answered for 2 min, and is asked again" in comment(response)


async def test_a_proxy_estimates_from_its_store_and_survives_one_it_cannot_read() -> None:
    store = MemoryStore(clock=lambda: 0.0)
    for key in KEYS:
        store.put(recording(key, query=IMAGE, cost=60.0))
    proxy = Proxy(store, Dispatcher(), Policy())
    await proxy.estimate()
    assert str(proxy.jobs.estimates.estimate(IMAGE)) == "6 earlier runs took 60 s to 60 s, the median is 60 s"

    failing = Proxy(Unreadable(), Dispatcher(), Policy())
    await failing.estimate()
    assert [fault.operation for fault in failing.store_faults] == ["read"]


class Unreadable(MemoryStore):
    def keys(self) -> Iterator[Key]:
        raise StoreUnusableError(Path("store"), "disk I/O error")
