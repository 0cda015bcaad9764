"""The command `show`: metadata, products and a plot of one recording."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from oda_proxy.capsule.conversion import wire_products
from oda_proxy.commands import formatting
from oda_proxy.commands.open_store import open_recording, open_store
from oda_proxy.commands.output import print_json, print_lines, warn
from oda_proxy.commands.products import decode_products
from oda_proxy.drawing.images import image_type
from oda_proxy.drawing.product_list import name_of
from oda_proxy.errors import CodecError, OdaProxyError
from oda_proxy.query.message_text import printable, shorten
from oda_proxy.store.entry_json import entry_json
from oda_proxy.store.selection import find_entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from oda_proxy.codec.product import DataProduct, DataUnit
    from oda_proxy.config.settings import StoreOptions
    from oda_proxy.store.base import Entry

_MOST_LINES = 12
"""Maximum number of lines of a plot on a terminal, and of a list."""
_WIDEST = 60
_LONGEST = 200


def show(key: str, *, png: Path | None, options: StoreOptions, as_json: bool) -> int:
    """Print the query, the products and a plot of a recording."""
    with open_store(options) as store:
        (entry,) = find_entries(store, [key])
        with open_recording(store, entry.key) as recording:
            products = wire_products(recording)
    try:
        arrays = decode_products(products)
    except CodecError as error:
        warn(f"the products cannot be decoded: {error}")
        arrays = []
    if as_json:
        print_json({**entry_json(entry), "products": _as_json(products, arrays)})
    else:
        print_lines(_lines(entry, products, arrays))
    if png is not None or (not as_json and sys.stdout.isatty() and "NO_COLOR" not in os.environ):
        _plot(products, arrays, png)
    return 0


def _plot(products: dict[str, Any], arrays: Sequence[DataProduct], png: Path | None) -> None:
    """Plot to the file `png`, or on the terminal; only for a file it is an error if there is nothing to plot."""
    from oda_proxy.commands.plots import NoPlotError, choose_plot, render_terminal

    if png is not None:
        _write_png(products, png)
        return
    try:
        plot = choose_plot(arrays)
    except NoPlotError:
        return
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    print_lines(["", printable(plot.title), *render_terminal(plot, width=width, height=_MOST_LINES)])


def _write_png(products: dict[str, Any], file: Path) -> None:
    """Write the picture that shows most of a recording. Raises OdaProxyError if matplotlib is missing."""
    from oda_proxy.drawing.choice import choose_best

    try:
        from oda_proxy.drawing.figure import png_of
    except ImportError:
        raise OdaProxyError("--png needs matplotlib: pip install 'oda-proxy[plots]'") from None
    picture = png_of(choose_best(products))
    try:
        file.write_bytes(picture)
    except OSError as error:
        raise OdaProxyError(f"cannot write {file}: {error.strerror}") from error
    warn(f"wrote the plot to {file}")


def _lines(entry: Entry, products: dict[str, Any], arrays: Sequence[DataProduct]) -> Iterator[str]:
    yield from metadata_lines(entry)
    yield from _section("products", [(name_of(product), _units(product.units)) for product in arrays])
    others = [(name, _counted(products[name])) for name in products if not name.startswith("numpy_data_product")]
    yield from _section("other members", [(name, count) for name, count in others if count])


def metadata_lines(entry: Entry) -> Iterator[str]:
    """Return the metadata of a recording, and the parameters of its query, in lines for people."""
    query, now = entry.query, time.time()
    stored = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(entry.stored_at))
    metadata = [
        ("key", entry.key),
        ("instrument", printable(query.instrument) if query else ""),
        ("product", printable(query.product_type) if query else ""),
        ("query type", printable(query.query_type) if query else ""),
        ("recorded", f"{stored}, {formatting.span(max(now - entry.stored_at, 0))} ago"),
        ("used", f"{formatting.span(max(now - entry.used_at, 0))} ago"),
        ("took", formatting.span(entry.cost) if entry.cost else ""),
        ("size", f"{formatting.size(entry.size)}, {formatting.size(entry.stored_size)} on disk"),
        ("pinned", "yes" if entry.pinned else ""),
        ("private", "yes: requested with a token" if entry.private else ""),
    ]
    yield from formatting.table([(name, value) for name, value in metadata if value])
    yield from _section("parameters", formatting.parameters(query))


def _section(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield f"{title}:"
    shown = [(f"  {printable(name)}", shorten(printable(value), _LONGEST)) for name, value in rows[:_MOST_LINES]]
    yield from formatting.table(shown)
    if len(rows) > _MOST_LINES:
        yield f"  and {len(rows) - _MOST_LINES} more"


def _units(units: Sequence[DataUnit]) -> str:
    texts = [_unit(unit) for unit in units if unit.data is not None]
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""  # noqa: PLR2004 - fits on a line
    return ", ".join(texts[:3]) + more


def _unit(unit: DataUnit) -> str:
    assert unit.data is not None  # noqa: S101 - called for units with data
    if unit.data.dtype.names is not None:
        return f"{unit.name} (table of {unit.data.size} rows: {' '.join(unit.data.dtype.names)[:60]})"
    kind = image_type(unit).casefold()
    return f"{unit.name} ({kind}{', ' if kind else ''}{' x '.join(map(str, unit.data.shape[::-1]))})"


def _counted(value: Any) -> str:
    """Describe the size of a member without arrays; empty if it is empty."""
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
