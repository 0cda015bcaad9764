"""FITS files <-> data units, bit for bit.

astropy reads and writes the header cards; arrays are converted directly between bytes and numpy, so that no release of
astropy converts, scales or masks a value on the way. Preserved are all cards in their order with their comments, NaN
payloads, text with its blanks, and the lengths of variable columns. Not preserved are the layout of the heap, undefined
logical values (they become false), and the stored form of scaled columns and images (they become floating-point
physical values). Compressed images are decompressed, and ASCII tables become binary tables.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from astropy.io import fits

from oda_proxy.codec import columns
from oda_proxy.codec.product import Card, DataUnit
from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from oda_proxy.codec.product import Array, HduType, HeaderValue

_BLOCK: Final = 2880
_CARD: Final = 80
_MAX_BYTES: Final = 2**30  # for arrays larger than their file: rows that share an array of the heap, compressed images

_BITPIX: Final = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}
_IMAGE_STORAGE: Final = {bitpix: f">{name}" for name, bitpix in _BITPIX.items()}
# Integers of the other signedness are stored with an offset of half their range.
_SHIFTED: Final = {"i1": (8, -(2**7)), "u2": (16, 2**15), "u4": (32, 2**31), "u8": (64, 2**63)}

_STRUCTURAL = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|GROUPS|TFIELDS|THEAP|BSCALE|BZERO|BLANK"
    r"|(?:TTYPE|TFORM|TDIM|TSCAL|TZERO|TNULL|TBCOL)\d+"
)
_FIRST = re.compile(r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS|EXTEND")  # the standard requires this order
_LONGEST = re.compile(r"\((\d+)\)")


# -- reading --------------------------------------------------------------------------------------


def read(content: bytes) -> tuple[DataUnit, ...]:
    """Read the HDUs of a FITS file.

    Raises
    ------
    CodecError
        Not a FITS file, truncated, or an HDU is neither an image nor a table.
    """
    if not content.startswith(b"SIMPLE  ="):  # astropy would also decompress files
        raise CodecError("not a FITS file: it does not begin with SIMPLE")
    try:
        with fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=False) as hdus:
            return tuple(_unit(hdu, content) for hdu in hdus)
    except CodecError:
        raise
    except Exception as error:  # noqa: BLE001  # astropy raises many types for damaged files
        raise CodecError(f"not a valid FITS file: {error}") from None


def _unit(hdu: Any, content: bytes) -> DataUnit:
    cards = tuple(_cards(hdu.header))
    kind: HduType
    match hdu:
        case fits.CompImageHDU():
            if math.prod(hdu.shape) * 8 > _MAX_BYTES:
                raise CodecError(f"a compressed image of shape {hdu.shape} is larger than {_MAX_BYTES} bytes")
            kind, data = "image", hdu.data
        case fits.GroupsHDU():
            raise CodecError("random groups are not supported")
        case fits.PrimaryHDU() | fits.ImageHDU():
            kind = "primary" if isinstance(hdu, fits.PrimaryHDU) else "image"
            data = _image(hdu.header, _data_bytes(hdu, content))
        case fits.BinTableHDU():
            kind, data = "bintable", _table(hdu.header, _data_bytes(hdu, content))
        case fits.TableHDU():
            kind, data = "bintable", _ascii_table(hdu)
        case _:
            raise CodecError(f"an HDU is neither an image nor a table: {type(hdu).__name__}")
    return DataUnit(hdu.name, adjusted(cards, data), data, kind)


def _data_bytes(hdu: Any, content: bytes) -> memoryview:
    start = hdu.fileinfo()["datLoc"]
    return memoryview(content)[start : start + hdu.size]


def _cards(header: Any) -> Iterator[Card]:
    for card in header.cards:
        value = card.rawvalue
        if isinstance(value, fits.card.Undefined):
            value = None
        elif isinstance(value, complex):
            value = str(value)
        yield Card(card.rawkeyword, value, card.comment)


def _image(header: Any, data: memoryview) -> Array | None:
    shape = tuple(header[f"NAXIS{axis}"] for axis in range(header["NAXIS"], 0, -1))
    if not shape:
        return None
    stored = np.frombuffer(data, _IMAGE_STORAGE[header["BITPIX"]], math.prod(shape)).reshape(shape)
    scale, zero = header.get("BSCALE", 1), header.get("BZERO", 0)
    for name, (bitpix, shift) in _SHIFTED.items():
        if (header["BITPIX"], scale, zero) == (bitpix, 1, shift):
            return columns.flip_signedness(stored).view(f">{name}")
    if scale == 1 and zero == 0:
        return stored
    # the precision that astropy uses, so that both return the same numbers
    scaled = stored.astype(">f8" if abs(header["BITPIX"]) > 16 and header["BITPIX"] != -32 else ">f4")  # noqa: PLR2004
    scaled *= scale
    scaled += zero
    if header["BITPIX"] > 0 and "BLANK" in header:
        scaled[stored == header["BLANK"]] = np.nan
    return scaled


def _table(header: Any, data: memoryview) -> Array | None:
    table_columns = [_parse_column(header, number) for number in range(1, header["TFIELDS"] + 1)]
    if not table_columns:
        return None
    if len({column.name for column in table_columns}) < len(table_columns):
        raise CodecError("two columns of a table have the same name")
    row = np.dtype([(column.name, column.storage) for column in table_columns])
    width, count = header["NAXIS1"], header["NAXIS2"]
    if row.itemsize != width or not width:
        raise CodecError(f"the columns of a table take {row.itemsize} bytes, but NAXIS1 is {width}")
    stored = np.frombuffer(data, row, count) if count else np.zeros(0, row)
    heap = data[header.get("THEAP", width * count) :]
    physical = {
        column.name: _from_heap(column, stored[column.name], heap)
        if column.variable
        else columns.decode(column, stored[column.name])
        for column in table_columns
    }
    if all(values.dtype == stored[name].dtype for name, values in physical.items()):
        return stored
    return _structured(physical, count)


def _parse_column(header: Any, number: int) -> columns.Column:
    return columns.parse_column(
        str(header.get(f"TTYPE{number}", f"col{number}")).strip(),
        header[f"TFORM{number}"],
        header.get(f"TDIM{number}"),
        scale=header.get(f"TSCAL{number}", 1),
        zero=header.get(f"TZERO{number}", 0),
        null=header.get(f"TNULL{number}"),
    )


def _from_heap(column: columns.Column, descriptors: Array, heap: memoryview) -> Array:
    size = column.element.itemsize
    if (descriptors < 0).any():
        raise CodecError(f"the column {column.name!r} points outside its heap")
    if sum(descriptors[:, 0].tolist()) * size > _MAX_BYTES:
        raise CodecError(f"the column {column.name!r} is larger than {_MAX_BYTES} bytes")
    rows = np.empty(len(descriptors), dtype=object)
    for row, (count, start) in enumerate(descriptors.tolist()):
        if count and start + count * size > len(heap):
            raise CodecError(f"the column {column.name!r} points outside its heap")
        stored = np.frombuffer(heap, column.element, count, start) if count else np.zeros(0, column.element)
        rows[row] = columns.decode(column, stored)
    return rows


def _ascii_table(hdu: Any) -> Array:
    stored = hdu.data.view(np.ndarray)
    physical = {
        column.name: stored[column.name] if column.format.startswith("A") else np.asarray(hdu.data.field(column.name))
        for column in hdu.columns
    }
    return _structured(physical, len(stored))


def _structured(physical: Mapping[str, Array], count: int) -> Array:
    fields: Any = [(name, values.dtype, values.shape[1:]) for name, values in physical.items()]
    table = np.empty(count, np.dtype(fields))
    for name, values in physical.items():
        table[name] = values
    return table


# -- headers --------------------------------------------------------------------------------------


def adjusted(cards: Iterable[Card], data: Array | None) -> tuple[Card, ...]:
    """Return the cards with those that contradict the array corrected; none is added."""
    cards = tuple(cards)
    if data is None:
        return cards
    try:
        required = dict(_table_cards(data, cards) if data.dtype.names else _image_cards(data))
    except CodecError:  # FITS cannot store the array, so no card describes it
        return cards
    corrected = []
    for card in cards:
        if not _STRUCTURAL.fullmatch(card.keyword) or card.keyword in {"SIMPLE", "XTENSION", "GROUPS"}:
            corrected.append(card)
        elif card.keyword in required:
            corrected.append(card._replace(value=required[card.keyword]))
        elif _is_consistent(card, data):
            corrected.append(card)
    return tuple(corrected)


def _is_consistent(card: Card, data: Array) -> bool:
    """Return whether a structural card that the array does not require is consistent with it."""
    neutral = {"BSCALE": 1, "BZERO": 0, "TSCAL": 1, "TZERO": 0}.get(card.keyword.rstrip("0123456789"))
    if neutral is not None:
        return card.value == neutral
    if card.keyword == "BLANK":
        return data.dtype.kind in "iu"
    if card.keyword.startswith("TNULL"):
        number = int(card.keyword[5:])
        names = data.dtype.names or ()
        return 0 < number <= len(names) and data.dtype[number - 1].base.kind in "iu"
    return card.keyword in {"PCOUNT", "GCOUNT"} and not data.dtype.names


def _image_cards(data: Array) -> Iterator[tuple[str, HeaderValue]]:
    bitpix, zero = _image_storage(data)
    yield "BITPIX", bitpix
    yield "NAXIS", data.ndim
    for axis, length in enumerate(reversed(data.shape), 1):
        yield f"NAXIS{axis}", length
    if zero:
        yield "BSCALE", 1
        yield "BZERO", zero


def _image_storage(data: Array) -> tuple[int, int]:
    """Return BITPIX and BZERO; for a type that FITS cannot store, those of 8-bit integers."""
    name = data.dtype.str[1:]
    return _SHIFTED[name] if name in _SHIFTED else (_BITPIX.get(name, 8), 0)


def _table_cards(data: Array, cards: Sequence[Card]) -> Iterator[tuple[str, HeaderValue]]:
    stored = _stored_columns(data, cards)
    yield "BITPIX", 8
    yield "NAXIS", 2
    yield "NAXIS1", sum(column.storage.itemsize for column in stored)
    yield "NAXIS2", len(data)
    yield "PCOUNT", sum(_heap_size(column, data[column.name]) for column in stored if column.variable)
    yield "GCOUNT", 1
    yield "TFIELDS", len(stored)
    current = {card.keyword: card.value for card in cards}
    for number, column in enumerate(stored, 1):
        yield f"TTYPE{number}", column.name
        tform, tdim = current.get(f"TFORM{number}"), current.get(f"TDIM{number}")
        if _describes(column, tform, tdim, data[column.name]):
            yield f"TFORM{number}", tform
            if tdim is not None:
                yield f"TDIM{number}", tdim
        else:
            longest = f"({_longest(data[column.name])})" if column.variable else ""
            yield f"TFORM{number}", column.tform + longest
            if column.tdim:
                yield f"TDIM{number}", column.tdim
        if column.zero:
            yield f"TZERO{number}", column.zero


def _stored_columns(data: Array, cards: Iterable[Card]) -> list[columns.Column]:
    current = {card.keyword: card.value for card in cards}
    stored = []
    for number, name in enumerate(data.dtype.names or (), 1):
        tform = current.get(f"TFORM{number}")
        tform = tform if isinstance(tform, str) else None
        if data.dtype[name].kind == "O":
            variable = "Q" if tform and "Q" in tform else "P"
            stored.append(replace(columns.column_for(name, columns.element_type(name, data[name])), variable=variable))
        else:
            stored.append(columns.column_for(name, data.dtype[name], tform))
    return stored


def _describes(column: columns.Column, tform: HeaderValue, tdim: HeaderValue, values: Array) -> bool:
    """Return whether TFORM and TDIM describe a column, possibly in an equivalent form."""
    if not isinstance(tform, str) or not isinstance(tdim, str | None):
        return False
    try:
        parsed = columns.parse_column(column.name, tform, tdim)
    except CodecError:
        return False
    longest = _LONGEST.search(tform)
    has_room = not column.variable or (longest is not None and int(longest[1]) >= _longest(values))
    return has_room and (parsed.storage, parsed.code, parsed.variable) == (column.storage, column.code, column.variable)


def _longest(values: Array) -> int:
    return max(map(len, values), default=0)


def _heap_size(column: columns.Column, values: Array) -> int:
    return sum(map(len, values)) * column.element.itemsize


# -- writing --------------------------------------------------------------------------------------


def write(units: Sequence[DataUnit]) -> bytes:
    """Return data units as a FITS file, with an empty primary HDU if the first unit cannot be the primary one.

    Raises
    ------
    CodecError
        FITS cannot store a type, a text or a card.
    """
    first = DataUnit("", hdu_type="primary")
    if units and can_be_first(units[0]):
        first, *units = units
    return b"".join([_hdu(first, primary=True), *(_hdu(unit, primary=False) for unit in units)])


def can_be_first(unit: DataUnit) -> bool:
    """Return whether a data unit can be the primary HDU of a file."""
    return unit.hdu_type == "primary" and (unit.data is None or not unit.data.dtype.names)


def can_store(card: Card) -> bool:
    """Return whether a FITS header can store a card."""
    try:
        _card_images(card)
    except CodecError:
        return False
    return True


def _hdu(unit: DataUnit, *, primary: bool) -> bytes:
    required: dict[str, HeaderValue]
    if unit.data is not None and unit.data.dtype.names:
        content = _table_bytes(unit.data, unit.header)
        required = {"XTENSION": "BINTABLE", **dict(_table_cards(unit.data, unit.header))}
    else:
        content = b"" if unit.data is None else _image_bytes(unit.name, unit.data)
        described = {"BITPIX": 8, "NAXIS": 0} if unit.data is None else dict(_image_cards(unit.data))
        required = (
            {"SIMPLE": True, **described} if primary else {"XTENSION": "IMAGE", **described, "PCOUNT": 0, "GCOUNT": 1}
        )
        if unit.data is None and not primary and unit.hdu_type in {"bintable", "table"}:
            required = {"XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2, "NAXIS1": 0, "NAXIS2": 0}
            required |= {"PCOUNT": 0, "GCOUNT": 1, "TFIELDS": 0}
    keywords = {card.keyword for card in unit.header}
    if primary and "EXTEND" not in keywords:
        required["EXTEND"] = True
    if unit.name and not primary and "EXTNAME" not in keywords:
        required["EXTNAME"] = unit.name
    header = "".join(image for card in _ordered(unit, required) for image in _card_images(card)) + "END".ljust(_CARD)
    return _padded(header.encode("ascii"), b" ") + _padded(content, b"\0")


def _ordered(unit: DataUnit, required: dict[str, HeaderValue]) -> Iterator[Card]:
    """Yield the cards of a header: those that must come first, then those of the unit, then missing required ones."""
    current = {card.keyword: card for card in unit.header}
    for keyword in [*filter(_FIRST.fullmatch, required)]:
        yield Card(keyword, required.pop(keyword), current[keyword].comment if keyword in current else "")
    data = unit.data
    for card in unit.header:
        if card.keyword in required:
            yield card._replace(value=required.pop(card.keyword))
        elif not _STRUCTURAL.fullmatch(card.keyword) or (
            data is not None and not _FIRST.fullmatch(card.keyword) and _is_consistent(card, data)
        ):
            yield card
    for keyword, value in required.items():
        yield Card(keyword, value)


def _image_bytes(name: str, data: Array) -> bytes:
    kind = data.dtype.str[1:]
    if data.ndim == 0 or (kind not in _BITPIX and kind not in _SHIFTED):
        raise CodecError(
            f"the data unit {name!r} is an image of {data.dtype} with {data.ndim} axes, which FITS cannot store"
        )
    stored = columns.flip_signedness(data) if kind in _SHIFTED else data
    return stored.astype(stored.dtype.newbyteorder(">")).tobytes()


def _table_bytes(data: Array, cards: Iterable[Card]) -> bytes:
    if data.ndim != 1:
        raise CodecError(f"a table has the shape {data.shape}; it should have one dimension")
    table_columns = _stored_columns(data, cards)
    table = np.zeros(len(data), np.dtype([(column.name, column.storage) for column in table_columns]))
    heap = bytearray()
    for column in table_columns:
        if not column.variable:
            table[column.name] = columns.encode(column, data[column.name])
            continue
        for row, values in enumerate(data[column.name]):
            table[column.name][row] = (len(values), len(heap))
            heap += columns.encode(column, np.asarray(values)).tobytes()
    return table.tobytes() + bytes(heap)


def _padded(content: bytes, filler: bytes) -> bytes:
    return content + filler * (-len(content) % _BLOCK)


def _card_images(card: Card) -> list[str]:
    """Return the 80 characters of a card, or several cards of 80 for long text."""
    try:
        if card.keyword in {"COMMENT", "HISTORY", ""}:
            text = str(card.value or "")
            pieces = [text[start : start + _CARD - 8] for start in range(0, max(len(text), 1), _CARD - 8)]
            return [str(fits.Card(card.keyword, piece)) for piece in pieces]
        return [_card_image(card)]
    except (ValueError, TypeError, AttributeError, fits.VerifyError) as error:
        raise CodecError(f"a FITS header cannot store {card.keyword!r}: {error}") from None


def _card_image(card: Card) -> str:
    keyword, value, comment = card
    standard = re.fullmatch(r"[A-Z0-9_-]{1,8}", keyword)
    image = str(fits.Card(keyword if standard else f"HIERARCH {keyword}", value))  # explicit, or astropy warns
    if isinstance(value, float) and fits.Card.fromstring(image).value != value:
        image = f"{image.partition('=')[0]}= {value!r:>20}".upper()  # astropy truncates it to 20 characters
    read = fits.Card.fromstring(image)
    if value not in {None, read.value, read.rawvalue}:  # trailing blanks, or a quote before a slash
        raise CodecError(f"a FITS header cannot store {keyword!r}: another value would be read back")
    if len(image) > _CARD:
        return str(fits.Card(keyword, value, comment))  # a long text continues in further cards
    image = image.rstrip().ljust(30 if standard else 0)  # the end of the standard's fixed format
    room = _CARD - len(image) - 3
    return (f"{image} / {comment[:room]}" if comment and room > 0 else image).ljust(_CARD)
