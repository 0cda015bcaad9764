"""Whether two answers to one question say the same, product by product, and where they do not, by how much.

Arrays are compared here and not by astropy's FITSDiff alone: it takes NaN and infinities for each other, tells columns
by their numbers, and not every release says how large a difference is. What is the same to us must be the same to it,
too, for what a FITS file can hold. Rows, pixels and lines are counted from 1, as in FITS.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from oda_proxy.codec import fits, wire
from oda_proxy.errors import CodecError
from oda_proxy.query import ENVELOPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from oda_proxy.codec.product import Array, DataProduct, DataUnit

VOLATILE: Final = frozenset({"CHECKSUM", "DATASUM", "DATE", "HISTORY", "URL", *(name.upper() for name in ENVELOPE)})
"""Cards that say when and for whom a file was written; of HISTORY only the last one ever arrives."""

LONGEST: Final = 60
"""Characters of a value that are told."""

MOST_TOLD: Final = 20
"""Differences of one product that are told; the others are counted."""

_STRUCTURAL: Final = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|TFIELDS|THEAP|BSCALE|BZERO"
    r"|(?:TTYPE|TFORM|TDIM|TSCAL|TZERO|TBCOL)\d+"
)
"""Cards that describe the array, which is compared itself."""
_OF_A_COLUMN: Final = re.compile(r"(T[A-Z]{2,4})(\d{1,3})")

_ARRAYS: Final = "numpy_data_product_list"
_ONE_ARRAY: Final = "numpy_data_product"
_CATALOG: Final = "catalog"
_BOOKKEEPING: Final = frozenset({"input_prod_list", "prod_process_message"})
"""What is no product, and compared only where both answers have it."""


class Verdict(StrEnum):
    """What became of a product."""

    SAME = "same"
    DIFFERS = "differs"
    NEW = "new"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two numbers are the same where they differ by `atol + rtol * |the recorded one|` at most; NaN is NaN."""

    rtol: float = 0.0
    atol: float = 0.0
    ignored: frozenset[str] = frozenset()
    """Keywords of cards that are not compared, beside `VOLATILE`; `*` stands for anything."""

    def ignores(self, keyword: str) -> bool:
        """Tell whether a card is not compared."""
        name = keyword.upper()
        return name in VOLATILE or any(fnmatchcase(name, pattern.upper()) for pattern in self.ignored)

    def allows(self, was: float, now: float) -> bool:
        """Tell whether two numbers are the same."""
        if was == now or (math.isnan(was) and math.isnan(now)):
            return True
        return math.isfinite(was) and math.isfinite(now) and abs(now - was) <= self.atol + self.rtol * abs(was)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs, for a person; of numbers the largest differences, where they are finite."""

    where: str
    said: str
    absolute: float | None = None
    relative: float | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.said}" if self.where else self.said


@dataclass(frozen=True, slots=True)
class Compared:
    """One product of either answer."""

    name: str
    verdict: Verdict
    differences: tuple[Difference, ...] = ()


def compare(recorded: Mapping[str, Any], anew: Mapping[str, Any], tolerance: Tolerance = Tolerance()) -> list[Compared]:
    """Compare the `products` of two answers, as they are on the wire, without what names their askers.

    Products are paired by their names and sources, those of one name by their order. Raises CodecError where an array
    of either cannot be decoded.
    """
    compared = _pairs(_decoded(recorded), _decoded(anew), _product_name, _with(_products, tolerance))
    for kind in dict.fromkeys((*recorded, *anew)):
        if kind in {_ARRAYS, _ONE_ARRAY} or (kind in _BOOKKEEPING and not (kind in recorded and kind in anew)):
            continue
        was, now = _listed(kind, recorded), _listed(kind, anew)
        decode, name_of, differences = _KINDS.get(kind, _ANYTHING)
        try:
            was, now = [decode(one) for one in was], [decode(one) for one in now]
        except CodecError:  # an empty catalogue, for instance
            _, name_of, differences = _ANYTHING
        compared += _pairs(was, now, _named(kind, name_of), _with(differences, tolerance))
    return [replace(one, differences=_not_too_many(one.differences)) for one in compared]


def _listed(kind: str, products: Mapping[str, Any]) -> list[Any]:
    """Give the products of one kind."""
    if kind not in products:
        return []
    value = products[kind]
    several = isinstance(value, list) and kind.endswith("_list") and kind not in _BOOKKEEPING
    return value if several else [value]


def _decoded(products: Mapping[str, Any]) -> list[DataProduct]:
    return [wire.decode_product(one) for kind in (_ONE_ARRAY, _ARRAYS) for one in _listed(kind, products)]


Product = TypeVar("Product")


def _pairs(
    recorded: Iterable[Product],
    anew: Iterable[Product],
    name_of: Callable[[Product], str],
    differences: Callable[[Product, Product], Iterable[Difference]],
) -> list[Compared]:
    """Compare what has the same name."""
    was, now = _by_name(recorded, name_of), _by_name(anew, name_of)
    compared = []
    for name in dict.fromkeys((*was, *now)):
        if name not in now:
            compared.append(Compared(name, Verdict.GONE))
        elif name not in was:
            compared.append(Compared(name, Verdict.NEW))
        else:
            found = tuple(differences(was[name], now[name]))
            compared.append(Compared(name, Verdict.DIFFERS if found else Verdict.SAME, found))
    return compared


def _by_name(products: Iterable[Product], name_of: Callable[[Product], str]) -> dict[str, Product]:
    """Name products unlike each other: the second `a` is `a (2)`."""
    seen: Counter[str] = Counter()
    named = {}
    for product in products:
        name = name_of(product)
        seen[name] += 1
        named[name if seen[name] == 1 else f"{name} ({seen[name]})"] = product
    return named


def _not_too_many(differences: tuple[Difference, ...]) -> tuple[Difference, ...]:
    if len(differences) <= MOST_TOLD:
        return differences
    rest = Difference("", f"and {len(differences) - MOST_TOLD} more differences")
    return (*differences[:MOST_TOLD], rest)


# -- products with arrays -------------------------------------------------------------------------


def _product_name(product: DataProduct) -> str:
    source = product.meta_data.get("src_name")
    return " ".join(filter(None, (product.name or "unnamed", source if isinstance(source, str) else "")))


def _products(was: DataProduct, now: DataProduct, tolerance: Tolerance) -> Iterator[Difference]:
    found = [*_json("meta_data", dict(was.meta_data), dict(now.meta_data), tolerance)]
    for unit in _pairs(was.units, now.units, lambda one: one.name or "unnamed", _with(_units, tolerance)):
        match unit.verdict:
            case Verdict.NEW | Verdict.GONE:
                found.append(Difference(unit.name, f"this data unit is {unit.verdict}"))
            case _:
                found += [
                    Difference(
                        f"{unit.name}, {one.where}" if one.where else unit.name, one.said, one.absolute, one.relative
                    )
                    for one in unit.differences
                ]
    return iter(found or _seen_by_astropy(was, now, tolerance))


def _seen_by_astropy(was: DataProduct, now: DataProduct, tolerance: Tolerance) -> list[Difference]:
    """Ask the other judge of what is the same to us."""
    from astropy.io.fits import FITSDiff, HDUList

    try:
        files = [HDUList.fromstring(fits.write(_without_ignored(product, tolerance))) for product in (now, was)]
    except CodecError:  # FITS has no form for it
        return []
    # It takes the second file for the reference, and counts tolerances in the precision of the array.
    coarser = _SINGLE if tolerance.rtol or tolerance.atol else 0.0
    diff = FITSDiff(*files, ignore_comments=["*"], rtol=tolerance.rtol + coarser, atol=tolerance.atol)
    if diff.identical:
        return []
    report = _PREAMBLE.sub("", diff.report())
    return [Difference("", f"astropy's FITSDiff sees a difference: {' '.join(report.split())[:_LONGEST_REPORT]}")]


_SINGLE: Final = 1e-6
_PREAMBLE: Final = re.compile(r"\A.*?^(?=Primary|Extension|Files)", re.MULTILINE | re.DOTALL)
_LONGEST_REPORT: Final = 200


def _without_ignored(product: DataProduct, tolerance: Tolerance) -> list[DataUnit]:
    return [
        replace(unit, header=tuple(card for card in unit.header if not tolerance.ignores(card.keyword)))
        for unit in product.units
    ]


def _units(was: DataUnit, now: DataUnit, tolerance: Tolerance) -> Iterator[Difference]:
    yield from _json("meta_data", dict(was.meta_data), dict(now.meta_data), tolerance)
    yield from _json("units_dict", dict(was.units_dict or {}), dict(now.units_dict or {}), tolerance)
    yield from _headers(was, now, tolerance)
    if was.data is None or now.data is None:
        if was.data is not now.data:
            yield Difference("", "it has data now, and had none" if was.data is None else "its data are gone")
        return
    old, new = wire.portable(was.data), wire.portable(now.data)
    if old.dtype.names and new.dtype.names:
        yield from _tables(old, new, tolerance)
    elif old.dtype.names or new.dtype.names:
        kinds = ["a table" if one.dtype.names else "an image" for one in (old, new)]
        yield Difference("", f"it was {kinds[0]} and is {kinds[1]}")
    else:
        yield from _arrays("", old, new, tolerance, _pixel)


def _headers(was: DataUnit, now: DataUnit, tolerance: Tolerance) -> Iterator[Difference]:
    old, new = _cards(was), _cards(now)
    for keyword in dict.fromkeys((*old, *new)):
        if tolerance.ignores(keyword):
            continue
        if keyword not in new:
            yield Difference(keyword, f"this card is gone; it was {_shown(old[keyword])}")
        elif keyword not in old:
            yield Difference(keyword, f"this card is new: {_shown(new[keyword])}")
        else:
            yield from _leaves(keyword, old[keyword], new[keyword], tolerance)


def _cards(unit: DataUnit) -> dict[str, Any]:
    """Give the cards that say something beside the array, those of columns under the columns' names."""
    columns = unit.data.dtype.names if unit.data is not None and unit.data.dtype.names else ()
    cards = {}
    for keyword, value in wire.header(unit).items():
        if _STRUCTURAL.fullmatch(keyword):
            continue
        column = _OF_A_COLUMN.fullmatch(keyword)
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
        yield Difference("", f"the columns are in another order: {_shown(', '.join(new))}")
    if was.shape != now.shape:
        yield Difference("", f"it had {len(was)} rows and has {len(now)}")
        return
    for name in common:
        yield from _arrays(f"column {name}", was[name], now[name], tolerance, _row)


