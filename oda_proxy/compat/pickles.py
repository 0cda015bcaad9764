"""The pickles of one answer, each decoded once for its repair, its screening and the search for secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from oda_proxy.codec import base64_steps
from oda_proxy.codec.pickle_allow_list import COMPUTED_NAME
from oda_proxy.codec.pickle_operations import renamed_modules
from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Hashable

PORTABLE_MODULES: Final = {
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.defchararray": "numpy.core.defchararray",
    "numpy.char": "numpy.core.defchararray",
    "astropy.utils.compat.numpycompat": "numpy.core.defchararray",
}
"""Modules of numpy 2 and astropy 8, with the names that every numpy has for the same content."""


@dataclass(slots=True)
class Pickle:
    """A pickle in base64, with the modules that every numpy has."""

    text: str = field(repr=False)
    names: tuple[str, ...] | None
    """The names that it would load; None for a text that is no pickle of an array."""
    data: bytes | None = field(default=None, repr=False)
    """The decoded text; None for one that is no pickle, or that has other characters than those of base64."""


class Pickles:
    """The pickles of an answer by their texts: many products of one answer have the same response matrix.

    Up to `limit` characters are cached from one product to the next.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self._pickles: dict[Hashable, tuple[str, Pickle]] = {}

    def find(self, text: str) -> Pickle:
        """Return a pickle, with its modules renamed."""
        if (found := self._cached(text)) is None:
            found = _read(text)
            if len(text) <= self.limit:
                self._pickles[_key(text)] = text, found
            self._pickles[_key(found.text)] = found.text, found
        return found

    def decoded(self, text: str) -> bytes | None:
        """Return what a text decodes to; None for one that was not read as a pickle."""
        found = self._cached(text)
        return found.data if found else None

    def end_product(self) -> None:
        """Release what the next product does not need."""
        size = sum(len(text) for text, _ in self._pickles.values())
        for key, (text, pickle) in list(self._pickles.items()):
            pickle.data = None
            if size > self.limit:
                del self._pickles[key]
                size -= len(text)

    def _cached(self, text: str) -> Pickle | None:
        cached, pickle = self._pickles.get(_key(text), ("", None))
        return pickle if cached == text else None


_LONG: Final = 1024
"""Characters of a text from which on it is found by a part of them: a hash of all would take longer."""
_PART: Final = 64


def _key(text: str) -> Hashable:
    """Return a key for a text; a long one may share it with others."""
    if len(text) < _LONG:
        return text
    middle = len(text) // 2
    return len(text), text[:_PART], text[middle : middle + _PART], text[-_PART:]


def _read(text: str) -> Pickle:
    try:
        data, is_plain = base64_steps.decode(text)
        portable, names = renamed_modules(data, PORTABLE_MODULES)
    except (ValueError, CodecError):
        return Pickle(text, None)
    if portable is not data:
        text, is_plain = base64_steps.encode(portable), True
    texts = tuple(dict.fromkeys(str(name) if name else COMPUTED_NAME for name in names))
    return Pickle(text, texts, portable if is_plain else None)
