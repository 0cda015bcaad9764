"""Data products <-> the dispatcher's JSON, in a form that every release of the client reads.

Nothing is written that some release cannot read: names are never null; arrays are plain arrays; the JSON text in a
product's `meta_data`, which most releases evaluate as Python, is both JSON and Python; there is no NaN outside arrays.
Releases after 1.0 replace the letters `null` anywhere in an answer, also inside texts: in base64 a blank is inserted
(decoders skip it), and in text that is decoded twice the letters are written with an escape. Elsewhere, in the value of
a header or a name, nothing can be done: those releases show `None`.

The wire form cannot express: the comments of cards; COMMENT and HISTORY cards but the last; the lengths in columns of
variable length (rows are padded with zeros to the longest, and the header is adapted); whether bits were stored as
bits. Signed bytes are widened to 16 bits, because astropy writes a plain column of them as logical values.
"""

from __future__ import annotations

import ast
import base64
import binascii
import hashlib
import json
import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from oda_proxy.codec import columns, fits, pickle_loading, pickle_writing
from oda_proxy.codec.product import Card, DataProduct, DataUnit
from oda_proxy.codec.recast import as_records, is_records
from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.codec.product import Array, DType, HduType

Form: TypeAlias = Literal["pickle", "json"]

HDU_TYPES: Final = ("primary", "image", "bintable", "table")
_MAX_BYTES: Final = 2**30  # of an array that is larger than its source


@dataclass(frozen=True)
class Binary:
    """A file as a product, a ROOT file for instance; old servers send no name."""

    data: bytes
    name: str | None = None


@dataclass(frozen=True)
class AsciiTable:
    """A table as ECSV text; old servers send the text alone."""

    text: str
    name: str = ""
    meta_data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """An image for people, in a format such as PNG."""

    data: bytes
    img_type: str
    name: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    filename: str | None = None


@dataclass(frozen=True)
class Text:
    """A text as a product."""

    value: str
    name: str = ""
    meta_data: Mapping[str, Any] = field(default_factory=dict)


# -- arrays ---------------------------------------------------------------------------------------


def encode_product(product: DataProduct, *, form: Form = "pickle") -> dict[str, Any]:
    """Encode a product for the wire; with the form `json` the arrays are texts instead of pickles.

    Raises
    ------
    CodecError
        An array has no portable form, or the form `json` cannot express it: NaN, infinities, complex numbers, and
        images of one dimension, which no release of the client reads from a text.
    """
    return {
        "data_unit_list": [_encode_unit(unit, form) for unit in product.units],
        "name": product.name,
        "meta_data": _python_and_json(product.meta_data),
    }


def decode_product(obj: Any) -> DataProduct:
    """Decode a product of any server: an object, or JSON text of one.

    Raises
    ------
    CodecError
        Not a product, or one of its pickles cannot be loaded.
    ForbiddenPickleError
        One of its pickles names something that is not on the allow-list.
    """
    product = _object(obj, "product")
    units = product.get("data_unit_list")
    if not isinstance(units, list):
        raise CodecError("a product has no list of data units")
    meta_data = product.get("meta_data")
    return DataProduct(
        name=_name(product),
        meta_data=_object({} if meta_data is None else meta_data, "product's meta_data"),
        units=tuple(_decode_unit(_object(unit, "data unit")) for unit in units),
    )


def portable(data: Array) -> Array:
    """Return the plain array that represents `data` on the wire.

    Raises
    ------
    CodecError
        A column contains Python objects that are not arrays, or padding it would take more than 1 GiB.
    """
    dtype = data.dtype
    if dtype.names is None:
        if dtype.hasobject:
            raise CodecError("an image of Python objects has no form on the wire")
        return data.view(np.ndarray)
    fields: list[Any] = [(name, *_portable_field(name, data[name])) for name in dtype.names]
    plain = np.dtype(fields)
    if plain == np.dtype((np.void, dtype)):
        return data.view(np.ndarray)
    if plain.itemsize * data.size > _MAX_BYTES:
        raise CodecError(f"a table would take more than {_MAX_BYTES} bytes when its columns are padded")
    table = np.zeros(data.shape, plain)
    for name in dtype.names:
        if dtype[name].kind != "O":
            table[name] = data[name]
            continue
        for row, values in enumerate(data[name]):
            if table.dtype[name].shape:
                table[name][row][: len(values)] = values
            else:
                table[name][row] = values.tobytes()  # a text
    return as_records(table) if is_records(data) else table


