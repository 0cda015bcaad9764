"""Find where short patterns begin in binary data, in large data with numpy, which compares many bytes at once."""

from __future__ import annotations

import heapq
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

_LARGE: Final = 16 * 1024
"""Bytes of data from which on numpy is faster than regular expressions."""
_PAIR: Final = 2
_FEW: Final = 6
"""Pairs of bytes up to which it takes less to compare with each than to look each pair of the data up in a table."""
_STEP: Final = 64 * 1024
"""Bytes that are looked through at once: numpy takes four times as much memory."""
_AT_ONCE: Final = 4096
"""Offsets that become Python numbers at once: data may have one for each of their bytes."""


class BytePattern(NamedTuple):
    """A pattern whose matches begin with one of some pairs of bytes, and do not overlap."""

    name: str
    begins: tuple[bytes, ...]
    regex: re.Pattern[bytes]


class PatternScan:
    """Data that are looked through once for the begins of all `patterns`, and then searched for some of them."""

    def __init__(self, data: bytes, patterns: tuple[BytePattern, ...]) -> None:
        self._data = data
        self._scanned: tuple[Any, Any] | None = None
        """For large data, where a pair begins with which a pattern begins, in order, and the pairs as numbers."""
        if len(data) >= _LARGE:
            self._scanned = _pairs_in(data, patterns)

    def starts(self, patterns: tuple[BytePattern, ...]) -> Iterator[tuple[int, str]]:
        """Yield where some of the patterns begin, in order, each with the name of the pattern."""
        if self._scanned is not None:
            return self._matches(patterns, *self._scanned)
        present = [one for one in patterns if any(first in self._data for first in _first_bytes(one))]
        return heapq.merge(*(zip(_offsets(one, self._data), repeat(one.name)) for one in present))

    def _matches(self, patterns: tuple[BytePattern, ...], offsets: Any, pairs: Any) -> Iterator[tuple[int, str]]:
        """Yield the same for large data."""
        by_pair, is_begin = _by_pair(patterns), _table(patterns)
        for begin in range(0, len(offsets), _AT_ONCE):
            some = slice(begin, begin + _AT_ONCE)
            for at in offsets[some][is_begin[pairs[some]]].tolist():
                pattern = by_pair[self._data[at : at + _PAIR]]
                if pattern.regex.match(self._data, at):
                    yield at, pattern.name


def _offsets(pattern: BytePattern, data: bytes) -> Iterator[int]:
    return (found.start() for found in pattern.regex.finditer(data))


def _pairs_in(data: bytes, patterns: tuple[BytePattern, ...]) -> tuple[Any, Any]:
    """Return where data have a pair with which a pattern begins, in order, and which each is, as a number."""
    import numpy as np

    present = [_number(pair) for pair in _by_pair(patterns) if pair[:1] in data and pair[1:] in data]
    found = [np.empty(0, np.uint32)]
    for begin in range(0, len(data) - 1, _STEP) if present else ():
        for shifted in (begin, begin + 1):  # the pairs that begin at even, and at odd offsets
            words = np.frombuffer(data, "<u2", min(_STEP, len(data) - shifted) // _PAIR, shifted)
            if len(present) > _FEW:
                is_pair = _table(patterns).take(words)
            else:
                is_pair = words == present[0]
                for number in present[1:]:
                    is_pair |= words == number
            found.append((np.flatnonzero(is_pair) * _PAIR + shifted).astype(np.uint32))
    offsets = np.sort(np.concatenate(found))
    codes = np.frombuffer(data, np.uint8)
    return offsets, codes[offsets] | codes[offsets + 1].astype(np.uint16) << 8


@lru_cache
def _by_pair(patterns: tuple[BytePattern, ...]) -> dict[bytes, BytePattern]:
    """Return the patterns by the pairs with which they begin."""
    return {pair: pattern for pattern in patterns for pair in pattern.begins}


@lru_cache
def _first_bytes(pattern: BytePattern) -> frozenset[bytes]:
    return frozenset(pair[:1] for pair in pattern.begins)


@lru_cache(16)
def _table(patterns: tuple[BytePattern, ...]) -> Any:
    """Return a table of all pairs of bytes, which tells whether a pattern begins with a pair."""
    import numpy as np

    table = np.zeros(2**16, np.bool_)
    table[[_number(pair) for pair in _by_pair(patterns)]] = True
    return table


def _number(pair: bytes) -> int:
    return int.from_bytes(pair, "little")