def _pixel(index: tuple[int, ...]) -> str:
    axes = ", ".join(str(number + 1) for number in reversed(index))
    return f"pixel ({axes})"


def _row(index: tuple[int, ...]) -> str:
    row, *rest = (number + 1 for number in index)
    return f"row {row}, element {', '.join(map(str, rest))}" if rest else f"row {row}"


def _arrays(
    where: str, was: Array, now: Array, tolerance: Tolerance, place: Callable[[tuple[int, ...]], str]
) -> Iterator[Difference]:
    """Compare two arrays; how their bytes are ordered does not matter."""
    old, new = (str(one.dtype.newbyteorder("=")) for one in (was, now))
    if old != new:
        yield Difference(where, f"was of type {old} and is of type {new}")
    if was.shape != now.shape:
        shapes = [" x ".join(map(str, reversed(one.shape))) for one in (was, now)]
        yield Difference(where, f"was of shape {shapes[0]} and is of shape {shapes[1]}")
    elif was.dtype.kind in "SU" and now.dtype.kind in "SU":
        yield from _counted(where, was, now, _decoded_text(was) != _decoded_text(now), place)
    elif was.dtype.kind in _NUMBERS and now.dtype.kind in _NUMBERS:
        yield from _numbers(where, was, now, tolerance, place)
    elif old == new and was.tobytes() != now.tobytes():
        yield Difference(where, "its bytes differ")


