"""Pictures that products hold: checked, and as PNG."""

from __future__ import annotations

import io
import warnings
from typing import Final

_FORMATS: Final = ("PNG", "JPEG", "GIF")
MAX_FILE: Final = 32 * 1024 * 1024
MAX_PIXELS: Final = 40_000_000
_PNG: Final = b"\x89PNG\r\n\x1a\n"


def checked_png(data: bytes) -> bytes:
    """Return a picture as PNG: the same bytes if it is a complete PNG file, else converted from JPEG or GIF.

    Raises ValueError for other data, a damaged file, and more than 40 million pixels.
    """
    from PIL import Image

    if len(data) > MAX_FILE:
        raise ValueError(f"its file has more than {MAX_FILE // 2**20} MiB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ValueError(f"it has {picture.width} x {picture.height} pixels")
                picture.load()
                if picture.format == "PNG" and _ends_with_its_last_chunk(data):
                    return data
                converted = io.BytesIO()
                picture.convert("RGBA").save(converted, "PNG")
                return converted.getvalue()
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a complete PNG, JPEG or GIF file ({type(error).__name__})") from None


def _ends_with_its_last_chunk(data: bytes) -> bool:
    """Return whether a PNG file has nothing behind its end (PNG specification, section 5.3)."""
    at = len(_PNG)
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        at += 12 + length
        if kind == b"IEND":
            return at == len(data)
    return False