def header(unit: DataUnit) -> dict[str, Any]:
    """Return the header of a data unit in its wire form: an object, so that the last of repeated keywords remains."""
    cards = unit.header if unit.data is None else fits.adjusted(unit.header, portable(unit.data))
    return {card.keyword: finite(card.value) for card in cards}


def _encode_unit(unit: DataUnit, form: Form) -> dict[str, Any]:
    data = None if unit.data is None else portable(unit.data)
    unit = replace(unit, data=data)
    hdu_type = unit.hdu_type
    if hdu_type == "table" and data is not None:
        hdu_type = "bintable"  # no release of astropy makes an ASCII table of a plain array
    text = pickled = None
    if data is not None and form == "json":
        text = _array_text(unit.name, data)
    elif data is not None:
        pickled = _base64(pickle_writing.dumps(data, record=is_records(data)))
    return {
        "data": text,
        "dt": None if data is None else str(data.dtype),
        "name": unit.name,
        "header": header(unit),
        "binarys": pickled,
        "meta_data": finite(dict(unit.meta_data)),
        "hdu_type": hdu_type,
        "units_dict": None if unit.units_dict is None else dict(unit.units_dict),
    }


def _decode_unit(unit: dict[str, Any]) -> DataUnit:
    hdu_type: HduType | None = unit.get("hdu_type")
    if hdu_type is not None and hdu_type not in HDU_TYPES:
        raise CodecError(f"a data unit is of the type {str(hdu_type)[:40]!r}, none of {', '.join(HDU_TYPES)}")
    data = None
    if unit.get("binarys") is not None:
        data = pickle_loading.loads(_bytes(unit["binarys"]))
    elif unit.get("data") is not None:
        data = _array_from_text(unit["data"], unit.get("dt"))
    units_dict = unit.get("units_dict")
    return DataUnit(
        name=_name(unit, "table"),
        header=tuple(Card(keyword, _header_value(value)) for keyword, value in _member(unit, "header").items()),
        data=data,
        hdu_type=hdu_type,
        meta_data=_member(unit, "meta_data"),
        units_dict=None if units_dict is None else _object(units_dict, "data unit's units_dict"),
    )


def _header_value(value: Any) -> Any:
    if isinstance(value, list):
        return "".join(f"{element}," for element in value)  # like clients after 1.0; 1.0 cannot write a list
    if isinstance(value, dict):
        raise CodecError("the value of a header card is an object")
    return finite(value)


def _portable_field(name: str, values: Array) -> tuple[DType, tuple[int, ...]]:
    dtype, shape = values.dtype, values.shape[1:]
    if dtype.kind != "O":
        return _portable_type(dtype), shape
    dtype = _portable_type(columns.element_type(name, values))
    longest = max(map(len, values), default=0) or 1  # a column has a width even if every row is empty
    return (np.dtype(f"S{longest}"), ()) if dtype == np.dtype("S1") else (dtype, (longest,))


def _portable_type(dtype: DType) -> DType:
    return np.dtype(">i2") if dtype == np.dtype("i1") else dtype


# -- arrays as text -------------------------------------------------------------------------------


def _array_text(name: str, data: Array) -> str:
    kinds = {data.dtype[field].base.kind for field in data.dtype.names} if data.dtype.names else {data.dtype.kind}
    if not kinds <= set("biufSU"):
        raise CodecError(f"the data unit {name!r} of type {data.dtype} has no form as text")
    if data.ndim < (1 if data.dtype.names else 2):
        raise CodecError(f"the data unit {name!r} has {data.ndim} dimensions: no client reads it from text")
    try:
        text = json.dumps(data.tolist(), default=_plain_value, allow_nan=False)
    except ValueError:
        raise CodecError(f"the data unit {name!r} contains NaN, infinities or bytes that are not text") from None
    # Clients evaluate the text as Python: booleans are written as numbers.
    return _without_null(re.sub(r'"(?:[^"\\]|\\.)*"|true|false', _as_number, text))