def _decoded_text(values: Array) -> Array:
    return values if values.dtype.kind == "U" else np.char.decode(values, "latin-1")


_NUMBERS: Final = "biufc"


def _numbers(
    where: str, was: Array, now: Array, tolerance: Tolerance, place: Callable[[tuple[int, ...]], str]
) -> Iterator[Difference]:
    """Compare numbers, and say by how much they differ: relative to what was recorded, where that is not zero."""
    common = np.result_type(was.dtype.newbyteorder("="), now.dtype.newbyteorder("="), np.float64)
    old, new = was.astype(common), now.astype(common)
    with np.errstate(all="ignore"):
        distance, scale = np.abs(new - old), np.abs(old)
        same = (was == now) | (np.isnan(old) & np.isnan(new))
        finite = np.isfinite(old) & np.isfinite(new)
        differs = ~(same | (finite & (distance > 0) & (distance <= tolerance.atol + tolerance.rtol * scale)))
        relative = np.where(differs & finite & (scale > 0), distance / scale, -1.0)
    measured = np.where(differs & finite, distance, -1.0)
    if not (measured >= 0).any():
        yield from _counted(where, was, now, differs, place)
        return
    largest = np.unravel_index(int(np.argmax(measured)), measured.shape)
    at = tuple(map(int, largest))
    absolute = float(measured[largest])
    most = float(relative.max()) if (relative >= 0).any() else None
    said = f"{_of(differs)} differ, by up to {absolute:.6g} (at {place(at)}: was {was[largest]}, is {now[largest]})"
    if most is not None:
        said += f", relatively by up to {most:.3g}"
    if strange := int((differs & ~finite).sum()):
        said += f"; of them {strange} are NaN or infinite"
    yield Difference(where, said, absolute, most)


