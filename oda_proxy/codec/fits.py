"""FITS files <-> data units, bit for bit.

astropy reads and writes the cards of headers; arrays go straight between their bytes and numpy, so that no release of
astropy converts, scales or masks a value on the way. Kept are all cards in their order with their comments, NaN
payloads, text with its blanks, and the lengths of variable columns. Not kept are the layout of the heap, logical values
that are undefined (they become false), and the stored form of scaled columns and images (they become what they mean, in
floating point). Compressed images come decompressed, and tables of text come as binary ones.
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
_MAX_BYTES: Final = 2**30  # of what is larger than its file: rows that share pieces of a heap, compressed images

_BITPIX: Final = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}
_IMAGE_STORAGE: Final = {bitpix: f">{name}" for name, bitpix in _BITPIX.items()}
# Integers of the other signedness are stored shifted by half their range.
_SHIFTED: Final = {"i1": (8, -(2**7)), "u2": (16, 2**15), "u4": (32, 2**31), "u8": (64, 2**63)}

_STRUCTURAL = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|GROUPS|TFIELDS|THEAP|BSCALE|BZERO|BLANK"
    r"|(?:TTYPE|TFORM|TDIM|TSCAL|TZERO|TNULL|TBCOL)\d+"
)
_FIRST = re.compile(r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS|EXTEND")  # the standard wants this order
_LONGEST = re.compile(r"\((\d+)\)")


# -- reading --------------------------------------------------------------------------------------


def read(content: bytes) -> tuple[DataUnit, ...]:
    """Read the HDUs of a FITS file.

    Raises
    ------
    CodecError
        This is no FITS file, it is cut short, or it holds something that is no image and no table.
    """
    if not content.startswith(b"SIMPLE  ="):  # astropy would also unpack compressed files
        raise CodecError("not a FITS file: it does not begin with SIMPLE")
    try:
        with fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=False) as hdus:
            return tuple(_unit(hdu, content) for hdu in hdus)
    except CodecError:
        raise
    except Exception as error:  # noqa: BLE001  # there is no telling what astropy raises for a damaged file
        raise CodecError(f"not a FITS file that can be read: {error}") from None


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
            kind, data = "bintable", _table_of_text(hdu)
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
            return columns.shifted_by_half(stored).view(f">{name}")
    if scale == 1 and zero == 0:
        return stored
    # as wide as astropy makes them, so that both see the same numbers
    scaled = stored.astype(">f8" if abs(header["BITPIX"]) > 16 and header["BITPIX"] != -32 else ">f4")  # noqa: PLR2004
    scaled *= scale
    scaled += zero
    if header["BITPIX"] > 0 and "BLANK" in header:
        scaled[stored == header["BLANK"]] = np.nan
    return scaled


def _table(header: Any, data: memoryview) -> Array | None:
    described = [_described(header, number) for number in range(1, header["TFIELDS"] + 1)]
    if not described:
        return None
    if len({column.name for column in described}) < len(described):
        raise CodecError("two columns of a table have the same name")
    row = np.dtype([(column.name, column.stored) for column in described])
    width, count = header["NAXIS1"], header["NAXIS2"]
    if row.itemsize != width or not width:
        raise CodecError(f"the columns of a table take {row.itemsize} bytes, but NAXIS1 is {width}")
    stored = np.frombuffer(data, row, count) if count else np.zeros(0, row)
    heap = data[header.get("THEAP", width * count) :]
    seen = {
        column.name: _from_heap(column, stored[column.name], heap)
        if column.variable
        else columns.values(column, stored[column.name])
        for column in described
    }
    if all(values.dtype == stored[name].dtype for name, values in seen.items()):
        return stored
    return _structured(seen, count)


def _described(header: Any, number: int) -> columns.Column:
    return columns.described(
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
    pieces = np.empty(len(descriptors), dtype=object)
    for row, (count, start) in enumerate(descriptors.tolist()):
        if count and start + count * size > len(heap):
            raise CodecError(f"the column {column.name!r} points outside its heap")
        piece = np.frombuffer(heap, column.element, count, start) if count else np.zeros(0, column.element)
        pieces[row] = columns.values(column, piece)
    return pieces


def _table_of_text(hdu: Any) -> Array:
    stored = hdu.data.view(np.ndarray)
    seen = {
        column.name: stored[column.name] if column.format.startswith("A") else np.asarray(hdu.data.field(column.name))
        for column in hdu.columns
    }
    return _structured(seen, len(stored))


def _structured(seen: Mapping[str, Array], count: int) -> Array:
    fields: Any = [(name, values.dtype, values.shape[1:]) for name, values in seen.items()]
    table = np.empty(count, np.dtype(fields))
    for name, values in seen.items():
        table[name] = values
    return table


# -- headers --------------------------------------------------------------------------------------


def adjusted(cards: Iterable[Card], data: Array | None) -> tuple[Card, ...]:
    """Correct the cards that describe the array where they contradict it; add none."""
    cards = tuple(cards)
    if data is None:
        return cards
    try:
        true = dict(_described_table(data, cards) if data.dtype.names else _described_image(data))
    except CodecError:  # FITS has no form for the array, so no card describes it
        return cards
    kept = []
    for card in cards:
        if not _STRUCTURAL.fullmatch(card.keyword) or card.keyword in {"SIMPLE", "XTENSION", "GROUPS"}:
            kept.append(card)
        elif card.keyword in true:
            kept.append(card._replace(value=true[card.keyword]))
        elif _harmless(card, data):
            kept.append(card)
    return tuple(kept)


def _harmless(card: Card, data: Array) -> bool:
    """Say whether a card that the array does not ask for is still true of it."""
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


def _described_image(data: Array) -> Iterator[tuple[str, HeaderValue]]:
    bitpix, zero = _image_storage(data)
    yield "BITPIX", bitpix
    yield "NAXIS", data.ndim
    for axis, length in enumerate(reversed(data.shape), 1):
        yield f"NAXIS{axis}", length
    if zero:
        yield "BSCALE", 1
        yield "BZERO", zero


def _image_storage(data: Array) -> tuple[int, int]:
    """Give BITPIX and BZERO; for what FITS has no form for, those of the nearest that a client might write."""
    name = data.dtype.str[1:]
    return _SHIFTED[name] if name in _SHIFTED else (_BITPIX.get(name, 8), 0)


def _described_table(data: Array, cards: Sequence[Card]) -> Iterator[tuple[str, HeaderValue]]:
    stored = _stored_columns(data, cards)
    yield "BITPIX", 8
    yield "NAXIS", 2
    yield "NAXIS1", sum(column.stored.itemsize for column in stored)
    yield "NAXIS2", len(data)
    yield "PCOUNT", sum(_heap_size(column, data[column.name]) for column in stored if column.variable)
    yield "GCOUNT", 1
    yield "TFIELDS", len(stored)
    said = {card.keyword: card.value for card in cards}
    for number, column in enumerate(stored, 1):
        yield f"TTYPE{number}", column.name
        tform, tdim = said.get(f"TFORM{number}"), said.get(f"TDIM{number}")
        if _says(column, tform, tdim, data[column.name]):
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
    said = {card.keyword: card.value for card in cards}
    stored = []
    for number, name in enumerate(data.dtype.names or (), 1):
        tform = said.get(f"TFORM{number}")
        tform = tform if isinstance(tform, str) else None
        if data.dtype[name].kind == "O":
            variable = "Q" if tform and "Q" in tform else "P"
            stored.append(replace(columns.suited(name, columns.pieces(name, data[name])), variable=variable))
        else:
            stored.append(columns.suited(name, data.dtype[name], tform))
    return stored


def _says(column: columns.Column, tform: HeaderValue, tdim: HeaderValue, values: Array) -> bool:
    """Say whether cards describe a column as it is, be it in other words."""
    if not isinstance(tform, str) or not isinstance(tdim, str | None):
        return False
    try:
        said = columns.described(column.name, tform, tdim)
    except CodecError:
        return False
    longest = _LONGEST.search(tform)
    fits_in = not column.variable or (longest is not None and int(longest[1]) >= _longest(values))
    return fits_in and (said.stored, said.code, said.variable) == (column.stored, column.code, column.variable)


def _longest(values: Array) -> int:
    return max(map(len, values), default=0)


def _heap_size(column: columns.Column, values: Array) -> int:
    return sum(map(len, values)) * column.element.itemsize


# -- writing --------------------------------------------------------------------------------------


def write(units: Sequence[DataUnit]) -> bytes:
    """Write data units as a FITS file; where the first is no primary one, an empty primary HDU comes before it.

    Raises
    ------
    CodecError
        FITS has no form for a type, a text or a card.
    """
    first = DataUnit("", hdu_type="primary")
    if units and leads(units[0]):
        first, *units = units
    return b"".join([_hdu(first, primary=True), *(_hdu(unit, primary=False) for unit in units)])


def leads(unit: DataUnit) -> bool:
    """Say whether a data unit can be the first of a file."""
    return unit.hdu_type == "primary" and (unit.data is None or not unit.data.dtype.names)


def holds(card: Card) -> bool:
    """Say whether a FITS header can hold a card."""
    try:
        _images(card)
    except CodecError:
        return False
    return True


def _hdu(unit: DataUnit, *, primary: bool) -> bytes:
    true: dict[str, HeaderValue]
    if unit.data is not None and unit.data.dtype.names:
        content = _table_bytes(unit.data, unit.header)
        true = {"XTENSION": "BINTABLE", **dict(_described_table(unit.data, unit.header))}
    else:
        content = b"" if unit.data is None else _image_bytes(unit.name, unit.data)
        described = {"BITPIX": 8, "NAXIS": 0} if unit.data is None else dict(_described_image(unit.data))
        true = (
            {"SIMPLE": True, **described} if primary else {"XTENSION": "IMAGE", **described, "PCOUNT": 0, "GCOUNT": 1}
        )
        if unit.data is None and not primary and unit.hdu_type in {"bintable", "table"}:
            true = {"XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2, "NAXIS1": 0, "NAXIS2": 0}
            true |= {"PCOUNT": 0, "GCOUNT": 1, "TFIELDS": 0}
    said = {card.keyword for card in unit.header}
    if primary and "EXTEND" not in said:
        true["EXTEND"] = True
    if unit.name and not primary and "EXTNAME" not in said:
        true["EXTNAME"] = unit.name
    header = "".join(image for card in _ordered(unit, true) for image in _images(card)) + "END".ljust(_CARD)
    return _padded(header.encode("ascii"), b" ") + _padded(content, b"\0")


def _ordered(unit: DataUnit, true: dict[str, HeaderValue]) -> Iterator[Card]:
    """Give the cards of a header: first those that the standard wants first, then the unit's, then what was missing."""
    said = {card.keyword: card for card in unit.header}
    for keyword in [*filter(_FIRST.fullmatch, true)]:
        yield Card(keyword, true.pop(keyword), said[keyword].comment if keyword in said else "")
    data = unit.data
    for card in unit.header:
        if card.keyword in true:
            yield card._replace(value=true.pop(card.keyword))
        elif not _STRUCTURAL.fullmatch(card.keyword) or (
            data is not None and not _FIRST.fullmatch(card.keyword) and _harmless(card, data)
        ):
            yield card
    for keyword, value in true.items():
        yield Card(keyword, value)


