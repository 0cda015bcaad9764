"""Asking a dispatcher over HTTP, against a server in this process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.upstream.base import Ask
from oda_proxy.upstream.dispatcher import Dispatcher, DispatcherReply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

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
        ask = Ask("POST", "/run_analysis", "T1=27%3A40&a=%2C+%00&a=b", (("X-One", "1"), ("Accept", "*/*")), b"form")
        await whole(await dispatcher.ask(ask))

    ((method, path, headers, body),) = seen
    assert (method, path, body) == ("POST", "/dispatch-data/run_analysis?T1=27%3A40&a=%2C+%00&a=b", b"form")
    assert set(headers) == {"Host", "X-One", "Accept", "Content-Length"}


async def test_a_reply_is_given_as_it_came(serve: Callable[[Handler], Awaitable[str]]) -> None:
    async def handler(_: web.Request) -> web.Response:
        headers = {"Location": "/elsewhere", "Content-Encoding": "gzip", "Set-Cookie": "a=1"}
        return web.Response(status=302, headers=headers, body=b"no gzip")

    async with Dispatcher(await serve(handler)) as dispatcher:
        reply = await dispatcher.ask(Ask("GET", "/download_file"))

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
            await whole(await dispatcher.ask(Ask("GET", "/")))

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
        reply = await dispatcher.ask(Ask("GET", "/", "token=secret"))
        with pytest.raises(UpstreamUnreachableError, match="the connection broke") as raised:
            await whole(reply)

    assert "secret" not in str(raised.value)


async def test_a_dispatcher_that_does_not_answer_in_time_is_unreachable(
    serve: Callable[[Handler], Awaitable[str]],
) -> None:
    never = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with Dispatcher(await serve(handler), read_timeout=0.01) as dispatcher:
        with pytest.raises(UpstreamUnreachableError, match="no answer in time"):
            await dispatcher.ask(Ask("GET", "/"))
    never.set()


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
            await dispatcher.ask(Ask("GET", "/"))


async def test_a_reply_that_nobody_reads_is_let_go(serve: Callable[[Handler], Awaitable[str]]) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 1_000_000)

    async with Dispatcher(await serve(handler)) as dispatcher:
        for _ in range(300):  # three times as many as there are connections
            await (await dispatcher.ask(Ask("GET", "/"))).body.aclose()
