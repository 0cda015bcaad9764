"""One walk over the products of an answer, in which each is repaired, screened, observed and written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from oda_proxy.compat import screening
from oda_proxy.compat.answer_writer import AnswerWriter, compact_pieces
from oda_proxy.compat.parsed_answer import PRODUCTS, ProductList
from oda_proxy.compat.pickles import Pickles
from oda_proxy.compat.program_address import with_address
from oda_proxy.compat.repairs import repaired_member, repaired_product

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oda_proxy.codec.json_reader import JsonMember
    from oda_proxy.compat.parsed_answer import ParsedAnswer


class MemberObserver(Protocol):
    """Sees the repaired members of an answer while they are written, each with its text."""

    def begin(self, others: Mapping[str, Any], products: Mapping[str, Any], pickles: Pickles) -> None:
        """Take the members beside `products`, and those of `products`; the elements of `PRODUCT_LIST` follow."""

    def add_member(self, name: str, value: Any, pieces: Sequence[bytes]) -> None:
        """Take a member of `products`."""

    def begin_list(self, name: str) -> None:
        """Begin with a member of `products` of which each element is taken by itself."""

    def add_punctuation(self, text: str) -> None:
        """Take the text before an element, or after the last one."""

    def add_item(self, value: Any, pieces: Sequence[bytes]) -> None:
        """Take an element."""


class AnswerWalk:
    """One walk over the products of an answer: each is repaired, screened, observed and written."""

    def __init__(
        self, parsed: ParsedAnswer, writer: AnswerWriter, observer: MemberObserver | None, base_url: str = ""
    ) -> None:
        """`base_url` is the address of the proxy for the client; empty where that is not known."""
        self.writer = writer
        self.forbidden: set[str] = set()
        self._parsed = parsed
        self._observer = observer
        self._base_url = base_url
        self._pickles = Pickles(parsed.repeated)

    def repair(self, others: Mapping[str, Any]) -> None:
        """Repair the products, and write them beside the `others`, if anything changes."""
        products = {
            member.name: member.value if _is_list(member) else self._repaired(member)
            for member in self._parsed.products
        }
        self._screen({name: value for name, value in products.items() if not isinstance(value, ProductList)})
        if self._observer:
            self._observer.begin(others, products, self._pickles)
        if not self._has_same_members(others):
            self.writer.mark_changed()
        separator = "{"
        for member in self._parsed.members:
            if member.name != PRODUCTS and member.name not in others:
                continue
            self.writer.punctuation(separator)
            self.writer.name(member.name)
            separator = ","
            if member.name != PRODUCTS:
                self._add_member(member, others[member.name])
            elif self._parsed.has_products:
                self._repair_products(products)
            else:
                self.writer.changed((b"{}",))
        self._append(separator, others)

    def _repaired(self, member: JsonMember) -> Any:
        value = repaired_member(member.name, member.value, self._pickles)
        return with_address(member.name, value, self._base_url)

    def _has_same_members(self, others: Mapping[str, Any]) -> bool:
        """Return whether the answer has these members beside `products`, and no more."""
        before = {member.name: member.value for member in self._parsed.members}
        is_complete = others.keys() | {PRODUCTS} == before.keys() and self._parsed.has_products
        return is_complete and all(others[name] is before[name] for name in others)

    def _append(self, separator: str, others: Mapping[str, Any]) -> None:
        """Write the members that the answer did not have, and its end."""
        before = {member.name for member in self._parsed.members}
        if PRODUCTS not in before:
            self.writer.punctuation(f'{separator}"products":{{}}')
        for name, value in others.items():
            if name not in before:
                self.writer.punctuation(",")
                self.writer.name(name)
                self.writer.changed(list(compact_pieces(value)))
        self.writer.punctuation("}\n")

    def _repair_products(self, products: dict[str, Any]) -> None:
        separator = "{"
        for member in self._parsed.products:
            self.writer.punctuation(separator)
            self.writer.name(member.name)
            separator = ","
            if isinstance(member.value, ProductList):
                self._repair_list(member.name, member.value)
                continue
            value = products.pop(member.name)
            pieces = self._add_member(member, value)
            if self._observer:
                self._observer.add_member(member.name, value, pieces)
            self._pickles.end_product()
        self.writer.punctuation("{}" if separator == "{" else "}")

    def _repair_list(self, name: str, items: ProductList) -> None:
        if self._observer:
            self._observer.begin_list(name)
        for before, item in items.take_all():
            self.writer.punctuation(before)
            if self._observer:
                self._observer.add_punctuation(before)
            if item is None:
                break
            value = repaired_product(item.value, self._pickles)
            end, unchanged = item.end, (item.begin, item.end) if value is item.value else None
            del item  # a large product is not held as it was received and as it is repaired
            self._screen(value)
            pieces = self._add(value, unchanged)
            if self._observer:
                self._observer.add_item(value, pieces)
            del value, pieces
            if self.writer.is_changed:
                self._parsed.release(end)
            self._pickles.end_product()

    def _add_member(self, member: JsonMember, value: Any) -> Sequence[bytes]:
        """Write a member with its value, and return its text, as `_add`."""
        return self._add(value, (member.begin, member.end) if value is member.value else None)

    def _add(self, value: Any, unchanged: tuple[int, int] | None) -> Sequence[bytes]:
        """Write a value, and return its text, if there is an observer to see it.

        `unchanged` are the begin and end in the original text of a value that keeps its bytes.
        """
        pieces: Sequence[bytes] = ()
        if unchanged is None:
            pieces = list(compact_pieces(value))
            self.writer.changed(pieces)
        else:
            self.writer.unchanged(*unchanged)
            if self._observer:
                pieces = list(self._parsed.text(*unchanged))
        return pieces

    def _screen(self, value: Any) -> None:
        self.forbidden.update(screening.forbidden_names(value, self._pickles))


def _is_list(member: JsonMember) -> bool:
    return isinstance(member.value, ProductList)
