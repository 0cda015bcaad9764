"""Base64 of large arrays, decoded and encoded in steps, so that other threads run meanwhile."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Final

import pybase64

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEP: Final = 4 * 1024 * 1024
"""Characters that are decoded at once, a multiple of four: they take less than a millisecond."""
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


def decode_characters(characters: bytes) -> bytes:
    """Return the bytes of characters of base64 without padding; a last one that is no byte is ignored."""
    end = len(characters) - (len(characters) % 4 == 1)
    steps = (characters[at : min(at + _STEP, end)] for at in range(0, end, _STEP))
    return b"".join(pybase64.b64decode(step + b"=" * (-len(step) % 4), validate=True) for step in steps)


def encode(data: bytes) -> str:
    """Return bytes as base64."""
    steps = (data[at : at + _BYTES] for at in range(0, len(data), _BYTES))
    return "".join(map(pybase64.b64encode_as_string, steps))


def _decoded(text: str) -> Iterator[bytes]:
    """Decode a text that is base64 from its first to its last character. Raises ValueError for any other."""
    for at in range(0, len(text), _STEP):
        some = text[at : at + _STEP]
        if some.endswith("=") and at + _STEP < len(text):
            raise ValueError("it is padded before its end")
        yield pybase64.b64decode(some, validate=True)
