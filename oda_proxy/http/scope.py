"""The scope of a request: what prefixes of its path select, `/as-of/DATE[/only]` and `/in/NAME`.

Clients that send no headers choose by their address what they work with: `http://host:8400/as-of/2026-03-01` has the
recordings as they were then, `http://host:8400/in/my-paper` notes what is requested in a collection. `oda_api` accepts
only letters, digits, hyphens and slashes in the path of an address, so that times can be written without colons.
"""

from __future__ import annotations

import math
import re
from calendar import monthrange
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import BadQueryError

if TYPE_CHECKING:
    from collections.abc import Sequence

AS_OF: Final = "as-of"
ONLY: Final = "only"
IN: Final = "in"

_ROUTES: Final = frozenset({"api", "free-up-space", "reload-plugin"})
"""First segments of routes of the dispatcher that would be names: `/in/api/meta-data` would be two things."""
MAX_NAME: Final = 64
"""Characters of the name of a collection."""

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?", re.ASCII)
_TIME: Final = re.compile(
    r"(?P<year>\d{4})(?P<dash>-?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    r"(?:[Tt]?(?P<hour>\d\d)(?P<colon>[:-]?)(?P<minute>\d\d)(?:(?P=colon)(?P<second>\d\d)(?:\.?(?P<fraction>\d{6}))?)?)?"
    r"[Zz]?",
    re.ASCII,
)
_MONTH: Final = re.compile(r"(?P<year>\d{4})-(?P<month>\d\d)", re.ASCII)
_WITH_OFFSET: Final = re.compile(r".+[Tt]\d\d:?\d\d(?::?\d\d)? ?[+-]\d\d:?\d\d", re.ASCII)
STEP: Final = 2e-6
"""Seconds by which two versions differ at least in their times: they are written with microseconds."""
_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
_MAX_TEXT: Final = 40
"""Characters of a date or a name that are repeated in a message."""


class ScopeError(BadQueryError):
    """A prefix of a path does not name a date or a collection."""


@dataclass(frozen=True, slots=True)
class AsOf:
    """A past time, in s since 1970 (UTC).

    It is the last moment of the month, day, minute, second or microsecond that was named, so that what was recorded on
    that day is part of it; `begin` is the first one.
    """

    time: float
    begin: float
    text: str
    """As it was named, for messages."""
    is_negotiated: bool = False
    """Whether it is a preference (`Accept-Datetime`): the nearest version is the answer, and the future is the last."""

    @classmethod
    def parse(cls, text: str) -> AsOf:
        """Parse a date or a time (UTC).

        These are `2026-03`, `2026-03-01`, `2026-03-01T12:30Z`, `2026-03-01T12-30-05` and `20260301123005`, and with
        microseconds `2026-03-01T12:30:05.000001` and `20260301123005000001`. Raises ScopeError for another text.
        """
        try:
            begin, end = _read(text)
        except ValueError:
            where = ", without an offset," if _WITH_OFFSET.fullmatch(text[:_MAX_TEXT]) else ""
            raise ScopeError(
                f"{_shown(text)} is not a date: write one such as 2026-03-01, or a time (UTC){where} such as "
                "2026-03-01T12-30-00"
            ) from None
        return cls(_last_before(end), begin, text)

    @classmethod
    def of_second(cls, begin: float, text: str, *, is_negotiated: bool = False) -> AsOf:
        """Return a time that was named with seconds."""
        return cls(_last_before(begin + 1.0), begin, text, is_negotiated)

    def check(self, now: float) -> None:
        """Raise ScopeError for a time in the future of `now`, in s since 1970."""
        if self.begin > now and not self.is_negotiated:
            today = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
            raise ScopeError(f"{_shown(self.text)} is in the future: it is {today.removesuffix('+00:00')}Z")


def _read(text: str) -> tuple[float, float]:
    """Return the begin and the end, in s since 1970 (UTC), of what a text names; raises ValueError."""
    if found := _MONTH.fullmatch(text):
        begin = datetime(int(found["year"]), int(found["month"]), 1, tzinfo=UTC)
        return begin.timestamp(), begin.timestamp() + 86400.0 * monthrange(begin.year, begin.month)[1]
    if (found := _TIME.fullmatch(text)) is None:
        raise ValueError(text)
    begin = datetime(int(found["year"]), int(found["month"]), int(found["day"]), tzinfo=UTC)
    if found["hour"] is None:
        return begin.timestamp(), begin.timestamp() + 86400.0
    begin = begin.replace(hour=int(found["hour"]), minute=int(found["minute"]), second=int(found["second"] or "0"))
    if found["fraction"] is not None:
        begin = begin.replace(microsecond=int(found["fraction"]))
        return begin.timestamp(), (begin + timedelta(microseconds=1)).timestamp()
    return begin.timestamp(), begin.timestamp() + (60.0 if found["second"] is None else 1.0)


