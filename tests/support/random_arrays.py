"""Hypothesis strategies for arrays of arbitrary bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

NUMBERS = (
    "i1",
    "u1",
    ">i2",
    "<i2",
    ">u2",
    ">i4",
    "<i4",
    "<u4",
    ">i8",
    "<u8",
    ">f4",
    "<f4",
    ">f8",
    "<f8",
    ">c8",
    "<c16",
)
IMAGES = ("u1", ">i2", "<i4", ">i8", ">f4", "<f8", ">u2", "<u4", ">u8")
Array = np.ndarray[Any, np.dtype[Any]]


@st.composite
def numbers(draw: st.DrawFn, dtype: str, shape: tuple[int, ...]) -> Array:
    """Draw numbers of arbitrary bits: every NaN, infinities, zeros of both signs."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)


@st.composite
def images(draw: st.DrawFn) -> Array:
    """Draw an image with one to three axes."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    return draw(numbers(draw(st.sampled_from(IMAGES)), tuple(shape)))


def _texts(width: int) -> st.SearchStrategy[bytes]:
    return st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=width).map(str.encode)


@st.composite
def _columns(draw: st.DrawFn, rows: int, *, variable: bool) -> Array:
    kinds = ["number", "vector", "matrix", "flag", "ascii", "text"] + ["variable"] * variable
    kind = draw(st.sampled_from(kinds))
    if kind in {"number", "vector", "matrix"}:
        shape = {"number": (), "vector": (draw(st.integers(1, 3)),), "matrix": (2, 3)}[kind]
        return draw(numbers(draw(st.sampled_from(NUMBERS)), (rows, *shape)))
    if kind == "flag":
        return np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), dtype="?")
    if kind in {"ascii", "text"}:
        values = draw(st.lists(_texts(6), min_size=rows, max_size=rows))
        return np.array(values, dtype="S6") if kind == "ascii" else np.array([v.decode() for v in values], dtype="U6")
    code = draw(st.sampled_from([">i2", ">u2", ">i4", ">f4", ">f8"]))
    column = np.empty(rows, dtype=object)
    column[:] = [draw(numbers(code, (draw(st.integers(0, 3)),))) for _ in range(rows)]
    return column


@st.composite
def tables(draw: st.DrawFn, *, variable: bool = True) -> Array:
    """Draw a table with one to four columns of any kind."""
    rows = draw(st.integers(1, 3))
    columns = [draw(_columns(rows, variable=variable)) for _ in range(draw(st.integers(1, 4)))]
    fields: Any = [(f"COLUMN{n}", column.dtype, column.shape[1:]) for n, column in enumerate(columns)]
    table = np.empty(rows, np.dtype(fields))
    for n, column in enumerate(columns):
        table[f"COLUMN{n}"] = column
    return table


def same_bits(one: Array, other: Array) -> bool:
    """Return whether two arrays have the same shape and values to the last bit, in any byte order."""
    if one.dtype.names or other.dtype.names:
        names = one.dtype.names or ()
        return names == other.dtype.names and all(same_bits(one[name], other[name]) for name in names)
    if one.dtype.kind == "O":
        return len(one) == len(other) and all(map(same_bits, one, other))
    same = one.shape == other.shape and one.dtype.newbyteorder(">") == other.dtype.newbyteorder(">")
    return (
        same
        and one.astype(one.dtype.newbyteorder(">")).tobytes() == other.astype(one.dtype.newbyteorder(">")).tobytes()
    )
