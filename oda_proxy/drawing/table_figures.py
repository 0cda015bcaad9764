"""Figures of tables and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from oda_proxy.drawing.figure_text import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from oda_proxy.drawing.drawings import TableDrawing, TextDrawing

_CHARACTER: Final = 0.0775
"""Width of a character of the font, in inches."""
_LINE: Final = 0.19
"""Height of a line, in inches."""
_MARGIN: Final = 0.25
_FONT: Final[dict[str, Any]] = {"family": "monospace", "fontsize": 9}


def draw_table(figure: Figure, drawing: TableDrawing) -> None:
    """Draw a table in a figure of its size: names, units and rows."""
    has_units = any(drawing.units)
    rows = [list(drawing.names), *([list(drawing.units)] if has_units else []), *(list(row) for row in drawing.rows)]
    widths = [max(len(row[number]) for row in rows) for number in range(len(drawing.names))]
    first = 2 if has_units else 1
    _fit(figure, sum(widths) + 2 * max(len(widths) - 1, 0), len(rows), drawing.title)
    axes = figure.add_subplot()
    axes.set_axis_off()
    width, height = figure.get_size_inches()
    x = _MARGIN
    top = height - 0.55
    for number, characters in enumerate(widths):
        is_text = any(not _is_number(row[number]) for row in rows[first:])
        for line, row in enumerate(rows):
            at = x if is_text else x + characters * _CHARACTER
            weight = "bold" if line == 0 else "normal"
            figure.text(
                at / width, (top - line * _LINE) / height, plain(row[number]), ha="left" if is_text else "right",
                va="top", color="0.4" if has_units and line == 1 else "black", fontweight=weight, **_FONT,
            )  # fmt: skip
        x += (characters + 2) * _CHARACTER
    rule = (top - first * _LINE + 0.03) / height
    figure.add_artist(_rule(_MARGIN / width, min((x + 0.05) / width, 0.99), rule))


def draw_text(figure: Figure, drawing: TextDrawing) -> None:
    """Draw lines of text in a figure of their size."""
    _fit(figure, max((len(line) for line in drawing.lines), default=0), max(len(drawing.lines), 1), drawing.title)
    axes = figure.add_subplot()
    axes.set_axis_off()
    width, height = figure.get_size_inches()
    for number, line in enumerate(drawing.lines or ["(empty)"]):
        figure.text(
            _MARGIN / width, (height - 0.55 - number * _LINE) / height, plain(line), ha="left", va="top", **_FONT
        )


def _fit(figure: Figure, characters: int, lines: int, title: str) -> None:
    """Set the size of a figure for some lines of text, and for its title and notes."""
    width = max(characters * _CHARACTER, len(title) * 0.11) + 2 * _MARGIN
    figure.set_size_inches(max(width, 5.0), lines * _LINE + 1.15)


def _rule(left: float, right: float, height: float) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([left, right], [height, height], color="0.6", linewidth=0.8)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in {"None", "--"}
    return True
