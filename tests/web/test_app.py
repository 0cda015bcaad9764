"""The proxy over HTTP, with a dispatcher in this process."""

from __future__ import annotations

import asyncio
import gzip
import logging
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from oda_proxy.errors import ListenError
from oda_proxy.handlers.policy import Policy
from oda_proxy.proxy import Proxy
from oda_proxy.store.memory import MemoryStore
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.web import messages
from oda_proxy.web.app import make_app
from oda_proxy.web.server import listening
from tests.support.dispatcher_responses import SESSION, answer, json_bytes
from tests.support.scripted_upstream import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oda_proxy.http.message import Request

QUERY = "instrument=isgri&product_type=isgri_image&query_type=Real&api=True&query_status=new"
LARGE = 20_000_000


@dataclass
class Upstream:
    """A dispatcher that answers `run_analysis`, streams, breaks connections, and lists its requests."""

    asked: list[str] = field(default_factory=list)
    received: int = 0
    compresses: bool = False

    async def run_analysis(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.rel_url.raw_query_string}")
        if self.compresses:
            encoded = gzip.compress(json_bytes(answer()))
            return web.Response(body=encoded, content_type="application/json", headers={"Content-Encoding": "gzip"})
        return web.Response(body=json_bytes(answer()), content_type="application/json")

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):  # the client may disconnect
            for _ in range(LARGE // 100_000):
                await response.write(b"x" * 100_000)
        return response

    async def broken(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x")
        assert request.transport is not None
        request.transport.close()
        return response

    async def upload(self, request: web.Request) -> web.Response:
        async for chunk in request.content.iter_any():
            self.received += len(chunk)
        return web.json_response({"length": request.headers.get("Content-Length"), "received": self.received})


@dataclass(frozen=True)
class Setup:
    url: str
    upstream: Upstream
    client: aiohttp.ClientSession


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    upstream = Upstream()
    app = web.Application()
    app.router.add_route("*", "/run_analysis", upstream.run_analysis)
    app.router.add_get("/stream", upstream.stream)
    app.router.add_get("/broken", upstream.broken)
    app.router.add_post("/upload", upstream.upload)
    async with AsyncExitStack() as stack:
        dispatcher = await stack.enter_async_context(
            Dispatcher(await stack.enter_async_context(listening(app, "127.0.0.1", 0)))
        )
        proxy = Proxy(MemoryStore(), dispatcher, Policy())
        url = await stack.enter_async_context(listening(make_app(proxy), "127.0.0.1", 0))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        yield Setup(url, upstream, client)


async def test_a_query_is_sent_once_over_http(setup: Setup) -> None:
    told = []
    for session in (SESSION, "OTHERSESSION0000"):
        async with setup.client.get(f"{setup.url}/mmoda/run_analysis?{QUERY}&session_id={session}") as response:
            told.append((response.status, response.headers["Cache-Status"], (await response.json())["session_id"]))

    assert told == [
        (200, "oda-proxy; fwd=uri-miss; fwd-status=200; stored", SESSION),
        (200, "oda-proxy; hit", "OTHERSESSION0000"),
    ]
    assert len(setup.upstream.asked) == 1


async def test_what_the_dispatcher_compresses_unasked_is_stored_and_served_plain(setup: Setup) -> None:
    setup.upstream.compresses = True

    for expected in ("oda-proxy; fwd=uri-miss; fwd-status=200; stored", "oda-proxy; hit"):
        async with setup.client.get(f"{setup.url}/run_analysis?{QUERY}&session_id={SESSION}") as response:
            assert response.headers["Cache-Status"] == expected
            assert "Content-Encoding" not in response.headers
            assert (await response.json())["query_status"] == "done"


async def test_a_long_address_goes_through(setup: Setup) -> None:
    catalogue = "x" * 100_000

    async with setup.client.get(f"{setup.url}/run_analysis?{QUERY}&selected_catalog={catalogue}") as response:
        assert response.status == 200
    assert setup.upstream.asked[0].endswith(catalogue)


async def test_a_large_form_goes_through(setup: Setup) -> None:
    form = f"{QUERY}&session_id={SESSION}&selected_catalog={'x' * 2_000_000}"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    for expected in ("oda-proxy; fwd=uri-miss; fwd-status=200; stored", "oda-proxy; hit"):
        async with setup.client.post(
            f"{setup.url}/run_analysis", data=BytesIO(form.encode()), headers=headers
        ) as response:
            assert (response.status, response.headers["Cache-Status"]) == (200, expected)


async def test_a_form_beyond_the_limit_is_refused(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oda_proxy.web.app.MAX_FORM", 10)
    app = make_app(Proxy(MemoryStore(), None, Policy()))
    async with listening(app, "127.0.0.1", 0) as url, setup.client.post(url, data={"a": "x" * 100}) as response:
        assert (response.status, response.headers["Cache-Status"]) == (413, "oda-proxy")


async def test_a_large_body_streams_through(setup: Setup) -> None:
    async with setup.client.get(f"{setup.url}/stream") as response:
        assert len(await response.read()) == LARGE
        assert response.headers["Cache-Status"] == "oda-proxy; fwd=bypass; fwd-status=200"


async def test_a_client_does_not_wait_for_the_rest_of_a_body_that_ends_before_its_length() -> None:
    upstream = Script().then(b"short", headers=(("Content-Length", "1000"),))
    proxy = Proxy(MemoryStore(), upstream, Policy())

    async with listening(make_app(proxy), "127.0.0.1", 0) as url, aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientPayloadError):
            async with client.get(f"{url}/download_file", timeout=aiohttp.ClientTimeout(total=20)) as response:
                await response.read()


async def test_a_body_that_breaks_off_upstream_breaks_off_at_the_client(setup: Setup) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        async with setup.client.get(f"{setup.url}/broken") as response:
            await response.read()


async def test_a_client_that_disconnects_is_no_error(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        async with setup.client.get(f"{setup.url}/stream") as response:
            await response.content.read(10)
            response.close()
    async with setup.client.get(f"{setup.url}/-/livez") as response:
        assert response.status == 200

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_client_that_disconnects_within_a_form_is_no_error(
    setup: Setup, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_read = asyncio.Event()

    async def read(*arguments: Any) -> Request:
        try:
            return await messages.read(*arguments)
        finally:
            is_read.set()

    monkeypatch.setattr("oda_proxy.web.app.read", read)
    url = URL(setup.url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    kind = "Content-Type: application/x-www-form-urlencoded"
    writer.write(f"POST /run_analysis HTTP/1.1\r\nHost: h\r\n{kind}\r\nContent-Length: 100\r\n\r\na=1".encode())
    await writer.drain()
    writer.close()
    await is_read.wait()

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_upload_streams_through(setup: Setup) -> None:
    async with setup.client.post(f"{setup.url}/upload", data=BytesIO(b"x" * LARGE)) as response:
        assert await response.json() == {"length": str(LARGE), "received": LARGE}


async def test_an_upload_of_unknown_length_streams_through(setup: Setup) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async with setup.client.post(f"{setup.url}/upload", data=pieces()) as response:
        assert await response.json() == {"length": None, "received": 6}


async def test_head_has_no_body(setup: Setup) -> None:
    async with setup.client.head(f"{setup.url}/run_analysis?{QUERY}") as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == str(len(json_bytes(answer())))


@pytest.mark.parametrize(
    "path", ["/run_analysis", "/call_back", "/a/../b", "/-/status", "/-/nothing", "/stream", "/no"]
)
async def test_every_answer_has_a_cache_status(setup: Setup, path: str) -> None:
    async with setup.client.get(setup.url + path) as response:
        assert response.headers["Cache-Status"].startswith("oda-proxy")


async def test_the_status_page_counts(setup: Setup) -> None:
    for _ in range(3):
        async with setup.client.get(f"{setup.url}/run_analysis?{QUERY}&session_id={SESSION}"):
            pass

    async with setup.client.get(f"{setup.url}/-/status") as response:
        told = await response.json()

    assert told["run_analysis"] == {
        "hits": 2,
        "asked": 1,
        "failed": 0,
        "kept": 1,
        "jobs": 1,
        "joined": 0,
        "echo_differs": 0,
        "job_ids_shared": 0,
        "unsafe": {},
    }


async def test_no_token_reaches_the_log(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for path in ("/run_analysis", "/no-such-path", "/broken", "/api/instr-list"):
        try:
            async with setup.client.get(f"{setup.url}{path}?{QUERY}&token=CANARY&session_id=CANARY") as response:
                await response.read()
        except aiohttp.ClientPayloadError:
            pass
    async with setup.client.post(f"{setup.url}/run_analysis", data={"token": "CANARY"}) as response:
        await response.read()

    assert "/run_analysis" in caplog.text
    assert "CANARY" not in caplog.text


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/mmoda/run_analysis", "/mmoda/run_analysis"),
        ("/api/meta-data", "/api/meta-data"),
        ("/x%3Ftoken=CANARY", "/..."),
        ("/token=CANARY", "/..."),
        ("/a/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.CANARY", "/a/..."),
        ("/a%20CANARY", "/..."),
    ],
)
async def test_a_token_in_a_path_is_not_logged(
    setup: Setup, caplog: pytest.LogCaptureFixture, path: str, logged: str
) -> None:
    caplog.set_level(logging.DEBUG)

    async with setup.client.get(URL(f"{setup.url}{path}", encoded=True)) as response:
        await response.read()

    assert f"GET {logged} {response.status}" in caplog.text
    assert "CANARY" not in caplog.text


async def test_a_port_in_use_is_named(setup: Setup) -> None:
    port = int(setup.url.rpartition(":")[2])

    with pytest.raises(ListenError, match=rf"port {port}: the port is in use"):
        async with listening(web.Application(), "127.0.0.1", port):
            pass


async def test_a_malformed_request_is_not_logged(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    host, port = setup.url.removeprefix("http://").split(":")
    for request in (
        b"GET /run_analysis?token=SECRET HTTP/9.9 x\r\n\r\n",
        b"GET /x\r\nX: SECRET\x00\r\n\r\n",
        b"SECRET\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        assert b"400 Bad Request" in await reader.read(1000)
        writer.close()

    assert "SECRET" not in caplog.text


async def test_a_compressed_upload_is_relayed_unchanged(setup: Setup) -> None:
    packed = gzip.compress(b"x" * 100_000)

    async with setup.client.post(f"{setup.url}/upload", data=packed, headers={"Content-Encoding": "gzip"}) as response:
        assert (await response.json())["received"] == len(packed)


async def raw(url: str, request: str) -> str:
    """Send the text of a request, which closes its connection, and return the response."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.encode())
    response = await reader.read()
    writer.close()
    return response.decode()


@pytest.mark.parametrize("target", ["/-/livez", "/%2D/livez", "/%2d/live%7A", "http://example.org/-/livez"])
async def test_an_own_page_is_found_however_its_address_is_written(setup: Setup, target: str) -> None:
    response = await raw(setup.url, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert response.startswith("HTTP/1.1 200 OK")
    assert response.endswith("ok\n")


@pytest.mark.parametrize("target", ["/x-/livez", "//-/livez", "/x/../-/livez"])
async def test_no_other_address_is_an_own_page(setup: Setup, target: str) -> None:
    response = await raw(setup.url, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert response.startswith("HTTP/1.1 404 Not Found")


async def test_a_request_that_expects_100_continue_gets_it_before_the_answer(setup: Setup) -> None:
    head = "POST /upload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"

    response = await raw(setup.url, f"{head}abc")

    assert response.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    assert '"received": 3' in response


async def test_an_unknown_expectation_fails(setup: Setup) -> None:
    response = await raw(setup.url, "GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: wonders\r\n\r\n")

    assert response.startswith("HTTP/1.1 417 Expectation Failed")


async def test_a_request_without_a_body_is_not_routed_by_aiohttp(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohttp.web_urldispatcher.UrlDispatcher.resolve", None)  # cannot be called

    async with setup.client.get(f"{setup.url}/call_back") as response:
        assert (response.status, response.headers["Cache-Status"]) == (403, "oda-proxy; detail=closed-route")