def _as_number(match: re.Match[str]) -> str:
    return {"true": "1", "false": "0"}.get(match[0], match[0])


def _plain_value(value: Any) -> Any:
    if isinstance(value, np.ndarray):  # a field of several numbers
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode("ascii")
    raise ValueError("not text")


def _array_from_text(text: Any, dtype_text: Any) -> Array:
    if not isinstance(text, str) or not isinstance(dtype_text, str):
        raise CodecError("a data unit has neither a pickle nor text with a type")
    try:
        dtype = _dtype_from_text(dtype_text)
        rows = json.loads(text)
        count = len(rows) if dtype.names else text.count(",") + 1
        if dtype.itemsize * count > _MAX_BYTES:
            raise CodecError(f"an array would take more than {_MAX_BYTES} bytes")
        if dtype.names:
            rows = [tuple(row) for row in rows]
        return np.array(rows, dtype=dtype)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError) as error:
        raise CodecError(f"an array cannot be parsed from its text: {error}") from None


def _dtype_from_text(text: str) -> DType:
    record = re.fullmatch(r"\(\s*numpy\.record\s*,(.*)\)", text, re.DOTALL)
    fields = record[1].strip() if record else text
    dtype = np.dtype(ast.literal_eval(fields) if fields.startswith(("[", "{")) else fields)
    if dtype.hasobject:
        raise CodecError("an array of Python objects has no form as text")
    return np.dtype((np.record, dtype)) if record else dtype


# -- other products -------------------------------------------------------------------------------


def encode_binary(
    data: bytes, *, name: str | None = None, form: Literal["text", "object"] = "text"
) -> str | dict[str, Any]:
    """Encode a file: a text, which releases up to 1.1.0 need, or an object with its name and MD5."""
    text = _base64(data, urlsafe=True)
    if form == "text":
        return text
    return {"name": name or "", "data": text, "md5": hashlib.md5(data, usedforsecurity=False).hexdigest()}


def decode_binary(obj: Any) -> Binary:
    """Decode a file: a text, an object, or JSON text of one.

    Raises
    ------
    CodecError
        Not a file, not base64, or its MD5 differs.
    """
    if isinstance(obj, str) and not obj.lstrip().startswith("{"):
        return Binary(_bytes(obj, urlsafe=True))
    binary = _object(obj, "binary product")
    data = _bytes(binary.get("data"), urlsafe=True)
    if binary.get("md5") != hashlib.md5(data, usedforsecurity=False).hexdigest():
        raise CodecError("a binary product is damaged: its MD5 differs")
    return Binary(data, _name(binary))


def encode_catalog(catalog: Mapping[str, Any]) -> dict[str, Any]:
    """Encode a catalogue; raises CodecError if it has no columns, or not as many names as columns."""
    names, values = catalog.get("cat_column_names"), catalog.get("cat_column_list")
    if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values):
        raise CodecError("a catalogue has no columns, or not as many names as columns")
    return dict(finite(dict(catalog)))


def decode_catalog(obj: Any) -> dict[str, Any]:
    """Decode a catalogue: an object or JSON text of one; raises CodecError as `encode_catalog`."""
    return encode_catalog(_object(obj, "catalogue"))


def encode_ascii_table(table: AsciiTable, *, form: Literal["text", "object"] = "text") -> str | dict[str, Any]:
    """Encode a table: the bare text, which 1.0 needs, or an object, which all later releases need.

    Later releases use the object's `meta_data` unchanged, and fail on a text that contains the words by which they name
    products; then it is sent as an object.
    """
    if form == "text":
        return table.text
    meta_data: Any = _python_and_json(table.meta_data)
    if "src_name" in meta_data or "product" in meta_data:
        meta_data = finite(dict(table.meta_data))
    return {"binary": None, "ascii": table.text, "name": table.name, "meta_data": meta_data}


def decode_ascii_table(obj: Any) -> AsciiTable:
    """Decode a table: the bare text, an object, or JSON text of one; raises CodecError for anything else."""
    if isinstance(obj, str) and not obj.lstrip().startswith("{"):
        return AsciiTable(obj)
    table = _object(obj, "table")
    if not isinstance(table.get("ascii"), str):
        raise CodecError("a table has no text")
    meta_data = table.get("meta_data")
    return AsciiTable(
        table["ascii"], _name(table), _object({} if meta_data is None else meta_data, "table's meta_data")
    )


