"""A replay takes the time that its job took; in simulated time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from oda_proxy.handlers.policy import Policy
from oda_proxy.jobs.policy import JobPolicy
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.store.memory import MemoryStore
from tests.support.scripted import Client, Dispatcher, elapsed, now, proxied, simulated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def replaying(scale: float) -> AsyncIterator[tuple[Proxy, Client]]:
    """Record one job, and yield an offline proxy on its recording."""
    store = MemoryStore(clock=now)
    async with proxied(Dispatcher(), store=store) as recording:
        client = Client(recording)
        await client.get_product()
    proxy = Proxy(store, None, Policy(jobs=JobPolicy(time_scale=scale)), runtime=Runtime(clock=now))
    yield proxy, client
    await proxy.close()


@pytest.mark.parametrize("scale", [1.0, 0.5, 3.0])
def test_a_job_goes_through_its_states_again(scale: float) -> None:
    @simulated
    async def scenario() -> None:
        async with replaying(scale) as (proxy, recorded):
            began, client = elapsed(), Client(proxy, "SESSIONOFTHENEXT")
            await client.get_product()

            took = recorded.responses[-1].at - recorded.responses[0].at
            assert client.responses[-1].at - began == pytest.approx(took * scale, rel=0.1, abs=2.0)
            assert list(dict.fromkeys(client.states)) == ["submitted", "progress", "done"]
            assert client.responses[-1].number == recorded.responses[-1].number
            assert len(client.job_ids) == 1

    scenario()


@simulated
async def test_a_job_is_replayed_once_for_all_clients() -> None:
    async with replaying(1.0) as (proxy, _):
        began = elapsed()
        await asyncio.gather(*(Client(proxy, f"SESSION{number:09d}").get_product() for number in range(5)))
        took = elapsed() - began
        again = await Client(proxy, "SESSIONOFANOTHER").ask()

        assert took > 50
        assert (again.state, elapsed() - began) == ("done", took)


@simulated
async def test_without_a_scale_what_was_recorded_is_there_at_once() -> None:
    async with replaying(0.0) as (proxy, _):
        began = elapsed()

        assert (await Client(proxy, "SESSIONOFTHENEXT").ask()).cache_status == "oda-proxy; hit"
        assert elapsed() == began
