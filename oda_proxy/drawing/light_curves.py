"""Light curves: the columns of a table to draw, its time axis with its scale, and where it has gaps."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from oda_proxy.drawing import headers
from oda_proxy.drawing.drawings import CurveDrawing
from oda_proxy.drawing.product_list import title_of
from oda_proxy.query.message_text import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.codec.product import Array, DataProduct, DataUnit

_TIME_COLUMNS: Final = ("TIME", "TIME_IJD", "BARYTIME", "MJD")
_Y_COLUMNS: Final = ("RATE", "FLUX", "COUNTS", "TOT_COUNTS", "MAG")
_X_COLUMNS: Final = ("TIME", "ENERG_LO", "E_MIN", "ENERGY", "FREQUENCY", "WAVELENGTH", "CHANNEL")
_ERRORS: Final = ("{}_ERR", "ERR_{}", "ERROR", "STAT_ERR", "ERR", "{}_ERROR")
_WIDTH_COLUMNS: Final = ("TIMEDEL", "XAX_E")
_IJD_ZERO: Final = 51544.0
_ROUNDING: Final = 1e-3
"""The fraction of a bin by which times are rounded."""
_OVERLAP: Final = 0.9
"""The distance of two bins, as a fraction of that at which they touch, below which they overlap."""
_LARGE: Final = 1000.0
"""Times that are this many times larger than their span are drawn as the time since a whole number."""


def curve_of(product: DataProduct, unit: DataUnit) -> CurveDrawing | None:
    """Return the drawing of a light curve, or of another curve; None for a table that is neither.

    The columns are those that the product names in its meta data, or else those with the usual names.
    """
    columns = numeric_columns(unit)
    named = {role: str(product.meta_data.get(role, "")).upper() for role in ("time", "rate", "rate_err")}
    time = _first(columns, named["time"], *_TIME_COLUMNS)
    x = time or _first(columns, *_X_COLUMNS)
    y = _first(columns, named["rate"], *_Y_COLUMNS)
    if x is None or y is None or x == y:
        return None
    error = _first(columns, named["rate_err"], *(pattern.format(y) for pattern in _ERRORS))
    values = headers.values_of(unit)
    measure = headers.column_unit(unit, x)
    label = headers.with_unit(shorten(x), measure)
    shown = np.asarray(columns[x], float)
    widths = None
    if time is not None:
        measure = measure or headers.text(values, "TIMEUNIT")
        shown, widths = _bins(shown, columns, values, measure)
        shown, label = _time_axis(shown, values, measure)
    y_name = "count rate" if y == "RATE" else y.replace("_", " ").casefold()
    return CurveDrawing(
        title=shorten(title_of(product)),
        x=shown,
        y=np.asarray(columns[y], float),
        error=None if error is None or error == y else np.abs(np.asarray(columns[error], float)),
        half_width=widths,
        labels=(label, headers.with_unit(shorten(y_name), headers.column_unit(unit, y))),
        notes=[
            note for note in (headers.instrument(values), headers.energy_band(values), headers.interval(values)) if note
        ],
    )


def numeric_columns(unit: DataUnit) -> dict[str, Array]:
    """Return the columns of one number a row, by their names in capital letters."""
    data = unit.data
    if data is None or data.dtype.names is None or data.ndim != 1 or data.size == 0:
        return {}
    names = [name for name in data.dtype.names if data.dtype[name].kind in "iuf" and data.dtype[name].shape == ()]
    return {name.upper(): data[name] for name in names}


def segments(x: Array, half_width: Array | None) -> list[slice]:
    """Return the parts of a curve, in the order of x, between gaps: where bins do not touch, or overlap.

    Rows at the same time are those of several detectors or bands: no step leads from one to the other. Without
    widths, a gap is longer than 1.5 times the median distance.
    """
    if len(x) < 2:  # noqa: PLR2004 - two points have a distance
        return [slice(0, len(x))]
    distances = np.diff(x)
    reach = 1.5 * float(np.median(distances))
    is_apart = (distances > reach) | (distances <= 0)
    if half_width is not None:
        touching = half_width[:-1] + half_width[1:]
        is_apart = (distances > 1.5 * touching) | (distances < _OVERLAP * touching) | (distances <= 0)
    starts = [0, *(np.flatnonzero(is_apart) + 1).tolist(), len(x)]
    return [slice(begin, end) for begin, end in pairwise(starts)]


def _first(columns: Mapping[str, Array], *names: str) -> str | None:
    return next((name for name in names if name in columns), None)


def _bins(
    time: Array, columns: Mapping[str, Array], values: Mapping[str, Any], measure: str
) -> tuple[Array, Array | None]:
    """Return the middles of bins, and half the width of each, in the unit of the time column; None if not known.

    TIMEPIXR says where in its bin a time is: 0 at the begin, 0.5 in the middle (FITS standard 4.0, section 9.4.2).
    """
    if "XAX_E" in columns:
        return time, _positive(columns["XAX_E"])
    if "TIMEDEL" in columns:
        widths = _positive(columns["TIMEDEL"])
    else:
        width = headers.number(values, "TIMEDEL")
        if width is None or width <= 0:
            return time, None
        scale = headers.SECONDS.get(headers.text(values, "TIMEUNIT") or measure, 1.0)
        widths = np.full(len(time), width * scale / headers.SECONDS.get(measure, 1.0))
    place = headers.number(values, "TIMEPIXR")
    if place is not None and 0 <= place <= 1:
        time = time + (0.5 - place) * widths
    return time, widths / 2 if "TIMEDEL" in columns else _without_overlap(time, widths / 2)


def _without_overlap(time: Array, half_width: Array) -> Array:
    """Return half the width of each bin, where the header has one nominal width for all.

    `time` is the middle of what was observed: where the nominal bins of two rows overlap, the later one is shorter,
    such as the last before a gap. Where rows are that close throughout, each bin reaches half-way to the next.
    """
    order = np.argsort(time, kind="stable")
    widths, distances = half_width[order], np.diff(time[order])
    is_short = np.concatenate(([False], distances < 2 * widths[1:] * (1 - _ROUNDING)))
    follows_short = np.concatenate(([False], is_short[:-1]))
    room = np.concatenate((widths[:1], distances - widths[:-1]))
    halves = np.concatenate((widths[:1], distances / 2))
    widths = np.where(is_short, np.clip(np.where(follows_short, halves, room), 0.0, widths), widths)
    result = np.empty_like(half_width)
    result[order] = widths
    return result


def _time_axis(time: Array, values: Mapping[str, Any], measure: str) -> tuple[Array, str]:
    """Return the times to draw, and the label with the scale and what they are counted from."""
    scale = headers.text(values, "TIMESYS")
    zero = headers.zero_time(values, measure)
    if measure in {"d", "day", "days"}:
        if zero == _IJD_ZERO:
            return time, f"time (IJD, {scale})" if scale else "time (IJD)"
        if zero is not None:
            name = "MJD" if zero == 0 else f"MJD \N{MINUS SIGN} {zero:.10g}"
            return time, f"time ({name}, {scale})" if scale else f"time ({name})"
        return time, headers.with_unit("time", f"d, {scale}" if scale else "d")
    offset = _offset(time[np.isfinite(time)])
    if begin := _reference_date(values, zero, offset, measure):
        return time - offset, f"time since {begin} ({measure})"
    label = headers.with_unit("time", ", ".join(filter(None, [measure, scale])))
    return time - offset, label.replace("time", f"time \N{MINUS SIGN} {offset:.0f}", 1) if offset else label


def _reference_date(values: Mapping[str, Any], zero: float | None, offset: float, measure: str) -> str:
    """Return the date, with its scale, of a time in seconds or another unit after `zero`, an MJD; "" if not known."""
    if measure not in headers.SECONDS:
        return ""
    seconds = offset * headers.SECONDS[measure]
    if zero is None:
        return headers.unix_date(values, seconds)
    date = headers.date_of(zero + seconds / headers.DAY)
    return f"{date} {headers.text(values, 'TIMESYS')}".strip() if date else ""


def _offset(time: Array) -> float:
    """Return a whole number to subtract from times that hardly differ compared with their size; 0 for others."""
    if not time.size:
        return 0.0
    first, last = float(time.min()), float(time.max())
    is_far = abs(first) > _LARGE and abs(first) > _LARGE / 10 * (last - first)
    return float(math.floor(first)) if is_far else 0.0


def _positive(values: Array) -> Array:
    return np.asarray(np.abs(np.asarray(values, float)))
