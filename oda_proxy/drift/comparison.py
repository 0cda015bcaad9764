"""Comparison of two responses to one query, product by product.

astropy's FITSDiff alone does not suffice: it treats NaN and infinities as equal, identifies columns by number, and
not every release reports the size of a difference. It is applied to products without a difference, as a second check,
as far as FITS can represent them.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from oda_proxy.codec import fits, wire
from oda_proxy.drift import differences
from oda_proxy.drift.differences import EXACT, Difference, Tolerance
from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from oda_proxy.codec.product import Array, DataProduct, DataUnit

MAX_DIFFERENCES: Final = 20
"""Maximum number of differences of a product that are listed; others are counted."""

_STRUCTURAL: Final = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|TFIELDS|THEAP|BSCALE|BZERO"
    r"|(?:TTYPE|TFORM|TDIM|TSCAL|TZERO|TBCOL)\d+"
)
"""Cards that describe the array, which is compared as such."""
_COLUMN_CARD: Final = re.compile(r"(T[A-Z]{2,4})(\d{1,3})")

_ARRAYS: Final = "numpy_data_product_list"
_ONE_ARRAY: Final = "numpy_data_product"
_CATALOG: Final = "catalog"
_BOOKKEEPING: Final = frozenset({"input_prod_list", "prod_process_message"})
"""Members that are no products; they are compared only if both responses have them."""


class Verdict(StrEnum):
    """The result of the comparison of a product."""

    SAME = "same"
    DIFFERS = "differs"
    NEW = "new"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class ProductComparison:
    """The comparison of one product, which may be in one response only."""

    name: str
    verdict: Verdict
    differences: tuple[Difference, ...] = ()
    has_arrays: bool = field(default=False, compare=False)
    """Whether it is a data product, whose arrays are compared."""

    @property
    def has_same_arrays(self) -> bool:
        """Whether all arrays are the same; True for a product without arrays."""
        if not self.has_arrays:
            return True
        return self.verdict not in {Verdict.NEW, Verdict.GONE} and not any(one.of_array for one in self.differences)


def compare(
    recorded: Mapping[str, Any],
    current: Mapping[str, Any],
    tolerance: Tolerance = EXACT,
    *,
    with_fits_diff: bool = True,
) -> list[ProductComparison]:
    """Compare the redacted `products` members of two responses, in wire form.

    Products are paired by name and source, those with the same name by their order. With `with_fits_diff`, astropy
    checks those without a difference once more. Raises CodecError if an array cannot be decoded.
    """
    differences_of = _products if with_fits_diff else _product_differences
    pairs = _pairs(_decoded(recorded), _decoded(current), _product_name, _with(differences_of, tolerance))
    compared = [replace(one, has_arrays=True) for one in pairs]
    for kind in dict.fromkeys((*recorded, *current)):
        if kind in {_ARRAYS, _ONE_ARRAY} or (kind in _BOOKKEEPING and not (kind in recorded and kind in current)):
            continue
        was, now = _products_of(kind, recorded), _products_of(kind, current)
        decode, name_of, differences = _KINDS.get(kind, _ANYTHING)
        try:
            was, now = [decode(one) for one in was], [decode(one) for one in now]
        except CodecError:  # such as an empty catalogue
            _, name_of, differences = _ANYTHING
        compared += _pairs(was, now, _named(kind, name_of), _with(differences, tolerance))
    return [replace(one, differences=_limited(one.differences)) for one in compared]


def _products_of(kind: str, products: Mapping[str, Any]) -> list[Any]:
    """Return the products of one kind."""
    if kind not in products:
        return []
    value = products[kind]
    several = isinstance(value, list) and kind.endswith("_list") and kind not in _BOOKKEEPING
    return value if several else [value]


def _decoded(products: Mapping[str, Any]) -> list[DataProduct]:
    return [wire.decode_product(one) for kind in (_ONE_ARRAY, _ARRAYS) for one in _products_of(kind, products)]


Product = TypeVar("Product")


def _pairs(
    recorded: Iterable[Product],
    current: Iterable[Product],
    name_of: Callable[[Product], str],
    differences: Callable[[Product, Product], Iterable[Difference]],
) -> list[ProductComparison]:
    """Compare products with the same name."""
    was, now = _by_name(recorded, name_of), _by_name(current, name_of)
    compared = []
    for key in dict.fromkeys((*was, *now)):
        name = key[0] if key[1] == 1 else f"{key[0]} ({key[1]})"
        if key not in now:
            compared.append(ProductComparison(name, Verdict.GONE))
        elif key not in was:
            compared.append(ProductComparison(name, Verdict.NEW))
        else:
            found = tuple(differences(was[key], now[key]))
            compared.append(ProductComparison(name, Verdict.DIFFERS if found else Verdict.SAME, found))
    return compared


def _by_name(products: Iterable[Product], name_of: Callable[[Product], str]) -> dict[tuple[str, int], Product]:
    """Index products by name and by their position, from 1, among those with that name."""
    seen: Counter[str] = Counter()
    named = {}
    for product in products:
        name = name_of(product)
        seen[name] += 1
        named[name, seen[name]] = product
    return named


def _limited(differences: tuple[Difference, ...]) -> tuple[Difference, ...]:
    if len(differences) <= MAX_DIFFERENCES:
        return differences
    of_array = any(one.of_array for one in differences[MAX_DIFFERENCES:])
    rest = Difference("", f"and {len(differences) - MAX_DIFFERENCES} more differences", of_array=of_array)
    return (*differences[:MAX_DIFFERENCES], rest)


# -- products with arrays -------------------------------------------------------------------------


def _unit_name(unit: DataUnit) -> str:
    """Name a data unit, an image of INTEGRAL also by what it shows: the maps of a mosaic have the same name."""
    kind = next((card.value for card in unit.header if card.keyword == "IMATYPE"), None)
    return " ".join(filter(None, (unit.name or "unnamed", kind if isinstance(kind, str) else "")))


def _product_name(product: DataProduct) -> str:
    """Name a product by its name, or else by its first data unit with data, and by its source."""
    source = product.meta_data.get("src_name")
    unit = next((unit.name for unit in product.units if unit.data is not None and unit.name), "")
    return " ".join(filter(None, (product.name or unit or "unnamed", source if isinstance(source, str) else "")))


def _products(was: DataProduct, now: DataProduct, tolerance: Tolerance) -> Iterator[Difference]:
    found = list(_product_differences(was, now, tolerance))
    return iter(found or _fits_diff(was, now, tolerance))


def _product_differences(was: DataProduct, now: DataProduct, tolerance: Tolerance) -> Iterator[Difference]:
    found = [*differences.members("meta_data", dict(was.meta_data), dict(now.meta_data), tolerance)]
    for unit in _pairs(was.units, now.units, _unit_name, _with(_units, tolerance)):
        match unit.verdict:
            case Verdict.NEW | Verdict.GONE:
                found.append(Difference(unit.name, f"this data unit is {unit.verdict}", of_array=True))
            case _:
                found += [
                    replace(one, where=f"{unit.name}, {one.where}" if one.where else unit.name)
                    for one in unit.differences
                ]
    return iter(found)


def _fits_diff(was: DataProduct, now: DataProduct, tolerance: Tolerance) -> list[Difference]:
    """Compare products with astropy's FITSDiff."""
    from astropy.io.fits import FITSDiff, HDUList

    try:
        units = _without_ignored(now, tolerance), _without_ignored(was, tolerance)
        files = [HDUList.fromstring(fits.write(one)) for one in (_with_recorded_texts(*units), units[1])]
    except CodecError:  # not representable in FITS
        return []
    # FITSDiff uses the second file as reference, and computes tolerances in the precision of the array.
    coarser = _SINGLE if tolerance.rtol or tolerance.atol else 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about nonstandard headers, which are compared as they are
        diff = FITSDiff(*files, ignore_comments=["*"], rtol=tolerance.rtol + coarser, atol=tolerance.atol)
    if diff.identical:
        return []
    report = _PREAMBLE.sub("", diff.report())
    text = f"astropy's FITSDiff reports a difference: {' '.join(report.split())[:_LONGEST_REPORT]}"
    return [Difference("", text, of_array=True)]


