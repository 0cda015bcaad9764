"""Pickled arrays, loaded without running anything.

A pickle is a program. Loading one here never calls what it names: each allowed name is mapped to a stand-in that only
stores its arguments, and the array is built from these afterwards, with every size checked against the bytes that are
there. So neither code nor a hostile `dtype` reaches numpy.
"""

from __future__ import annotations

import io
import math
import pickle  # noqa: TID251  # loads with stand-ins only
import re
from typing import TYPE_CHECKING, Any, Final, Never

import numpy as np

from oda_proxy.codec import columns
from oda_proxy.codec.pickle_allow_list import ARRAY_NAMES, Role, check
from oda_proxy.codec.pickle_operations import GlobalName
from oda_proxy.errors import CodecError, ForbiddenPickleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.codec.product import Array, DType

_MAX_TABLE_BYTES: Final = 2**30

_CODE = re.compile(r"[biufcSUV?][0-9]{0,10}")


def loads(data: bytes) -> Array:
    """Load a pickled array; a table of astropy's becomes a structured array of its physical values.

    The array may be read-only, and share memory with `data`.

    Raises
    ------
    ForbiddenPickleError
        The pickle names something that is not on the allow-list.
    CodecError
        Not a pickle, without an array, or with sizes that contradict its bytes.
    """
    check(data)
    try:
        # Pickles of Python 2 have bytes where others have text.
        return _array(_Unpickler(io.BytesIO(data), encoding="bytes").load())
    except CodecError:
        raise
    except (pickle.UnpicklingError, EOFError, RecursionError, MemoryError, OverflowError) as error:
        raise CodecError(f"the pickle cannot be loaded: {error}") from None
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CodecError(f"the pickle has no array in the form that numpy writes: {error}") from None


class _StandIn:
    """Takes the place of a function or class in a pickle: stores its arguments, and does nothing."""

    __slots__ = ("arguments", "state")

    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> Any:
        self = super().__new__(cls)
        self.arguments = arguments
        self.state = None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reconstructed(_StandIn):
    __slots__ = ()


class _FromBuffer(_StandIn):
    __slots__ = ()


class _Scalar(_StandIn):
    __slots__ = ()


class _DTypeState(_StandIn):
    __slots__ = ()


class _Record(_StandIn):
    __slots__ = ()


class _FitsTable(_StandIn):
    __slots__ = ()


class _Bytes(_StandIn):
    """`bytes`, which protocol 2 calls without arguments for an empty value."""

    __slots__ = ()

    def __new__(cls, *arguments: Any) -> Any:
        if arguments:
            raise CodecError("the pickle calls bytes with arguments")
        return b""


class _Encode(_StandIn):
    """`_codecs.encode`, by which protocol 2 writes bytes."""

    __slots__ = ()

    def __new__(cls, *arguments: Any) -> Any:
        match arguments:
            case [str() as text, "latin1" | b"latin1"]:
                return text.encode("latin1")
        raise CodecError("the pickle encodes text in another way than bytes are")


_STAND_INS: Final[Mapping[Role, type[_StandIn]]] = {
    Role.RECONSTRUCT: _Reconstructed,
    Role.FROM_BUFFER: _FromBuffer,
    Role.SCALAR: _Scalar,
    Role.DTYPE: _DTypeState,
    Role.RECORD: _Record,
    Role.FITS_TABLE: _FitsTable,
    Role.BYTES: _Bytes,
    Role.ENCODE: _Encode,
    Role.TYPE: _StandIn,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_StandIn]:
        try:
            return _STAND_INS[ARRAY_NAMES[GlobalName(module, name)]]
        except KeyError:
            raise ForbiddenPickleError(f"{module}.{name}") from None

    def persistent_load(self, _: Any) -> Never:
        raise CodecError("the pickle refers to something outside it")


def _array(loaded: Any) -> Array:
    """Build the content of a pickle: an array, or one of astropy's tables."""
    match loaded:
        case _Reconstructed(arguments=(kind, *_), state=(_, shape, dtype, fortran, raw, *rest)) if kind is _FitsTable:
            return _table(_shaped(raw, _dtype(dtype), shape, fortran=bool(fortran)), *rest)
    return _values(loaded)


def _values(loaded: Any) -> Array:
    """Build an array, or the column of variable length of a table: a list of arrays, not nested further."""
    match loaded:
        case _Reconstructed(state=(_, shape, _DTypeState(arguments=("O8" | b"O8", *_)), _, list() as rows)):
            if _size(shape) != len(rows):
                raise CodecError("the pickle has a list whose length contradicts its shape")
            array = np.empty(len(rows), dtype=object)
            array[:] = [_plain(row) for row in rows]
            return array
    return _plain(loaded)


def _plain(loaded: Any) -> Array:
    """Build an array of numbers or texts."""
    match loaded:
        case _FromBuffer(arguments=(raw, dtype, shape, order, *_)):
            return _shaped(raw, _dtype(dtype), shape, fortran=order == "F")
        case _Reconstructed(state=(_, shape, dtype, fortran, raw)):
            return _shaped(raw, _dtype(dtype), shape, fortran=bool(fortran))
    raise CodecError("the pickle contains no array")


