"""Figures of responses: effective areas and redistribution matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm

from oda_proxy.drawing import curve_figures
from oda_proxy.drawing.figure_text import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from oda_proxy.drawing.drawings import AreaDrawing, MatrixDrawing

_DECADES: Final = 5
"""Powers of ten below the largest element of a matrix that are drawn."""


def draw_area(figure: Figure, drawing: AreaDrawing) -> None:
    """Draw an effective area."""
    axes = figure.add_subplot()
    curve_figures.draw_area_line(axes, drawing.response)
    axes.set_xlabel("energy (keV)")


def draw_matrix(figure: Figure, drawing: MatrixDrawing) -> None:
    """Draw a redistribution matrix on a logarithmic scale."""
    axes = figure.add_subplot()
    axes.set_xlabel(plain(drawing.labels[0]))
    axes.set_ylabel(plain(drawing.labels[1]))
    matrix = drawing.matrix.T
    positive = matrix[np.isfinite(matrix) & (matrix > 0)]
    is_ordered = all(
        np.isfinite(edges).all() and (np.diff(edges) > 0).all() for edges in (drawing.energies, drawing.channels)
    )
    if not positive.size or not is_ordered:
        axes.text(0.5, 0.5, "the matrix has no valid elements", transform=axes.transAxes, ha="center", va="center")
        return
    highest = float(positive.max())
    colour_map = colormaps["viridis"].copy()
    norm = LogNorm(
        max(highest / 10**_DECADES, float(positive.min())) if positive.min() < highest else highest / 10, highest
    )
    shown = np.ma.masked_less_equal(np.nan_to_num(matrix), norm.vmin or 0.0)
    mesh = axes.pcolormesh(drawing.energies, drawing.channels, shown, cmap=colour_map, norm=norm, rasterized=True)
    figure.colorbar(mesh, ax=axes, pad=0.02).set_label(plain(drawing.labels[2]))
    if drawing.energies[0] > 0:
        axes.set_xscale("log")
        curve_figures.plain_logarithms(axes.xaxis)
    if "keV" in drawing.labels[1] and drawing.channels[0] > 0:
        axes.set_yscale("log")
        curve_figures.plain_logarithms(axes.yaxis)
