"""What a picture shows: an image of the sky, a curve, a spectrum, a response, a table, a text, or a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oda_proxy.codec.product import Array


@dataclass(frozen=True)
class Source:
    """A source of a catalogue; the position is in deg (FK5 or ICRS), the significance in sigma, or None."""

    name: str
    ra: float
    dec: float
    significance: float | None = None


@dataclass(frozen=True, eq=False)
class ImageDrawing:
    """An image; the first row of `pixels` is at the bottom. `header` has the cards of its sky coordinates, if any."""

    title: str
    pixels: Array
    label: str
    header: Mapping[str, Any]
    sources: Sequence[Source] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class CurveDrawing:
    """Values against time, or against another quantity, in the order of the table.

    `error` and `half_width` (half the width of a bin in x) are None where they are not known.
    """

    title: str
    x: Array
    y: Array
    labels: tuple[str, str]
    error: Array | None = None
    half_width: Array | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Area:
    """Effective area in cm2 at energies in keV."""

    low: Array
    high: Array
    area: Array


@dataclass(frozen=True, eq=False)
class SpectrumDrawing:
    """A spectrum: count rates in channels, whose edges `low` and `high` are in keV, or None where not known.

    Rates and errors are in counts/s, or counts/s/keV where energies are known.
    """

    title: str
    channels: Array
    rate: Array
    error: Array | None
    low: Array | None
    high: Array | None
    is_good: Array
    labels: tuple[str, str]
    response: Area | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class AreaDrawing:
    """The effective area of an instrument."""

    title: str
    response: Area
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class MatrixDrawing:
    """A redistribution matrix; `matrix` has a row for each photon energy, a column for each channel.

    The edges of both are in keV; those of channels are their numbers where energies are not known.
    """

    title: str
    matrix: Array
    energies: Array
    channels: Array
    labels: tuple[str, str, str]
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class TableDrawing:
    """The first rows of a table as texts, with the names of columns and their units."""

    title: str
    names: Sequence[str]
    units: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class TextDrawing:
    """Lines of text."""

    title: str
    lines: Sequence[str]
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class PictureDrawing:
    """A picture in the format of a file."""

    data: bytes = field(repr=False)


Drawing: TypeAlias = (
    ImageDrawing
    | CurveDrawing
    | SpectrumDrawing
    | AreaDrawing
    | MatrixDrawing
    | TableDrawing
    | TextDrawing
    | PictureDrawing
)
