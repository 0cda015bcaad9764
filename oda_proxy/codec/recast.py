"""The types of arrays as JSON, and arrays in another type with the same values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from oda_proxy.codec.product import Array, DType

_TYPE = re.compile(r"[<>|=]?(?:[biufc][0-9]{1,2}|[SU][0-9]{1,9}|\?)")
_MAX_BYTES: Final = 2**30


def description(dtype: DType) -> str | list[list[Any]]:
    """Describe a type as JSON: `"<f4"`, or for a table `[["TIME", "<f8"], ["MATRIX", ">f4", [62]], ...]`."""
    if dtype.names is None:
        return dtype.str
    fields = [(name, dtype[name]) for name in dtype.names]
    return [[name, field.base.str, *([list(field.shape)] if field.shape else [])] for name, field in fields]


def described(text: Any) -> DType:
    """Read what `description` writes; raises CodecError for anything else."""
    try:
        match text:
            case str():
                return _simple(text)
            case list():
                fields: Any = [(str(name), _simple(code), *map(tuple, shape)) for name, code, *shape in text]
                dtype: DType = np.dtype(fields)
                return dtype
    except (TypeError, ValueError) as error:
        raise CodecError(f"this is no type of an array: {error}") from None
    raise CodecError("this is no type of an array")


def recast(data: Array, dtype: DType) -> Array:
    """Give the same values in another type: another order of bytes, wider numbers, text instead of ASCII bytes.

    Raises
    ------
    CodecError
        A column is missing, or its values might not survive.
    """
    if data.dtype == dtype:
        return data
    if dtype.itemsize * data.size > _MAX_BYTES:
        raise CodecError(f"an array of {data.size} times {dtype.itemsize} bytes is larger than {_MAX_BYTES}")
    if dtype.names is None and data.dtype.names is None:
        return _recast_values("the image", data, dtype)
    if dtype.names != data.dtype.names or dtype.names is None:
        raise CodecError("the type has other columns than the table")
    table = np.empty(data.shape, dtype)
    for name in dtype.names:
        field = dtype[name]
        if data.dtype[name].shape != field.shape:
            raise CodecError(f"the column {name!r} has other dimensions than its type")
        table[name] = _recast_values(f"the column {name!r}", data[name], field.base)
    return table


def as_records(data: Array) -> Array:
    """Give a table whose rows are records, as old servers send them; raises CodecError for an image."""
    if data.dtype.names is None:
        raise CodecError("an image has no records")
    return data.view(np.dtype((np.record, data.dtype)))


def is_records(data: Array) -> bool:
    """Say whether the rows of a table are records."""
    return data.dtype.type is np.record


def _recast_values(what: str, values: Array, dtype: DType) -> Array:
    if values.dtype.kind == "S" and dtype.kind == "U" and dtype.itemsize >= 4 * values.dtype.itemsize:
        try:
            return np.char.decode(values, "ascii").astype(dtype)
        except UnicodeDecodeError:
            raise CodecError(f"{what} holds text that is not ASCII") from None
    if not np.can_cast(values.dtype, dtype, "safe"):
        raise CodecError(f"{what} is of type {values.dtype}: not every value of it is one of {dtype}")
    return values.astype(dtype)


def _simple(code: Any) -> DType:
    if not isinstance(code, str) or not _TYPE.fullmatch(code):
        raise CodecError(f"{str(code)[:40]!r} is no type of an array")
    return np.dtype(code)
