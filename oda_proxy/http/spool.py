"""Bodies that are read to the end before they are used: small ones in memory, large ones in a temporary file."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from oda_proxy.errors import OdaProxyError
from oda_proxy.http import headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from io import FileIO

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Body

_log = logging.getLogger(__name__)

CHUNK_SIZE = 64 * 1024
"""Maximum bytes of a chunk."""
MAX_IN_MEMORY = 8 * 1024 * 1024
"""Bytes of an answer that are held in memory.

A longer one is stored in an unnamed file in the system's temporary folder, which disappears with this process.
"""

SPOOL_FULL = "spool-full"
"""The detail in `Cache-Status` of an answer that is not stored because its temporary file could not be written."""


class SpoolError(OdaProxyError):
    """The temporary file of an answer cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot read a temporary file in {_folder()}: {reason}; name another folder with TMPDIR")


class SpooledBody:
    """A body that was read: in memory up to `in_memory` bytes (default `MAX_IN_MEMORY`), else in a temporary file."""

    def __init__(self, in_memory: int | None = None) -> None:
        self.in_memory = MAX_IN_MEMORY if in_memory is None else in_memory
        self.size = 0
        self._chunks: list[bytes] = []
        self._file: FileIO | None = None

    def has_room(self, chunk: bytes) -> bool:
        """Return whether a chunk is added in memory, so that `add` does not block."""
        return self._file is None and self.size + len(chunk) <= self.in_memory

    def add(self, chunk: bytes) -> None:
        """Add a chunk; blocks where the body does not fit in memory.

        Raises OSError if the file cannot be written. The chunk was then not added, and all chunks before it can still
        be read.
        """
        if self.has_room(chunk):
            self._chunks.append(chunk)
        elif self._file is not None:
            _write(self._file, chunk, self.size)
        else:
            self._file = self._moved_to_file(chunk)
            self._chunks.clear()
        self.size += len(chunk)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body from its beginning; may be called again. Blocks. Raises SpoolError."""
        if self._file is None:
            yield from self._chunks
            return
        at = 0
        while at < self.size:
            try:
                chunk = os.pread(self._file.fileno(), min(CHUNK_SIZE, self.size - at), at)
            except OSError as error:
                raise SpoolError(error.strerror or str(error)) from error
            if not chunk:
                raise SpoolError(f"it ends after {at} of {self.size} bytes")
            yield chunk
            at += len(chunk)

    def read(self) -> bytes:
        """Return the whole body; blocks. Raises SpoolError."""
        return b"".join(self.chunks())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = self.chunks()
        while chunk := next(chunks, b"") if self._file is None else await asyncio.to_thread(next, chunks, b""):
            yield chunk

    async def aclose(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _moved_to_file(self, chunk: bytes) -> FileIO:
        """Return a file with the body in memory and a chunk; raises OSError."""
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it is open for as long as the body
        try:
            _write(file, b"".join((*self._chunks, chunk)), 0)
        except BaseException:
            file.close()
            raise
        return file


def _folder() -> str:
    """Return the temporary folder, for a message; where none can be written, the first that is tried."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - for a message only


def _write(file: FileIO, content: bytes, at: int) -> None:
    rest = memoryview(content)
    while rest:
        written = os.pwrite(file.fileno(), rest, at)
        at, rest = at + written, rest[written:]


@dataclass(frozen=True, slots=True)
class _PartlyRead:
    """A stream of which the first chunks were read already."""

    read: SpooledBody
    chunk: bytes
    rest: AsyncIterator[bytes]
    body: Body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.read:
            yield chunk
        yield self.chunk
        async for chunk in self.rest:
            yield chunk

    async def aclose(self) -> None:
        """Close the stream and the spool."""
        await self.read.aclose()
        await self.body.aclose()


async def spooled(answer: Answer, limit: int, *, in_memory: int | None = None) -> Answer:
    """Read the body of an answer, so that it is a `SpooledBody`; one longer than `limit` bytes remains a stream.

    So does one for which the temporary folder has no room, with the detail `SPOOL_FULL`. `in_memory` is for an answer
    that must not be written to a disk.
    """
    if isinstance(answer.body, tuple) or _content_length(answer) > limit:
        return answer
    read = SpooledBody(in_memory)
    rest = aiter(answer.body)
    try:
        async for chunk in rest:
            is_too_large = read.size + len(chunk) > limit
            if is_too_large or not await _added(read, chunk):
                status = answer.cache_status if is_too_large else replace(answer.cache_status, detail=SPOOL_FULL)
                return replace(answer, body=_PartlyRead(read, chunk, rest, answer.body), cache_status=status)
    except BaseException:
        await read.aclose()
        await answer.close()
        raise
    await answer.close()
    return replace(answer, body=read)


async def _added(read: SpooledBody, chunk: bytes) -> bool:
    """Add a chunk; return False if the temporary folder has no room, and log it."""
    if read.has_room(chunk):
        read.add(chunk)
        return True
    try:
        await asyncio.to_thread(read.add, chunk)
    except OSError as error:
        _log.warning(
            "an answer of more than %d bytes is passed on and not stored: cannot write a temporary file in %s: %s",
            read.size,
            _folder(),
            error.strerror or error,
        )
        return False
    return True


def _content_length(answer: Answer) -> int:
    """Return the `Content-Length` of an answer, or 0 if it has no valid one."""
    lengths = headers.values(answer.headers, "content-length")
    return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdecimal() else 0