_SINGLE: Final = 1e-6
_PREAMBLE: Final = re.compile(r"\A.*?^(?=Primary|Extension|Files)", re.MULTILINE | re.DOTALL)
_LONGEST_REPORT: Final = 200


def _without_ignored(product: DataProduct, tolerance: Tolerance) -> list[DataUnit]:
    return [
        replace(unit, header=tuple(card for card in unit.header if not tolerance.ignores(card.keyword)))
        for unit in product.units
    ]


def _with_recorded_texts(now: list[DataUnit], was: list[DataUnit]) -> list[DataUnit]:
    """Return units with the recorded text in cards and columns, which FITSDiff compares letter by letter.

    That they are equal, or equal numbers or instants, is known already.
    """

    def with_texts(unit: DataUnit, recorded: DataUnit) -> DataUnit:
        values = {card.keyword: card.value for card in recorded.header}
        header = (
            card._replace(value=values[card.keyword])
            if card.keyword in values and str in {type(card.value), type(values[card.keyword])}
            else card
            for card in unit.header
        )
        return replace(unit, header=tuple(header), data=_with_recorded_columns(unit.data, recorded.data))

    return [with_texts(*pair) for pair in zip(now, was, strict=True)] if len(now) == len(was) else now


def _with_recorded_columns(now: Array | None, was: Array | None) -> Array | None:
    if now is None or was is None or now.dtype != was.dtype or now.shape != was.shape:
        return now
    texts = [name for name in now.dtype.names or () if now.dtype[name].kind in "SU"]
    data = now.copy() if texts else now
    for name in texts:
        data[name] = was[name]
    return data


