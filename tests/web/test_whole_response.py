"""Answers in memory are sent in one write, with the headers that aiohttp would send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from unittest import mock

import aiohttp
import pytest
from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.test_utils import make_mocked_request

from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.web.messages import send
from oda_proxy.web.server import listening
from oda_proxy.web.whole_response import SMALL, WholeResponse, send_whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from oda_proxy.http.message import Headers

JSON = (("Content-Type", "application/json"), ("Age", "7"))
HIT = CacheStatus(hit=True)


def whole(*body: bytes, status: int = 200, headers: Headers = JSON) -> Answer:
    return Answer(status, (*headers, ("Content-Length", str(sum(map(len, body))))), body, HIT)


def incoming(method: str = "GET", **settings: Any) -> tuple[web.Request, list[bytes]]:
    """Return a request, and the list of all writes of its response."""
    writes: list[bytes] = []

    async def write(chunk: bytes) -> None:
        writes.append(chunk)

    writer = mock.Mock(write=write, drain=mock.AsyncMock())
    return make_mocked_request(method, "/run_analysis", writer=writer, **settings), writes


async def test_a_small_answer_is_one_write() -> None:
    request, writes = incoming()

    response = await send(whole(b"one ", b"two"), request)

    assert isinstance(response, WholeResponse)
    (write,) = writes
    head, _, body = write.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nAge: 7\r\nContent-Length: 7\r\n")
    assert b"\r\nCache-Status: oda-proxy; hit\r\n" in head
    assert body == b"one two"


async def test_a_large_answer_is_not_copied() -> None:
    request, writes = incoming()
    large = bytes(SMALL + 1)

    await send(whole(b"x", large), request)

    assert writes[1:] == [b"x", large]
    assert writes[2] is large


@pytest.mark.parametrize(
    ("answer", "settings"),
    [
        (whole(b"x"), {"method": "HEAD"}),
        (whole(b"x"), {"version": HttpVersion10}),
        (whole(status=204), {}),
        (whole(status=304), {}),
        (Answer(200, JSON, (b"x",), HIT), {}),
        (Answer(200, (*JSON, ("Content-Length", "2")), (b"x",), HIT), {}),
        (whole(b"x", headers=()), {}),
        (whole(b"x", headers=(*JSON, ("Connection", "close"))), {}),
        (whole(b"x", headers=(*JSON, ("Date", "yesterday"))), {}),
        (whole(b"x", headers=(*JSON, ("X", "y\r\nSet-Cookie: z"))), {}),
        (whole(b"x", headers=(*JSON, ("X\r\nSet-Cookie", "z"))), {}),
    ],
)
async def test_everything_else_is_left_to_aiohttp(answer: Answer, settings: dict[str, Any]) -> None:
    request, writes = incoming(**{"version": HttpVersion11, **settings})

    assert await send_whole(answer, request, "oda-proxy") is None
    assert writes == []


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Answer], Awaitable[str]]]:
    """Return a function that serves one answer, also as aiohttp sends it, below `/aiohttp`; it returns the address."""
    runs = []

    async def start(answer: Answer) -> str:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await send(answer, request)

        async def by_aiohttp(_: web.Request) -> web.StreamResponse:
            body = b"".join(answer.body) if isinstance(answer.body, tuple) else b""
            headers = [*answer.headers, ("Cache-Status", str(answer.cache_status))]
            return web.Response(status=answer.status, headers=dict(headers), body=body)

        app = web.Application()
        app.router.add_get("/", handle)
        app.router.add_get("/aiohttp", by_aiohttp)
        runs.append(listening(app, "127.0.0.1", 0))
        return await runs[-1].__aenter__()

    yield start
    for run in runs:
        await run.__aexit__(None, None, None)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize("status", [200, 404, 503, 299])
async def test_a_client_receives_what_aiohttp_sends(
    serve: Callable[[Answer], Awaitable[str]], status: int, connection: str
) -> None:
    url = await serve(whole(b"one", status=status))
    received = []
    async with aiohttp.ClientSession(headers={"Connection": connection}) as client:
        for path in ("/", "/aiohttp"):
            async with client.get(url + path) as response:
                headers = {name: value for name, value in response.headers.items() if name != "Date"}
                assert response.headers["Date"].endswith(" GMT")
                received.append((response.status, response.reason, headers, await response.read()))

    assert received[0] == received[1]


async def test_pipelined_requests_are_answered_in_order(serve: Callable[[Answer], Awaitable[str]]) -> None:
    url = await serve(whole(b"one"))
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"GET / HTTP/1.0\r\n\r\n")
    received = await reader.read()
    writer.close()

    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.count(b"HTTP/1.0 200 OK") == 1
    assert received.count(b"\r\n\r\none") == 3


async def test_a_client_that_disconnects_is_no_error(
    serve: Callable[[Answer], Awaitable[str]], caplog: pytest.LogCaptureFixture
) -> None:
    url = await serve(whole(*[bytes(256 * 1024)] * 200))
    host, port = url.removeprefix("http://").split(":")
    for _ in range(3):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readexactly(10)
        writer.transport.abort()
    async with aiohttp.ClientSession() as client, client.get(f"{url}/aiohttp") as response:
        assert response.status == 200

    assert [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"] == []