def encode_picture(picture: Picture) -> dict[str, Any]:
    """Encode a picture."""
    encoded = {
        "img_type": picture.img_type,
        "b64data": _base64(picture.data, urlsafe=True),
        "metadata": finite(dict(picture.metadata)),
        "name": picture.name,
    }
    return encoded if picture.filename is None else {**encoded, "filename": picture.filename}


def decode_picture(obj: Any) -> Picture:
    """Decode a picture: an object or JSON text of one; raises CodecError for anything else."""
    picture = _object(obj, "picture")
    filename = picture.get("filename")
    if not isinstance(picture.get("img_type"), str) or not isinstance(filename, str | None):
        raise CodecError("a picture has no type, or its filename is not text")
    data = _bytes(picture.get("b64data"), urlsafe=True)
    return Picture(data, picture["img_type"], _name(picture), _member(picture, "metadata"), filename)


def encode_text(text: Text) -> dict[str, Any]:
    """Encode a text."""
    return {"name": text.name, "value": text.value, "meta_data": finite(dict(text.meta_data))}


def decode_text(obj: Any) -> Text:
    """Decode a text: an object, JSON text of one, or the plain text; raises CodecError for anything else."""
    if isinstance(obj, str):
        try:
            obj = _object(obj, "text")
        except CodecError:
            return Text(obj)
        if "value" not in obj:
            raise CodecError("a text has no value")
    text = _object(obj, "text")
    if not isinstance(text.get("value"), str):
        raise CodecError("a text has no value")
    return Text(text["value"], _name(text), _member(text, "meta_data"))


# -- JSON -----------------------------------------------------------------------------------------


def _object(obj: Any, label: str) -> dict[str, Any]:
    if isinstance(obj, str):
        try:
            obj = json.loads(obj)  # servers write NaN
        except (ValueError, RecursionError) as error:
            raise CodecError(f"a {label} is not JSON: {str(error)[:100]}") from None
    if not isinstance(obj, dict):
        raise CodecError(f"a {label} is not an object")
    return obj


def _member(obj: Mapping[str, Any], name: str) -> dict[str, Any]:
    return _object({} if obj.get(name) is None else obj[name], name)


def _name(obj: Mapping[str, Any], default: str = "") -> str:
    name = obj.get("name")
    if not isinstance(name, str | None):
        raise CodecError("a name is not text")
    return default if name is None else name


def finite(value: Any) -> Any:
    """Return a JSON value with null in place of NaN and infinities."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(name): finite(inner) for name, inner in value.items()}
    return [finite(element) for element in value] if isinstance(value, list | tuple) else value


def _python_and_json(meta_data: Mapping[str, Any]) -> str:
    """Return a text with the same meaning as JSON and as Python.

    It contains no null (an empty text instead), no true or false (1 and 0), and no NaN (a text); characters are not
    escaped, because JSON's escape for those beyond 16 bits is not Python's.
    """
    try:
        text = json.dumps(_plain(dict(meta_data)), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CodecError(f"meta_data cannot be written as JSON: {error}") from None
    return _without_null(text)


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return [_plain(element) for element in value] if isinstance(value, list | tuple) else value


def _without_null(text: str) -> str:
    return text.replace("null", "n\\u0075ll")


def _base64(data: bytes, *, urlsafe: bool = False) -> str:
    encoded = base64.urlsafe_b64encode(data) if urlsafe else base64.b64encode(data)
    return encoded.replace(b"null", b"nu ll").decode("ascii")


def _bytes(text: Any, *, urlsafe: bool = False) -> bytes:
    if not isinstance(text, str):
        raise CodecError("another value was found where base64 is expected")
    try:
        encoded = re.sub(r"\s+", "", text).encode("ascii")
        if urlsafe:
            encoded = encoded.translate(bytes.maketrans(b"-_", b"+/"))
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, UnicodeError) as error:
        raise CodecError(f"not base64: {error}") from None