def _units(was: DataUnit, now: DataUnit, tolerance: Tolerance) -> Iterator[Difference]:
    yield from differences.members("meta_data", dict(was.meta_data), dict(now.meta_data), tolerance)
    yield from differences.members("units_dict", dict(was.units_dict or {}), dict(now.units_dict or {}), tolerance)
    yield from _headers(was, now, tolerance)
    yield from (replace(one, of_array=True) for one in _data(was, now, tolerance))


def _data(was: DataUnit, now: DataUnit, tolerance: Tolerance) -> Iterator[Difference]:
    if was.data is None or now.data is None:
        if was.data is not now.data:
            yield Difference("", "it has data, and had none" if was.data is None else "its data are missing")
        return
    old, new = wire.portable(was.data), wire.portable(now.data)
    if old.dtype.names and new.dtype.names:
        yield from _tables(old, new, tolerance)
    elif old.dtype.names or new.dtype.names:
        kinds = ["a table" if one.dtype.names else "an image" for one in (old, new)]
        yield Difference("", f"it was {kinds[0]} and is {kinds[1]}")
    else:
        yield from differences.arrays("", old, new, tolerance, differences.pixel)


def _headers(was: DataUnit, now: DataUnit, tolerance: Tolerance) -> Iterator[Difference]:
    old, new = _cards(was), _cards(now)
    for keyword in dict.fromkeys((*old, *new)):
        if tolerance.ignores(keyword):
            continue
        if keyword not in new:
            yield Difference(keyword, f"this card is gone; it was {differences.shown(old[keyword])}", was=old[keyword])
        elif keyword not in old:
            yield Difference(keyword, f"this card is new: {differences.shown(new[keyword])}", now=new[keyword])
        else:
            yield from differences.leaves(keyword, old[keyword], new[keyword], tolerance)


def _cards(unit: DataUnit) -> dict[str, Any]:
    """Return the cards that do not describe the array, those of columns under the columns' names."""
    columns = unit.data.dtype.names if unit.data is not None and unit.data.dtype.names else ()
    cards = {}
    for keyword, value in wire.header(unit).items():
        if _STRUCTURAL.fullmatch(keyword):
            continue
        column = _COLUMN_CARD.fullmatch(keyword)
        if column and 0 < int(column[2]) <= len(columns):
            cards[f"{column[1]} of {columns[int(column[2]) - 1]}"] = value
        else:
            cards[keyword] = value
    return cards


