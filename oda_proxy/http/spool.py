"""Bodies that are read to the end before they are used: small ones in memory, large ones in a temporary file."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from oda_proxy.errors import OdaProxyError
from oda_proxy.http import headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from io import FileIO

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Body

CHUNK_SIZE = 64 * 1024
"""Maximum bytes of a chunk."""
MAX_IN_MEMORY = 8 * 1024 * 1024
"""Bytes of an answer that are held in memory.

A longer one is stored in an unnamed file in the system's temporary folder, which disappears with this process.
"""


class SpoolError(OdaProxyError):
    """The temporary file of an answer cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot read a temporary file in {tempfile.gettempdir()}: {reason}; name another with TMPDIR")


class SpooledBody:
    """A body that was read: in memory up to `in_memory` bytes (default `MAX_IN_MEMORY`), else in a temporary file."""

    def __init__(self, in_memory: int | None = None) -> None:
        self.in_memory = MAX_IN_MEMORY if in_memory is None else in_memory
        self.size = 0
        self._pieces: list[bytes] = []
        self._file: FileIO | None = None

    def takes_at_once(self, piece: bytes) -> bool:
        """Tell whether adding a piece does not block."""
        return self._file is None and self.size + len(piece) <= self.in_memory

    def add(self, piece: bytes) -> None:
        """Add a piece; blocks beyond what is kept in memory. Raises OSError, and has then not taken the piece."""
        if not self.takes_at_once(piece):
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as the body
                self._write(b"".join(self._pieces), 0)
                self._pieces.clear()
            self._write(piece, self.size)
        else:
            self._pieces.append(piece)
        self.size += len(piece)

    def pieces(self) -> Iterator[bytes]:
        """Give the body from its beginning, as often as wanted; blocks. Raises SpoolError."""
        if self._file is None:
            yield from self._pieces
            return
        for at in range(0, self.size, CHUNK_SIZE):
            try:
                yield os.pread(self._file.fileno(), min(CHUNK_SIZE, self.size - at), at)
            except OSError as error:
                raise SpoolError(error.strerror or str(error)) from error

    def read(self) -> bytes:
        """Give the whole body; blocks. Raises SpoolError."""
        return b"".join(self.pieces())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = self.pieces()
        while piece := next(pieces, b"") if self._file is None else await asyncio.to_thread(next, pieces, b""):
            yield piece

    async def aclose(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, content: bytes, at: int) -> None:
        assert self._file is not None  # noqa: S101 - for the type checker
        rest = memoryview(content)
        while rest:
            written = os.pwrite(self._file.fileno(), rest, at)
            at, rest = at + written, rest[written:]


@dataclass(frozen=True, slots=True)
class _PartlyRead:
    """A body of which the first pieces were read already."""

    read: SpooledBody
    piece: bytes
    rest: AsyncIterator[bytes]
    body: Body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self.read:
            yield piece
        yield self.piece
        async for piece in self.rest:
            yield piece

    async def aclose(self) -> None:
        """Let go of the body, and of what was read."""
        await self.read.aclose()
        await self.body.aclose()


async def spooled(answer: Answer, limit: int, *, in_memory: int | None = None) -> Answer:
    """Read the body of an answer, so that it is `SpooledBody`; what is longer than `limit` bytes goes on as it comes.

    So does what the folder for temporary files has no room for. An answer that must not touch a disk says `in_memory`.
    """
    if isinstance(answer.body, tuple) or _length(answer) > limit:
        return answer
    read = SpooledBody(in_memory)
    rest = aiter(answer.body)
    try:
        async for piece in rest:
            if read.size + len(piece) > limit or not await _taken(read, piece):
                return replace(answer, body=_PartlyRead(read, piece, rest, answer.body))
    except BaseException:
        await read.aclose()
        await answer.close()
        raise
    await answer.close()
    return replace(answer, body=read)


async def _taken(read: SpooledBody, piece: bytes) -> bool:
    """Add a piece where there is room for it."""
    if read.takes_at_once(piece):
        read.add(piece)
        return True
    with suppress(OSError):
        await asyncio.to_thread(read.add, piece)
        return True
    return False


def _length(answer: Answer) -> int:
    """Give the bytes that an answer says it has, or 0 where it does not say."""
    told = headers.values(answer.headers, "content-length")
    return int(told[0]) if len(told) == 1 and told[0].isdecimal() else 0
