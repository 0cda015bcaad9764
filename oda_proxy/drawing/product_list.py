"""The products of a recording in order, each decoded when it is needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from oda_proxy.codec import wire
from oda_proxy.codec.product import DataProduct
from oda_proxy.errors import CodecError, OdaProxyError
from oda_proxy.query.message_text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class NoProductError(OdaProxyError):
    """A product does not exist, or not in the form that is requested."""

    http_status = 404


@dataclass(frozen=True, eq=False)
class Catalog:
    """A catalogue of sources: columns by name."""

    columns: Mapping[str, list[Any]]
    frame: str = ""


@dataclass(frozen=True, eq=False)
class OtherMember:
    """A member of the answer that this release does not know, as indented JSON."""

    name: str
    text: str


Content: TypeAlias = DataProduct | Catalog | wire.AsciiTable | wire.Binary | wire.Picture | wire.Text | OtherMember


@dataclass(frozen=True)
class ListedProduct:
    """A product: its place among those of the recording, its member of the answer, and its encoded value."""

    number: int
    member: str
    value: Any

    def content(self) -> Content:
        """Decode it. Raises CodecError, or ForbiddenPickleError for a pickle that is not on the allow-list."""
        return _DECODERS.get(self.member, self._other)(self.value)

    def _other(self, value: Any) -> OtherMember:
        return OtherMember(self.member, json.dumps(value, indent=2, ensure_ascii=False))


_LISTS: Final = (
    "numpy_data_product",
    "numpy_data_product_list",
    "catalog",
    "astropy_table_product_ascii_list",
    "binary_image_product_list",
    "text_product_list",
    "binary_data_product_list",
)
"""Members with products, in the order in which products are numbered; others follow."""

_WITHOUT_CONTENT: Final = frozenset(
    {"api_code", "input_prod_list", "instrument_parameters", "instrumet_parameters", "prod_process_message"}
)
"""Members that describe the analysis and are no products."""


def list_products(products: Mapping[str, Any]) -> list[ListedProduct]:
    """List the products of an answer in the wire form, numbered from 0. An empty member has none."""
    return [ListedProduct(number, member, value) for number, (member, value) in enumerate(_values(products))]


def find_product(products: Mapping[str, Any], number: int) -> ListedProduct:
    """Return a product by its number. Raises NoProductError."""
    listed = list_products(products)
    if not 0 <= number < len(listed):
        raise NoProductError(f"there is no product {number}: the recording has {len(listed)}, counted from 0")
    return listed[number]


def name_of(product: DataProduct) -> str:
    """Return the name of a product with arrays, with that of its source if it has one."""
    source = product.meta_data.get("src_name")
    name = product.name or _text(product.meta_data.get("product"))
    if not name:
        name = next((unit.name for unit in product.units if unit.data is not None), "")
    return f"{name} {source}".strip() if isinstance(source, str) and source else name


def title_of(product: DataProduct) -> str:
    """Return the name of a product as a title: with blanks for the underscores, but not for those of its source."""
    name, source = name_of(product), product.meta_data.get("src_name")
    end = source if isinstance(source, str) and name.endswith(source) else ""
    return name.removesuffix(end).replace("_", " ") + end


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _values(products: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    others = [name for name in products if name not in _LISTS and name not in _WITHOUT_CONTENT]
    for member in (*_LISTS, *others):
        value = products.get(member)
        if value is None or value in ("", [], {}):
            continue
        if member.endswith("_list") and isinstance(value, list):
            yield from ((member, item) for item in value)
        elif member != "catalog" or _has_sources(value):
            yield member, value


def _has_sources(value: Any) -> bool:
    columns = value.get("cat_column_list") if isinstance(value, dict) else None
    return isinstance(columns, list) and any(columns)


def _catalog(value: Any) -> Catalog:
    decoded = wire.decode_catalog(value)
    names, columns = decoded["cat_column_names"], decoded["cat_column_list"]
    if not all(isinstance(column, list) for column in columns) or len({len(column) for column in columns}) > 1:
        raise CodecError("the columns of a catalogue are not lists of the same length")
    frame = decoded.get("cat_frame")
    return Catalog(
        {shorten(str(name)): column for name, column in zip(names, columns, strict=True)},
        frame if isinstance(frame, str) else "",
    )


_DECODERS: Final[Mapping[str, Callable[[Any], Content]]] = {
    "numpy_data_product": wire.decode_product,
    "numpy_data_product_list": wire.decode_product,
    "catalog": _catalog,
    "astropy_table_product_ascii_list": wire.decode_ascii_table,
    "binary_image_product_list": wire.decode_picture,
    "text_product_list": wire.decode_text,
    "binary_data_product_list": wire.decode_binary,
}
