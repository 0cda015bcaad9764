"""An answer to `run_analysis`, parsed once for everything that is done with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec.json_spans import JsonItem, JsonMember, decode_items, decode_members
from oda_proxy.codec.json_steps import decode, skip_space

if TYPE_CHECKING:
    from collections.abc import Iterator

PRODUCTS: Final = "products"
PRODUCT_LIST: Final = "numpy_data_product_list"
"""The member of `products` that makes answers large; its elements are processed one by one."""


class ProductList:
    """The elements of `PRODUCT_LIST`, which are released one by one while they are processed."""

    def __init__(self, items: list[JsonItem]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[JsonItem]:
        return iter(self._items)

    def take_all(self, text: str, begin: int, end: int) -> Iterator[tuple[str, JsonItem | None]]:
        """Yield each element of the list between two positions with the text before it, then None with the rest."""
        items, self._items = self._items[::-1], []
        while items:
            item = items.pop()
            yield text[begin : item.begin], item
            begin = item.end
        yield text[begin:end], None


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """The members of an answer, with their positions in its text."""

    text: str = field(repr=False)
    members: tuple[JsonMember, ...] = field(repr=False)
    """Those of the answer; the value of `products` is only whether it has any."""
    products: tuple[JsonMember, ...] = field(repr=False)
    """Those of `products`, none where it is no object; the value of `PRODUCT_LIST` is a `ProductList`."""
    has_products: bool
    """Whether `products` is an object."""
    is_complete: bool
    """Whether nothing follows the answer in its text."""

    @property
    def json(self) -> dict[str, Any]:
        """The members of the answer, `products` as true or false."""
        return {member.name: member.value for member in self.members}


def parse_answer(body: bytes) -> ParsedAnswer:
    """Parse an answer. Raises ValueError and RecursionError, as `decode_members`."""
    text = body.decode("utf-8")
    products: list[JsonMember] = []
    found: list[bool] = []

    def decode_products(text: str, at: int) -> tuple[Any, int]:
        if text[at : at + 1] != "{":
            value, end = decode(text, at)
            return bool(value), end
        members, end = decode_members(text, at, {PRODUCT_LIST: _decode_product_list})
        products.extend(members)
        found.append(True)
        return bool(members), end

    top, end = decode_members(text, skip_space(text, 0), {PRODUCTS: decode_products})
    is_complete = skip_space(text, end) == len(text)
    return ParsedAnswer(text, tuple(top), tuple(products), bool(found), is_complete)


def _decode_product_list(text: str, at: int) -> tuple[Any, int]:
    if text[at : at + 1] != "[":
        return decode(text, at)
    items, end = decode_items(text, at)
    return ProductList(items), end
