"""The views of the products of a recording, from their summaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.pages import quantities
from oda_proxy.query.message_text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_COLUMNS: Final = 24
"""Columns of a table that are named."""
MAX_OPEN: Final = 6
"""Products up to which all are shown at once."""
_KINDS: Final = {"curve": "light curve", "damaged": "cannot be read"}


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a file; `path` is relative to the address of the recording."""

    path: str
    title: str


@dataclass(frozen=True, slots=True)
class UnitView:
    """A data unit of a product."""

    number: int
    name: str
    content: str
    cards: str


@dataclass(frozen=True, slots=True)
class Preview:
    """The begin of a table, with headings, or of a text."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: str
    note: str


@dataclass(frozen=True, slots=True)
class ProductView:
    """A product; `alt` says what its picture shows, to those who do not see it."""

    number: int
    name: str
    kind: str
    alt: str
    error: str
    is_folded: bool
    """Whether it is shown once somebody opens it: a response, where each of many sources has some."""
    has_picture: bool
    """Whether the page shows its picture: not that of a text, which it shows as text."""
    no_picture: str
    """Why the server has no picture where there could be one; "" if nothing is missing."""
    preview: Preview | None
    units: Sequence[UnitView]
    downloads: Sequence[Link]


ARCHIVES: Final = (
    Link("products.zip", "All products (ZIP)"),
    Link("fixture.zip", "As a fixture (ZIP)"),
    Link("program.py", "Program (Python)"),
)
"""Files of all products of a recording."""


def views_of(summaries: Sequence[Mapping[str, Any]]) -> list[ProductView]:
    """Return the views of products from the JSON of `drawing.summaries`."""
    return [_view(summary, has_many=len(summaries) > MAX_OPEN) for summary in summaries]


def _view(summary: Mapping[str, Any], *, has_many: bool) -> ProductView:
    number, name, source = int(summary["number"]), str(summary["name"]), str(summary["source"])
    title = printable(name if source and source in name else f"{name} {source}".strip())
    preview = _preview(summary.get("preview"))
    kind = _KINDS.get(str(summary["kind"]), str(summary["kind"]))
    base = f"products/{number}"
    downloads = [Link(f"{base}.fits", "FITS")] if summary["has_fits"] else []
    downloads += [Link(f"{base}.png", "PNG")] if summary["has_picture"] else []
    return ProductView(
        number=number,
        name=title or f"product {number}",
        kind=printable(kind),
        alt=f"{kind} of {title}: a picture; the values are in the files below",
        error=printable(str(summary["error"])),
        is_folded=has_many and summary["kind"] == "response",
        has_picture=bool(summary["has_picture"]) and preview is None,
        no_picture=printable(str(summary.get("no_picture", ""))) if preview is None else "",
        preview=preview,
        units=[_unit(place, unit) for place, unit in enumerate(summary["units"])],
        downloads=downloads,
    )


def _preview(members: Mapping[str, Any] | None) -> Preview | None:
    if members is None:
        return None
    columns, units = members.get("columns", []), members.get("units", [])
    headings = [f"{name} ({unit})" if unit else name for name, unit in zip(columns, units, strict=False)]
    return Preview(
        headings=[printable(str(heading)) for heading in headings],
        rows=[[printable(str(cell)) for cell in row] for row in members.get("rows", [])],
        text="\n".join(printable(str(line)) for line in members.get("lines", [])),
        note=printable("; ".join(map(str, members["notes"]))),
    )


def _unit(place: int, unit: Mapping[str, Any]) -> UnitView:
    shape, columns = list(unit["shape"]), list(unit["columns"])
    if columns:
        units = dict(zip(columns, unit["units"], strict=False))
        named = [f"{name} ({units[name]})" if units.get(name) else name for name in columns[:MAX_COLUMNS]]
        more = f" and {len(columns) - MAX_COLUMNS} more" if len(columns) > MAX_COLUMNS else ""
        rows = quantities.plural(shape[0] if shape else 0, "row")
        content = f"{rows}: {printable(', '.join(named))}{more}"
    elif shape:
        size = " × ".join(quantities.number(length) for length in reversed(shape))  # noqa: RUF001 - a product
        kind = printable(str(unit.get("kind", "")))
        content = f"{kind}, {size}" if kind else size
    else:
        content = "header only"
    return UnitView(
        number=place,
        name=printable(str(unit["name"])) or ("primary" if place == 0 else f"unit {place}"),
        content=content,
        cards=quantities.plural(int(unit["cards"]), "card"),
    )
