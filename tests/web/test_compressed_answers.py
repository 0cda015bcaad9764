"""Recordings are sent compressed to clients on other machines that accept it."""

from __future__ import annotations

import gzip
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from oda_proxy.handlers.policy import Compress, Policy
from oda_proxy.proxy import Proxy
from oda_proxy.query.cache_key import key_of
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.store.memory import MemoryStore
from oda_proxy.web.app import make_app
from oda_proxy.web.messages import read
from oda_proxy.web.server import listening
from tests.support.recordings import recording

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FIELDS = {"instrument": "isgri", "product_type": "isgri_image", "query_type": "Real", "api": "True", "RA": "83"}
TARGET = f"/run_analysis?{urlencode({**FIELDS, 'query_status': 'new', 'session_id': 'ABC'})}"
TEXT = b'"numpy_data_product_list":["%b"]' % b"".join(b"an image %d, " % number**2 for number in range(3000))


class Deployment:
    """A proxy over a recording, and a client that decodes nothing."""

    def __init__(self, proxy: Proxy, url: str, client: aiohttp.ClientSession) -> None:
        self.proxy, self.url, self.client = proxy, url, client

    async def request(self, accepted: str | None = "gzip", method: str = "GET") -> tuple[Any, bytes]:
        """Request the recording; return the headers and the body as sent."""
        headers = {} if accepted is None else {"Accept-Encoding": accepted}
        skipped = ["Accept-Encoding"] if accepted is None else []
        url = f"{self.url}{TARGET}"
        async with self.client.request(method, url, headers=headers, skip_auto_headers=skipped) as response:
            body = await response.read()
        assert response.headers["Cache-Status"] == "oda-proxy; hit"
        assert response.headers["Content-Length"] == str(len(body))
        return response.headers, body

    async def heat(self, *codings: str) -> None:
        """Have compressed heads made."""
        for coding in codings:
            await self.request(coding)
        self.proxy._cache._compression.wait()


@asynccontextmanager
async def deployed(compress: Compress, text: bytes = TEXT, **policy: Any) -> AsyncIterator[Deployment]:
    store = MemoryStore()
    query, _ = split_query(parse_fields(urlencode(FIELDS)))
    store.put(recording(key_of(query), text, query=query))
    proxy = Proxy(store, None, Policy(compress=compress, **policy))
    async with (
        listening(make_app(proxy), "127.0.0.1", 0) as url,
        aiohttp.ClientSession(auto_decompress=False) as client,
    ):
        yield Deployment(proxy, url, client)
    await proxy.close()


async def test_a_client_that_accepts_gzip_gets_it_once_it_is_made() -> None:
    async with deployed(Compress.ALWAYS) as deployment:
        headers, plain = await deployment.request()
        assert "Content-Encoding" not in headers
        assert headers.getall("Vary") == ["Accept-Encoding, accept-datetime"], "the next answer may differ"
        await deployment.heat("gzip")
        headers, body = await deployment.request()

        assert headers["Content-Encoding"] == "gzip"
        assert headers.getall("Vary") == ["Accept-Encoding, accept-datetime"]
        assert headers["Content-Type"] == "application/json"
        assert len(body) < len(plain) / 2
        assert {**json.loads(gzip.decompress(body)), "time_request": 0} == {**json.loads(plain), "time_request": 0}


@pytest.mark.parametrize("accepted", ["identity", "br", "gzip;q=0", None])
async def test_a_client_that_does_not_accept_it_gets_none(accepted: str | None) -> None:
    async with deployed(Compress.ALWAYS) as deployment:
        await deployment.heat("gzip", "zstd")
        headers, body = await deployment.request(accepted)

    assert "Content-Encoding" not in headers
    assert headers["Vary"] == "Accept-Encoding, accept-datetime"
    assert json.loads(body)["query_status"] == "done"


@pytest.mark.parametrize("compress", [Compress.AUTO, Compress.NEVER])
async def test_a_client_on_this_machine_gets_none(compress: Compress) -> None:
    async with deployed(compress) as deployment:
        await deployment.heat("gzip")
        headers, _ = await deployment.request()

    assert "Content-Encoding" not in headers
    assert headers["Vary"] == "accept-datetime"


async def test_a_small_answer_is_not_compressed() -> None:
    async with deployed(Compress.ALWAYS, b'"catalog":{}') as deployment:
        await deployment.heat("gzip")

        assert "Content-Encoding" not in (await deployment.request())[0]


async def test_compressed_heads_count_as_memory_and_leave_it_with_their_recordings() -> None:
    async with deployed(Compress.ALWAYS) as deployment:
        tier = deployment.proxy._cache._hot_tier
        await deployment.request("identity")
        used = tier.used
        await deployment.heat("gzip", "zstd")
        assert used + 5000 < tier.used < used + len(TEXT)

        store = deployment.proxy.store
        (key,) = store.keys()
        store.put(recording(key, TEXT.replace(b"an image", b"a better")))
        _, body = await deployment.request("identity")
        assert b"a better" in body, "the other one is not sent"
        assert tier.used < used + 5000
        await deployment.heat("gzip")
        assert b"a better" in gzip.decompress((await deployment.request())[1])


async def test_a_head_that_cannot_be_compressed_is_sent_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("oda_proxy.store.compression.compress", mock.Mock(side_effect=MemoryError))
    async with deployed(Compress.ALWAYS) as deployment:
        for _ in range(2):
            await deployment.heat("gzip")
            assert "Content-Encoding" not in (await deployment.request())[0]

    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert message.endswith("with gzip: MemoryError()")


async def test_without_memory_nothing_is_compressed() -> None:
    async with deployed(Compress.ALWAYS, memory=0) as deployment:
        await deployment.heat("gzip")

        assert "Content-Encoding" not in (await deployment.request())[0]


@pytest.mark.parametrize(
    ("peer", "own", "is_remote"),
    [
        (("192.0.2.7", 1), ("192.0.2.1", 2), True),
        (("2001:db8::7", 1, 0, 0), ("2001:db8::1", 2, 0, 0), True),
        (("127.0.0.1", 1), ("127.0.0.1", 2), False),
        (("127.0.0.2", 1), ("127.0.0.1", 2), False),
        (("::1", 1, 0, 0), ("::1", 2, 0, 0), False),
        (("::ffff:127.0.0.1", 1, 0, 0), ("::ffff:127.0.0.1", 2, 0, 0), False),
        (("192.0.2.1", 1), ("192.0.2.1", 2), False),
        ("", "/run/proxy", False),
        (None, None, False),
    ],
)
async def test_a_client_is_remote_if_its_address_is_not_of_this_machine(peer: Any, own: Any, is_remote: bool) -> None:
    transport = mock.Mock(get_extra_info={"peername": peer, "sockname": own, "sslcontext": None}.get)
    incoming = make_mocked_request("GET", TARGET, headers={"Accept-Encoding": "gzip"}, transport=transport)

    assert (await read(incoming, TARGET)).is_remote is is_remote