def _counted(
    where: str, was: Array, now: Array, differs: Array, place: Callable[[tuple[int, ...]], str]
) -> Iterator[Difference]:
    """Say how many values differ, and which is the first."""
    if differs.any():
        first = np.unravel_index(int(np.argmax(differs)), differs.shape)
        values = f"was {_shown(was[first])}, is {_shown(now[first])}"
        yield Difference(where, f"{_of(differs)} differ, first at {place(tuple(map(int, first)))}: {values}")


def _of(differs: Array) -> str:
    return f"{int(differs.sum())} of {differs.size} values"


# -- other products -------------------------------------------------------------------------------


def _with(
    differences: Callable[[Any, Any, Tolerance], Iterable[Difference]], tolerance: Tolerance
) -> Callable[[Any, Any], Iterable[Difference]]:
    return lambda was, now: differences(was, now, tolerance)


def _named(kind: str, name_of: Callable[[Any], str]) -> Callable[[Any], str]:
    """Name a product by its kind and, if it has one, its name."""
    called = kind.removesuffix("_list")
    return lambda product: " ".join(filter(None, (called, name_of(product))))


def _catalogs(was: Mapping[str, Any], now: Mapping[str, Any], tolerance: Tolerance) -> Iterator[Difference]:
    """Compare catalogues column by column; the order of columns does not matter."""
    yield from _json("", _with_columns(was), _with_columns(now), tolerance)


def _with_columns(catalog: Mapping[str, Any]) -> dict[str, Any]:
    names, columns = catalog["cat_column_names"], catalog["cat_column_list"]
    rest = {name: value for name, value in catalog.items() if name not in {"cat_column_names", "cat_column_list"}}
    return {**rest, **{f"column {name}": column for name, column in zip(names, columns, strict=True)}}


def _ascii_tables(was: wire.AsciiTable, now: wire.AsciiTable, tolerance: Tolerance) -> Iterator[Difference]:
    yield from _json("meta_data", dict(was.meta_data), dict(now.meta_data), tolerance)
    yield from _texts(was.text, now.text, tolerance)


def _text_products(was: wire.Text, now: wire.Text, tolerance: Tolerance) -> Iterator[Difference]:
    yield from _json("meta_data", dict(was.meta_data), dict(now.meta_data), tolerance)
    yield from _texts(was.value, now.value, tolerance)


def _pictures(was: wire.Picture, now: wire.Picture, tolerance: Tolerance) -> Iterator[Difference]:
    yield from _json("metadata", dict(was.metadata), dict(now.metadata), tolerance)
    yield from _contents(was.data, now.data)


def _binaries(was: wire.Binary, now: wire.Binary, _: Tolerance) -> Iterator[Difference]:
    yield from _contents(was.data, now.data)


def _contents(was: bytes, now: bytes) -> Iterator[Difference]:
    if was != now:
        digests = [hashlib.sha256(content).hexdigest()[:12] for content in (was, now)]
        yield Difference("", f"had {len(was)} bytes with SHA-256 {digests[0]}..., has {len(now)} with {digests[1]}...")


_WORD: Final = re.compile(r"[^\s,;]+")


def _texts(was: str, now: str, tolerance: Tolerance) -> Iterator[Difference]:
    """Compare texts line by line; where they have the same words but for numbers, these are compared."""
    old, new = was.splitlines(), now.splitlines()
    numbers: list[tuple[float, float, int]] = []
    for line, (one, other) in enumerate(zip(old, new, strict=False), 1):
        if one == other:
            continue
        pairs = _number_pairs(one, other)
        if pairs is None:
            yield Difference(f"line {line}", f"was {_shown(one)}, is {_shown(other)}")
            return
        numbers += [(*pair, line) for pair in pairs]
    if len(old) != len(new):
        yield Difference("", f"it had {len(old)} lines and has {len(new)}")
    if numbers:
        values = np.array([pair[:2] for pair in numbers])
        yield from _numbers("", values[:, 0], values[:, 1], tolerance, lambda index: f"line {numbers[index[0]][2]}")


