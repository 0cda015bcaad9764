"""An aiohttp server on an address, or on sockets that listen."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from oda_proxy.errors import ListenError
from oda_proxy.web.connection import ConnectionServer, can_repeat
from oda_proxy.web.repeated_requests import RepeatedRequests

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncIterator, Sequence

    from aiohttp.web_protocol import RequestHandler

MAX_LINE = 256 * 1024
"""Bytes in a request line or a header: clients up to 1.1.0 send whole catalogues in the address."""

FIRST_REQUEST: Final = 1.0
"""Seconds in which a client sends its first request after it has connected."""

_log = logging.getLogger(__name__)

HANDSHAKE: Final = 0.3
"""Seconds for a handshake of TLS that had begun when the server stopped listening."""

_CLIENT_ERRORS = (HttpProcessingError, web.RequestPayloadError, ConnectionError)
UNEXPECTED = logging.getLogger(f"{__name__}.unexpected")
"""The log of aiohttp: internal errors, but no clients that disconnect, and no malformed requests, whose tokens it would
write out."""
UNEXPECTED.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], _CLIENT_ERRORS)))

_REASONS = {
    errno.EADDRINUSE: "the port is in use",
    errno.EACCES: "permission denied",
    errno.EADDRNOTAVAIL: "no such address here",
}


DirectHandler: TypeAlias = Callable[[Handler, web.Request], Awaitable[web.StreamResponse]]
DIRECT_HANDLER = web.AppKey[DirectHandler]("direct handler")
"""Answers requests in place of the application, whose own handler is the first argument, and finds a route first."""


@asynccontextmanager
async def listening(
    app: web.Application, host: str, port: int, *, shutdown_timeout: float = 5.0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve `app`, over TLS with `tls`, and yield its address; port 0 takes a free one. Raises ListenError.

    `shutdown_timeout` is how long, in s, answers under way may take when the block ends.
    """
    async with _running(app, shutdown_timeout, is_tls=tls is not None) as runner:
        try:
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        except OSError as error:
            raise ListenError(host, port, reason_of(error)) from error
        bound = runner.addresses[0][1]
        yield address_of(host, bound, is_tls=tls is not None)


@asynccontextmanager
async def listening_on(
    app: web.Application,
    listeners: Sequence[socket.socket | Path],
    *,
    shutdown_timeout: float = 5.0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    """Serve `app` on sockets that listen, and on the paths of Unix sockets; the rest is as for `listening`.

    A Unix socket that a process left is replaced. Raises OSError.
    """
    async with _running(app, shutdown_timeout, is_tls=tls is not None) as runner:
        for listener in listeners:
            if isinstance(listener, Path):
                await web.UnixSite(runner, listener).start()
            else:
                await web.SockSite(runner, listener, ssl_context=tls).start()
        yield


class _Runner(web.AppRunner):
    """Runs an application, with connections that repeat its responses."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        if can_repeat():
            return ConnectionServer(server, RepeatedRequests())
        _log.warning(
            "this release of aiohttp (%s) is not known: hits are slower than they could be", aiohttp.__version__
        )
        return server


@asynccontextmanager
async def _running(app: web.Application, shutdown_timeout: float, *, is_tls: bool) -> AsyncIterator[web.AppRunner]:
    """Set up an application and clean up at the end of the block."""
    runner = _Runner(
        app,
        access_log=None,  # it would write addresses with their tokens
        auto_decompress=False,  # bodies are relayed unchanged
        keepalive_timeout=75.0,
        logger=UNEXPECTED,
        max_field_size=MAX_LINE,
        max_line_size=MAX_LINE,
        shutdown_timeout=shutdown_timeout,
    )
    await runner.setup()
    if DIRECT_HANDLER in app and runner.server is not None:
        runner.server.request_handler = partial(app[DIRECT_HANDLER], runner.server.request_handler)
    try:
        yield runner
    finally:
        await _accept_no_more(runner, min(FIRST_REQUEST, shutdown_timeout), is_tls=is_tls)
        await runner.cleanup()


async def _accept_no_more(runner: web.AppRunner, patience: float, *, is_tls: bool) -> None:
    """Stop listening, and wait up to `patience` s until connections that were accepted have sent their first request.

    They would be closed without an answer otherwise, although another process may serve the port in a moment.
    """
    for site in tuple(runner.sites):
        await site.stop()
    for _ in range(3):  # rounds of the event loop until the server knows of all connections that it has accepted
        await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    if is_tls:  # the server knows of connections only after their handshake
        await asyncio.sleep(min(HANDSHAKE, patience))
    while runner.server is not None and any(map(_is_new, runner.server.connections)):
        if loop.time() >= until:
            break
        await asyncio.sleep(FIRST_REQUEST / 100)


def _is_new(connection: RequestHandler) -> bool:
    """Return whether a connection has not sent a request yet."""
    return getattr(connection, "_request_count", 1) == 0


def address_of(host: str, port: int, *, is_tls: bool) -> str:
    """Return the URL of a listener."""
    return f"http{'s' if is_tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


def address_of_socket(listener: socket.socket, *, is_tls: bool) -> str:
    """Return the URL of a TCP socket that listens."""
    host, port = listener.getsockname()[:2]
    return address_of(host, port, is_tls=is_tls)


def reason_of(error: OSError) -> str:
    """Return why an address cannot be listened on, for a person."""
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)
