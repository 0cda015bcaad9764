"""An answer to `run_analysis`, parsed once for everything that is done with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec.json_reader import JsonItem, JsonMember, JsonReader

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    Text = Callable[[int, int], Iterator[bytes]]
    """The text of an answer: a function that returns the bytes between two positions, in pieces."""

PRODUCTS: Final = "products"
PRODUCT_LIST: Final = "numpy_data_product_list"
"""The member of `products` that makes answers large; its elements are processed one by one."""

_PIECE: Final = 256 * 1024
"""Bytes of a piece of a text."""


class ProductList:
    """The elements of `PRODUCT_LIST`, which are released one by one while they are processed."""

    def __init__(self, items: list[JsonItem], after: str) -> None:
        self._items = items
        self._after = after

    def __iter__(self) -> Iterator[JsonItem]:
        return iter(self._items)

    def take_all(self) -> Iterator[tuple[str, JsonItem | None]]:
        """Yield the text before each element, with the element, then the text after the last one, with None."""
        items, self._items = self._items[::-1], []
        while items:
            yield items[-1].before, items.pop()  # no name holds it while it is processed
        yield self._after, None


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """The members of an answer, with their positions in its text."""

    text: Text = field(repr=False)
    size: int
    """Bytes of the text."""
    members: tuple[JsonMember, ...] = field(repr=False)
    """Those of the answer; the value of `products` is only whether it has any."""
    products: tuple[JsonMember, ...] = field(repr=False)
    """Those of `products`, none where it is no object; the value of `PRODUCT_LIST` is a `ProductList`."""
    has_products: bool
    """Whether `products` is an object."""
    is_complete: bool
    """Whether nothing follows the answer in its text."""
    repeated: frozenset[Hashable] = frozenset()
    """The keys of long texts that more than one element of the list has (`text_key`)."""
    release: Callable[[int], None] = lambda _: None
    """A function that releases the text before a position, which is needed no more."""

    @property
    def json(self) -> dict[str, Any]:
        """The members of the answer, `products` as true or false."""
        return {member.name: member.value for member in self.members}


def parse_answer(body: bytes) -> ParsedAnswer:
    """Parse an answer. Raises ValueError, and RecursionError where it is nested too deeply."""

    def text(begin: int, end: int) -> Iterator[bytes]:
        return (body[at : min(at + _PIECE, end)] for at in range(begin, end, _PIECE))

    return parse_text(text, len(body))


def parse_text(text: Text, size: int, release: Callable[[int], None] = lambda _: None) -> ParsedAnswer:
    """Parse an answer of `size` bytes, of which only the products are in memory afterwards, as `parse_answer`.

    `release` releases its text before a position.
    """
    reader = JsonReader(text(0, size))
    found: list[list[JsonMember]] = []

    def read_products() -> bool:
        if reader.next_character() != "{":
            value, _, _ = reader.value()
            return bool(value)
        found.append(reader.members({PRODUCT_LIST: read_list}))
        return bool(found[0])

    def read_list() -> Any:
        if reader.next_character() == "[":
            return ProductList(*reader.items())
        value, _, _ = reader.value()
        return value

    members = reader.members({PRODUCTS: read_products})
    return ParsedAnswer(
        text=text,
        size=size,
        members=tuple(members),
        products=tuple(found[0]) if found else (),
        has_products=bool(found),
        is_complete=not reader.next_character(),
        repeated=reader.texts.take_repeated(),
        release=release,
    )
