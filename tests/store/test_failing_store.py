"""A failing store fails no request: it is logged once, and on the status page for as long as it lasts."""

from __future__ import annotations

import os
import sqlite3
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from oda_proxy.handlers.policy import Policy
from oda_proxy.proxy import Proxy
from oda_proxy.store.disk import DiskStore
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.web.app import make_app
from oda_proxy.web.server import listening
from tests.support.dispatcher_responses import SESSION, answer, json_bytes
from tests.support.stores import index_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

QUERY = f"instrument=isgri&product_type=isgri_image&query_type=Real&api=True&query_status=new&session_id={SESSION}"
HIT = "oda-proxy; hit"
STORED = "oda-proxy; fwd=uri-miss; fwd-status=200; stored"
FAILED = "oda-proxy; fwd=uri-miss; fwd-status=200; detail=store-failed"


class Deployment:
    """A proxy, its dispatcher, which always has an answer, and a client."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self.url = url
        self.client = client

    async def request(self, more: str = "") -> str:
        """Send a query, check its answer, and return its Cache-Status."""
        async with self.client.get(f"{self.url}/run_analysis?{QUERY}{more}") as response:
            assert response.status == 200
            assert (await response.json())["products"]["numpy_data_product_list"]
            return response.headers["Cache-Status"]

    async def faults(self) -> list[tuple[str, str, int]]:
        async with self.client.get(f"{self.url}/-/status") as response:
            faults = (await response.json())["store"]["faults"]
        return [(fault["doing"], fault["message"], fault["times"]) for fault in faults]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    with closing(DiskStore(tmp_path / "store")) as store:
        yield store


@pytest.fixture
async def deployment(store: DiskStore) -> AsyncIterator[Deployment]:
    async def run_analysis(request: web.Request) -> web.Response:
        echo = {**answer()["products"]["analysis_parameters"], **request.query}
        body = json_bytes(answer(products={"analysis_parameters": echo}))
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/run_analysis", run_analysis)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(listening(app, "127.0.0.1", 0))
        dispatcher = await stack.enter_async_context(Dispatcher(upstream))
        proxy = make_app(Proxy(store, dispatcher, Policy()))
        url = await stack.enter_async_context(listening(proxy, "127.0.0.1", 0))
        yield Deployment(url, await stack.enter_async_context(aiohttp.ClientSession()))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


async def test_a_full_disk(
    deployment: Deployment, store: DiskStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert [await deployment.request() for _ in range(3)] == [FAILED] * 3
    (warning,) = warnings(caplog)
    assert "No space left on device" in warning
    ((operation, message, count),) = await deployment.faults()
    assert (operation, count) == ("stored", 3)
    assert message in warning

    assert [await deployment.request() for _ in range(2)] == [STORED, HIT]
    assert await deployment.faults() == []
    assert warnings(caplog)[1:] == ["recordings can be stored again, after 3 failures"]


async def test_an_index_that_is_read_only(
    deployment: Deployment, store: DiskStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert await deployment.request() == STORED

    def refuse(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    index_of(store).set = refuse
    assert await deployment.request() == HIT, "reading still works"
    assert [await deployment.request(f"&RA={ra}") for ra in (1, 2, 3)] == [FAILED] * 3
    assert len(warnings(caplog)) == 1
    assert [fault[::2] for fault in await deployment.faults()] == [("stored", 3)]


async def test_an_index_that_is_overwritten_while_it_is_in_use(
    deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for ra in range(20):
        assert await deployment.request(f"&RA={ra}") == STORED
    database = tmp_path / "store" / "index" / "cache.db"
    for beside in database.parent.glob("cache.db*"):
        beside.write_bytes(b"\xa5" * beside.stat().st_size)

    statuses = [await deployment.request() for _ in range(12)]

    assert statuses[-1] == HIT, "the index was replaced"
    assert any("index.broken-1" in warning for warning in warnings(caplog))
    assert len(warnings(caplog)) <= 6
    assert await deployment.faults() == []


async def test_a_folder_that_vanishes_is_created_again(deployment: Deployment, tmp_path: Path) -> None:
    assert await deployment.request() == STORED
    (tmp_path / "store").rename(tmp_path / "elsewhere")

    assert [await deployment.request() for _ in range(2)] == [STORED, HIT]
    assert await deployment.faults() == []


async def test_a_damaged_recording_is_requested_again(deployment: Deployment, tmp_path: Path) -> None:
    assert await deployment.request() == STORED
    (head,) = [file for file in (tmp_path / "store" / "heads").rglob("*") if file.is_file()]
    head.write_bytes(head.read_bytes()[:-1])

    assert [await deployment.request() for _ in range(2)] == [STORED, HIT]


async def test_the_status_page_shows_the_usage(deployment: Deployment, store: DiskStore) -> None:
    await deployment.request()

    async with deployment.client.get(f"{deployment.url}/-/status") as response:
        shown = (await response.json())["store"]

    free = shown.pop("free")
    assert isinstance(free, int)
    assert shown == {"recordings": 1, "occupied": store.usage().occupied, "faults": []}
