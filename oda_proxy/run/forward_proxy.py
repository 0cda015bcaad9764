"""A forward proxy's listener: whatever a program asks, wherever it wants to ask it, becomes one call of a handler.

A program that is told to use a proxy sends it `GET http://host/path`, or for TLS first `CONNECT host:443`. The first
bytes of a connection are looked at while they are still in the socket, so that whoever reads it next finds it whole:
aiohttp, aiohttp behind TLS that ends here, or, for a server on this machine that is passed through, that server.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
import ssl
import time
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from oda_proxy.errors import ListenError, OdaProxyError
from oda_proxy.http.answer import text_error
from oda_proxy.web.messages import MAX_FORM, read, send
from oda_proxy.web.server import MAX_LINE, UNEXPECTED, reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from aiohttp import StreamReader
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request
    from oda_proxy.run.authority import Authority

_log = logging.getLogger(__name__)

MAX_CONNECT = 16 * 1024
"""Bytes of a CONNECT request with its headers; a name has up to 253."""

CONNECT_PATIENCE = 30.0
"""Seconds that a program has for its first bytes, a CONNECT request, and to agree on TLS."""

IDLE = 75.0
"""Seconds after which a connection on which nothing is asked ends."""

GOODBYE = 1.0
"""Seconds that a program has to agree on the end of TLS; few do."""

_PORTS = {"http": 80, "https": 443}
_PIECE = 64 * 1024


# -- what is asked, and where ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """A server that a program names: its scheme, its host in lower case and without brackets, its port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{_bracketed(self.host)}{port}"


@dataclass(frozen=True, slots=True)
class ForwardedRequest:
    """A request to any server; the path of `ask` is the whole path there, encoded as it was sent."""

    origin: Origin
    request: Request

    @property
    def url(self) -> str:
        """The address, with the query: it may hold a token."""
        query = f"?{self.request.query_string}" if self.request.query_string else ""
        return f"{self.origin}{self.request.path}{query}"


def is_loopback(host: str) -> bool:
    """Tell whether a host, as a program names it, is this machine, without looking anything up."""
    return bool(_addresses_here(host))


def environment(proxy_url: str, bundle: Path) -> dict[str, str | None]:
    """Give the variables by which programs use the proxy and trust the bundle; None takes a variable away."""
    told: dict[str, str | None] = dict.fromkeys(_NEVER)
    told |= dict.fromkeys(_PROXIES, proxy_url)
    told |= dict.fromkeys(_BUNDLES, str(bundle))
    return told | {"NODE_USE_ENV_PROXY": "1"}


