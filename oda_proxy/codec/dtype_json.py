"""The JSON form of array types, as fixtures store it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from oda_proxy.codec.product import DType

_TYPE = re.compile(r"[<>|=]?(?:[biufc][0-9]{1,2}|[SU][0-9]{1,9}|\?)")


def dtype_to_json(dtype: DType) -> str | list[list[Any]]:
    """Return the JSON form of a type: `"<f4"`, or for a table `[["TIME", "<f8"], ["MATRIX", ">f4", [62]], ...]`."""
    if dtype.names is None:
        return dtype.str
    fields = [(name, dtype[name]) for name in dtype.names]
    return [[name, field.base.str, *([list(field.shape)] if field.shape else [])] for name, field in fields]


def dtype_from_json(value: Any) -> DType:
    """Return the type of a JSON form; raises CodecError for anything else."""
    try:
        match value:
            case str():
                return _simple(value)
            case list():
                fields: Any = [(str(name), _simple(code), *map(tuple, shape)) for name, code, *shape in value]
                dtype: DType = np.dtype(fields)
                return dtype
    except (TypeError, ValueError) as error:
        raise CodecError(f"not an array type: {error}") from None
    raise CodecError("not an array type")


def _simple(code: Any) -> DType:
    if not isinstance(code, str) or not _TYPE.fullmatch(code):
        raise CodecError(f"{str(code)[:40]!r} is not an array type")
    return np.dtype(code)
