"""Requests to a dispatcher over HTTP, against a server in this process."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import socket
import zlib
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from oda_proxy.errors import LocalLimitError, RequestIncompleteError, UpstreamSlowError, UpstreamUnreachableError
from oda_proxy.http.message import Request
from oda_proxy.upstream.dispatcher import Dispatcher, DispatcherReply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def read(reply: DispatcherReply) -> bytes:
    return b"".join([chunk async for chunk in reply.body])


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Return a function that serves a handler and returns its URL."""
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


async def test_a_request_arrives_unchanged(serve: Callable[[Handler], Awaitable[str]]) -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        return web.Response()

    url = await serve(handler)
    async with Dispatcher(f"{url}/dispatch-data/") as dispatcher:
        request = Request(
            "POST", "/run_analysis", "T1=27%3A40&a=%2C+%00&a=b", (("X-One", "1"), ("Accept", "*/*")), b"form"
        )
        await read(await dispatcher.send(request))

    ((method, path, headers, body),) = seen
    assert (method, path, body) == ("POST", "/dispatch-data/run_analysis?T1=27%3A40&a=%2C+%00&a=b", b"form")
    assert set(headers) == {"Host", "X-One", "Accept", "Content-Length"}


async def test_a_reply_is_returned_unchanged(serve: Callable[[Handler], Awaitable[str]]) -> None:
    async def handler(_: web.Request) -> web.Response:
        headers = {"Location": "/elsewhere", "Content-Encoding": "gzip", "Set-Cookie": "a=1"}
        return web.Response(status=302, headers=headers, body=b"no gzip")

    async with Dispatcher(await serve(handler)) as dispatcher:
        reply = await dispatcher.send(Request("GET", "/download_file"))

        assert (reply.status, await read(reply)) == (302, b"no gzip")
        assert ("Location", "/elsewhere") in reply.headers


async def test_no_cookie_of_one_client_is_sent_with_the_request_of_another(
    serve: Callable[[Handler], Awaitable[str]],
) -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        return web.Response(headers={"Set-Cookie": "session=1"})

    async with Dispatcher(await serve(handler)) as dispatcher:
        for _ in range(2):
            await read(await dispatcher.send(Request("GET", "/")))

    assert seen == [None, None]


async def test_a_body_that_ends_too_early_is_an_error(serve: Callable[[Handler], Awaitable[str]]) -> None:
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
            await read(reply)

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("at_most_once", [False, True])
async def test_a_client_that_does_not_send_its_whole_request_is_no_failure_of_the_dispatcher(
    serve: Callable[[Handler], Awaitable[str]], *, at_most_once: bool
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def cut_off() -> AsyncIterator[bytes]:
        yield b"the begin"
        raise ConnectionResetError("Connection lost")

    url = await serve(handler)
    async with Dispatcher(url) as dispatcher:
        with pytest.raises(RequestIncompleteError):
            await dispatcher.send(Request("POST", "/upload", body=cut_off(), at_most_once=at_most_once))


@pytest.mark.parametrize(("read_timeout", "request_timeout"), [(0.01, None), (60.0, 0.05)])
async def test_a_dispatcher_that_does_not_respond_in_time_is_slow(
    serve: Callable[[Handler], Awaitable[str]], read_timeout: float, request_timeout: float | None
) -> None:
    never = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with Dispatcher(await serve(handler), read_timeout=read_timeout) as dispatcher:
        with pytest.raises(UpstreamSlowError, match="no response in time"):
            await dispatcher.send(Request("GET", "/", timeout=request_timeout))
    never.set()


@pytest.fixture
def unconnected() -> Iterator[str]:
    """Return the URL of a listener that accepts no connections, and whose backlog is full."""
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


@pytest.mark.parametrize(("connect_timeout", "request_timeout"), [(0.01, None), (60.0, 0.05)])
async def test_a_dispatcher_that_accepts_no_connection_in_time_is_unreachable(
    unconnected: str, connect_timeout: float, request_timeout: float | None
) -> None:
    async with Dispatcher(unconnected, connect_timeout=connect_timeout) as dispatcher:
        with pytest.raises(UpstreamUnreachableError, match="no connection in time") as raised:
            await dispatcher.send(Request("GET", "/", timeout=request_timeout))

    assert not isinstance(raised.value, UpstreamSlowError)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1", "Connection refused"),
        ("http://no-such-host.invalid", "."),
        ("http://", "not the URL"),
    ],
)
async def test_the_error_names_the_reason_of_a_failed_connection(url: str, reason: str) -> None:
    async with Dispatcher(url) as dispatcher:
        with pytest.raises(UpstreamUnreachableError, match=reason):
            await dispatcher.send(Request("GET", "/"))


