"""The drawing of a product: which of its units is drawn, and with what of the other products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec import wire
from oda_proxy.codec.product import DataProduct
from oda_proxy.drawing import headers, images, light_curves, spectra, tables
from oda_proxy.drawing.drawings import PictureDrawing
from oda_proxy.drawing.product_list import Catalog, NoProductError, find_product, list_products, title_of
from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oda_proxy.codec.product import DataUnit
    from oda_proxy.drawing.drawings import Drawing, Source
    from oda_proxy.drawing.product_list import ListedProduct

_ARRAYS: Final = {"numpy_data_product", "numpy_data_product_list"}
_MAX_RESPONSES: Final = 200
"""Products among which the response of a spectrum is searched for."""


def choose_drawing(products: Mapping[str, Any], number: int) -> Drawing:
    """Return the drawing of a product of an answer in the wire form.

    Raises NoProductError if it does not exist, otherwise as `drawing_of`.
    """
    return drawing_of(find_product(products, number), list_products(products))


def drawing_of(listed: ListedProduct, others: Sequence[ListedProduct]) -> Drawing:
    """Return the drawing of a product; `others` are all products of the answer.

    Raises NoProductError if it has none, and CodecError or ForbiddenPickleError if it cannot be decoded.
    """
    content = listed.content()
    match content:
        case DataProduct():
            return _arrays(content, listed, others)
        case Catalog():
            units = {name: "deg" for name in content.columns if name.casefold() in {"ra", "dec", "err_rad"}}
            units |= {name: "sigma" for name in content.columns if name.casefold() == "significance"}
            return tables.table_of_columns("catalogue", content.columns, units)
        case wire.Picture():
            return PictureDrawing(content.data)
        case wire.Text():
            return tables.text_of(content.name or "text", content.value)
        case wire.AsciiTable():
            return tables.text_of(content.name or "table", content.text)
        case wire.Binary():
            raise NoProductError(f"{content.name or 'this file'} has no picture: it is a file of unknown content")
    return tables.text_of(content.name, content.text)


def choose_best(products: Mapping[str, Any]) -> Drawing:
    """Return the drawing that shows most of an answer: an image, a curve or spectrum, or else its first product.

    Raises NoProductError if there is nothing to draw, CodecError as `choose_drawing`.
    """
    ranked: list[tuple[int, int]] = []
    for listed in list_products(products):
        content = listed.content()
        match content:
            case DataProduct() if images.best_image(content.units):
                rank = 0
            case DataProduct() if any(_is_curve(content, unit) for unit in content.units):
                rank = 1
            case wire.Binary():
                continue
            case wire.Picture():
                rank = 2
            case _:
                rank = 3
        if rank == 0:
            return choose_drawing(products, listed.number)
        ranked.append((rank, listed.number))
    if not ranked:
        raise NoProductError("this recording has no product to draw")
    return choose_drawing(products, min(ranked)[1])


def _arrays(product: DataProduct, listed: ListedProduct, others: Sequence[ListedProduct]) -> Drawing:
    if image := images.best_image(product.units):
        return images.drawing_of(product, image, _sources(product, others))
    if matrix := spectra.matrix_drawing(product):
        return matrix
    if area := spectra.area_drawing(product):
        return area
    for unit in product.units:
        if (spectrum := spectra.spectrum_of(product, unit, ())) is not None:
            found = spectra.spectrum_of(product, unit, _responses(product, listed, others))
            return found or spectrum
    for unit in product.units:
        if (curve := light_curves.curve_of(product, unit)) is not None:
            return curve
    return _first_array(product)


def _first_array(product: DataProduct) -> Drawing:
    """Return the first table of a product, or else its first array, or else its first header."""
    title = title_of(product)
    with_data = [unit for unit in product.units if unit.data is not None]
    for unit in with_data:
        if unit.data is not None and unit.data.dtype.names:
            return tables.table_of(" ".join(filter(None, [title, unit.name if unit.name != title else ""])), unit)
    for unit in with_data:
        if unit.data is not None:
            return tables.array_of(title or unit.name, unit.data, headers.values_of(unit))
    if not product.units:
        raise NoProductError("this product has no data units")
    cards = "\n".join(f"{card.keyword:<8} = {card.value}" for card in product.units[0].header)
    return tables.text_of(title or "header", cards, ["the product has a header alone"])


def _is_curve(product: DataProduct, unit: DataUnit) -> bool:
    return spectra.spectrum_of(product, unit, ()) is not None or light_curves.curve_of(product, unit) is not None


def _sources(product: DataProduct, others: Sequence[ListedProduct]) -> Sequence[Source]:
    """Return the sources of the answer's catalogue, or else those of a table of the product, or of another one."""
    for other in others:
        if other.member == "catalog":
            content = _content(other)
            if isinstance(content, Catalog) and (found := images.sources_of(content)):
                return found
    for unit in product.units:
        if (catalog := images.catalog_of(unit)) and (found := images.sources_of(catalog)):
            return found
    for other in others:
        if other.member in _ARRAYS and isinstance(content := _content(other), DataProduct):
            for unit in content.units:
                if (catalog := images.catalog_of(unit)) and (found := images.sources_of(catalog)):
                    return found
    return ()


def _responses(product: DataProduct, listed: ListedProduct, others: Sequence[ListedProduct]) -> list[DataProduct]:
    """Return the products of the same source, those after the spectrum first."""
    source = product.meta_data.get("src_name")
    arrays = [other for other in others if other.member in _ARRAYS and other.number != listed.number]
    ordered = sorted(arrays, key=lambda other: (other.number < listed.number, other.number))
    found = []
    for other in ordered[:_MAX_RESPONSES]:
        content = _content(other)
        if isinstance(content, DataProduct) and content.meta_data.get("src_name") == source:
            found.append(content)
            if spectra.area_of(unit for one in found for unit in one.units) and any(map(spectra.has_bounds, found)):
                break
    return found


def _content(listed: ListedProduct) -> Any:
    """Return the content of a product, or None where it cannot be decoded: it only adds to the drawing of another."""
    try:
        return listed.content()
    except CodecError:
        return None
