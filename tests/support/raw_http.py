"""A connection on which bytes are sent as they are, and whole responses are read."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType


class RawConnection:
    """A connection to a server; it is opened again after a response that closes it."""

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        self._address = split.hostname, split.port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._streams:
            self._streams[1].close()
        self._streams = None

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        self._streams[1].write(data)
        await self._streams[1].drain()

    async def receive(self, *, has_body: bool = True) -> bytes:
        """Return the next response."""
        assert self._streams is not None
        reader = self._streams[0]
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)\r\n", head, re.IGNORECASE)
        body = b""
        if length and has_body:
            body = await reader.readexactly(int(length[1]))
        elif has_body and b"\r\nTransfer-Encoding: chunked\r\n" in head:
            while (size := await reader.readline()) != b"0\r\n":
                body += (await reader.readexactly(int(size, 16) + 2))[:-2]
            await reader.readline()
        if not length and head.startswith(b"HTTP/1.0") and has_body:
            body = await reader.read()
        if re.search(rb"\r\nconnection: *close\r\n", head, re.IGNORECASE) or head.startswith(b"HTTP/1.0"):
            self.close()
        return head + body

    async def exchange(self, data: bytes) -> bytes:
        """Send a request and return its response."""
        await self.send(data)
        return await self.receive(has_body=not data.startswith(b"HEAD "))
