"""Figures of light curves, of other curves and of spectra: errors, gaps and upper limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib import colormaps

from oda_proxy.drawing import light_curves
from oda_proxy.drawing.figure_text import plain
from oda_proxy.drawing.images import LARGEST

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from oda_proxy.codec.product import Array
    from oda_proxy.drawing.drawings import Area, CurveDrawing, SpectrumDrawing

COLOUR: Final = colormaps["viridis"](0.3)
_PALE: Final = colormaps["viridis"](0.6)
_LIMIT: Final = 2.0
"""Standard deviations above a rate at which an upper limit is drawn."""
_MOST_POINTS: Final = 3000
"""Points that are drawn one by one; more are drawn as the range of each of `_BINS` bins."""
_BINS: Final = 1000
_MANY: Final = 400
"""Points from which on they are small."""


def draw_curve(figure: Figure, drawing: CurveDrawing) -> None:
    """Draw a curve; points are joined by steps within parts without gaps."""
    axes = figure.add_subplot()
    _label(axes, drawing.labels)
    is_valid = (np.abs(drawing.x) < LARGEST) & (np.abs(drawing.y) < LARGEST)
    order = np.argsort(drawing.x[is_valid], kind="stable")
    x, y = drawing.x[is_valid][order], drawing.y[is_valid][order]
    error, half_width = (
        None if values is None else _valid_errors(values[is_valid][order])
        for values in (drawing.error, drawing.half_width)
    )
    if not x.size:
        _say(axes, "no row has a time and a value")
        return
    if len(x) > _MOST_POINTS:
        _draw_ranges(axes, x, y)
    else:
        _draw_points(axes, x, y, error, half_width)
    invalid = len(drawing.x) - len(x)
    if invalid:
        axes.annotate(
            f"{invalid} of {len(drawing.x)} rows without a value", (0.99, 0.02), xycoords="axes fraction", ha="right",
            fontsize=8, color="0.35",
        )  # fmt: skip
    low, high = axes.get_ylim()
    if low < 0 < high:
        axes.axhline(0, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    axes.locator_params(axis="x", nbins=8)
    axes.minorticks_on()
    axes.grid(alpha=0.25, linewidth=0.6)


def draw_spectrum(figure: Figure, drawing: SpectrumDrawing) -> None:
    """Draw a spectrum on logarithmic axes, and below it the effective area of its response, if that is known."""
    if drawing.response is not None:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
    else:
        axes, below = figure.add_subplot(), None
    _label(axes, drawing.labels)
    if drawing.low is None or drawing.high is None:
        x, width = drawing.channels, np.full(len(drawing.channels), 0.5)
        left = right = width
    else:
        x = np.sqrt(np.where(drawing.low > 0, drawing.low, drawing.high / 2) * drawing.high)
        left, right = x - drawing.low, drawing.high - x
        axes.set_xscale("log")
    error = np.zeros(len(x)) if drawing.error is None else _valid_errors(drawing.error)
    is_valid = (np.abs(drawing.rate) < LARGEST) & (np.abs(x) < LARGEST)
    is_seen = is_valid & (drawing.rate > 0) & (drawing.rate >= error)
    is_limit = is_valid & ~is_seen & (error > 0) & (drawing.rate + _LIMIT * error > 0)
    if not (is_seen | is_limit).any():
        _say(axes, "no channel has counts")
    else:
        axes.set_yscale("log", nonpositive="clip")
    for chosen, colour, label in (
        (is_seen & drawing.is_good, COLOUR, ""),
        (is_seen & ~drawing.is_good, "0.6", "QUALITY not 0"),
    ):
        if chosen.any():
            down = np.minimum(error[chosen], drawing.rate[chosen] * 0.999)
            axes.errorbar(
                x[chosen], drawing.rate[chosen], (down, error[chosen]), (left[chosen], right[chosen]), fmt="o",
                markersize=2.5, color=colour, ecolor=colour, elinewidth=1.0, linestyle="none", label=label or None,
            )  # fmt: skip
    _set_range(axes, drawing.rate[is_seen], error[is_seen])
    if is_limit.any():
        limits = drawing.rate[is_limit].clip(0) + _LIMIT * error[is_limit]
        axes.errorbar(
            x[is_limit], limits, limits * 0.35, (left[is_limit], right[is_limit]), fmt="none", uplims=True,
            color=_PALE, elinewidth=1.0, capsize=2, label=f"{_LIMIT:g}\N{GREEK SMALL LETTER SIGMA} upper limit",
        )  # fmt: skip
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.25, linewidth=0.6, which="both")
    if below is not None and drawing.response is not None:
        axes.set_xlabel("")
        draw_area_line(below, drawing.response, _band(drawing))
        below.set_xlabel(drawing.labels[0])
    if drawing.low is not None:
        axes.set_xlim(*_band(drawing))
        plain_logarithms((below or axes).xaxis)


def _band(drawing: SpectrumDrawing) -> tuple[float, float]:
    """Return the energies in keV that a spectrum shows."""
    assert drawing.low is not None  # noqa: S101 - called where energies are known
    assert drawing.high is not None  # noqa: S101
    positive = drawing.low[drawing.low > 0]
    return float((positive.min() if positive.size else drawing.high.min() / 2) * 0.93), float(drawing.high.max() * 1.07)


def draw_area_line(axes: Any, area: Area, band: tuple[float, float] = (0.0, np.inf)) -> None:
    """Draw the effective area against the energy, on logarithmic axes; `band` are the energies that are shown."""
    middle = np.sqrt(area.low * area.high)
    axes.plot(middle, np.where(area.area > 0, area.area, np.nan), color=COLOUR, linewidth=1.4)
    axes.set_xscale("log")
    shown = area.area[np.isfinite(area.area) & (area.area > 0) & (area.high > band[0]) & (area.low < band[1])]
    if shown.size:
        axes.set_yscale("log")
        largest, smallest = float(shown.max()), float(shown.min())
        axes.set_ylim(max(smallest, largest * 1e-4) / 1.4, largest * 1.6)
        plain_logarithms(axes.yaxis)
    axes.set_ylabel("area (cm\N{SUPERSCRIPT TWO})")
    axes.grid(alpha=0.25, linewidth=0.6, which="both")
    plain_logarithms(axes.xaxis)


def plain_logarithms(axis: Any) -> None:
    """Write the numbers of a logarithmic axis without powers: 20, 50, 100."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    steps: tuple[float, ...] = (1.0,)
    if 0 < low < high < 1e4 * low:
        steps = (1.0, 2.0, 5.0) if high > 8 * low else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _set_range(axes: Any, rate: Array, error: Array) -> None:
    """Show all rates; errors that reach far below them are cut."""
    if rate.size:
        low, high = float(rate.min()), float((rate + error).max())
        low = max(low, high * 1e-8) / (3 if low < high / 3 else 1.5)
        axes.set_ylim(low, high * 1.5)
        if high < 30 * low:
            plain_logarithms(axes.yaxis)


