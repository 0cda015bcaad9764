"""The pickles of one answer, each decoded once for its repair, its screening and the search for secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from oda_proxy.codec import base64_steps
from oda_proxy.codec.pickle_allow_list import COMPUTED_NAME
from oda_proxy.codec.pickle_operations import renamed_modules
from oda_proxy.codec.shared_texts import text_key
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

    Those with the keys of `repeated` texts (`text_key`) are cached from one product to the next.
    """

    def __init__(self, repeated: frozenset[Hashable] = frozenset()) -> None:
        self._repeated = {*repeated}
        self._pickles: dict[Hashable, tuple[str, Pickle]] = {}

    def is_repeated(self, text: str) -> bool:
        """Return whether another product has the same text, before or after its modules were renamed."""
        return text_key(text) in self._repeated

    def find(self, text: str) -> Pickle:
        """Return a pickle, with its modules renamed."""
        if (found := self._cached(text)) is None:
            found = _read(text)
            if self.is_repeated(text):
                self._repeated.add(text_key(found.text))
                self._pickles[text_key(text)] = text, found
            self._pickles[text_key(found.text)] = found.text, found
        return found

    def decoded(self, text: str) -> bytes | None:
        """Return what a text decodes to; None for one that was not read as a pickle in this product."""
        found = self._cached(text)
        return found.data if found else None

    def end_product(self) -> None:
        """Release what the next product does not need."""
        for key, (text, pickle) in list(self._pickles.items()):
            pickle.data = None
            if not self.is_repeated(text):
                del self._pickles[key]

    def _cached(self, text: str) -> Pickle | None:
        cached, pickle = self._pickles.get(text_key(text), ("", None))
        return pickle if cached == text else None


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
