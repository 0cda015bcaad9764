"""Tables and texts: the first rows and lines, readable."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from oda_proxy.drawing import headers
from oda_proxy.drawing.drawings import TableDrawing, TextDrawing
from oda_proxy.query.message_text import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oda_proxy.codec.product import Array, DataUnit

MAX_ROWS: Final = 20
MAX_COLUMNS: Final = 9
MAX_LINES: Final = 45
_WIDEST: Final = 22
"""Characters of a cell."""
_LONGEST_LINE: Final = 110
_MOST_ELEMENTS: Final = 3
"""Elements of a cell with several numbers that are shown."""


def table_of(title: str, unit: DataUnit) -> TableDrawing:
    """Return the drawing of a table with an array."""
    data = unit.data
    assert data is not None  # noqa: S101 - called for tables
    assert data.dtype.names is not None  # noqa: S101
    rows = np.atleast_1d(data).reshape(-1)
    names = list(data.dtype.names)
    units = [headers.column_unit(unit, name) for name in names[:MAX_COLUMNS]]
    columns = [[cell(value) for value in rows[name][:MAX_ROWS]] for name in names[:MAX_COLUMNS]]
    return _table(title, names, units, columns, len(rows))


def table_of_columns(title: str, columns: Mapping[str, Sequence[Any]], units: Mapping[str, str]) -> TableDrawing:
    """Return the drawing of a table of columns of the same length."""
    names = list(columns)
    shown = [[cell(value) for value in columns[name][:MAX_ROWS]] for name in names[:MAX_COLUMNS]]
    count = max((len(column) for column in columns.values()), default=0)
    return _table(title, names, [units.get(name, "") for name in names[:MAX_COLUMNS]], shown, count)


def array_of(title: str, data: Array, values: Mapping[str, Any]) -> TableDrawing:
    """Return the drawing of an array that is no image: its first values."""
    flat = data.reshape(-1)
    shape = " x ".join(map(str, data.shape))
    names = ["value"]
    drawn = _table(title, names, [headers.pixel_unit(values)], [[cell(value) for value in flat[:MAX_ROWS]]], flat.size)
    return TableDrawing(drawn.title, names, drawn.units, drawn.rows, [f"array of {shape or '1'}", *drawn.notes])


def text_of(title: str, text: str, notes: Sequence[str] = ()) -> TextDrawing:
    """Return the drawing of a text: its first lines."""
    lines = list(itertools.islice(_lines(text), MAX_LINES + 1))
    shown = [shorten(line.expandtabs(8), _LONGEST_LINE) for line in lines[:MAX_LINES]]
    more = [f"the first {MAX_LINES} lines"] if len(lines) > MAX_LINES else []
    return TextDrawing(shorten(title), shown, [*notes, *more])


def cell(value: Any) -> str:
    """Return a value of a table as short text; numbers have the digits that their type holds."""
    match value:
        case np.ndarray() if value.ndim == 0:
            return cell(value[()])
        case np.ndarray():
            elements = [cell(element) for element in value.reshape(-1)[:_MOST_ELEMENTS]]
            more = ", \N{HORIZONTAL ELLIPSIS}" if value.size > _MOST_ELEMENTS else ""
            text = f"[{', '.join(elements)}{more}]"
        case bytes():
            text = value.decode("utf-8", "replace").strip()
        case np.float64():
            text = f"{float(value):.12g}"
        case float() | np.floating():
            text = f"{float(value):.7g}"
        case _:
            text = str(value).strip()
    return _short(text)


def _table(
    title: str, names: Sequence[str], units: Sequence[str], columns: Sequence[Sequence[str]], count: int
) -> TableDrawing:
    rows = list(zip(*columns, strict=True))
    notes = []
    if count > len(rows):
        notes.append(f"the first {len(rows)} of {count} rows")
    if len(names) > MAX_COLUMNS:
        notes.append(f"the first {MAX_COLUMNS} of {len(names)} columns")
    if not count:
        notes.append("no rows")
    return TableDrawing(shorten(title), [_short(name) for name in names[:MAX_COLUMNS]], units, rows, notes)


def _short(text: str) -> str:
    text = printable(text[: _WIDEST + 1])
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def _lines(text: str) -> Any:
    """Iterate over the lines of a text, however long it is."""
    begin = 0
    while begin < len(text):
        end = text.find("\n", begin)
        end = len(text) if end < 0 else end
        yield text[begin : min(end, begin + 2 * _LONGEST_LINE)].rstrip("\r")
        begin = end + 1
