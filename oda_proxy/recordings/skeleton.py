"""Pick the letters and digits out of data: whatever separates those of a text, they are found among them."""

from __future__ import annotations

from typing import Final

_LARGE: Final = 16 * 1024
"""Bytes of data from which on numpy is faster where most bytes are neither letters nor digits."""
_STEP: Final = 64 * 1024
"""Bytes that are looked at at once: numpy takes several times as much memory."""
_SAMPLE: Final = 4096
"""Bytes of which the letters and digits are counted first."""
_LETTERS: Final = 26
_DIGITS: Final = 10
_CASE: Final = 0x20
"""The bit that lower-case letters have, and upper-case ones have not; digits have it."""

_DELETED: Final = bytes(byte for byte in range(256) if not chr(byte).isascii() or not chr(byte).isalnum())
_LOWER: Final = bytes(range(256)).lower()


def skeleton_of(data: bytes) -> bytes:
    """Return the letters and digits of data, the letters in lower case."""
    if len(data) < _LARGE or 2 * len(data[:_SAMPLE].translate(None, _DELETED)) > _SAMPLE:
        return data.translate(_LOWER, _DELETED)
    return b"".join(_picked(data[at : at + _STEP]) for at in range(0, len(data), _STEP))


def _picked(data: bytes) -> bytes:
    import numpy as np

    codes = np.frombuffer(data, np.uint8)
    lower = codes | np.uint8(_CASE)
    is_letter = lower - np.uint8(ord("a")) < _LETTERS
    is_digit = codes - np.uint8(ord("0")) < _DIGITS
    picked: bytes = lower.compress(is_letter | is_digit).tobytes()
    return picked
