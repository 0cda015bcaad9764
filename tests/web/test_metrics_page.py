"""The page `/-/metrics`, and what the other pages say of figures, over HTTP."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from oda_proxy.access.authentication import Authentication, Secret, Tokens
from oda_proxy.access.hosts import HostPolicy
from oda_proxy.errors import StoreUnusableError
from oda_proxy.handlers.policy import Policy
from oda_proxy.metrics.catalogue import METRICS
from oda_proxy.metrics.outcomes import OUTCOMES
from oda_proxy.proxy import Proxy
from oda_proxy.store.eviction import Limits
from oda_proxy.store.memory import MemoryStore
from oda_proxy.upstream.throttling import ThrottledUpstream
from oda_proxy.web.app import make_app
from oda_proxy.web.own_routes import Guard
from oda_proxy.web.server import listening
from oda_proxy.web.server_state import ServerState
from tests.support.dispatcher_responses import SESSION, answer
from tests.support.scripted_upstream import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oda_proxy.store.base import Usage

QUERY = {
    "instrument": "isgri",
    "product_type": "isgri_image",
    "query_type": "Real",
    "api": "True",
    "query_status": "new",
}
TOKEN = "the-token-of-the-collector"  # noqa: S105 - of a test


class Server:
    """A proxy over a scripted dispatcher, or offline, and a client."""

    def __init__(self, proxy: Proxy, state: ServerState, url: str, client: aiohttp.ClientSession) -> None:
        self.proxy, self.state, self.url, self._client = proxy, state, url, client

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self._client.get(f"{self.url}{path}", headers=headers) as response:
            return response.status, await response.text()

    async def json(self, path: str) -> Any:
        async with self._client.get(f"{self.url}{path}") as response:
            return await response.json()

    async def query(self, session: str = SESSION, **fields: str) -> None:
        await self.get(f"/run_analysis?{urlencode({**QUERY, 'session_id': session, **fields})}")

    async def samples(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Return the values of all time series that are not 0, by the values of their labels in the order of names."""
        status, text = await self.get("/-/metrics")
        assert status == 200
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for sample in (one for family in text_string_to_metric_families(text) for one in family.samples):
            if sample.value:
                found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = (
                    sample.value
                )
        return found


@asynccontextmanager
async def serving(
    script: Script | None, *, store: MemoryStore | None = None, tokens: Tokens | None = None
) -> AsyncIterator[Server]:
    upstream = ThrottledUpstream(script, max_concurrent=32, rate=1000.0) if script else None
    proxy, state = Proxy(store or MemoryStore(), upstream, Policy()), ServerState(limits=Limits(1_000_000))
    async with AsyncExitStack() as stack:
        app = make_app(proxy, server=state, guard=Guard(Authentication(tokens or Tokens()), HostPolicy()))
        url = await stack.enter_async_context(listening(app, "127.0.0.1", 0))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        yield Server(proxy, state, url, client)
        await proxy.close()


async def test_a_query_is_counted_once_by_instrument_and_outcome() -> None:
    async with serving(Script().then(answer())) as server:
        await server.query()
        await server.query("SESSIONOFANOTHER")
        await server.query("SESSIONOFATHIRD1")
        await server.query("SESSIONOFATHIRD1", query_status="submitted", job_id="0123456789abcdef")
        samples = await server.samples()

    assert samples["oda_proxy_queries_total"] == {
        ("isgri", "hit_cold"): 1,
        ("isgri", "hit_hot"): 1,
        ("other", "miss"): 1,
    }
    assert samples["oda_proxy_requests_total"].keys() == {
        (outcome, "run_analysis") for outcome in ("miss", "hit_cold", "hit_hot")
    }
    assert sum(samples["oda_proxy_requests_total"].values()) == 4
    assert samples["oda_proxy_request_duration_seconds_count"] == samples["oda_proxy_requests_total"]
    assert samples["oda_proxy_jobs_ended_total"] == {("stored",): 1}
    assert samples["oda_proxy_upstream_requests_total"] == {("2xx",): 1}
    assert samples["oda_proxy_cache_entries"] == {(): 1}
    assert samples["oda_proxy_upstream_breaker_state"] == {("closed",): 1}
    assert samples["oda_proxy_sent_bytes_total"][()] > 3 * samples["oda_proxy_cache_bytes"][()]
    assert samples["oda_proxy_upstream_received_bytes_total"][()] > 0


