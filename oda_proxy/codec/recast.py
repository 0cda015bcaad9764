"""Conversion of arrays to another type without changing a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from oda_proxy.codec.product import Array, DType

_MAX_BYTES: Final = 2**30


def recast(data: Array, dtype: DType) -> Array:
    """Return the values in another type: another byte order, wider numbers, text instead of ASCII bytes.

    Raises
    ------
    CodecError
        The columns or shapes differ, or the conversion could change a value.
    """
    if data.dtype == dtype:
        return data
    if dtype.itemsize * data.size > _MAX_BYTES:
        raise CodecError(f"an array of {data.size} times {dtype.itemsize} bytes is larger than {_MAX_BYTES}")
    if dtype.names is None and data.dtype.names is None:
        return _recast_values("the image", data, dtype)
    if dtype.names != data.dtype.names or dtype.names is None:
        raise CodecError("the columns of the type differ from those of the table")
    table = np.empty(data.shape, dtype)
    for name in dtype.names:
        field = dtype[name]
        if data.dtype[name].shape != field.shape:
            raise CodecError(f"the column {name!r} has another shape than its type")
        table[name] = _recast_values(f"the column {name!r}", data[name], field.base)
    return table


def as_records(data: Array) -> Array:
    """Return a table as a record array, as old servers send it; raises CodecError for an image."""
    if data.dtype.names is None:
        raise CodecError("an image cannot be a record array")
    return data.view(np.dtype((np.record, data.dtype)))


def is_records(data: Array) -> bool:
    """Return whether a table is a record array."""
    return data.dtype.type is np.record


def _recast_values(label: str, values: Array, dtype: DType) -> Array:
    if values.dtype.kind == "S" and dtype.kind == "U" and dtype.itemsize >= 4 * values.dtype.itemsize:
        try:
            return np.char.decode(values, "ascii").astype(dtype)
        except UnicodeDecodeError:
            raise CodecError(f"{label} contains text that is not ASCII") from None
    if not np.can_cast(values.dtype, dtype, "safe"):
        raise CodecError(f"{label} is of type {values.dtype}, which {dtype} cannot hold")
    return values.astype(dtype)
