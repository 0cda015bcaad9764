"""Draws small grey pictures of a curve or a map as PNG files, without a library for pictures."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHITE, _GREY, _BLACK = 255, 160, 0
_MARGIN = 0.1


def curve_png(values: NDArray[Any], width: int) -> bytes:
    """Return a picture of `width` pixels with a curve in a frame; three quarters as high."""
    height = width * 3 // 4
    picture = np.full((height, width), _WHITE, np.uint8)
    left, top = int(width * _MARGIN), int(height * _MARGIN)
    right, bottom = width - left, height - top
    picture[[top, bottom], left : right + 1] = _GREY
    picture[top : bottom + 1, [left, right]] = _GREY
    low, high = float(values.min()), float(values.max())
    span = (high - low) or 1.0
    columns = np.arange(left + 1, right)
    heights = np.interp(np.linspace(0, len(values) - 1, len(columns)), np.arange(len(values)), values)
    lines = (bottom - 2 - np.rint((heights - low) / span * (bottom - top - 4))).astype(int)
    upper, lower = np.minimum(lines, np.roll(lines, 1)), np.maximum(lines, np.roll(lines, 1)) + 1
    upper[0], lower[0] = lines[0], lines[0] + 1
    rows = np.arange(height)[:, None]
    picture[:, left + 1 : right][(rows >= upper) & (rows <= lower)] = _BLACK
    return _png(picture)


def map_png(values: NDArray[Any]) -> bytes:
    """Return a picture of a map, its first row at the bottom; what is fainter than the median, and NaN, is white."""
    seen = np.isfinite(values)
    faint, bright = (float(np.median(values[seen])), float(values[seen].max())) if seen.any() else (0.0, 1.0)
    share = (np.where(seen, values, faint) - faint) / ((bright - faint) or 1.0)
    return _png(np.rint(_WHITE * (1 - np.sqrt(np.clip(share, 0, 1)))).astype(np.uint8)[::-1])


def _png(picture: NDArray[np.uint8]) -> bytes:
    """Return a PNG file (ISO 15948) of 8-bit grey values."""
    height, width = picture.shape
    lines = b"".join(b"\0" + line.tobytes() for line in picture)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
