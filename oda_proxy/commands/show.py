"""The command that says what a recording is."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from oda_proxy.capsule.conversion import products_of
from oda_proxy.commands import formatting
from oda_proxy.commands.open_store import described, find, opened, reading
from oda_proxy.commands.output import say, say_json, warn
from oda_proxy.commands.products import decoded, name_of
from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from oda_proxy.codec.product import DataProduct, DataUnit
    from oda_proxy.store.base import Entry

_MOST_LINES = 12
"""Lines of a picture on a terminal, and of a long list."""
_WIDEST = 60
_LONGEST = 200


def show(key: str, *, png: Path | None, upstream: str, cache_dir: Path | None, as_json: bool) -> int:
    """Say what was asked, what came, and what it looks like."""
    with opened(upstream, cache_dir) as store:
        (entry,) = find(store, [key])
        with reading(store, entry.key) as recording:
            products = products_of(recording)
    try:
        arrays = decoded(products)
    except CodecError as error:
        warn(f"the products cannot be decoded: {error}")
        arrays = []
    if as_json:
        say_json({**described(entry), "products": _as_json(products, arrays)})
    else:
        say(_lines(entry, products, arrays))
    if png is not None or (not as_json and sys.stdout.isatty() and "NO_COLOR" not in os.environ):
        _draw(arrays, png)
    return 0


def _draw(arrays: Sequence[DataProduct], png: Path | None) -> None:
    """Draw to a file, which has to succeed, or on the terminal, where there is something to draw."""
    from oda_proxy.commands.pictures import NoPictureError, on_terminal, picture, to_png

    if png is not None:
        to_png(picture(arrays), png)
        warn(f"the picture is in {png}")
        return
    try:
        drawn = picture(arrays)
    except NoPictureError:
        return
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    say(["", formatting.plain(drawn.title), *on_terminal(drawn, width=width, height=_MOST_LINES)])


def _lines(entry: Entry, products: dict[str, Any], arrays: Sequence[DataProduct]) -> Iterator[str]:
    query, now = entry.query, time.time()
    stored = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(entry.stored_at))
    about = [
        ("key", entry.key),
        ("instrument", formatting.plain(query.instrument) if query else ""),
        ("product", formatting.plain(query.product_type) if query else ""),
        ("query type", formatting.plain(query.query_type) if query else ""),
        ("recorded", f"{stored}, {formatting.span(max(now - entry.stored_at, 0))} ago"),
        ("asked for", f"{formatting.span(max(now - entry.used_at, 0))} ago"),
        ("took", formatting.span(entry.cost) if entry.cost else ""),
        ("size", f"{formatting.size(entry.size)}, {formatting.size(entry.stored_size)} on the disk"),
        ("pinned", "yes" if entry.pinned else ""),
        ("private", "asked for with a token" if entry.private else ""),
    ]
    yield from formatting.table([(name, value) for name, value in about if value])
    yield from _section("parameters", formatting.parameters(query))
    yield from _section("products", [(name_of(product), _units(product.units)) for product in arrays])
    others = [(name, _counted(products[name])) for name in products if not name.startswith("numpy_data_product")]
    yield from _section("beside them", [(name, count) for name, count in others if count])


def _section(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield f"{title}:"
    shown = [
        (f"  {formatting.plain(name)}", formatting.short(formatting.plain(value), _LONGEST))
        for name, value in rows[:_MOST_LINES]
    ]
    yield from formatting.table(shown)
    if len(rows) > _MOST_LINES:
        yield f"  and {len(rows) - _MOST_LINES} more"


def _units(units: Sequence[DataUnit]) -> str:
    told_units = [_unit(unit) for unit in units if unit.data is not None]
    more = f" and {len(told_units) - 3} more" if len(told_units) > 3 else ""  # noqa: PLR2004 - what fits on a line
    return ", ".join(told_units[:3]) + more


def _unit(unit: DataUnit) -> str:
    assert unit.data is not None  # noqa: S101 - asked of those that have data
    if unit.data.dtype.names is not None:
        return f"{unit.name} (table of {unit.data.size} rows: {' '.join(unit.data.dtype.names)[:60]})"
    return f"{unit.name} ({' x '.join(map(str, unit.data.shape[::-1]))})"


def _counted(value: Any) -> str:
    """Tell how much there is of what is no array, or nothing where there is nothing."""
    match value:
        case {"cat_column_list": [list() as column, *_]}:
            return formatting.number(len(column), "source")
        case list() | dict() if value:
            return formatting.number(len(value), "entry", "entries")
    return f"{len(value)} characters" if isinstance(value, str) and value else ""


def _as_json(products: dict[str, Any], arrays: Sequence[DataProduct]) -> dict[str, Any]:
    units = {
        "arrays": [
            {
                "name": product.name,
                "units": [
                    {
                        "name": unit.name,
                        "shape": list(unit.data.shape),
                        "columns": list(unit.data.dtype.names or ()),
                    }
                    for unit in product.units
                    if unit.data is not None
                ],
            }
            for product in arrays
        ]
    }
    return units | {"members": sorted(products)}
