"""The head of a recording, compressed for clients over a network.

The answer to a client is the compressed head, which is the same for all, and its tail, which is compressed on its own:

- gzip: one member, as browsers and curl read no second one. The head ends with a full flush, so that the next deflate
  block refers to nothing before it; the CRC-32 of the head goes on over the tail.
- zstd: two frames (RFC 8878, section 3.1).

A head with gaps, whose FITS cards name the client, is not compressed: what fills them differs in length.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import zstandard

from oda_proxy.recordings.recording import BEGIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oda_proxy.recordings.recording import Recording

CODINGS: Final = ("zstd", "gzip")
"""Content codings that are made, the better one first."""

MIN_SIZE: Final = 14 * 1024
"""Bytes of a head that is compressed: less is sent before the first acknowledgement in any case."""

_MAX_RATIO: Final = 0.9
"""Size of a compressed head, as a fraction of the head, above which it is not used."""

_GZIP_LEVEL, _ZSTD_LEVEL = 4, 3
_GZIP_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_STEP: Final = 1024 * 1024
"""Bytes that are compressed in one call, during which other threads run."""


@dataclass(frozen=True, slots=True)
class CompressedHead:
    """The begin of an answer and the head, compressed; the head has `size` bytes with the begin."""

    coding: str
    parts: tuple[bytes, ...] = field(repr=False)
    size: int
    checksum: int
    """CRC-32 of the begin and the head, for gzip."""

    @property
    def compressed_size(self) -> int:
        """Bytes of all parts."""
        return sum(map(len, self.parts))

    def body(self, end: bytes) -> tuple[bytes, ...]:
        """Return the body of an answer with this tail."""
        if self.coding == "zstd":
            return (*self.parts, zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compress(end))
        compressor = _deflate()
        trailer = struct.pack("<LL", zlib.crc32(end, self.checksum), (self.size + len(end)) & 0xFFFFFFFF)
        return (*self.parts, compressor.compress(end) + compressor.flush() + trailer)


def is_compressible(recording: Recording) -> bool:
    """Return whether it pays to compress a recording, and it can be."""
    return recording.head.size >= MIN_SIZE and not recording.gaps


def compress(recording: Recording, coding: str) -> CompressedHead | None:
    """Compress the head of a recording, which is in memory; None where it becomes hardly smaller."""
    text = (BEGIN, *recording.head.pieces())
    head = _zstd(text) if coding == "zstd" else _gzip(text)
    return head if head.compressed_size <= _MAX_RATIO * head.size else None


def _zstd(text: Iterable[bytes]) -> CompressedHead:
    compressor, size, parts = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj(), 0, []
    for step in _steps(text):
        size += len(step)
        parts.append(compressor.compress(step))
    return CompressedHead("zstd", tuple(filter(None, (*parts, compressor.flush()))), size, 0)


def _gzip(text: Iterable[bytes]) -> CompressedHead:
    compressor, size, checksum, parts = _deflate(), 0, 0, [_GZIP_HEADER]
    for step in _steps(text):
        size, checksum = size + len(step), zlib.crc32(step, checksum)
        parts.append(compressor.compress(step))
    return CompressedHead("gzip", tuple(filter(None, (*parts, compressor.flush(zlib.Z_FULL_FLUSH)))), size, checksum)


def _deflate() -> zlib._Compress:
    return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)


def _steps(parts: Iterable[bytes]) -> Iterator[memoryview | bytes]:
    for part in parts:
        view = memoryview(part)
        for at in range(0, len(view), _STEP):
            yield view[at : at + _STEP]
