"""A server that stops answers the clients that have connected already."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from typing import TYPE_CHECKING

import aiohttp
import trustme
from aiohttp import web
from yarl import URL

from oda_proxy.web.server import listening

if TYPE_CHECKING:
    import pytest


async def answer(_: web.Request) -> web.Response:
    return web.Response(text="answered")


def application() -> web.Application:
    app = web.Application()
    app.router.add_get("/", answer)
    return app


def is_refused(url: URL) -> bool:
    """Return whether nobody listens any more."""
    with socket.socket() as probe:
        return probe.connect_ex((url.host, url.port)) == errno.ECONNREFUSED


async def test_a_client_that_had_just_connected_is_answered_when_the_server_stops() -> None:
    server = listening(application(), "127.0.0.1", 0)
    url = URL(await server.__aenter__())
    reader, writer = await asyncio.open_connection(url.host, url.port)
    async with aiohttp.ClientSession() as session, session.get(url) as response:  # accepted after the connection above
        assert response.status == 200
    stop = asyncio.create_task(server.__aexit__(None, None, None))
    while not is_refused(url):  # noqa: ASYNC110 - the kernel reports no end of a listener
        await asyncio.sleep(0)
    for _ in range(100):  # rounds of the event loop, in which the server would close idle connections
        await asyncio.sleep(0)

    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    received = await reader.read()

    assert received.startswith(b"HTTP/1.1 200 OK")
    assert received.endswith(b"answered")
    writer.close()
    await writer.wait_closed()
    await stop


async def test_a_client_that_sends_nothing_does_not_hold_up_the_end() -> None:
    async with listening(application(), "127.0.0.1", 0, shutdown_timeout=0.1) as url:
        reader, writer = await asyncio.open_connection(URL(url).host, URL(url).port)
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.status == 200

    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_a_client_in_its_handshake_is_answered_when_the_server_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oda_proxy.web.server.HANDSHAKE", 1.0)  # more than a busy machine takes
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    authority.configure_trust(theirs)
    server = listening(application(), "127.0.0.1", 0, tls=ours)
    url = URL(await server.__aenter__())
    connection = socket.create_connection((url.host or "", url.port or 0))
    async with aiohttp.ClientSession() as session, session.get(url, ssl=theirs) as response:  # accepted after it
        assert response.status == 200
    stop = asyncio.create_task(server.__aexit__(None, None, None))
    while not is_refused(url):  # noqa: ASYNC110 - the kernel reports no end of a listener
        await asyncio.sleep(0)
    for _ in range(100):  # as above
        await asyncio.sleep(0)
    assert not stop.done()

    reader, writer = await asyncio.open_connection(sock=connection, ssl=theirs, server_hostname="127.0.0.1")
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
    writer.close()
    await writer.wait_closed()
    await stop
