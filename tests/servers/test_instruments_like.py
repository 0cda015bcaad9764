"""`oda-proxy mock --like`: descriptions from a running dispatcher, and from those stored with recordings."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from mock_server.app import make_app
from mock_server.settings import MockSettings
from oda_proxy.errors import OdaProxyError
from oda_proxy.fixture.description_folder import write_descriptions
from oda_proxy.servers.instruments_like import NoDescriptionsError, instruments_like
from tests.support import mock_fixtures
from tests.support.paths import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import web


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
