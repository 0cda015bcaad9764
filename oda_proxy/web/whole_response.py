"""A response whose body is in memory: its head and its body are sent in one write, a large body in several."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion11, web
from aiohttp.http import SERVER_SOFTWARE

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

    from oda_proxy.http.answer import Answer

SMALL: Final = 64 * 1024
"""Bytes of a body that is copied behind its head: one write of both costs less than two."""

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_WITHOUT_BODY: Final = frozenset({204, 304})
_OF_CONNECTION: Final = frozenset({"connection", "date", "server", "transfer-encoding"})
"""Headers that aiohttp sets unless an answer has them."""
_SERVER: Final = f"Server: {SERVER_SOFTWARE}"


class WholeResponse(web.StreamResponse):
    """A response that `send_whole` has sent; aiohttp finds it complete."""

    def __init__(self, *, status: int, keep_alive: bool, size: int) -> None:
        super().__init__(status=status)
        self._is_kept_alive = keep_alive
        self._size = size

    @property
    def body_length(self) -> int:
        """Bytes of the body."""
        return self._size

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may be used again."""
        return self._is_kept_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 - sent already
        """Do nothing: the head is sent."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: the body is sent."""


async def send_whole(
    answer: Answer, incoming: web.BaseRequest, cache_status: str, request_id: str = ""
) -> WholeResponse | None:
    """Send an answer whose body is in memory; None where aiohttp has to send it, and nothing was sent.

    That is so for bodies that are streams or have no length, for requests and statuses without a body, and for
    HTTP/1.0. Raises ConnectionError where the client has disconnected.
    """
    body, keep_alive, writer = answer.body, incoming.keep_alive, incoming.writer
    if not isinstance(body, tuple) or incoming.method == "HEAD" or incoming.version != HttpVersion11:
        return None
    size = sum(map(len, body))
    head = _head(answer, cache_status, request_id, size, keep_alive=keep_alive)
    if head is None:
        return None
    if size <= SMALL:
        await writer.write(b"".join((head, *body)))
    else:
        await writer.write(head)
        for piece in body:
            await writer.write(piece)
            await asyncio.sleep(0)  # a client that reads as fast must not hold the event loop
    await writer.drain()
    return WholeResponse(status=answer.status, keep_alive=keep_alive, size=size)


def head_template(answer: Answer, cache_status: str) -> str | None:
    """Return the head of an answer for a connection that is used again, as a template; None where there is none.

    It has `%s` in place of the values of `Content-Length`, `Age`, `X-Request-ID` and `Date`, in this order.
    """
    size = sum(map(len, answer.body)) if isinstance(answer.body, tuple) else -1
    head = _head(answer, cache_status, "-", size, keep_alive=True)
    lines = head.decode().split("\r\n") if head else []
    names = [line.partition(":")[0] for line in lines]
    if [name for name in names if name in _VARIABLE] != list(_VARIABLE):
        return None
    return "\r\n".join(
        f"{name}: %s" if name in _VARIABLE else line.replace("%", "%%") for name, line in zip(names, lines, strict=True)
    )


_VARIABLE: Final = ("Content-Length", "Age", "X-Request-ID", "Date")


def _head(answer: Answer, cache_status: str, request_id: str, size: int, *, keep_alive: bool) -> bytes | None:
    """Return the status line and the headers of an answer; None where aiohttp has to make them."""
    values = {name.casefold(): value for name, value in answer.headers}
    if (
        answer.status < HTTPStatus.OK
        or answer.status in _WITHOUT_BODY
        or values.get("content-length") != str(size)
        or "content-type" not in values
        or not _OF_CONNECTION.isdisjoint(values)
    ):
        return None
    headers = [f"{name}: {value}" for name, value in answer.headers]
    headers.append(f"Cache-Status: {cache_status}")
    if request_id:
        headers.append(f"X-Request-ID: {request_id}")
    if not "".join(headers).isprintable():  # a line break would begin another header
        return None
    status = f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, '')}"
    end = _SERVER if keep_alive else f"{_SERVER}\r\nConnection: close"
    return "\r\n".join([status, *headers, f"Date: {header_date(int(time.time()))}", end, "", ""]).encode()


@lru_cache(maxsize=2)
def header_date(second: int) -> str:
    """Return a time in s since 1970 (UTC) as a header has it (RFC 9110, section 5.6.7)."""
    return formatdate(second, usegmt=True)
