"""Find where short patterns begin in binary data, in large data with numpy, which compares many bytes at once."""

from __future__ import annotations

import heapq
from itertools import repeat
from typing import TYPE_CHECKING, Final, NamedTuple

from oda_proxy.codec.json_steps import STEP

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Sequence

_LARGE: Final = 16 * 1024
"""Bytes of data from which on numpy is faster than regular expressions."""
_PAIR: Final = 2
LONGEST: Final = 16
"""Bytes of the longest match of a pattern of which only the first byte is the same in all matches."""


class BytePattern(NamedTuple):
    """A pattern whose matches begin with the same one or two bytes, and do not overlap.

    A match has up to `LONGEST` bytes where only its first byte is the same in all.
    """

    name: str
    begin: bytes
    regex: re.Pattern[bytes]


def find_starts(data: bytes, patterns: Sequence[BytePattern]) -> Iterator[tuple[int, str]]:
    """Yield where patterns begin in data, in order, each with the name of the pattern."""
    present = [pattern for pattern in patterns if pattern.begin[:1] in data]
    pairs: dict[bytes, BytePattern] = {}
    if len(data) >= _LARGE:
        pairs = {pattern.begin: pattern for pattern in present if len(pattern.begin) == _PAIR}
    found = [zip(_offsets(pattern, data), repeat(pattern.name)) for pattern in present if pattern.begin not in pairs]
    return heapq.merge(*found, _starts_of_pairs(pairs, data)) if pairs else heapq.merge(*found)


def _offsets(pattern: BytePattern, data: bytes) -> Iterator[int]:
    """Yield where a pattern begins in data, which is searched in steps for other threads to run in between."""
    for begin in range(0, len(data), STEP):
        for found in pattern.regex.finditer(data, begin, begin + STEP + LONGEST):
            if found.start() < begin + STEP:
                yield found.start()


def _starts_of_pairs(pairs: dict[bytes, BytePattern], data: bytes) -> Iterator[tuple[int, str]]:
    """Yield where patterns begin in large data, with their names; `pairs` are the patterns by their first two bytes."""
    import numpy as np

    numbers = [int.from_bytes(pair, "little") for pair in pairs]
    for begin in range(0, len(data) - 1, STEP):
        starts: list[int] = []
        for shifted in (begin, begin + 1):  # the pairs that begin at even, and at odd offsets
            words = np.frombuffer(data, "<u2", min(STEP, len(data) - shifted) // _PAIR, shifted)
            is_pair = np.zeros(len(words), np.bool_)
            for number in numbers:
                is_pair |= words == number
            starts += (np.flatnonzero(is_pair) * _PAIR + shifted).tolist()
        for at in sorted(starts):
            pattern = pairs[data[at : at + _PAIR]]
            if pattern.regex.match(data, at):
                yield at, pattern.name
