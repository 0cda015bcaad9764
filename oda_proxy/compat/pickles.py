"""The pickles of one answer, each decoded once for its repair, its screening and the search for secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from oda_proxy.codec import base64_steps
from oda_proxy.codec.pickle_allow_list import COMPUTED_NAME
from oda_proxy.codec.pickle_operations import renamed_modules
from oda_proxy.errors import CodecError

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

    Up to `limit` characters are remembered from one product to the next.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self._pickles: dict[str, Pickle] = {}

    def find(self, text: str) -> Pickle:
        """Return a pickle, with its modules renamed."""
        if (found := self._pickles.get(text)) is None:
            found = self._pickles[text] = _read(text)
            self._pickles[found.text] = found
        return found

    def decoded(self, text: str) -> bytes | None:
        """Return what a text decodes to; None for one that was not read as a pickle."""
        found = self._pickles.get(text)
        return found.data if found else None

    def end_product(self) -> None:
        """Release what the next product does not need."""
        size = sum(map(len, self._pickles))
        for text, pickle in list(self._pickles.items()):
            pickle.data = None
            if size > self.limit:
                del self._pickles[text]
                size -= len(text)


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
