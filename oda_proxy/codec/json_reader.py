"""Parse a large JSON text piece by piece, with the positions of its parts, so that unchanged parts keep their bytes."""

from __future__ import annotations

import codecs
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oda_proxy.codec.json_steps import decode, skip_space
from oda_proxy.codec.shared_texts import SharedTexts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_AHEAD: Final = 1024 * 1024
"""Characters that are decoded before a value is parsed; the largest values take more."""
_REST_OF_NUMBER: Final = len("e+1")
"""Characters after a number that has ended, if the text ends there, but that goes on with those that follow."""


class JsonMember(NamedTuple):
    """A member of an object, with the start and end of its value in bytes of the text."""

    name: str
    value: Any
    begin: int
    end: int


class JsonItem(NamedTuple):
    """An element of a list, with its start and end in bytes of the text, and the text before it."""

    value: Any
    begin: int
    end: int
    before: str


class JsonReader:
    """Reads a text in UTF-8, of which only the value that is parsed is in memory.

    Its methods raise ValueError for what is not JSON, and RecursionError where it is nested too deeply. A name must not
    come twice in an object, at any depth: clients do not agree on which value counts, and the other one would be in the
    text of a part that keeps its bytes, but not in the value that is searched for secrets.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._counted = (0, 0)
        """A position in the text in memory, and the same in bytes from the beginning."""
        self._is_last = False
        self.texts = SharedTexts()
        """The long texts in elements of lists."""

    def value(self) -> tuple[Any, int, int]:
        """Return the next value, with its start and end in bytes."""
        self._space()
        ahead = _AHEAD
        self._read_ahead(ahead)
        while True:
            try:
                value, end = decode(self._text, self._at, unique_names=True)
                if len(self._text) - end > _REST_OF_NUMBER or self._is_last:
                    break
            except ValueError:
                if self._is_last:
                    raise
            ahead = max(ahead, len(self._text) - self._at + 1)
            self._read_ahead(ahead)
        begin = self._position()
        self._at = end
        return value, begin, self._position()

    def members(self, readers: Mapping[str, Callable[[], Any]] = MappingProxyType({})) -> list[JsonMember]:
        """Return the members of the next object; `readers` read the values of some."""
        members: list[JsonMember] = []
        seen: set[str] = set()
        self._expect("{")
        if self.next_character() == "}":
            self._expect("}")
            return members
        while True:
            name, _, _ = self.value()
            if not isinstance(name, str) or name in seen:
                raise ValueError(f"{name!r:.100} is no name of a member, or comes twice")
            seen.add(name)
            self._expect(":")
            self._space()
            if name in readers:
                begin = self._position()
                value, end = readers[name](), self._position()
            else:
                value, begin, end = self.value()
            members.append(JsonMember(name, value, begin, end))
            if self.next_character() == "}":
                self._expect("}")
                return members
            self._expect(",")

    def items(self) -> tuple[list[JsonItem], str]:
        """Return the elements of the next list, and the text after the last one; equal long texts are one object."""
        items: list[JsonItem] = []
        before = self._expect("[") + self._space()
        if self.next_character() == "]":
            return items, before + self._expect("]")
        while True:
            value, begin, end = self.value()
            items.append(JsonItem(self.texts.share(value), begin, end, before))
            if self.next_character() == "]":
                return items, self._expect("]")
            before = self._expect(",") + self._space()

    def next_character(self) -> str:
        """Return the next character that is no space, without reading it; an empty text at the end."""
        at = skip_space(self._text, self._at)
        while at == len(self._text) and not self._is_last:
            self._read_ahead(len(self._text) - self._at + 1)
            at = skip_space(self._text, self._at)
        return self._text[at : at + 1]

    def _expect(self, character: str) -> str:
        """Read a character that must come next, after spaces; return it with them."""
        if self.next_character() != character:
            raise ValueError(f"no {character} at byte {self._position()}")
        return self._space() + self._skip(self._at + 1)

    def _space(self) -> str:
        """Read spaces, and return them."""
        self.next_character()
        return self._skip(skip_space(self._text, self._at))

    def _skip(self, end: int) -> str:
        text, self._at = self._text[self._at : end], end
        return text

    def _position(self) -> int:
        """Return the position in bytes."""
        at, size = self._counted
        size += _size(self._text, at, self._at)
        self._counted = (self._at, size)
        return size

    def _read_ahead(self, size: int) -> None:
        """Have `size` characters ahead, unless the text ends: if there are less, decode twice as many.

        What was read is released.
        """
        if self._is_last or len(self._text) - self._at >= size:
            return
        self._counted = (0, self._position())
        texts = [self._text[self._at :]]
        ahead = len(texts[0])
        while ahead < 2 * size and not self._is_last:
            piece = next(self._pieces, None)
            self._is_last = piece is None
            texts.append(self._decoder.decode(piece or b"", self._is_last))
            ahead += len(texts[-1])
        self._text, self._at = "".join(texts), 0


def _size(text: str, begin: int, end: int) -> int:
    """Return the bytes of a part of a text in UTF-8."""
    return end - begin if text.isascii() else len(text[begin:end].encode("utf-8"))
