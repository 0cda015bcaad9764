"""The values: a product of a dispatcher, which is a list of data units, each an array with a FITS header."""

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
    """One card of a FITS header; an undefined value is None."""

    keyword: str
    value: HeaderValue
    comment: str = ""


@dataclass(frozen=True, eq=False)
class DataUnit:
    """One HDU: its header in the order of the cards, and its array.

    `data` holds the physical values (unsigned integers as such, logical columns as booleans, scaled columns scaled): an
    array of any shape for an image, a structured array of shape (rows,) for a table. A column of variable length is an
    object field of one-dimensional arrays. Do not write into it: it may share memory with its file. `units_dict` maps
    names of columns to units.
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
