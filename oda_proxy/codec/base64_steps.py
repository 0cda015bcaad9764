"""Base64 of large arrays, decoded and encoded in small steps, so that other threads run meanwhile."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEP: Final = 256 * 1024
"""Characters that are decoded at once, a multiple of four."""
_BYTES: Final = _STEP // 4 * 3
"""Bytes that are encoded at once."""


def decode(text: str) -> tuple[bytes, bool]:
    """Return the bytes of base64, like `binascii.a2b_base64`, and whether it has no other characters.

    Raises ValueError.
    """
    try:
        return b"".join(_decoded(text)), True
    except ValueError:
        return binascii.a2b_base64(text), False


def encode(data: bytes) -> str:
    """Return bytes as base64."""
    return "".join(
        binascii.b2a_base64(data[at : at + _BYTES], newline=False).decode("ascii") for at in range(0, len(data), _BYTES)
    )


def _decoded(text: str) -> Iterator[bytes]:
    """Decode a text that is base64 from its first to its last character. Raises ValueError for any other."""
    for at in range(0, len(text), _STEP):
        some = text[at : at + _STEP]
        if some.endswith("=") and at + _STEP < len(text):
            raise ValueError("it is padded before its end")
        yield binascii.a2b_base64(some, strict_mode=True)