def _shaped(raw: Any, dtype: DType, shape: Any, *, fortran: bool) -> Array:
    size = _size(shape)
    if not isinstance(raw, bytes | bytearray):
        raise CodecError("the pickle's array is neither of numbers nor of texts")
    if not dtype.itemsize or size * dtype.itemsize != len(raw):
        raise CodecError(f"the pickle's array has {len(raw)} bytes where {size} times {dtype.itemsize} should be")
    if not size:
        return np.empty(shape, dtype)
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def _size(shape: Any) -> int:
    if not isinstance(shape, tuple) or not all(isinstance(axis, int) and axis >= 0 for axis in shape):
        raise CodecError("the pickle's array has no shape")
    return math.prod(shape)


def _dtype(loaded: Any) -> DType:
    """Build a type from the state of numpy's `dtype.__reduce__`; nested fields are refused, like in FITS."""
    match loaded:
        case _DTypeState(arguments=(code, *_), state=(_, _, None, (*names_,), dict() as fields, itemsize, *_)):
            described: Any = {
                "names": [_text(name) for name in names_],
                "formats": [_field_dtype(fields[name][0]) for name in names_],
                "offsets": [fields[name][1] for name in names_],
                "itemsize": itemsize,
            }
            structured = np.dtype(described)
            return np.dtype((np.record, structured)) if code is _Record else structured
    return _simple_dtype(loaded)


def _field_dtype(loaded: Any) -> DType:
    match loaded:
        case _DTypeState(state=(_, _, (base, shape), *_)):
            return np.dtype((_simple_dtype(base), shape))
    return _simple_dtype(loaded)


def _simple_dtype(loaded: Any) -> DType:
    match loaded:
        case _DTypeState(arguments=(code, *_), state=(_, order, None, None, *_)) if _CODE.fullmatch(_text(code)):
            dtype = np.dtype(_text(code))
            return (
                dtype.newbyteorder(">" if order in {">", b">"} else "<") if order in {"<", ">", b"<", b">"} else dtype
            )
    raise CodecError("the pickle's array is of a type that FITS does not have")


def _text(loaded: Any) -> str:
    if isinstance(loaded, bytes):
        return loaded.decode()
    if not isinstance(loaded, str):
        raise CodecError("the pickle has another value where a text is expected")
    return loaded


# -- tables of astropy -----------------------------------------------------------------------------


def _table(rows: Array, attributes: Any = (), keys: Any = ()) -> Array:
    """Return the physical values of an astropy table, given as stored in its file.

    astropy pickles the columns that it already converted beside the stored ones. Those of variable length are found
    only there, because the heap of the file is not pickled.
    """
    if not rows.dtype.names:
        raise CodecError("the pickle's table has no columns")
    properties = dict(zip(keys, attributes, strict=True))
    converted = properties.get("_converted", {})
    names = rows.dtype.names
    descriptions = _attributes(properties["_coldefs"])["columns"] if "_coldefs" in properties else [None] * len(names)
    physical = {}
    for name, description in zip(names, descriptions, strict=True):
        if name in converted:
            physical[name] = _values(converted[name])
            continue
        column = _column(name, {} if description is None else _attributes(description))
        if column is not None and column.variable:
            raise CodecError(f"the pickle's table lacks the values of {name!r}, a column of variable length")
        physical[name] = rows[name] if column is None else _as_text(columns.decode(column, rows[name]))
    if any(values.shape[:1] != rows.shape for values in physical.values()):
        raise CodecError("the pickle's table has columns of different lengths")
    if sum(values.nbytes for values in physical.values()) > _MAX_TABLE_BYTES:  # columns may share their values
        raise CodecError(f"the pickle's table is larger than {_MAX_TABLE_BYTES} bytes")
    fields: Any = [(name, values.dtype, values.shape[1:]) for name, values in physical.items()]
    table = np.empty(rows.shape, np.dtype(fields))
    for name, values in physical.items():
        table[name] = values
    return table


def _as_text(values: Array) -> Array:
    """Return stored ASCII as text, like astropy."""
    if values.dtype.kind != "S":
        return values
    return np.char.decode(values, "ascii", "backslashreplace").astype(f"U{values.dtype.itemsize}")


def _attributes(loaded: Any) -> dict[str, Any]:
    if not isinstance(loaded, _StandIn):
        raise CodecError("the pickle's table has no description of its columns")
    state = loaded.state
    if isinstance(state, tuple):  # an object with slots: its dictionary, and its slots
        state = {**(state[0] or {}), **(state[1] or {})}
    return {_text(name): value for name, value in state.items()}


def _column(name: str, attributes: Mapping[str, Any]) -> columns.Column | None:
    match attributes.get("_format"):
        case _StandIn(arguments=(str() as tform, *_)):
            scale, zero = _number(attributes.get("_bscale"), 1), _number(attributes.get("_bzero"), 0)
            return columns.parse_column(name, tform, scale=scale, zero=zero)
    return None


def _number(loaded: Any, default: float) -> float:
    match loaded:
        case bool() | int() | float():
            return loaded
        case _Scalar(arguments=(dtype, bytes() as raw)):
            return float(_shaped(raw, _dtype(dtype), (), fortran=False)[()])
    return default
