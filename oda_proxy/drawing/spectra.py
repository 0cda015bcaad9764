"""Spectra and responses (OGIP/92-007, CAL/GEN/92-002): channels to energies, rates per keV, the effective area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from oda_proxy.drawing import headers
from oda_proxy.drawing.drawings import Area, AreaDrawing, MatrixDrawing, SpectrumDrawing
from oda_proxy.drawing.light_curves import numeric_columns
from oda_proxy.drawing.product_list import title_of
from oda_proxy.query.message_text import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from oda_proxy.codec.product import Array, DataProduct, DataUnit

_BOUNDS: Final = {"CHANNEL", "E_MIN", "E_MAX"}
_AREA: Final = {"ENERG_LO", "ENERG_HI", "SPECRESP"}
_MAX_CHANNELS: Final = 20_000
"""Channels and energies of a redistribution matrix that is drawn."""


def spectrum_of(product: DataProduct, unit: DataUnit, responses: Sequence[DataProduct]) -> SpectrumDrawing | None:
    """Return the drawing of a spectrum, with the energies and the area in `responses`; None for another table."""
    columns = numeric_columns(unit)
    if "CHANNEL" not in columns or not {"RATE", "COUNTS"} & columns.keys() or columns.keys() >= _BOUNDS:
        return None
    values = headers.values_of(unit)
    rate, error, measure = _rates(columns, headers.number(values, "EXPOSURE", "EXP_SRC", "ONTIME"))
    channels = np.asarray(columns["CHANNEL"], float)
    edges = _edges(channels, [*product.units, *_units(responses)])
    low = high = None
    if edges is not None:
        low, high = edges
        width = high - low
        rate, error = rate / width, None if error is None else error / width
        measure = f"{measure}/keV"
    quality = columns.get("QUALITY")
    name = "count rate" if "/s" in measure else "counts"
    return SpectrumDrawing(
        title=shorten(title_of(product)),
        channels=channels,
        rate=rate,
        error=error,
        low=low,
        high=high,
        is_good=np.ones(len(channels), bool) if quality is None else np.asarray(quality) == 0,
        labels=("channel" if edges is None else "energy (keV)", f"{name} ({measure})"),
        response=area_of(_units(responses)) if edges is not None else None,
        notes=_notes(values, "" if edges is not None else "no EBOUNDS in this answer: channels instead of energies"),
    )  # fmt: skip


def area_drawing(product: DataProduct) -> AreaDrawing | None:
    """Return the drawing of an ancillary response; None for another product."""
    area = area_of(unit for unit in product.units if numeric_columns(unit).keys() >= _AREA)
    if area is None:
        return None
    unit = next(unit for unit in product.units if numeric_columns(unit).keys() >= _AREA)
    notes = _notes(headers.values_of(unit), "")
    return AreaDrawing(shorten(title_of(product)), area, notes)


def matrix_drawing(product: DataProduct) -> MatrixDrawing | None:
    """Return the drawing of a redistribution matrix; None for another product, or a matrix that is not valid."""
    for unit in product.units:
        matrix = _matrix(unit)
        if matrix is None:
            continue
        columns = numeric_columns(unit)
        energies = np.append(columns["ENERG_LO"], columns["ENERG_HI"][-1:]).astype(float)
        bounds = _bounds(product.units)
        channels = np.arange(matrix.shape[1] + 1, dtype=float)
        axis = "channel"
        if bounds is not None and len(bounds[0]) == matrix.shape[1]:
            channels, axis = np.append(bounds[1], bounds[2][-1:]), "channel energy (keV)"
        is_area = headers.text(headers.values_of(unit), "HDUCLAS3").upper() == "FULL"
        return MatrixDrawing(
            title=shorten(title_of(product)),
            matrix=matrix,
            energies=energies,
            channels=channels,
            labels=("photon energy (keV)", axis, "area (cm\N{SUPERSCRIPT TWO})" if is_area else "probability"),
            notes=_notes(headers.values_of(unit), ""),
        )
    return None


def area_of(units: Iterable[DataUnit]) -> Area | None:
    """Return the effective area in some units: that of an ancillary response; None if there is none."""
    for unit in units:
        columns = numeric_columns(unit)
        if columns.keys() >= _AREA:
            low, high, area = (np.asarray(columns[name], float) for name in ("ENERG_LO", "ENERG_HI", "SPECRESP"))
            is_valid = np.isfinite(low) & np.isfinite(high) & (high > low) & (low > 0)
            if is_valid.any():
                return Area(low[is_valid], high[is_valid], area[is_valid])
    return None


def is_response(unit: DataUnit) -> bool:
    """Return whether a unit has an effective area, or a redistribution matrix."""
    names = set((unit.data.dtype.names or ()) if unit.data is not None else ())
    return names >= _AREA or names >= {"ENERG_LO", "ENERG_HI", "MATRIX"}


def has_bounds(product: DataProduct) -> bool:
    """Return whether a product has the energies of channels."""
    return _bounds(product.units) is not None


def _rates(columns: dict[str, Array], exposure: float | None) -> tuple[Array, Array | None, str]:
    """Return rates and errors, and their unit; counts are divided by the exposure in s, if that is known."""
    name = "RATE" if "RATE" in columns else "COUNTS"
    rate = np.asarray(columns[name], float)
    error = np.abs(np.asarray(columns["STAT_ERR"], float)) if "STAT_ERR" in columns else None
    if name == "RATE":
        return rate, error, "counts/s"
    if error is None:
        error = np.sqrt(np.clip(rate, 0, None))  # Poisson
    if exposure is None or exposure <= 0:
        return rate, error, "counts"
    return rate / exposure, error / exposure, "counts/s"


def _edges(channels: Array, units: Iterable[DataUnit]) -> tuple[Array, Array] | None:
    """Return the lower and upper edges of channels in keV; None where they are not known for each channel."""
    bounds = _bounds(units)
    if bounds is None:
        return None
    numbers, low, high = bounds
    order = np.argsort(numbers, kind="stable")
    places = np.searchsorted(numbers[order], channels)
    if (places >= len(numbers)).any() or (numbers[order][places] != channels).any():
        return None
    low, high = low[order][places], high[order][places]
    is_valid = np.isfinite(low) & np.isfinite(high) & (low >= 0) & (high > low)
    return (low, high) if is_valid.all() else None


def _bounds(units: Iterable[DataUnit]) -> tuple[Array, Array, Array] | None:
    for unit in units:
        columns = numeric_columns(unit)
        if columns.keys() >= _BOUNDS:
            numbers, low, high = (np.asarray(columns[name], float) for name in ("CHANNEL", "E_MIN", "E_MAX"))
            return numbers, low, high
    return None


def _matrix(unit: DataUnit) -> Array | None:
    """Return a redistribution matrix with a row for each energy; None where a unit has none that is valid."""
    data = unit.data
    if data is None or data.dtype.names is None or not {"ENERG_LO", "ENERG_HI", "MATRIX"} <= set(data.dtype.names):
        return None
    values = headers.values_of(unit)
    rows = [np.atleast_1d(np.asarray(row, float)) for row in data["MATRIX"]]
    count = int(headers.number(values, "DETCHANS") or max((len(row) for row in rows), default=0))
    if not rows or not 0 < count <= _MAX_CHANNELS or len(rows) > _MAX_CHANNELS:
        return None
    names = set(data.dtype.names)
    matrix = np.zeros((len(rows), count))
    first = _first_channel(data, values)
    for number, row in enumerate(rows):
        if not {"F_CHAN", "N_CHAN"} <= names:
            groups = [(first, len(row))]
        else:
            starts, lengths = (np.atleast_1d(np.asarray(data[name][number], int)) for name in ("F_CHAN", "N_CHAN"))
            groups = list(zip(starts.tolist(), lengths.tolist(), strict=False))
        at = 0
        for start, length in groups:
            begin, size = start - first, min(length, len(row) - at)
            if not 0 <= begin < count or size <= 0:
                continue
            matrix[number, begin : begin + size] = row[at : at + min(size, count - begin)]
            at += size
    return matrix


def _first_channel(data: Array, values: dict[str, Any]) -> int:
    """Return the number of the first channel (TLMINn of F_CHAN; 1 where it is missing, as the standard says)."""
    names = [name.upper() for name in data.dtype.names or ()]
    if "F_CHAN" not in names:
        return 0
    lowest = headers.number(values, f"TLMIN{names.index('F_CHAN') + 1}")
    return 1 if lowest is None else int(lowest)


def _units(products: Iterable[DataProduct]) -> list[DataUnit]:
    return [unit for product in products for unit in product.units]


def _notes(values: dict[str, Any], remark: str) -> list[str]:
    exposure = headers.number(values, "EXPOSURE")
    found = (
        headers.instrument(values),
        f"exposure {exposure:.0f} s" if exposure and exposure >= 1 else "",
        headers.interval(values),
        remark,
    )
    return [note for note in found if note]
