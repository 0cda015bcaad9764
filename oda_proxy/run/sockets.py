"""Bytes on the sockets of a forward proxy: peeking, the CONNECT request, relaying both ways."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

from oda_proxy.run.forwarded_request import NotForwardedError

if TYPE_CHECKING:
    from oda_proxy.errors import OdaProxyError

MAX_CONNECT = 16 * 1024
"""Bytes of a CONNECT request with its headers; a host name has up to 253."""

CONNECT = b"CONNECT "
TLS = b"\x16"
"""First byte of TLS: the type of a handshake record (RFC 8446, 5.1)."""
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

_CHUNK = 64 * 1024


async def peek(connection: socket.socket, count: int) -> bytes:
    """Return bytes of a socket without consuming them: at least `count`, fewer only before its end."""
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


async def read_connect(connection: socket.socket) -> str:
    """Consume a request without a body from a socket, and nothing after it. Raises NotForwardedError, OSError."""
    head = b""
    while len(head) < MAX_CONNECT:
        chunk = await peek(connection, 1)
        if not chunk:
            raise ConnectionAbortedError("a request ended within its headers")
        end = (head + chunk).find(b"\r\n\r\n")
        head += connection.recv(len(chunk) if end < 0 else end + 4 - len(head))
        if end >= 0:
            return head.decode("latin-1")
    raise NotForwardedError(
        f"a CONNECT request may have up to {MAX_CONNECT} bytes", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    )


async def refuse(connection: socket.socket, error: OdaProxyError) -> None:
    """Send an error as the response to CONNECT, and wait until the client has read it. Raises OSError."""
    status = HTTPStatus(error.status if isinstance(error, NotForwardedError) else error.http_status)
    text = f"{error}\n".encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, head.encode("ascii") + text)
    connection.shutdown(socket.SHUT_WR)
    while await loop.sock_recv(connection, _CHUNK):
        pass  # closing a socket with unread bytes would discard the response


async def connect(addresses: tuple[str, ...], port: int) -> socket.socket:
    """Connect to a server on this machine. Raises NotForwardedError."""
    loop = asyncio.get_running_loop()
    for address in addresses:
        connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, (address, port))
        except OSError:
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise NotForwardedError(f"no server listens on port {port} of this machine", HTTPStatus.BAD_GATEWAY)


async def relay_both_ways(client: socket.socket, server: socket.socket) -> None:
    """Relay bytes both ways until both sides have ended, or one fails. Raises OSError."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_relay(client, server))
            group.create_task(_relay(server, client))
    except* OSError as errors:
        raise errors.exceptions[0] from None


async def _relay(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while chunk := await loop.sock_recv(source, _CHUNK):
        await loop.sock_sendall(sink, chunk)
    sink.shutdown(socket.SHUT_WR)
