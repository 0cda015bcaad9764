"""The listener of a forward proxy: each request of a program, to any server, becomes one call of a handler.

A program that uses a proxy sends it `GET http://host/path`, or for TLS first `CONNECT host:443`. The first bytes of a
connection are peeked at and stay in the socket, so that the reader that is chosen finds all of them: aiohttp, aiohttp
behind TLS that ends here, or a server on this machine that is relayed to.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from oda_proxy.errors import ListenError, OdaProxyError
from oda_proxy.http.answer import text_error
from oda_proxy.http.loopback import loopback_addresses
from oda_proxy.run import sockets
from oda_proxy.run.forwarded_request import (
    ForwardedRequest,
    NotForwardedError,
    Origin,
    bracketed,
    connect_target,
    split_target,
)
from oda_proxy.web.messages import MAX_FORM, read, send
from oda_proxy.web.server import MAX_LINE, UNEXPECTED, reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiohttp import StreamReader
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage

    from oda_proxy.http.answer import Answer
    from oda_proxy.run.authority import Authority

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 30.0
"""Seconds that a program has for its first bytes, a CONNECT request, and the TLS handshake."""

IDLE_TIMEOUT = 75.0
"""Seconds after which a connection without requests is closed."""

TLS_CLOSE_TIMEOUT = 1.0
"""Seconds to wait for the TLS closure alert of a program; few send one."""


@asynccontextmanager
async def forward_proxy(
    handler: Callable[[ForwardedRequest], Awaitable[Answer]],
    authority: Authority,
    *,
    is_passed_through: Callable[[str, int], bool] = lambda _host, _port: False,
    is_untrusted: Callable[[Origin], Awaitable[bool]] | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    shutdown_timeout: float = 1.0,
) -> AsyncIterator[str]:
    """Listen, pass every request to `handler`, and yield the URL of the proxy; port 0 is a free one.

    A CONNECT to a server on this machine is relayed unchanged where `is_passed_through(host, port)` is true; no other
    connection is opened. A server whose certificate `is_untrusted` has one here that nobody trusts, so that programs
    treat it as without the proxy. `shutdown_timeout` is the time for pending answers at the end, in s.

    Raises ListenError.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ListenError(host, port, reason_of(error)) from error
    with closing(listener):
        listener.setblocking(False)
        connections = _Connections(handler, authority, is_passed_through, is_untrusted)
        accepting = asyncio.create_task(connections.accept(listener))
        try:
            yield f"http://{bracketed(host)}:{listener.getsockname()[1]}"
        finally:
            accepting.cancel()
            await asyncio.wait({accepting})
            await connections.close(shutdown_timeout)


@dataclass(frozen=True, slots=True)
class _Tunnel:
    """A connection for aiohttp: requests to one origin, behind TLS where there is a context, or to any origin."""

    origin: Origin | None
    context: ssl.SSLContext | None = None


