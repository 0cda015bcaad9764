"""Asking a dispatcher over HTTP, against a server in this process."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from oda_proxy.errors import UpstreamSlowError, UpstreamUnreachableError
from oda_proxy.http.message import Request
from oda_proxy.upstream.dispatcher import Dispatcher, DispatcherReply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def whole(reply: DispatcherReply) -> bytes:
    return b"".join([piece async for piece in reply.body])


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Serve a handler, and give the address."""
    servers = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return str(server.make_url("")).rstrip("/")

    yield start
    for server in servers:
        await server.close()


async def test_a_request_arrives_as_it_was_asked(serve: Callable[[Handler], Awaitable[str]]) -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        return web.Response()

    url = await serve(handler)
    async with Dispatcher(f"{url}/dispatch-data/") as dispatcher:
        ask = Request("POST", "/run_analysis", "T1=27%3A40&a=%2C+%00&a=b", (("X-One", "1"), ("Accept", "*/*")), b"form")
        await whole(await dispatcher.send(ask))

    ((method, path, headers, body),) = seen
    assert (method, path, body) == ("POST", "/dispatch-data/run_analysis?T1=27%3A40&a=%2C+%00&a=b", b"form")
    assert set(headers) == {"Host", "X-One", "Accept", "Content-Length"}


async def test_a_reply_is_given_as_it_came(serve: Callable[[Handler], Awaitable[str]]) -> None:
    async def handler(_: web.Request) -> web.Response:
        headers = {"Location": "/elsewhere", "Content-Encoding": "gzip", "Set-Cookie": "a=1"}
        return web.Response(status=302, headers=headers, body=b"no gzip")

    async with Dispatcher(await serve(handler)) as dispatcher:
        reply = await dispatcher.send(Request("GET", "/download_file"))

        assert (reply.status, await whole(reply)) == (302, b"no gzip")
        assert ("Location", "/elsewhere") in reply.headers


async def test_no_cookie_of_one_client_goes_with_the_request_of_another(
    serve: Callable[[Handler], Awaitable[str]],
) -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        return web.Response(headers={"Set-Cookie": "session=1"})

    async with Dispatcher(await serve(handler)) as dispatcher:
        for _ in range(2):
            await whole(await dispatcher.send(Request("GET", "/")))

    assert seen == [None, None]


async def test_a_body_that_ends_too_early_is_noticed(serve: Callable[[Handler], Awaitable[str]]) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"short")
        assert request.transport is not None
        request.transport.close()
        return response

    url = await serve(handler)
    async with Dispatcher(url) as dispatcher:
        reply = await dispatcher.send(Request("GET", "/", "token=secret"))
        with pytest.raises(UpstreamUnreachableError, match="the connection broke") as raised:
            await whole(reply)

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(("read_timeout", "patience"), [(0.01, None), (60.0, 0.05)])
async def test_a_dispatcher_that_is_there_and_does_not_answer_in_time_is_slow(
    serve: Callable[[Handler], Awaitable[str]], read_timeout: float, patience: float | None
) -> None:
    never = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with Dispatcher(await serve(handler), read_timeout=read_timeout) as dispatcher:
        with pytest.raises(UpstreamSlowError, match="no answer in time"):
            await dispatcher.send(Request("GET", "/", timeout=patience))
    never.set()


@pytest.fixture
def unconnected() -> Iterator[str]:
    """Give the address of somebody who takes no connections, and has no room for more that wait."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for one in waiting:
            one.close()


@pytest.mark.parametrize(("connect_timeout", "patience"), [(0.01, None), (60.0, 0.05)])
async def test_a_dispatcher_that_takes_no_connection_in_time_is_not_just_slow(
    unconnected: str, connect_timeout: float, patience: float | None
) -> None:
    async with Dispatcher(unconnected, connect_timeout=connect_timeout) as dispatcher:
        with pytest.raises(UpstreamUnreachableError, match="no connection in time") as raised:
            await dispatcher.send(Request("GET", "/", timeout=patience))

    assert not isinstance(raised.value, UpstreamSlowError)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1", "Connection refused"),
        ("http://no-such-host.invalid", "."),
        ("http://", "no address"),
    ],
)
async def test_where_nobody_is_the_error_says_so(url: str, reason: str) -> None:
    async with Dispatcher(url) as dispatcher:
        with pytest.raises(UpstreamUnreachableError, match=reason):
            await dispatcher.send(Request("GET", "/"))


async def test_the_connection_of_a_reply_that_nobody_reads_is_closed(
    serve: Callable[[Handler], Awaitable[str]],
) -> None:
    closed = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        finally:
            closed.set()

    async with Dispatcher(await serve(handler)) as dispatcher:
        await (await dispatcher.send(Request("GET", "/"))).body.aclose()
        await closed.wait()


@dataclass
class Dropping:
    """A server that answers the first request of each connection, and drops the connection once it read another."""

    answered: int = 1
    read: list[str] = field(default_factory=list)
    url: str = ""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            for _ in range(self.answered):
                await self.request(reader)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await self.request(reader)
        writer.close()

    async def request(self, reader: asyncio.StreamReader) -> None:
        self.read.append((await reader.readuntil(b"\r\n\r\n")).decode().partition(" HTTP")[0])


@asynccontextmanager
async def dropping(*, answered: int) -> AsyncIterator[Dropping]:
    server = Dropping(answered)
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    server.url = "http://127.0.0.1:{1}".format(*listening.sockets[0].getsockname())
    yield server
    listening.close()
    await listening.wait_closed()


REPEATED = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"]


@pytest.mark.parametrize("method", [*REPEATED, "POST", "PATCH"])
async def test_what_must_be_sent_once_is_read_once_where_the_connection_breaks(method: str) -> None:
    async with dropping(answered=0) as server, Dispatcher(server.url) as dispatcher:
        with pytest.raises(UpstreamUnreachableError, match="the connection broke"):
            await dispatcher.send(Request(method, "/refresh_token", at_most_once=True))

    assert server.read == [f"{method} /refresh_token"]


async def test_what_must_be_sent_once_does_not_meet_a_connection_that_was_kept_and_is_dead() -> None:
    async with dropping(answered=1) as server, Dispatcher(server.url) as dispatcher:
        await whole(await dispatcher.send(Request("GET", "/kept")))
        for _ in range(2):
            assert (await dispatcher.send(Request("GET", "/refresh_token", at_most_once=True))).status == 200

    assert server.read == ["GET /kept", "GET /refresh_token", "GET /refresh_token"]


async def test_what_may_be_repeated_is_where_a_connection_that_was_kept_is_dead() -> None:
    """The danger that `once` is there for."""
    async with dropping(answered=1) as server, Dispatcher(server.url) as dispatcher:
        await whole(await dispatcher.send(Request("GET", "/1")))
        await whole(await dispatcher.send(Request("GET", "/2")))

    assert server.read == ["GET /1", "GET /2", "GET /2"]


async def test_what_must_be_sent_once_says_why_nobody_was_reached() -> None:
    async with Dispatcher("http://127.0.0.1:1") as dispatcher:
        with pytest.raises(UpstreamUnreachableError, match="Connection refused"):
            await dispatcher.send(Request("GET", "/", at_most_once=True))