def _image_bytes(name: str, data: Array) -> bytes:
    kind = data.dtype.str[1:]
    if data.ndim == 0 or (kind not in _BITPIX and kind not in _SHIFTED):
        raise CodecError(
            f"the data unit {name!r} is an image of {data.dtype} with {data.ndim} axes: FITS has no form for it"
        )
    stored = columns.shifted_by_half(data) if kind in _SHIFTED else data
    return stored.astype(stored.dtype.newbyteorder(">")).tobytes()


def _table_bytes(data: Array, cards: Iterable[Card]) -> bytes:
    if data.ndim != 1:
        raise CodecError(f"a table of shape {data.shape} is none: its rows have one index")
    described = _stored_columns(data, cards)
    table = np.zeros(len(data), np.dtype([(column.name, column.stored) for column in described]))
    heap = bytearray()
    for column in described:
        if not column.variable:
            table[column.name] = columns.stored(column, data[column.name])
            continue
        for row, piece in enumerate(data[column.name]):
            table[column.name][row] = (len(piece), len(heap))
            heap += columns.stored(column, np.asarray(piece)).tobytes()
    return table.tobytes() + bytes(heap)


def _padded(content: bytes, filler: bytes) -> bytes:
    return content + filler * (-len(content) % _BLOCK)


def _images(card: Card) -> list[str]:
    """Give the 80 characters of a card, or several times 80 where its text is long."""
    try:
        if card.keyword in {"COMMENT", "HISTORY", ""}:
            text = str(card.value or "")
            pieces = [text[start : start + _CARD - 8] for start in range(0, max(len(text), 1), _CARD - 8)]
            return [str(fits.Card(card.keyword, piece)) for piece in pieces]
        return [_image_of(card)]
    except (ValueError, TypeError, AttributeError, fits.VerifyError) as error:
        raise CodecError(f"a FITS header cannot hold {card.keyword!r}: {error}") from None


def _image_of(card: Card) -> str:
    keyword, value, comment = card
    standard = re.fullmatch(r"[A-Z0-9_-]{1,8}", keyword)
    image = str(fits.Card(keyword if standard else f"HIERARCH {keyword}", value))  # spelled out, or astropy warns
    if isinstance(value, float) and fits.Card.fromstring(image).value != value:
        image = f"{image.partition('=')[0]}= {value!r:>20}".upper()  # astropy cuts it after 20 characters
    read = fits.Card.fromstring(image)
    if value not in {None, read.value, read.rawvalue}:  # text with blanks at its end, or with a quote before a slash
        raise CodecError(f"a FITS header cannot hold {keyword!r}: its value would be read as another")
    if len(image) > _CARD:
        return str(fits.Card(keyword, value, comment))  # a long text and its comment go on in further cards
    image = image.rstrip().ljust(30 if standard else 0)  # where the standard's fixed format ends
    room = _CARD - len(image) - 3
    return (f"{image} / {comment[:room]}" if comment and room > 0 else image).ljust(_CARD)