_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_BUNDLES = (
    "AWS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "HTTPLIB2_CA_CERTS",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)
_NEVER = ("ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_DIR", "GIT_SSL_CAPATH")


# -- listening -------------------------------------------------------------------------------------


@asynccontextmanager
async def forwarding(
    handler: Callable[[ForwardedRequest], Awaitable[Answer]],
    authority: Authority,
    *,
    is_passed_through: Callable[[str, int], bool] = lambda _host, _port: False,
    host: str = "127.0.0.1",
    port: int = 0,
    shutdown_timeout: float = 1.0,
) -> AsyncIterator[str]:
    """Listen, give every request to `handler`, and give the proxy's address; port 0 takes a free one.

    A CONNECT to a server on this machine is passed through untouched where `is_passed_through(host, port)` says so; no
    other connection is ever opened. `shutdown_timeout` is how long, in s, answers under way may take after the end.
    Raises ListenError.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ListenError(host, port, reason_of(error)) from error
    with closing(listener):
        listener.setblocking(False)
        door = _Door(handler, authority, is_passed_through)
        accepting = asyncio.create_task(door.accept(listener))
        try:
            yield f"http://{_bracketed(host)}:{listener.getsockname()[1]}"
        finally:
            accepting.cancel()
            await asyncio.wait({accepting})
            await door.close(shutdown_timeout)


@dataclass(frozen=True, slots=True)
class _Tunnel:
    """What aiohttp reads: requests to one server, behind TLS where there is a context, or to any."""

    origin: Origin | None
    context: ssl.SSLContext | None = None


class _Door:
    """The connections that programs made, and who reads from each."""

    def __init__(
        self,
        handler: Callable[[ForwardedRequest], Awaitable[Answer]],
        authority: Authority,
        is_passed_through: Callable[[str, int], bool],
    ) -> None:
        self._handler = handler
        self._authority = authority
        self._is_passed_through = is_passed_through
        self._welcoming: set[asyncio.Task[None]] = set()
        self._servers: dict[Origin | None, web.Server] = {}

    async def accept(self, listener: socket.socket) -> None:
        """Take connections, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # too many open files, or a client that is gone already
                _log.warning("cannot take a connection: %s", reason_of(error))
                await asyncio.sleep(1.0)
                continue
            task = asyncio.create_task(self._welcome(connection))
            self._welcoming.add(task)
            task.add_done_callback(self._welcoming.discard)

    async def close(self, patience: float) -> None:
        """End all connections; answers under way have `patience` s."""
        for task in self._welcoming:
            task.cancel()
        await asyncio.gather(*self._welcoming, return_exceptions=True)
        for server in self._servers.values():
            server.pre_shutdown()
        # It waits for an answer, and once more when it has cancelled it.
        await asyncio.gather(*(server.shutdown(patience / 2) for server in self._servers.values()))

    async def _welcome(self, connection: socket.socket) -> None:
        """See what a connection is for, and give it to whoever reads from it."""
        try:
            with ExitStack() as stack:
                stack.enter_context(closing(connection))
                async with asyncio.timeout(CONNECT_PATIENCE):
                    purpose = await self._introduced(connection)
                if isinstance(purpose, socket.socket):
                    with purpose:
                        await asyncio.get_running_loop().sock_sendall(connection, _ESTABLISHED)
                        await _passed_both_ways(connection, purpose)
                    return
                stack.pop_all()  # it is aiohttp's from now on
            await self._hand_over(connection, purpose)
        except TimeoutError:
            _log.debug("a program connected, and asked nothing")
        except OSError as error:
            _log.debug("a connection broke: %s", error)

    async def _introduced(self, connection: socket.socket) -> socket.socket | _Tunnel:
        """Say where a connection leads: a server on this machine is connected to, and given.

        Raises OSError where it leads nowhere.
        """
        start = await _seen(connection, len(_CONNECT))
        if not start:
            raise ConnectionAbortedError("nothing was asked")
        if not _CONNECT.startswith(start[: len(_CONNECT)]):
            return _Tunnel(None)
        try:
            host, port = _named(await _connect_request(connection))
            if (addresses := _addresses_here(host)) and self._is_passed_through(host, port):
                return await _connected(addresses, port)
            context = self._authority.context_for(host)
        except OdaProxyError as error:
            _log.warning("%s", error)
            await _refuse(connection, error)
            raise ConnectionAbortedError(str(error)) from error
        await asyncio.get_running_loop().sock_sendall(connection, _ESTABLISHED)
        if (await _seen(connection, 1))[:1] == _TLS:
            return _Tunnel(Origin("https", host, port), context)
        return _Tunnel(Origin("http", host, port))

    async def _hand_over(self, connection: socket.socket, tunnel: _Tunnel) -> None:
        """Let aiohttp read from a connection, behind TLS where the tunnel has it; raises OSError."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._server(tunnel.origin),
                connection,
                ssl=tunnel.context,
                ssl_handshake_timeout=CONNECT_PATIENCE if tunnel.context else None,
                ssl_shutdown_timeout=GOODBYE if tunnel.context else None,
            )
        except OSError as error:
            if tunnel.context is not None:
                reason = error.reason.replace("_", " ").lower() if isinstance(error, ssl.SSLError) else "it hung up"
                _log.warning("no TLS with a program for %s (%s): it may not read SSL_CERT_FILE", tunnel.origin, reason)
            raise

    def _server(self, origin: Origin | None) -> web.Server:
        """Give what reads requests on connections to `origin`, or on those that lead anywhere."""
        if origin not in self._servers:
            self._servers[origin] = web.Server(
                partial(self._answer, origin),
                request_factory=_request,
                access_log=None,  # it would write whole addresses, with the tokens in them
                logger=UNEXPECTED,
                auto_decompress=False,
                keepalive_timeout=IDLE,
                max_field_size=MAX_LINE,
                max_line_size=MAX_LINE,
            )
        return self._servers[origin]

    async def _answer(self, tunnel: Origin | None, incoming: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, on a connection to `tunnel` or to anywhere."""
        began = time.monotonic()
        try:
            origin, target = _target(incoming, tunnel)
        except NotForwardedError as error:
            response = web.Response(status=error.status, text=f"{error}\n")
            response.force_close()
            return response
        if incoming.headers.get("Expect", "").casefold() == "100-continue" and incoming.transport is not None:
            incoming.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = await read(incoming, target)
        try:
            answer = await self._handler(ForwardedRequest(origin, request))
        except OdaProxyError as error:
            answer = text_error(error)
        sent = await send(answer, incoming)
        # Without the query: it may hold a token.
        took = time.monotonic() - began
        _log.info(
            "%s %s%s %d %s %.3f s", request.method, origin, request.path, answer.status, answer.cache_status, took
        )
        return sent


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """Make a request of which a whole form may be read."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_FORM)


# -- where a request leads -------------------------------------------------------------------------


class NotForwardedError(OdaProxyError):
    """A request that a forward proxy cannot make anything of."""

    word = "not-forwarded"

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


_HOST = re.compile(r"[A-Za-z0-9._-]+")
_PORT = re.compile(r":([0-9]{1,5})$", re.ASCII)
_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)(.*)", re.ASCII | re.DOTALL | re.IGNORECASE)
_MAX_PORT = 65535


def _target(incoming: web.BaseRequest, tunnel: Origin | None) -> tuple[Origin, str]:
    """Read the target of a request: where it leads, and the path there with its query. Raises NotForwardedError."""
    raw = incoming.raw_path
    if incoming.headers.get("Upgrade", "").casefold() == "websocket":
        raise NotForwardedError("websockets are not forwarded: connect without this proxy", HTTPStatus.NOT_IMPLEMENTED)
    if absolute := _ABSOLUTE.fullmatch(raw):
        scheme, authority, path = absolute.groups()
        host, port = _host_and_port(authority, _PORTS[scheme.lower()])
        origin = Origin(scheme.lower(), host, port)
        if tunnel not in {None, origin}:
            raise NotForwardedError(f"{origin} was asked on a connection to {tunnel}", HTTPStatus.MISDIRECTED_REQUEST)
        return origin, path if path.startswith("/") else f"/{path}"
    if raw.startswith("/") and tunnel is not None:
        return tunnel, raw
    raise NotForwardedError("this is a forward proxy: it has no pages, and forwards only http:// and https://")


def _named(incoming: str) -> tuple[str, int]:
    """Read whom a CONNECT request names. Raises NotForwardedError."""
    match incoming.split("\r\n", 1)[0].split(" "):
        case ["CONNECT", authority, "HTTP/1.1" | "HTTP/1.0"]:
            return _host_and_port(authority, None)
    raise NotForwardedError("this is no request: write CONNECT host:port HTTP/1.1")


def _host_and_port(authority: str, default: int | None) -> tuple[str, int]:
    """Read a host, without its brackets and in lower case, and a port. Raises NotForwardedError.

    Some versions of Python's http.client forget the brackets around an IPv6 address.
    """
    named = _PORT.search(authority)
    host = authority[: named.start()] if named else authority
    port = int(named[1]) if named else default
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if port is None or not 0 < port <= _MAX_PORT or not (_is_ipv6(bare) if ":" in bare else _HOST.fullmatch(host)):
        raise NotForwardedError(f"{authority[:80]!r} is not the address of a server: write host:port")
    return bare.lower(), port


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return "%" not in host  # the name of an interface


def _addresses_here(host: str) -> tuple[str, ...]:
    """Give the addresses of a host that is this machine, and none for any other."""
    if host.casefold() == "localhost" or host.casefold().endswith(".localhost"):
        return ("127.0.0.1", "::1")
    try:
        return (host,) if ipaddress.ip_address(host).is_loopback else ()
    except ValueError:
        return ()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# -- the first bytes of a connection ---------------------------------------------------------------

_CONNECT = b"CONNECT "
_TLS = b"\x16"
"""How a client begins TLS: the type of the record in which it says hello."""
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


async def _seen(connection: socket.socket, count: int) -> bytes:
    """See what stands in a socket without taking it: `count` bytes or more, and less only before its end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    while True:
        loop.add_reader(connection, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        with suppress(BlockingIOError):
            return connection.recv(MAX_CONNECT, socket.MSG_PEEK)
        readable.clear()


async def _connect_request(connection: socket.socket) -> str:
    """Take a request without a body out of a socket, and nothing of what follows it. Raises NotForwardedError."""
    head = b""
    while len(head) < MAX_CONNECT:
        piece = await _seen(connection, 1)
        if not piece:
            raise ConnectionAbortedError("a request ended within its headers")
        end = (head + piece).find(b"\r\n\r\n")
        head += connection.recv(len(piece) if end < 0 else end + 4 - len(head))
        if end >= 0:
            return head.decode("latin-1")
    raise NotForwardedError(
        f"a CONNECT request has up to {MAX_CONNECT} bytes here", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    )


async def _refuse(connection: socket.socket, error: OdaProxyError) -> None:
    """Say why there is no tunnel, and wait until the program has read it."""
    status = HTTPStatus(error.status if isinstance(error, NotForwardedError) else error.http_status)
    text = f"{error}\n".encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, head.encode("ascii") + text)
    connection.shutdown(socket.SHUT_WR)
    while await loop.sock_recv(connection, _PIECE):
        pass  # closing with something unread would take our words away


# -- servers on this machine -----------------------------------------------------------------------


async def _connected(addresses: tuple[str, ...], port: int) -> socket.socket:
    """Connect to a server on this machine. Raises NotForwardedError."""
    loop = asyncio.get_running_loop()
    for address in addresses:
        there = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        there.setblocking(False)
        try:
            await loop.sock_connect(there, (address, port))
        except OSError:
            there.close()
        except BaseException:
            there.close()
            raise
        else:
            return there
    raise NotForwardedError(f"nobody listens on port {port} of this machine", HTTPStatus.BAD_GATEWAY)


async def _passed_both_ways(here: socket.socket, there: socket.socket) -> None:
    """Pass bytes both ways until both sides have ended, or one breaks; raises OSError."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_passed(here, there))
            group.create_task(_passed(there, here))
    except* OSError as errors:
        raise errors.exceptions[0] from None


async def _passed(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while piece := await loop.sock_recv(source, _PIECE):
        await loop.sock_sendall(sink, piece)
    sink.shutdown(socket.SHUT_WR)
