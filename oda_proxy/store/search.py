"""Searches of recordings: conditions, order and page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from oda_proxy.query.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oda_proxy.query.query import Query
    from oda_proxy.store.base import Entry

MAX_PRIVATE: Final = 2000
"""Private recordings, the last ones, that are examined in one search for those that somebody may see."""

MAX_TEXT: Final = 1000
"""Characters of the names of a recording that are searched."""

_MIN_KEY: Final = 4
"""Digits from which a word may be the beginning of a key."""
_HEXADECIMAL: Final = frozenset("0123456789abcdef")

Vector: TypeAlias = "tuple[float, float, float]"
"""A point of the unit sphere."""


class Order(StrEnum):
    """By what the recordings are sorted."""

    USE = "use"
    """When they were used last."""
    STORED = "stored"
    """When they were stored."""
    SIZE = "size"
    COST = "cost"
    """How long the dispatcher took: what each hit saves."""
    TIME = "time"
    """The begin of their data."""


@dataclass(frozen=True, slots=True)
class Cone:
    """A circle on the sky; all in deg."""

    ra: float
    dec: float
    radius: float

    @property
    def centre(self) -> Vector:
        """The centre as a point of the unit sphere."""
        return unit_vector(self.ra, self.dec)

    @property
    def squared_chord(self) -> float:
        """The square of the distance, through the unit sphere, of the centre and the edge."""
        return (2 * math.sin(math.radians(min(self.radius, 180.0)) / 2)) ** 2

    def contains(self, position: tuple[float, float] | None) -> bool:
        """Return whether a position, in deg, is in the circle."""
        if position is None:
            return False
        pairs = zip(self.centre, unit_vector(*position), strict=True)
        return sum((one - other) ** 2 for one, other in pairs) <= self.squared_chord


@dataclass(frozen=True, slots=True)
class Search:
    """Conditions on recordings, all of which must hold, and the order of the result.

    Attributes
    ----------
    words
        Each is part of the instrument, the product or the source, without regard to case, or the beginning of the key.
    instrument, product
        Names as the dispatcher spells them.
    cone
        Where the position of the query is.
    begin, end
        A time range, as MJD, which overlaps that of the query.
    stored_after, stored_before
        Times in s since 1970 (UTC).
    order, ascending
        Recordings that have no value come last.
    may_see
        Which private recordings are found: none where it is None. Of others not even the number is returned.
    sees_all
        Whether all private recordings are found.
    """

    words: tuple[str, ...] = ()
    instrument: str | None = None
    product: str | None = None
    cone: Cone | None = None
    begin: float | None = None
    end: float | None = None
    stored_after: float | None = None
    stored_before: float | None = None
    order: Order = Order.USE
    ascending: bool = False
    may_see: Callable[[Entry], bool] | None = None
    sees_all: bool = False

    def matches(self, entry: Entry) -> bool:
        """Return whether a recording meets all conditions, apart from whether it is private."""
        subject, query = subject_of(entry.query), entry.query
        text = searchable_text(query)
        return (
            all(folded(word) in text or key_range_contains(word, entry.key) for word in self.words)
            and self.instrument in {None, query.instrument if query else None}
            and self.product in {None, query.product_type if query else None}
            and (self.cone is None or self.cone.contains(subject.position))
            and (self.begin is None or (subject.end is not None and subject.end >= self.begin))
            and (self.end is None or (subject.begin is not None and subject.begin <= self.end))
            and (self.stored_after is None or entry.stored_at >= self.stored_after)
            and (self.stored_before is None or entry.stored_at < self.stored_before)
        )

    def is_visible(self, entry: Entry) -> bool:
        """Return whether a recording may be found."""
        return not entry.private or self.sees_all or (self.may_see is not None and self.may_see(entry))


@dataclass(frozen=True, slots=True)
class Found:
    """A page of the recordings that a search finds, and how many it finds in all."""

    entries: tuple[Entry, ...]
    total: int


def scan(entries: Iterable[Entry], search: Search, *, offset: int, limit: int) -> Found:
    """Search the metadata of all recordings."""
    found = [entry for entry in entries if search.matches(entry) and search.is_visible(entry)]
    known = [entry for entry in found if _value(entry, search.order) is not None]
    known.sort(key=lambda entry: _value(entry, search.order) or 0.0, reverse=not search.ascending)
    ordered = [*known, *(entry for entry in found if _value(entry, search.order) is None)]
    return Found(tuple(ordered[offset : offset + limit]), len(ordered))


def unit_vector(ra: float, dec: float) -> Vector:
    """Return a position, in deg, as a point of the unit sphere."""
    ra, dec = math.radians(ra), math.radians(dec)
    return math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)


def searchable_text(query: Query | None) -> str:
    """Return the text in which words are searched, one name in a line, as `folded`."""
    if query is None:
        return ""
    text = "\n".join((query.instrument, query.product_type, *subject_of(query).sources))
    return folded(text[:MAX_TEXT])


def folded(text: str) -> str:
    """Return a text as it is compared: casefolded, and with question marks for what SQLite cannot store."""
    return text.casefold().encode("utf-8", "replace").decode()


def key_range(word: str) -> tuple[str, str] | None:
    """Return the first key that begins with a word, and the first after those; None where it is no part of a key."""
    word = word.casefold()
    if len(word) < _MIN_KEY or not _HEXADECIMAL.issuperset(word):
        return None
    return word, f"{word}g"


def key_range_contains(word: str, key: str) -> bool:
    """Return whether a word is the beginning of a key."""
    return key_range(word) is not None and key.startswith(word.casefold())


def _value(entry: Entry, order: Order) -> float | None:
    match order:
        case Order.USE:
            return entry.used_at
        case Order.STORED:
            return entry.stored_at
        case Order.SIZE:
            return entry.size
        case Order.COST:
            return entry.cost
        case Order.TIME:
            return subject_of(entry.query).begin