def _draw_points(axes: Any, x: Array, y: Array, error: Array | None, half_width: Array | None) -> None:
    is_small = len(x) > _MANY
    axes.errorbar(
        x, y, error, None if is_small else half_width, fmt="o", markersize=2 if is_small else 3.5, color=COLOUR,
        ecolor=(*COLOUR[:3], 0.35 if is_small else 0.7), elinewidth=0.8, linestyle="none",
    )  # fmt: skip
    line = {"color": _PALE, "linewidth": 0.7, "alpha": 0.3 if is_small else 0.8, "zorder": 1}
    for part in light_curves.segments(x, half_width):
        if half_width is None:
            axes.plot(x[part], y[part], drawstyle="steps-mid", **line)
        else:
            edges = np.column_stack((x[part] - half_width[part], x[part] + half_width[part]))
            axes.plot(edges.ravel(), np.repeat(y[part], 2), **line)


def _draw_ranges(axes: Any, x: Array, y: Array) -> None:
    """Draw the mean and the range of the values in each bin; empty bins are gaps."""
    span = float(x[-1] - x[0]) or 1.0
    numbers = np.minimum(((x - x[0]) / span * _BINS).astype(np.int64), _BINS - 1)
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    low, high = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    mean = np.add.reduceat(y, starts) / np.diff(np.append(starts, len(y)))
    values = np.full((3, _BINS), np.nan)
    values[:, numbers[starts]] = low, high, mean
    middles = x[0] + (np.arange(_BINS) + 0.5) * span / _BINS
    axes.fill_between(middles, values[0], values[1], step="mid", color=_PALE, alpha=0.5, linewidth=0, label="range")
    axes.plot(middles, values[2], drawstyle="steps-mid", color=COLOUR, linewidth=0.9, label="mean")
    axes.legend(title=f"{len(x)} points in {_BINS} bins", fontsize=8, title_fontsize=8, frameon=False)


def _valid_errors(error: Array) -> Array:
    """Return errors with 0 in place of those that are not known."""
    return np.where(error < LARGEST, error, 0.0)


def _label(axes: Any, labels: tuple[str, str]) -> None:
    axes.set_xlabel(plain(labels[0]))
    axes.set_ylabel(plain(labels[1]))


def _say(axes: Any, text: str) -> None:
    """Write a text into axes in place of data, without numbers, which would mean nothing."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=12)
