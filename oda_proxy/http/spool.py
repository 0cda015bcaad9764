"""Bodies that are read to the end before they are used: small ones in memory, large ones in a temporary file."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from oda_proxy.errors import OdaProxyError
from oda_proxy.http import headers
from oda_proxy.http.encrypted_file import EncryptedFile
from oda_proxy.http.memory import Total

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Body

_log = logging.getLogger(__name__)

CHUNK_SIZE = 64 * 1024
"""Maximum bytes of a chunk."""
MAX_IN_MEMORY = 8 * 1024 * 1024
"""Bytes of an answer that are held in memory.

A longer one is stored in an unnamed file in the system's temporary folder, which disappears with this process. It is
encrypted: an answer may repeat a token.
"""
TOTAL = Total(128 * 1024 * 1024)
"""Bytes of all answers that are held in memory."""

BATCH_SIZE = 512 * 1024
"""Bytes that are written to a file, or read from it, in one go: each takes a thread."""

SPOOL_FULL = "spool-full"
"""The detail in `Cache-Status` of an answer that is not stored because its temporary file could not be written."""


class SpoolError(OdaProxyError):
    """The temporary file of an answer cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot read a temporary file in {_folder()}: {reason}; name another folder with TMPDIR")


class SpooledBody:
    """A body that was read: a small one in memory, else in an encrypted temporary file.

    Up to `MAX_IN_MEMORY` bytes are in memory, while there is room in `TOTAL` for those of all bodies.
    """

    def __init__(self) -> None:
        self.size = 0
        self._chunks: list[bytes] = []
        self._file: EncryptedFile | None = None
        self._is_held = False
        self._held = [0]
        self._released = 0
        """Bytes at the beginning that can be read no more."""
        weakref.finalize(self, _give_back, self._held)  # for one that is dropped without being closed

    @property
    def is_in_file(self) -> bool:
        """Whether it has outgrown the memory."""
        return self._file is not None

    def has_room(self, chunk: bytes) -> bool:
        """Return whether a chunk is added in memory, so that `add` does not block."""
        return self._file is None and self._fits(chunk) and TOTAL.used + len(chunk) <= TOTAL.limit

    def add(self, chunk: bytes) -> None:
        """Add a chunk; blocks where the body does not fit in memory.

        Raises OSError if the file cannot be written. The chunk was then not added, and all chunks before it can still
        be read.
        """
        if not chunk:  # readers take an empty chunk for the end
            return
        if self._file is None and self._fits(chunk) and TOTAL.take(len(chunk)):
            self._held[0] += len(chunk)
            self._chunks.append(chunk)
        elif self._file is not None:
            self._file.write(chunk, self.size)
        else:
            self._file = self._moved_to_file(chunk)
            self._clear()
        self.size += len(chunk)

    def hold(self, chunk: bytes) -> None:
        """Add a chunk; where the temporary folder has no room, the whole body is held in memory, whatever its size.

        Raises SpoolError.
        """
        if not self._is_held:
            try:
                self.add(chunk)
            except OSError:
                self._is_held = True
                self._chunks = list(self.chunks())
                if self._file is not None:
                    self._file.close()
                    self._file = None
            else:
                return
        if chunk:
            self._chunks.append(chunk)
            self.size += len(chunk)

    def release(self, end: int) -> None:
        """Release the memory of what precedes a position: it can be read no more."""
        while self._file is None and self._chunks and self._released + len(self._chunks[0]) <= end:
            chunk = self._chunks.pop(0)
            self._released += len(chunk)
            size = min(len(chunk), self._held[0])
            self._held[0] -= size
            TOTAL.give_back(size)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body from its beginning; may be called again. Blocks. Raises SpoolError."""
        if self._released:
            raise ValueError(f"the first {self._released} bytes of the body were released")
        if self._file is None:
            yield from self._chunks
        else:
            yield from self._pieces_of_file(self._file, 0, self.size)

    def part(self, begin: int, end: int) -> Iterator[bytes]:
        """Yield the bytes between two positions in pieces, as `chunks`."""
        if self._file is not None:
            yield from self._pieces_of_file(self._file, begin, end)
            return
        at = self._released
        for chunk in self._chunks:
            if at < end and at + len(chunk) > begin:
                yield chunk[max(begin - at, 0) : end - at]
            at += len(chunk)

    def _pieces_of_file(self, file: EncryptedFile, at: int, end: int) -> Iterator[bytes]:
        while at < end:
            try:
                chunk = file.read(min(BATCH_SIZE, end - at), at)
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
        """Close the file, or release the memory."""
        if self._file is not None:
            self._file.close()
        self._clear()

    def _fits(self, chunk: bytes) -> bool:
        return self.size + len(chunk) <= MAX_IN_MEMORY

    def _clear(self) -> None:
        self._chunks.clear()
        _give_back(self._held)

    def _moved_to_file(self, chunk: bytes) -> EncryptedFile:
        """Return a file with the body in memory and a chunk; raises OSError."""
        file = EncryptedFile()
        try:
            file.write(b"".join((*self._chunks, chunk)), 0)
        except BaseException:
            file.close()
            raise
        return file


def _give_back(held: list[int]) -> None:
    """Release the memory that a body holds, once."""
    size, held[0] = held[0], 0
    TOTAL.give_back(size)


def _folder() -> str:
    """Return the temporary folder, for a message; where none can be written, the first that is tried."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - for a message only


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


async def spooled(answer: Answer, limit: int) -> Answer:
    """Read the body of an answer, so that it is a `SpooledBody`; one longer than `limit` bytes remains a stream.

    So does one for which the temporary folder has no room, with the detail `SPOOL_FULL`.
    """
    if isinstance(answer.body, tuple) or _content_length(answer) > limit:
        return answer
    read = SpooledBody()
    rest = aiter(answer.body)
    try:
        async for chunk in _batches(rest, read):
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


async def _batches(chunks: AsyncIterator[bytes], read: SpooledBody) -> AsyncIterator[bytes]:
    """Yield chunks one by one, and many together once the body that is `read` is in a file."""
    batch: list[bytes] = []
    size = 0
    async for chunk in chunks:
        batch.append(chunk)
        size += len(chunk)
        if not read.is_in_file or size >= BATCH_SIZE:
            yield b"".join(batch)
            batch.clear()
            size = 0
    if batch:
        yield b"".join(batch)


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
