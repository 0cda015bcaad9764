"""The values: a product of a dispatcher is a list of data units, each an array with a FITS header."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]
    DType: TypeAlias = np.dtype[Any]

HduType: TypeAlias = Literal["primary", "image", "bintable", "table"]
HeaderValue: TypeAlias = str | bool | int | float | None


class Card(NamedTuple):
    """One card of a FITS header; the value of an undefined one is None."""

    keyword: str
    value: HeaderValue
    comment: str = ""


@dataclass(frozen=True, eq=False)
class DataUnit:
    """One HDU: its header in the order of the cards, and its array.

    `data` holds the values that a reader of the FITS file is to see (unsigned integers as such, logical columns as
    booleans, scaled ones scaled), in an image of any shape, or in a structured array of shape (rows,) for a table. A
    column of variable length is an object field of one-dimensional arrays. Do not write into it: it may share memory
    with the file that it came from. `units_dict` maps names of columns to units.
    """

    name: str
    header: tuple[Card, ...] = ()
    data: Array | None = None
    hdu_type: HduType | None = None
    meta_data: Mapping[str, Any] = field(default_factory=dict)
    units_dict: Mapping[str, str] | None = None


@dataclass(frozen=True, eq=False)
class DataProduct:
    """A product: its data units in order."""

    name: str
    meta_data: Mapping[str, Any] = field(default_factory=dict)
    units: tuple[DataUnit, ...] = ()