def _number_pairs(one: str, other: str) -> list[tuple[float, float]] | None:
    """Give the numbers of two lines; None where more than numbers differs."""
    if _WORD.sub("", one) != _WORD.sub("", other):
        return None
    pairs = []
    for was, now in zip(_WORD.findall(one), _WORD.findall(other), strict=False):
        if was == now:
            continue
        try:
            pairs.append((float(was), float(now)))
        except ValueError:
            return None
    return pairs


def _anything(was: Any, now: Any, tolerance: Tolerance) -> Iterator[Difference]:
    yield from _json("", was, now, tolerance)


_Kind = tuple["Callable[[Any], Any]", "Callable[[Any], str]", "Callable[[Any, Any, Tolerance], Iterable[Difference]]"]

_ANYTHING: Final[_Kind] = (lambda product: product, lambda _: "", _anything)
_KINDS: Final[Mapping[str, _Kind]] = {
    _CATALOG: (wire.decode_catalog, lambda _: "", _catalogs),
    "astropy_table_product_ascii_list": (wire.decode_ascii_table, lambda table: table.name, _ascii_tables),
    "text_product_list": (wire.decode_text, lambda text: text.name, _text_products),
    "binary_image_product_list": (wire.decode_picture, lambda picture: picture.name, _pictures),
    "binary_data_product_list": (wire.decode_binary, lambda binary: binary.name or "", _binaries),
}
"""How each kind is decoded, how one of it is called, and how two of it are compared."""


# -- JSON -----------------------------------------------------------------------------------------


def parameters(was: Mapping[str, Any], now: Mapping[str, Any], tolerance: Tolerance) -> list[Difference]:
    """Compare what a dispatcher said twice of the parameters it used."""
    return list(_json("", dict(was), dict(now), tolerance))


def _json(where: str, was: Any, now: Any, tolerance: Tolerance) -> Iterator[Difference]:
    """Compare two JSON values, objects member by member."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in dict.fromkeys((*was, *now)):
            inner = f"{where} {name}".strip()
            if name not in now:
                yield Difference(inner, f"is gone; it was {_shown(was[name])}")
            elif name not in was:
                yield Difference(inner, f"is new: {_shown(now[name])}")
            else:
                yield from _json(inner, was[name], now[name], tolerance)
    elif isinstance(was, list) and isinstance(now, list):
        yield from _lists(where, was, now, tolerance)
    else:
        yield from _leaves(where, was, now, tolerance)


def _lists(where: str, was: Sequence[Any], now: Sequence[Any], tolerance: Tolerance) -> Iterator[Difference]:
    if len(was) != len(now):
        yield Difference(where, f"had {len(was)} members and has {len(now)}")
    elif was and all(_is_number(value) for value in (*was, *now)):
        yield from _numbers(where, np.array(was), np.array(now), tolerance, _row)
    else:
        for row, (one, other) in enumerate(zip(was, now, strict=True), 1):
            yield from _json(f"{where}, row {row}".removeprefix(", "), one, other, tolerance)


def _leaves(where: str, was: Any, now: Any, tolerance: Tolerance) -> Iterator[Difference]:
    """Compare two values; null and an empty text are the same, as they are to clients."""
    if _is_number(was) and _is_number(now):
        if not tolerance.allows(was, now):
            absolute = abs(now - was)
            relative = absolute / abs(was) if was else None
            finite = math.isfinite(absolute)
            yield Difference(
                where, f"was {was}, is {now}", float(absolute) if finite else None, relative if finite else None
            )
    elif was != now and not (was in _NOTHING and now in _NOTHING) and _without_blanks(was) != _without_blanks(now):
        yield Difference(where, f"was {_shown(was)}, is {_shown(now)}")


_NOTHING: Final = (None, "")


def _without_blanks(value: Any) -> Any:
    """Give a text without the blanks at its end, which a FITS header does not keep."""
    return value.rstrip() if isinstance(value, str) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGE)


_LARGE: Final = 2**63
"""Whole numbers from here on are compared as they are: they need not be floats."""


def _shown(value: Any) -> str:
    """Write a value so that it stays in its line."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    text = str(value)
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in cut) or "empty"
