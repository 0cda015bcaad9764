"""The form that searches recordings: from the fields of a request to a search."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from oda_proxy.query.subject import read_time
from oda_proxy.store.search import Cone, Order, Search

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE_SIZE: Final = 50
"""Recordings on a page."""
DEFAULT_RADIUS: Final = "1"
AGES: Final = (
    ("", "at any time"),
    ("new-1", "in the last 24 hours"),
    ("new-7", "in the last 7 days"),
    ("new-30", "in the last 30 days"),
    ("old-30", "more than 30 days ago"),
    ("old-365", "more than a year ago"),
)
"""The values of the field for the age of recordings, and what they mean."""

_DAY: Final = 86400.0
_LONGEST: Final = 200
"""Characters of a field that are read."""
_MAX_WORDS: Final = 8
_MAX_PAGE: Final = 1_000_000
_FIELDS: Final = ("q", "instrument", "product", "position", "radius", "from", "to", "age")
_NUMBER: Final = re.compile(r"[-+]?\d+(?:\.\d*)?")
_POSITION: Final = re.compile(r"[\s\d.,:+hms°d'\"\N{MINUS SIGN}-]+")
_RADIUS: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(deg|°|arcmin|'|arcsec|\")?")
_UNITS: Final[Mapping[str, float]] = {"deg": 1, "°": 1, "arcmin": 60, "'": 60, "arcsec": 3600, '"': 3600}
_DEGREES, _SEXAGESIMAL = 2, 6


@dataclass(frozen=True, slots=True)
class SearchForm:
    """The fields as sent, what is wrong with them, and the search that they mean; a wrong field is left out."""

    values: Mapping[str, str]
    errors: Mapping[str, str]
    search: Search
    page: int
    """The number of the page, from 1."""

    @property
    def is_filtered(self) -> bool:
        """Whether a condition is set."""
        return any(self.values.get(name) for name in _FIELDS if name != "radius")

    @property
    def has_details(self) -> bool:
        """Whether a condition beside the words is set: those fields are shown then."""
        return any(self.values.get(name) for name in _FIELDS if name not in {"q", "radius"})

    @property
    def offset(self) -> int:
        """The number of the first recording of the page, from 0."""
        return (self.page - 1) * PAGE_SIZE

    def link(self, **changes: str) -> str:
        """Return the query string of this search with other values; an empty one removes the field."""
        sort = {"sort": self.search.order.value, "ascending": "1" if self.search.ascending else ""}
        values = {**{name: self.values.get(name, "") for name in _FIELDS}, **sort, **changes}
        if values["sort"] == Order.USE and not values["ascending"]:
            values["sort"] = ""
        if not values["position"]:
            values["radius"] = ""
        return "?" + urlencode({name: value for name, value in values.items() if value}, errors="replace")


@dataclass(slots=True)
class _Reader:
    """Reads fields, and notes what is wrong with them."""

    fields: Mapping[str, str]
    errors: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        return self.fields.get(name, "")[:_LONGEST].strip()

    def time(self, name: str, *, is_end: bool = False) -> float | None:
        """Return a time as MJD; a day without a time means its begin or its end."""
        if not (text := self.text(name)):
            return None
        is_mjd = _NUMBER.fullmatch(text) is not None and len(text.partition(".")[0]) != len("2003")
        mjd = read_time(text, "mjd" if is_mjd else "isot")
        if mjd is None:
            self.errors[name] = f"“{text}” is no time: write 2003-03-15, 2003-03-15T23:27 or an MJD"
            return None
        is_day = not is_mjd and "T" not in text and ":" not in text
        return mjd + 1 if is_day and is_end else mjd

    def cone(self) -> Cone | None:
        if not (text := self.text("position")):
            return None
        radius = self._radius()
        if (position := read_position(text)) is None:
            self.errors["position"] = (
                f"“{text}” is no position: write RA and Dec, as 83.633 22.014 or 05 34 32 +22 00 52"
            )
            return None
        return None if radius is None else Cone(*position, radius)

    def _radius(self) -> float | None:
        text = self.text("radius") or DEFAULT_RADIUS
        match = _RADIUS.fullmatch(text)
        radius = float(match[1]) / _UNITS[match[2] or "deg"] if match else math.inf
        if radius > 180:  # noqa: PLR2004 - deg: all of the sky
            self.errors["radius"] = f"“{text}” is no radius: write 1 (deg), 30' or 20\""
            return None
        return radius


def read_form(fields: Mapping[str, str], *, now: float) -> SearchForm:
    """Read the fields of a request; `now` is in s since 1970 (UTC)."""
    reader = _Reader(fields)
    age, _, days = reader.text("age").partition("-")
    since = now - float(days) * _DAY if reader.text("age") in dict(AGES) and days else None
    sort = reader.text("sort")
    search = Search(
        words=tuple(reader.text("q").split()[:_MAX_WORDS]),
        instrument=reader.text("instrument") or None,
        product=reader.text("product") or None,
        cone=reader.cone(),
        begin=reader.time("from"),
        end=reader.time("to", is_end=True),
        stored_after=since if age == "new" else None,
        stored_before=since if age == "old" else None,
        order=Order(sort) if sort in set(Order) else Order.USE,
        ascending=reader.text("ascending") == "1",
    )
    page = reader.text("page")
    number = min(max(int(page), 1), _MAX_PAGE) if page.isascii() and page.isdecimal() else 1
    return SearchForm({name: reader.text(name) for name in _FIELDS}, reader.errors, search, number)


def read_position(text: str) -> tuple[float, float] | None:
    """Read a right ascension and a declination, in deg, or in hours and deg with minutes and seconds."""
    if not _POSITION.fullmatch(text):
        return None
    parts = _NUMBER.findall(text.replace("\N{MINUS SIGN}", "-"))
    if len(parts) == _DEGREES:
        ra, dec = map(float, parts)
    elif len(parts) == _SEXAGESIMAL and not any(part.startswith(("-", "+")) for part in parts[:3]):
        hours, declination = (_sexagesimal(parts[:3]), _sexagesimal(parts[3:]))
        if hours is None or declination is None:
            return None
        ra, dec = 15 * hours, -declination if parts[3].startswith("-") else declination
    else:
        return None
    return (ra, dec) if abs(dec) <= 90 and -360 <= ra <= 360 else None  # noqa: PLR2004 - deg


def _sexagesimal(parts: list[str]) -> float | None:
    """Return a number with minutes and seconds, without its sign; None where one of those is 60 or more."""
    whole, minutes, seconds = (abs(float(part)) for part in parts)
    return whole + minutes / 60 + seconds / 3600 if minutes < 60 and seconds < 60 else None  # noqa: PLR2004 - base