async def test_every_series_is_there_before_anything_has_happened() -> None:
    async with serving(Script()) as server:
        _, text = await server.get("/-/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text)}

    there = {sample.name for family in families.values() for sample in family.samples}
    without_disk = {"oda_proxy_cache_disk_free_bytes", "oda_proxy_cache_disk_size_bytes"}
    assert {name for metric in METRICS for name in metric.sample_names} - there == {
        *without_disk,
        "oda_proxy_oldest_entry_idle_seconds",
    }
    queries = list(families["oda_proxy_queries"].samples)
    assert {tuple(sample.labels.values()) for sample in queries} == {("other", outcome) for outcome in OUTCOMES}


async def test_names_that_clients_make_up_are_no_labels() -> None:
    async with serving(None) as server:
        for number in range(10):
            await server.query(instrument=f"made-up-{number}")
            await server.get(f"/made/up/{number}")
        _, text = await server.get("/-/metrics")
        samples = await server.samples()

    assert "made" not in text
    assert samples["oda_proxy_queries_total"] == {("other", "refused"): 10}


async def test_the_time_that_a_recording_saves_is_that_of_its_job() -> None:
    async with serving(Script().then(answer())) as server:
        await server.query()
        (recording,) = server.proxy.store.entries()
        for _ in range(3):
            await server.query("SESSIONOFANOTHER")
        samples = await server.samples()

    assert samples["oda_proxy_saved_compute_seconds_total"][("isgri",)] == pytest.approx(3 * recording.cost)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via"])
async def test_without_a_token_for_them_figures_are_for_this_machine_alone(header: str) -> None:
    async with serving(Script()) as server:
        assert (await server.get("/-/metrics"))[0] == 200
        assert (await server.get("/-/metrics", **{header: "192.0.2.1"}))[0] in {401, 403}


async def test_a_token_for_figures_opens_them_and_nothing_that_changes() -> None:
    async with serving(Script(), tokens=Tokens(metrics=Secret(TOKEN))) as server:
        status, text = await server.get("/-/metrics")
        assert status in {401, 403}
        assert TOKEN not in text
        assert (await server.get("/-/metrics", Authorization=f"Bearer {TOKEN}"))[0] == 200
        assert (await server.get("/-/metrics", Authorization="Bearer another"))[0] in {401, 403}


async def test_the_state_has_uptime_limits_latencies_and_the_recordings_in_memory() -> None:
    async with serving(Script().then(answer())) as server:
        for session in (SESSION, "SESSIONOFANOTHER", "SESSIONOFATHIRD1"):
            await server.query(session)
        status = await server.json("/-/status")

    assert status["uptime"] >= 0
    assert (status["limits"]["max_size"], status["limits"]["max_requests"]) == (1_000_000, 32)
    assert status["hot_tier"]["entries"] == status["hot_tier"]["hits"] == 1
    assert set(status["latencies"]) == {"miss", "hit_cold", "hit_hot"}
    hot = status["latencies"]["hit_hot"]
    assert hot["requests"] == 1
    assert 0 < hot["p50"] <= hot["p95"] <= hot["p99"]
    assert status["store"]["free"] is None


class UnreadableStore(MemoryStore):
    """A store whose medium has failed, with a secret in the reason."""

    def usage(self) -> Usage:
        raise StoreUnusableError(Path("/secret/folder"), "Input/output error")


async def test_a_server_that_stops_is_not_ready() -> None:
    async with serving(Script()) as server:
        assert await server.get("/-/readyz") == (200, "ok\n")
        server.state.is_draining = True
        assert await server.get("/-/readyz") == (503, "the server is stopping\n")
        assert (await server.get("/-/livez"))[0] == 200


async def test_a_server_that_can_use_neither_store_nor_dispatcher_is_not_ready() -> None:
    async with serving(None, store=UnreadableStore()) as server:
        status, text = await server.get("/-/readyz")

    assert status == 503
    assert text == "the recordings cannot be read, and there is no dispatcher\n"


async def test_a_store_that_fails_is_no_obstacle_while_the_dispatcher_answers() -> None:
    async with serving(Script(), store=UnreadableStore()) as server:
        assert (await server.get("/-/readyz"))[0] == 200
        samples = await server.samples()

    assert samples["oda_proxy_store_fault"] == {("counted",): 1}
    assert "oda_proxy_cache_entries" not in samples