def _tables(was: Array, now: Array, tolerance: Tolerance) -> Iterator[Difference]:
    old, new = was.dtype.names or (), now.dtype.names or ()
    yield from (Difference(f"column {name}", "is gone") for name in old if name not in new)
    yield from (Difference(f"column {name}", "is new") for name in new if name not in old)
    common = [name for name in old if name in new]
    if common != [name for name in new if name in old]:
        yield Difference("", f"the columns are in another order: {differences.shown(', '.join(new))}")
    if was.shape != now.shape:
        yield Difference("", f"it had {len(was)} rows and has {len(now)}")
        return
    for name in common:
        yield from differences.arrays(f"column {name}", was[name], now[name], tolerance, differences.row)


# -- other products -------------------------------------------------------------------------------


def _with(
    differences: Callable[[Any, Any, Tolerance], Iterable[Difference]], tolerance: Tolerance
) -> Callable[[Any, Any], Iterable[Difference]]:
    return lambda was, now: differences(was, now, tolerance)


def _named(kind: str, name_of: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return a function that names a product by its kind and, if it has one, its name."""
    prefix = kind.removesuffix("_list")
    return lambda product: " ".join(filter(None, (prefix, name_of(product))))


def _catalogs(was: Mapping[str, Any], now: Mapping[str, Any], tolerance: Tolerance) -> Iterator[Difference]:
    """Compare catalogues column by column, in any order of columns."""
    yield from differences.members("", _with_columns(was), _with_columns(now), tolerance)


def _with_columns(catalog: Mapping[str, Any]) -> dict[str, Any]:
    names, columns = catalog["cat_column_names"], catalog["cat_column_list"]
    rest = {name: value for name, value in catalog.items() if name not in {"cat_column_names", "cat_column_list"}}
    return {**rest, **{f"column {name}": column for name, column in zip(names, columns, strict=True)}}


def _ascii_tables(was: wire.AsciiTable, now: wire.AsciiTable, tolerance: Tolerance) -> Iterator[Difference]:
    yield from differences.members("meta_data", dict(was.meta_data), dict(now.meta_data), tolerance)
    yield from differences.texts(was.text, now.text, tolerance)


def _text_products(was: wire.Text, now: wire.Text, tolerance: Tolerance) -> Iterator[Difference]:
    yield from differences.members("meta_data", dict(was.meta_data), dict(now.meta_data), tolerance)
    yield from differences.texts(was.value, now.value, tolerance)


def _pictures(was: wire.Picture, now: wire.Picture, tolerance: Tolerance) -> Iterator[Difference]:
    yield from differences.members("metadata", dict(was.metadata), dict(now.metadata), tolerance)
    yield from differences.contents(was.data, now.data)


def _binaries(was: wire.Binary, now: wire.Binary, _: Tolerance) -> Iterator[Difference]:
    yield from differences.contents(was.data, now.data)


def _anything(was: Any, now: Any, tolerance: Tolerance) -> Iterator[Difference]:
    yield from differences.members("", was, now, tolerance)


_Kind = tuple["Callable[[Any], Any]", "Callable[[Any], str]", "Callable[[Any, Any, Tolerance], Iterable[Difference]]"]

_ANYTHING: Final[_Kind] = (lambda product: product, lambda _: "", _anything)
_KINDS: Final[Mapping[str, _Kind]] = {
    _CATALOG: (wire.decode_catalog, lambda _: "", _catalogs),
    "astropy_table_product_ascii_list": (wire.decode_ascii_table, lambda table: table.name, _ascii_tables),
    "text_product_list": (wire.decode_text, lambda text: text.name, _text_products),
    "binary_image_product_list": (wire.decode_picture, lambda picture: picture.name, _pictures),
    "binary_data_product_list": (wire.decode_binary, lambda binary: binary.name or "", _binaries),
}
"""For each kind of product: its decoder, its name, and its comparison."""
