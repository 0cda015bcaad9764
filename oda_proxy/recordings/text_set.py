"""Search data for any of several texts at once, in large data with numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LARGE: Final = 16 * 1024
"""Bytes of data from which on numpy is faster than a search for each text."""
_STEP: Final = 64 * 1024
"""Bytes that are searched at once: numpy takes as much memory again several times."""
_BLOCK: Final = 4
"""Bytes of a block. Data are compared in whole blocks, so that a text is found by a block within it."""
_SHORTEST: Final = 2 * _BLOCK - 1
"""Bytes of a text that has a whole block, wherever it begins."""
_BITS: Final = 15
_FACTOR: Final = 2654435761
"""Multiplicative hashing: 2**32 divided by the golden ratio."""


class TextSet:
    """Texts of seven or more bytes each, of which data may hold any."""

    def __init__(self, texts: Iterable[bytes]) -> None:
        self._texts = tuple(dict.fromkeys(texts))
        if any(len(text) < _SHORTEST for text in self._texts):
            raise ValueError(f"a text is shorter than {_SHORTEST} bytes")
        self._longest = max(map(len, self._texts), default=0)
        self._blocks = frozenset(text[at : at + _BLOCK] for text in self._texts for at in range(_BLOCK))
        """Of each text a block for each place at which it can begin within a block of the data."""
        self._table: Any = None

    def is_in(self, data: bytes) -> bool:
        """Return whether data hold any of the texts."""
        if len(data) < _LARGE:
            return self._is_within(data)
        return any(self._is_within(data[begin:end]) for begin, end in self._parts(data))

    def _is_within(self, data: bytes) -> bool:
        return any(text in data for text in self._texts)

    def _parts(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield the begin and end of all parts of large data, in which a text may begin."""
        import numpy as np

        if self._table is None:
            self._table = np.zeros(2**_BITS, np.bool_)
            self._table[_hashed(b"".join(self._blocks))] = True
        for begin in range(0, len(data), _STEP):
            hashed = _hashed(memoryview(data)[begin : begin + _STEP])
            for block in np.flatnonzero(self._table.take(hashed)).tolist():
                at = begin + block * _BLOCK
                if data[at : at + _BLOCK] in self._blocks:
                    yield max(at - _BLOCK + 1, 0), at + self._longest


def _hashed(data: bytes | memoryview) -> Any:
    """Return a number of `_BITS` bits for each whole block of data."""
    import numpy as np

    blocks = np.frombuffer(data, np.uint32, len(data) // _BLOCK)
    return (blocks * np.uint32(_FACTOR)) >> np.uint32(32 - _BITS)