def time_text(time: float, *, is_exact: bool = False, is_compact: bool = False) -> str:
    """Return a time, in s since 1970 (UTC), as `AsOf.parse` reads it: its second, or its microsecond if `is_exact`.

    A compact one has only digits, which all clients accept in an address. A damaged time, outside of the years that
    dates have, is shown as the first or last second of these.
    """
    time = min(max(_FIRST, time), _LAST)  # in this order, NaN is the first
    second = datetime(1970, 1, 1) + timedelta(seconds=math.floor(time))  # noqa: DTZ001 - UTC, without saying so
    text = second.isoformat()  # strftime writes years before 1000 with fewer digits
    if is_compact:
        text = re.sub("[-:T]", "", text)
    fraction = f"{min(round((time - math.floor(time)) * 1e6), 999_999):06}" if is_exact else ""
    return f"{text}{'.' if fraction and not is_compact else ''}{fraction}{'' if is_compact else 'Z'}"


def time_texts(times: Sequence[float], *, is_compact: bool = False) -> list[str]:
    """Return times as `time_text` does, with microseconds where a second has several of them."""
    seconds = Counter(map(math.floor, times))
    return [time_text(one, is_exact=seconds[math.floor(one)] > 1, is_compact=is_compact) for one in times]


def after(time: float) -> float:
    """Return the next time, in s since 1970 (UTC), that is written apart from another one, in any century."""
    return max(time + STEP, math.nextafter(time, math.inf))


def _last_before(time: float) -> float:
    """Return the last moment before a time: none that a clock returns lies between, in any century."""
    return math.nextafter(time, -math.inf)


@dataclass(frozen=True, slots=True)
class Scope:
    """What the prefixes of a path select; by default, the recordings of now and no collection."""

    as_of: AsOf | None = None
    only: bool = False
    """Whether nothing is requested from the dispatcher that was not recorded at that time."""
    collection: str | None = None


EVERYTHING: Final = Scope()
"""The scope of a request without such a prefix."""


def scope_length(segments: Sequence[str]) -> int:
    """Return how many of the first decoded segments of a path are prefixes of a scope, whether or not it is valid.

    Those with upper-case letters are prefixes, too, and `only` that follows no date: `read_scope` refuses them, since
    they must not be ignored.
    """
    length = 0
    while length < len(segments):
        word = segments[length].casefold()
        if word not in {AS_OF, IN} and (word != ONLY or not length):
            break
        length = min(length + (1 if word == ONLY else 2), len(segments))
    return length


def read_scope(segments: Sequence[str], following: Sequence[str] = ()) -> Scope:
    """Return the scope that segments name, all of which belong to its prefixes, in any order.

    Raises ScopeError where one is not valid, or there are two of a kind, or another one is among the `following`
    segments before the route, where it would be ignored.
    """
    if not segments:
        return EVERYTHING
    if apart := next((one for one in following if one.casefold() in {AS_OF, IN, ONLY}), ""):
        raise ScopeError(f"the path has /{apart}/ apart; write dates and collections one after the other")
    as_of, only, collection = None, False, None
    remaining = list(segments)
    while remaining:
        prefix = remaining.pop(0)
        _check_case(prefix)
        if prefix == ONLY:
            raise ScopeError(f"/{ONLY} belongs directly after a date: write it as in /{AS_OF}/2026-03-01/{ONLY}")
        value = remaining.pop(0) if remaining else ""
        if prefix == IN:
            if collection is not None:
                raise ScopeError(f"the path has /{IN}/ twice; name one collection")
            collection = parse_name(value)
        else:
            if as_of is not None:
                raise ScopeError(f"the path has /{AS_OF}/ twice; name one date")
            as_of = AsOf.parse(value)
            if remaining and remaining[0].casefold() == ONLY:
                _check_case(remaining.pop(0))
                only = True
    return Scope(as_of, only, collection)


def _check_case(word: str) -> None:
    """Raise ScopeError for the word of a prefix that is not in lower case."""
    if word != word.casefold():
        raise ScopeError(f"the path has /{_shown(word)[1:-1]}/; write /{word.casefold()}/")


def parse_name(text: str) -> str:
    """Return the name of a collection; raises ScopeError for a text that is none."""
    if text in _ROUTES:
        raise ScopeError(f"{text!r} is not the name of a collection: routes of the dispatcher begin with it")
    if len(text) > MAX_NAME or not _NAME.fullmatch(text):
        raise ScopeError(
            f"{_shown(text)} is not the name of a collection: use up to {MAX_NAME} letters, digits and hyphens, "
            "such as my-paper"
        )
    return text


def _shown(text: str) -> str:
    """Return a text for a message: unprintable characters escaped, a long one cut."""
    return ascii(text) if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]!a}..."
