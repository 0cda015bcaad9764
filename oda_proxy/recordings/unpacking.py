"""Decompress whatever is compressed within binary data, wherever it begins, to search it.

gzip, zlib, bzip2, xz and the members of ZIP archives are found by their magic numbers, also within each other.
"""

from __future__ import annotations

import bz2
import lzma
import re
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from oda_proxy.recordings.byte_patterns import BytePattern, PatternScan

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_UNPACKED: Final = 512 * 1024 * 1024
"""Bytes that are decompressed of one value; the largest known products have a hundred million."""
MAX_DEPTH: Final = 3
"""Compressed data within compressed data within compressed data, such as a file of a `.tar.gz`."""
PIECE: Final = 4 * 1024 * 1024
"""Bytes that are decompressed at a time."""
CHUNK: Final = 256 * 1024
"""Compressed bytes that are read at a time."""
OVERLAP: Final = 32 * 1024
"""Bytes of a piece that come again with the next: what is searched for is shorter."""

MAGIC: Final = (
    BytePattern("gzip", (b"\x1f\x8b",), re.compile(rb"\x1f\x8b\x08")),
    BytePattern("zip", (b"PK",), re.compile(rb"PK\x03\x04")),
    BytePattern("bzip2", (b"BZ",), re.compile(rb"BZh[1-9]1AY&SY")),
    BytePattern("xz", (b"\xfd7",), re.compile(rb"\xfd7zXZ\x00")),
    BytePattern("zlib", (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda"), re.compile(rb"x[\x01\x5e\x9c\xda]")),
)
"""What compressed data begin with."""
_ZIP_HEADER: Final = struct.Struct("<26xHH")
"""The lengths of a name and of an extra field, at the end of the header of a member of a ZIP archive."""


class TooLargeError(Exception):
    """More bytes than the limit would have to be decompressed."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: Any, max_length: int, /) -> bytes: ...


@dataclass(slots=True)
class _Budget:
    left: int


@dataclass(slots=True)
class _Stream:
    """Compressed data that begin at an offset."""

    decompressor: _Decompressor
    data: memoryview
    at: int
    ended_at: int = 0
    """Where the stream ended; 0 where it did not, or was damaged."""

    def pieces(self, budget: _Budget) -> Iterator[bytes]:
        """Decompress until the stream ends, or is found to be damaged. Raises TooLargeError."""
        with suppress(zlib.error, lzma.LZMAError, OSError, EOFError):
            while self.at < len(self.data) and not self.decompressor.eof:
                chunk: Any = self.data[self.at : self.at + CHUNK]
                self.at += len(chunk)
                while piece := self.decompressor.decompress(chunk, PIECE):
                    budget.left -= len(piece)
                    if budget.left < 0:
                        raise TooLargeError
                    yield piece
                    chunk = getattr(self.decompressor, "unconsumed_tail", b"")  # of zlib; the others keep it themselves
        if self.decompressor.eof:
            self.ended_at = self.at - len(self.decompressor.unused_data)


def unpacked(data: bytes, *, scan: PatternScan | None = None, limit: int = MAX_UNPACKED) -> Iterator[bytes]:
    """Yield everything that is compressed in `data`, in overlapping pieces.

    Data that only look compressed, or are damaged, are decompressed as far as they go. `scan` are the data if they were
    scanned for `MAGIC` before. Raises TooLargeError beyond `limit` bytes.
    """
    return _unpacked(data, scan or PatternScan(data, MAGIC), _Budget(limit), MAX_DEPTH)


def _unpacked(data: bytes, scan: PatternScan, budget: _Budget, depth: int) -> Iterator[bytes]:
    searched_to = 0
    for at, kind in scan.starts(MAGIC):
        if at < searched_to:  # compressed data look like anything
            continue
        begin, decompressor = _decompressor(data, at, kind)
        stream = _Stream(decompressor, memoryview(data), begin)
        tail = b""
        for piece in stream.pieces(budget):
            yield (overlapping := tail + piece)
            if depth > 1:
                yield from _unpacked(overlapping, PatternScan(overlapping, MAGIC), budget, depth - 1)
            tail = overlapping[-OVERLAP:]
        searched_to = stream.ended_at


def _decompressor(data: bytes, begin: int, kind: str) -> tuple[int, _Decompressor]:
    """Return where the compressed data begin, and what decompresses them."""
    match kind:
        case "gzip":
            return begin, zlib.decompressobj(wbits=31)
        case "bzip2":
            return begin, bz2.BZ2Decompressor()
        case "xz":
            return begin, lzma.LZMADecompressor(memlimit=PIECE * 32)
        case "zip":
            header = data[begin : begin + _ZIP_HEADER.size]
            lengths = _ZIP_HEADER.unpack(header) if len(header) == _ZIP_HEADER.size else ()
            return begin + _ZIP_HEADER.size + sum(lengths), zlib.decompressobj(wbits=-15)
    return begin, zlib.decompressobj()