class _Connections:
    """The connections of programs to the proxy."""

    def __init__(
        self,
        handler: Callable[[ForwardedRequest], Awaitable[Answer]],
        authority: Authority,
        is_passed_through: Callable[[str, int], bool],
        is_untrusted: Callable[[Origin], Awaitable[bool]] | None,
    ) -> None:
        self._handler = handler
        self._authority = authority
        self._is_passed_through = is_passed_through
        self._is_untrusted = is_untrusted
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: dict[Origin | None, web.Server] = {}

    async def accept(self, listener: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # too many open files, or a client that has closed already
                _log.warning("cannot accept a connection: %s", reason_of(error))
                await asyncio.sleep(1.0)
                continue
            task = asyncio.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109 - it bounds each server's shutdown, not this call
        """Close all connections, after at most `timeout` s for pending answers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers.values():
            server.pre_shutdown()
        # aiohttp waits for an answer, and once more after it has cancelled it.
        await asyncio.gather(*(server.shutdown(timeout / 2) for server in self._servers.values()))

    async def _serve(self, connection: socket.socket) -> None:
        """Serve a connection."""
        try:
            with ExitStack() as stack:
                stack.enter_context(closing(connection))
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    destination = await self._destination(connection)
                if isinstance(destination, socket.socket):
                    with destination:
                        await asyncio.get_running_loop().sock_sendall(connection, sockets.ESTABLISHED)
                        await sockets.relay_both_ways(connection, destination)
                    return
                stack.pop_all()  # aiohttp closes it
            await self._hand_over(connection, destination)
        except TimeoutError:
            _log.debug("a program connected, and sent no request")
        except OSError as error:
            _log.debug("a connection failed: %s", error)

    async def _destination(self, connection: socket.socket) -> socket.socket | _Tunnel:
        """Return a connection to the server on this machine that is relayed to, or what aiohttp is to read.

        Raises OSError where there is no destination.
        """
        start = await sockets.peek(connection, len(sockets.CONNECT))
        if not start:
            raise ConnectionAbortedError("no request was sent")
        if not sockets.CONNECT.startswith(start[: len(sockets.CONNECT)]):
            return _Tunnel(None)
        try:
            host, port = connect_target(await sockets.read_connect(connection))
            if (addresses := loopback_addresses(host)) and self._is_passed_through(host, port):
                return await sockets.connect(addresses, port)
            context = self._authority.context_for(host)
        except OdaProxyError as error:
            _log.warning("%s", error)
            await sockets.refuse(connection, error)
            raise ConnectionAbortedError(str(error)) from error
        await asyncio.get_running_loop().sock_sendall(connection, sockets.ESTABLISHED)
        if (await sockets.peek(connection, 1))[:1] == sockets.TLS:
            origin = Origin("https", host, port)
            if self._is_untrusted and await self._is_untrusted(origin):
                context = self._authority.untrusted_context_for(host)
            return _Tunnel(origin, context)
        return _Tunnel(Origin("http", host, port))

    async def _hand_over(self, connection: socket.socket, tunnel: _Tunnel) -> None:
        """Let aiohttp read a connection, behind TLS where the tunnel has it. Raises OSError."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._server(tunnel.origin),
                connection,
                ssl=tunnel.context,
                ssl_handshake_timeout=CONNECT_TIMEOUT if tunnel.context else None,
                ssl_shutdown_timeout=TLS_CLOSE_TIMEOUT if tunnel.context else None,
            )
        except OSError as error:
            if tunnel.context is not None:
                reason = error.reason.replace("_", " ").lower() if isinstance(error, ssl.SSLError) else "it hung up"
                _log.warning("no TLS with a program for %s (%s): it may not read SSL_CERT_FILE", tunnel.origin, reason)
            raise

    def _server(self, origin: Origin | None) -> web.Server:
        """Return the server for connections to an origin, or to any."""
        if origin not in self._servers:
            self._servers[origin] = web.Server(
                partial(self._answer, origin),
                request_factory=_request,
                access_log=None,  # it would log whole URLs, with the tokens in them
                logger=UNEXPECTED,
                auto_decompress=False,
                keepalive_timeout=IDLE_TIMEOUT,
                max_field_size=MAX_LINE,
                max_line_size=MAX_LINE,
            )
        return self._servers[origin]

    async def _answer(self, tunnel: Origin | None, incoming: web.BaseRequest) -> web.StreamResponse:
        """Answer one request on a connection to the origin `tunnel`, or to any."""
        began = time.monotonic()
        try:
            _refuse_websocket(incoming)
            origin, target = split_target(incoming.raw_path, tunnel)
        except NotForwardedError as error:
            return _refusal(error)
        if incoming.headers.get("Expect", "").casefold() == "100-continue" and incoming.transport is not None:
            incoming.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = await read(incoming, target)
        try:
            answer = await self._handler(ForwardedRequest(origin, request))
        except OdaProxyError as error:
            answer = text_error(error)
        response = await send(answer, incoming)
        # Without the query: it may hold a token.
        elapsed = time.monotonic() - began
        _log.info(
            "%s %s%s %d %s %.3f s", request.method, origin, request.path, answer.status, answer.cache_status, elapsed
        )
        return response


def _refusal(error: NotForwardedError) -> web.Response:
    response = web.Response(status=error.status, text=f"{error}\n")
    response.force_close()
    return response


def _refuse_websocket(incoming: web.BaseRequest) -> None:
    if incoming.headers.get("Upgrade", "").casefold() == "websocket":
        raise NotForwardedError("websockets are not forwarded: connect without this proxy", HTTPStatus.NOT_IMPLEMENTED)


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """Make a request whose form may have up to MAX_FORM bytes."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_FORM)