async def test_too_many_open_files_are_no_failure_of_the_dispatcher(
    serve: Callable[[Handler], Awaitable[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with Dispatcher(await serve(handler)) as dispatcher:
        monkeypatch.setattr(socket, "socket", full)
        with pytest.raises(LocalLimitError, match="Too many open files"):
            await dispatcher.send(Request("GET", "/"))


async def test_the_connection_of_an_unread_reply_is_closed(
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
    """A server that responds to the first requests of a connection, and closes it once it has read another."""

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
async def test_a_request_to_be_sent_at_most_once_is_not_repeated_where_the_connection_breaks(method: str) -> None:
    async with dropping(answered=0) as server, Dispatcher(server.url) as dispatcher:
        with pytest.raises(UpstreamUnreachableError, match="the connection broke"):
            await dispatcher.send(Request(method, "/refresh_token", at_most_once=True))

    assert server.read == [f"{method} /refresh_token"]


async def test_a_request_to_be_sent_at_most_once_does_not_use_a_stale_connection() -> None:
    async with dropping(answered=1) as server, Dispatcher(server.url) as dispatcher:
        await read(await dispatcher.send(Request("GET", "/first")))
        for _ in range(2):
            assert (await dispatcher.send(Request("GET", "/refresh_token", at_most_once=True))).status == 200

    assert server.read == ["GET /first", "GET /refresh_token", "GET /refresh_token"]


async def test_other_requests_are_repeated_on_a_stale_connection() -> None:
    """The danger that `at_most_once` is there for."""
    async with dropping(answered=1) as server, Dispatcher(server.url) as dispatcher:
        await read(await dispatcher.send(Request("GET", "/1")))
        await read(await dispatcher.send(Request("GET", "/2")))

    assert server.read == ["GET /1", "GET /2", "GET /2"]


async def test_the_error_of_a_request_to_be_sent_at_most_once_names_the_reason() -> None:
    async with Dispatcher("http://127.0.0.1:1") as dispatcher:
        with pytest.raises(UpstreamUnreachableError, match="Connection refused"):
            await dispatcher.send(Request("GET", "/", at_most_once=True))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_body_that_the_dispatcher_compresses_unasked_is_decoded(
    serve: Callable[[Handler], Awaitable[str]], coding: str
) -> None:
    async def compressing(_: web.Request) -> web.Response:
        body = gzip.compress(b"plain") if coding == "gzip" else zlib.compress(b"plain")
        return web.Response(body=body, headers={"Content-Encoding": coding})

    identity = (("Accept-Encoding", "identity"),)
    async with Dispatcher(await serve(compressing)) as dispatcher:
        reply = await dispatcher.send(Request("GET", "/api/meta-data", headers=identity))
        assert await read(reply) == b"plain"
        assert not {"content-encoding", "content-length"} & {name.casefold() for name, _ in reply.headers}


@pytest.mark.parametrize(
    ("method", "accepted", "status"), [("GET", "gzip", 200), ("GET", "identity", 206), ("HEAD", "identity", 200)]
)
async def test_a_body_that_the_client_can_read_or_that_is_a_part_is_not_decoded(
    serve: Callable[[Handler], Awaitable[str]], method: str, accepted: str, status: int
) -> None:
    async def compressing(_: web.Request) -> web.Response:
        return web.Response(status=status, body=gzip.compress(b"plain"), headers={"Content-Encoding": "gzip"})

    async with Dispatcher(await serve(compressing)) as dispatcher:
        reply = await dispatcher.send(Request(method, "/", headers=(("Accept-Encoding", accepted),)))
        await read(reply)
        assert "content-encoding" in {name.casefold() for name, _ in reply.headers}
