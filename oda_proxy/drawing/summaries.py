"""Summaries of products for a page: names, forms, data units with their shapes, columns and units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec import wire
from oda_proxy.codec.product import DataProduct
from oda_proxy.drawing import headers, images, light_curves, spectra
from oda_proxy.drawing.choice import drawing_of
from oda_proxy.drawing.downloads import file_name
from oda_proxy.drawing.drawings import TableDrawing, TextDrawing
from oda_proxy.drawing.product_list import Catalog, list_products, name_of
from oda_proxy.errors import CodecError, OdaProxyError
from oda_proxy.query.message_text import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oda_proxy.codec.product import DataUnit
    from oda_proxy.drawing.product_list import Content, ListedProduct

_MAX_COLUMNS: Final = 60
_READABLE: Final = frozenset({"catalogue", "table", "text"})
"""Kinds of products that a page shows as text, beside their pictures."""


def summaries_of(products: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a summary of each product, as JSON.

    Members: `number`; `kind` (`image`, `curve`, `spectrum`, `response`, `table`, `catalogue`, `picture`, `text`, `file`
    or `damaged`); `name`; `source`; `file` (its name in products.zip); `has_picture`; `has_fits`; `error` of a damaged
    one; `units`, each with `name`, `kind` of an image (`significance`), `shape`, `columns`, `units` of columns and the
    number of `cards`; and `preview`: the first `rows` of a table with its `columns` and their `units`, or the first
    `lines` of a text; with `notes`.
    """
    everything = list_products(products)
    found = [(listed, _summary(listed.number, _decoded(listed))) for listed in everything]
    return [{**summary, "preview": _preview(listed, everything, summary["kind"])} for listed, summary in found]


def _preview(listed: ListedProduct, others: Sequence[ListedProduct], kind: str) -> dict[str, Any] | None:
    if kind not in _READABLE:
        return None
    try:
        drawing = drawing_of(listed, others)
    except OdaProxyError:
        return None
    match drawing:
        case TableDrawing():
            columns = {"columns": list(drawing.names), "units": list(drawing.units)}
            return {**columns, "rows": [list(row) for row in drawing.rows], "notes": list(drawing.notes)}
        case TextDrawing():
            return {"lines": list(drawing.lines), "notes": list(drawing.notes)}
    return None


def _decoded(listed: ListedProduct) -> Content | CodecError:
    try:
        return listed.content()
    except CodecError as error:
        return error


def _summary(number: int, content: Content | CodecError) -> dict[str, Any]:
    if isinstance(content, CodecError):
        summary = {"kind": "damaged", "name": f"product {number}", "file": "", "error": str(content)}
        return {"number": number, "source": "", "has_picture": False, "has_fits": False, "units": [], **summary}
    source = content.meta_data.get("src_name") if isinstance(content, DataProduct) else None
    return {
        "number": number,
        "kind": _kind(content),
        "name": shorten(_name(content)),
        "source": shorten(source) if isinstance(source, str) else "",
        "file": f"{number:03d}-{file_name(content)}",
        "has_picture": not isinstance(content, wire.Binary),
        "has_fits": isinstance(content, DataProduct | Catalog),
        "error": "",
        "units": [_unit(unit) for unit in content.units] if isinstance(content, DataProduct) else [],
    }


def _kind(content: Content) -> str:
    match content:
        case DataProduct():
            return _kind_of_arrays(content)
        case Catalog():
            return "catalogue"
        case wire.Picture():
            return "picture"
        case wire.AsciiTable():
            return "table"
        case wire.Binary():
            return "file"
    return "text"


def _kind_of_arrays(product: DataProduct) -> str:
    if images.best_image(product.units):
        return "image"
    if any(spectra.is_response(unit) for unit in product.units):
        return "response"
    if any(spectra.spectrum_of(product, unit, ()) for unit in product.units):
        return "spectrum"
    return "curve" if any(light_curves.curve_of(product, unit) for unit in product.units) else "table"


def _name(content: Content) -> str:
    match content:
        case DataProduct():
            return name_of(content) or "product"
        case Catalog():
            return "catalogue"
        case wire.Picture() if not content.name:
            return content.filename or "picture"
    return content.name or _kind(content)


def _unit(unit: DataUnit) -> dict[str, Any]:
    names = list((unit.data.dtype.names or ()) if unit.data is not None else ())[:_MAX_COLUMNS]
    return {
        "name": shorten(unit.name),
        "kind": shorten(images.image_type(unit).casefold()) if images.is_image(unit) else "",
        "shape": [] if unit.data is None else list(unit.data.shape),
        "columns": [shorten(name) for name in names],
        "units": [headers.column_unit(unit, name) for name in names],
        "cards": len(unit.header),
    }
