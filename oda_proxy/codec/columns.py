"""Columns of FITS binary tables: stored values <-> physical values (FITS standard 4.0, section 7.3)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from oda_proxy.codec.product import Array, DType

_TFORM = re.compile(r"(\d{0,9})([PQ]?)([LXBIJKAEDCM]).*")  # what follows the letter belongs to older conventions
_TDIM = re.compile(r"\s*\(\s*(\d{1,9}\s*(?:,\s*\d{1,9}\s*)*)\)\s*")

_STORAGE: Final = {
    "L": "i1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8", "C": ">c8", "M": ">c16",
}  # fmt: skip
_CODES: Final = {
    "b1": "L", "i1": "B", "u1": "B", "i2": "I", "u2": "I", "i4": "J", "u4": "J", "i8": "K", "u8": "K",
    "f4": "E", "f8": "D", "c8": "C", "c16": "M",
}  # fmt: skip

# Integers of the other signedness are stored with an offset of half their range.
_SHIFTED: Final = {"B": (-(2**7), "i1"), "I": (2**15, ">u2"), "J": (2**31, ">u4"), "K": (2**63, ">u8")}

_CHARACTERS = (np.dtype("S1"), np.dtype("<U1"), np.dtype(">U1"))

_TRUE, _FALSE = ord("T"), ord("F")


@dataclass(frozen=True)
class Column:
    """The description of a column in a file; `shape` is that of one row's value, in numpy's order.

    `code` is the letter of TFORM, `width` the length of a text or the number of bits. `variable` is P or Q if the
    length varies from row to row: the table then holds descriptors of arrays in the heap.
    """

    name: str
    code: str
    width: int = 1
    shape: tuple[int, ...] = ()
    variable: str = ""
    scale: float = 1
    zero: float = 0
    null: int | None = None

    @property
    def element(self) -> DType:
        """The type of one stored element."""
        if self.code == "X":
            return np.dtype("u1")
        return np.dtype(f"S{self.width}" if self.code == "A" else _STORAGE[self.code])

    @property
    def storage(self) -> DType:
        """The type of one stored row."""
        if self.variable:
            return np.dtype((">i4" if self.variable == "P" else ">i8", (2,)))
        shape = (*self.shape[:-1], math.ceil(self.width / 8)) if self.code == "X" else self.shape
        return np.dtype((self.element, shape)) if shape else self.element

    @property
    def tform(self) -> str:
        """The value of TFORM, without the maximum length of a variable one."""
        if self.variable:
            return f"1{self.variable}{self.code}"
        repeat = math.prod(self.shape) * (self.width if self.code == "A" else 1)
        return self.code if repeat == 1 else f"{repeat}{self.code}"

    @property
    def tdim(self) -> str | None:
        """The value of TDIM, or None if TFORM is sufficient."""
        axes = [*reversed(self.shape)]
        if self.code == "A" and axes:
            axes.insert(0, self.width)
        is_implied = not axes or (len(axes) == 1 and axes[0] != 1)
        return None if is_implied or self.variable or self.code == "X" else f"({','.join(map(str, axes))})"


def parse_column(
    name: str, tform: str, tdim: str | None = None, *, scale: float = 1, zero: float = 0, null: int | None = None
) -> Column:
    """Parse TFORM and TDIM of a column.

    Raises
    ------
    CodecError
        The standard does not allow TFORM or TDIM.
    """
    match = _TFORM.fullmatch(tform.upper())
    if not match:
        raise CodecError(f"the column {name!r} has the format {tform!r}, which a binary table cannot have")
    repeat = int(match[1] or 1)
    variable, code = match[2], match[3]
    if variable:
        if code == "X" or repeat > 1:
            raise CodecError(f"the column {name!r} has the format {tform!r}, which is not supported")
        if not repeat:
            return Column(name, code, shape=(0,))
        return Column(name, code, variable=variable, scale=scale, zero=zero, null=null)
    if code == "X":
        return Column(name, code, width=repeat, shape=(repeat,))
    shape: tuple[int, ...] = () if repeat == 1 else (repeat,)
    width = 1
    if code == "A" and repeat:
        width, shape = repeat, ()
    if tdim is not None and (axes := _axes(name, tdim)) and math.prod(axes) == repeat:
        width, shape = (axes[0], axes[:0:-1]) if code == "A" else (1, axes[::-1])
    return Column(name, code, width, shape, scale=scale, zero=zero, null=null)


def column_for(name: str, dtype: DType, tform: str | None = None) -> Column:
    """Return the column that stores a field of a structured array; `tform` is the value in its header, if any.

    For a column of variable length, `dtype` is `element_type` of it.

    Raises
    ------
    CodecError
        FITS cannot store the type.
    """
    base, shape = dtype.base, dtype.shape
    kind = base.kind + str(base.itemsize)
    if base.kind in "SU":
        return Column(name, "A", base.itemsize // (4 if base.kind == "U" else 1), shape)
    if kind == "b1" and shape and tform == f"{shape[0]}X":
        return Column(name, "X", shape[0], shape)
    if kind not in _CODES:
        raise CodecError(f"the column {name!r} is of type {base}, which FITS cannot store")
    code = _CODES[kind]
    zero, shifted = _SHIFTED.get(code, (0, ""))
    return Column(name, code, shape=shape, zero=zero if shifted.lstrip(">") == kind else 0)


def element_type(name: str, rows: Array) -> DType:
    """Return the element type of a column of variable length, given as an object array of arrays.

    Raises
    ------
    CodecError
        A row is not a one-dimensional array of numbers or characters.
    """
    if not all(isinstance(row, np.ndarray) and row.ndim == 1 and not row.dtype.hasobject for row in rows):
        raise CodecError(f"the column {name!r} contains Python objects that are not arrays")
    if any(row.dtype.kind in "SU" and row.dtype not in _CHARACTERS for row in rows):
        raise CodecError(f"the column {name!r} contains lists of texts")
    types = {row.dtype for row in rows} or {np.dtype(">f4")}
    return types.pop() if len(types) == 1 else np.result_type(*types)


def decode(column: Column, stored: Array) -> Array:
    """Return the physical values of stored ones.

    Undefined logical values become False, undefined scaled ones NaN; otherwise the standard's rules apply. Texts keep
    their trailing blanks.
    """
    if column.code == "L":
        return np.asarray(stored.view("u1") == _TRUE)
    if column.code == "X":
        return np.asarray(np.unpackbits(stored, axis=-1, count=column.width), dtype="?")
    zero, shifted = _SHIFTED.get(column.code, (0, ""))
    if shifted and column.scale == 1 and column.zero == zero:
        return flip_signedness(stored).view(shifted)
    if column.code in "AL" or (column.scale == 1 and column.zero == 0):
        return stored
    scaled = stored.astype(">c16" if column.code in "CM" else ">f8") * column.scale + column.zero
    if column.null is not None and column.code in "BIJK":
        scaled[stored == column.null] = np.nan
    return scaled.astype(scaled.dtype.newbyteorder(">"))


def encode(column: Column, physical: Array) -> Array:
    """Return the stored values of physical ones: the inverse of `decode` for columns from `column_for`.

    Raises
    ------
    CodecError
        A text is not ASCII.
    """
    if column.code == "L":
        return np.where(physical, np.int8(_TRUE), np.int8(_FALSE))
    if column.code == "X":
        return np.packbits(physical, axis=-1)
    if column.code == "A":
        return _ascii(column, physical)
    if column.zero:
        return flip_signedness(physical).view(column.element)
    return physical.astype(column.element)


def flip_signedness(integers: Array) -> Array:
    """Return integers of the other signedness, offset by half their range; big-endian."""
    size = integers.dtype.itemsize
    bits = integers.astype(integers.dtype.newbyteorder(">")).view(f">u{size}")
    flipped = bits ^ bits.dtype.type(1 << (8 * size - 1))
    return np.asarray(flipped, dtype=f">u{size}").view(f">i{size}")


def _ascii(column: Column, physical: Array) -> Array:
    codes = np.ascontiguousarray(physical).view("u1" if physical.dtype.kind == "S" else f"{physical.dtype.byteorder}u4")
    if codes.size and codes.max() > 127:  # noqa: PLR2004  # the end of ASCII
        raise CodecError(f"the column {column.name!r} contains text that is not ASCII, which FITS cannot store")
    return physical.astype(column.element)


def _axes(name: str, tdim: str) -> tuple[int, ...]:
    match = _TDIM.fullmatch(tdim)
    if not match:
        raise CodecError(f"the column {name!r} has the dimensions {tdim!r}, which the standard does not allow")
    return tuple(int(axis) for axis in match[1].split(","))
