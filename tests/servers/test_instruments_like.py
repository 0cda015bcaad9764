"""`oda-proxy mock --like`: descriptions from a running dispatcher, and from those stored with recordings."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from mock_server.app import make_app
from mock_server.settings import MockSettings
from oda_proxy.errors import OdaProxyError
from oda_proxy.fixture.description_folder import write_descriptions
from oda_proxy.fixture.meta_data import read_instrument
from oda_proxy.servers.instruments_like import NoDescriptionsError, instruments_like
from tests.support import mock_fixtures
from tests.support.paths import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


SAMPLES: Final = CHECKOUT / "tests" / "support" / "samples"


@pytest.fixture
async def dispatcher() -> AsyncIterator[TestServer]:
    server = TestServer(make_app(MockSettings(dummy_instruments=True)))
    await server.start_server()
    yield server
    await server.close()


async def descriptions(app: web.Application, *names: str) -> list[str]:
    async with TestServer(app) as server, ClientSession() as session:
        return [
            await (await session.get(server.make_url(f"/{route}?instrument={name}"))).text()
            for name in names
            for route in ("api/meta-data", "api/par-names", "meta-data-src")
        ]


async def test_the_descriptions_of_a_dispatcher_are_served_byte_for_byte_from_the_files_that_were_written(
    dispatcher: TestServer, tmp_path: Path
) -> None:
    instruments = await instruments_like(str(dispatcher.make_url("/dispatch-data")))
    names = [instrument.name for instrument in instruments]
    assert names[:2] == ["empty", "empty-async"]
    assert {"empty-with-posix-path", "isgri", "spi_acs"} <= set(names)
    await asyncio.to_thread(write_descriptions, tmp_path, instruments)
    served = await descriptions(make_app(MockSettings(descriptions=(tmp_path,))), *names)
    assert served == await descriptions(make_app(MockSettings(dummy_instruments=True)), *names)


async def test_an_address_that_lists_no_instruments_is_an_error(dispatcher: TestServer) -> None:
    with pytest.raises(NoDescriptionsError, match="/dispatch-data"):
        await instruments_like(str(dispatcher.make_url("/-/jobs")))


def described(name: str) -> list[Any]:
    source = [{"query_name": "src_query"}, {"name": "RA", "units": "deg", "value": 1.0}]
    return [[{"instrumet": name}, {"prod_dict": {"p": "p_query"}}, source, [{"query_name": "p_query"}]]]


@pytest.fixture
async def start() -> AsyncIterator[Callable[[list[Any]], Awaitable[str]]]:
    """Return a function that starts a dispatcher with a list of instruments, not all of which it describes."""
    servers = []

    async def respond(request: web.Request) -> web.StreamResponse:
        name = request.query["instrument"]
        if request.path == "/instr-list":
            return web.json_response(names)
        if request.path.endswith("par-names"):
            return web.json_response(["RA"])
        if name == "broken":
            return web.Response(status=500, text="<html>")
        return web.json_response(described("another" if name == "other" else name))

    async def started(listed: list[Any]) -> str:
        names.extend(listed)
        app = web.Application()
        app.router.add_get("/{path:.*}", respond)
        servers.append(TestServer(app))
        await servers[0].start_server()
        return str(servers[0].make_url("/")).rstrip("/")

    names: list[Any] = []
    yield started
    for server in servers:
        await server.close()


async def test_instruments_that_a_dispatcher_does_not_describe_are_left_out_with_a_warning(
    start: Callable[[list[Any]], Awaitable[str]], caplog: pytest.LogCaptureFixture
) -> None:
    instruments = await instruments_like(await start(["isgri", "broken", "other", "../up", "a b"]))
    assert [instrument.name for instrument in instruments] == ["isgri"]
    left_out = [record.getMessage().partition("the instrument ")[2] for record in caplog.records]
    assert [text.partition(":")[0] for text in left_out] == [
        f"'{name}' is left out" for name in ("../up", "a b", "broken", "other")
    ]
    assert left_out[2].endswith("answers 500 about it")
    assert left_out[3].endswith("describes 'another' instead")


async def test_a_dispatcher_that_describes_none_of_its_instruments_is_an_error(
    start: Callable[[list[Any]], Awaitable[str]],
) -> None:
    with pytest.raises(NoDescriptionsError, match="describes no instrument"):
        await instruments_like(await start(["broken"]))


async def test_more_instruments_than_are_read_are_an_error(start: Callable[[list[Any]], Awaitable[str]]) -> None:
    with pytest.raises(NoDescriptionsError, match="lists 1001 instruments, more than 1000"):
        await instruments_like(await start(list(range(1001))))


async def test_a_response_that_does_not_end_is_an_error(
    start: Callable[[list[Any]], Awaitable[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oda_proxy.servers.instruments_like._LONGEST", 0.0)
    with pytest.raises(NoDescriptionsError, match=r"/instr-list\S* was not read within 0 s"):
        await instruments_like(await start(["isgri"]))


def test_a_mock_starts_with_a_description_that_lacks_products_of_shipped_fixtures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_descriptions(tmp_path, [read_instrument(json.dumps(described("isgri")))])
    make_app(MockSettings(descriptions=(tmp_path,)))
    assert "is never served: the description has no product isgri_image" in caplog.text


async def test_a_dispatcher_that_cannot_be_reached_is_an_error(unused_tcp_port: int) -> None:
    with pytest.raises(OdaProxyError):
        await instruments_like(f"http://127.0.0.1:{unused_tcp_port}")


async def test_the_newest_stored_description_is_taken_with_the_outputs_of_recordings(tmp_path: Path) -> None:
    texts = await descriptions(
        make_app(MockSettings(fixtures=(mock_fixtures.write_folder(tmp_path / "one"),))), "isgri"
    )
    stored = {"format": 1, "instrument": "isgri", "meta_data": [texts[0], "an older one"]}
    (tmp_path / "one" / "descriptions").mkdir()
    (tmp_path / "one" / "descriptions" / "isgri.json").write_text(json.dumps(stored))
    (isgri,) = await instruments_like(str(tmp_path))
    image = next(query for query in isgri.queries if query.product_name == "isgri_image")
    assert image.outputs is not None
    assert not image.synchronous
    light_curve = next(query for query in isgri.queries if query.product_name == "isgri_lc")
    assert light_curve.outputs is None  # its only recording failed


async def test_a_source_that_is_neither_an_address_nor_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OdaProxyError, match="existing folder"):
        await instruments_like(str(tmp_path / "nowhere"))


async def test_a_folder_without_descriptions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoDescriptionsError, match="no descriptions"):
        await instruments_like(str(tmp_path))


async def test_a_capsule_describes_its_instruments() -> None:
    (isgri,) = await instruments_like(str(SAMPLES / "capsule-2"))
    assert isgri.name == "isgri"
