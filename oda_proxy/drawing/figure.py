"""Figures of drawings with matplotlib, and their PNG files."""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from oda_proxy.drawing import curve_figures, picture_files, response_figures, sky_figures, table_figures
from oda_proxy.drawing.drawings import (
    AreaDrawing,
    CurveDrawing,
    ImageDrawing,
    MatrixDrawing,
    PictureDrawing,
    SpectrumDrawing,
    TableDrawing,
    TextDrawing,
)
from oda_proxy.drawing.figure_text import plain
from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.drawing.drawings import Drawing

DPI: Final = 120
_SIZE: Final = (8.0, 6.2)
_STYLE: Final[dict[Any, Any]] = {
    "font.size": 10,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.linewidth": 0.8,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "agg.path.chunksize": 20_000,
    "path.simplify": True,
}


class CannotDrawError(OdaProxyError):
    """A drawing cannot be made into a picture."""

    http_status = 422


def png_of(drawing: Drawing) -> bytes:
    """Return the PNG file of a drawing. Raises CannotDrawError."""
    if isinstance(drawing, PictureDrawing):
        try:
            return picture_files.checked_png(drawing.data)
        except ValueError as error:
            raise CannotDrawError(f"the picture cannot be shown: {error}") from None
    try:
        return _png(figure_of(drawing))
    except MemoryError:
        raise CannotDrawError("the product is too large to draw: its picture takes more memory than allowed") from None
    except Exception as error:
        if isinstance(drawing, ImageDrawing) and drawing.header:  # grids of strange sky coordinates fail only now
            pixels_only = sky_figures.without_sky(drawing, "its sky coordinates cannot be drawn")
            return png_of(pixels_only)
        raise CannotDrawError(f"the product cannot be drawn: {type(error).__name__}") from error


def figure_of(drawing: Drawing) -> Figure:
    """Return the figure of a drawing, which is not a picture already; it has one or more axes, the first with data."""
    with _style():
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        match drawing:
            case ImageDrawing():
                sky_figures.draw_image(figure, drawing)
            case CurveDrawing():
                curve_figures.draw_curve(figure, drawing)
            case SpectrumDrawing():
                curve_figures.draw_spectrum(figure, drawing)
            case AreaDrawing():
                response_figures.draw_area(figure, drawing)
            case MatrixDrawing():
                response_figures.draw_matrix(figure, drawing)
            case TableDrawing():
                table_figures.draw_table(figure, drawing)
            case TextDrawing():
                table_figures.draw_text(figure, drawing)
            case PictureDrawing():
                raise CannotDrawError("a picture is drawn already")
        title = plain(drawing.title) or "product"
        figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")
        if drawing.notes:
            _note(figure, " \N{MIDDLE DOT} ".join(plain(note) for note in drawing.notes))
        return figure


@contextmanager
def _style() -> Iterator[None]:
    """Draw in one style, whatever the user has configured: LaTeX would run programs in texts of products."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _note(figure: Figure, text: str) -> None:
    """Write the notes below the figure, in as many lines as they need."""
    figure.supxlabel(wrapped(text), x=0.012, ha="left", fontsize=8, color="0.35")


def wrapped(text: str, width: int = 125) -> str:
    """Return a text in lines of at most `width` characters."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _png(figure: Figure) -> bytes:
    with _style():
        buffer = io.BytesIO()
        metadata: dict[str, Any] = {"Software": None}
        figure.savefig(buffer, format="png", dpi=DPI, metadata=metadata, pil_kwargs={"compress_level": 4})
        return buffer.getvalue()
