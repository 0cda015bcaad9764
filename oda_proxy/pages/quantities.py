"""Numbers, sizes, durations, times and positions as text on pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from oda_proxy.query.subject import utc_of

if TYPE_CHECKING:
    from oda_proxy.query.subject import Subject

NO_BREAK: Final = "\N{NO-BREAK SPACE}"

_SIZES: Final = ("B", "kB", "MB", "GB", "TB")
_SPANS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
_DAY: Final = 86400.0
_DIGITS: Final = 3
_LARGE: Final = 10_000
_LAST: Final = 253402300799.0
"""The end of the year 9999, in s since 1970 (UTC)."""


def number(count: int) -> str:
    """Format a whole number: `100 000`."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if abs(count) >= _LARGE else str(count)


def plural(count: int, one: str, many: str = "") -> str:
    """Format a count with its noun; the plural `many` defaults to `one` with an s."""
    return f"{number(count)}{NO_BREAK}{one if count == 1 else many or f'{one}s'}"


def size(count: float) -> str:
    """Format a number of bytes: `25.3 MB`."""
    power = 0
    while count >= 999.5 and power < len(_SIZES) - 1:  # noqa: PLR2004 - rounds to four digits
        count, power = count / 1000, power + 1
    return f"{_short(count)}{NO_BREAK}{_SIZES[power]}"


def span(seconds: float) -> str:
    """Format a duration in s: `3.2 h`."""
    for unit, name in _SPANS:
        if seconds >= unit:
            return f"{_short(seconds / unit)}{NO_BREAK}{name}"
    if 0 < seconds < 0.1:  # noqa: PLR2004 - two digits
        return f"{1000 * seconds:.2g}{NO_BREAK}ms"
    return f"{seconds:.2g}{NO_BREAK}s" if seconds < 10 else f"{seconds:.0f}{NO_BREAK}s"  # noqa: PLR2004 - two digits


def hours(seconds: float) -> str:
    """Format computing time in s as hours: `1 310 h`; short ones as `span`."""
    return f"{number(round(seconds / 3600))}{NO_BREAK}h" if seconds >= _DAY else span(seconds)


def age(at: float, now: float) -> str:
    """Format how long ago a moment was; both are in s since 1970 (UTC)."""
    seconds = now - at
    unit, name = next(((unit, name) for unit, name in _SPANS if seconds >= unit), (1.0, "s"))
    return f"{seconds / unit:.0f}{NO_BREAK}{name} ago" if seconds >= 1 else "now"


def moment(at: float) -> str:
    """Format a time in s since 1970 as UTC: `2003-03-15 23:27:40`."""
    return f"{datetime.fromtimestamp(min(max(at, 0.0), _LAST), UTC):%Y-%m-%d %H:%M:%S}"


def time_range(subject: Subject) -> str:
    """Format the time range of a query, with its length: `2003-03-15 23:27, 35.6 min`; empty where it has none."""
    if subject.begin is None:
        return ""
    begin = f"{utc_of(subject.begin):%Y-%m-%d %H:%M}"
    if subject.end is None or subject.end < subject.begin:
        return begin
    return f"{begin}, {span((subject.end - subject.begin) * _DAY)}"


def full_time_range(subject: Subject) -> str:
    """Format the time range of a query to the second, with its length; empty where it has none."""
    if subject.begin is None or subject.end is None or subject.end < subject.begin:
        return time_range(subject)
    begin, end = (f"{utc_of(one):%Y-%m-%d %H:%M:%S}" for one in (subject.begin, subject.end))
    return f"{begin} to {end} UTC ({span((subject.end - subject.begin) * _DAY)})"


def position(subject: Subject) -> str:
    """Format a position in deg: `83.6331 +22.0145`; empty where there is none."""
    if subject.position is None:
        return ""
    ra, dec = subject.position
    return f"{ra:.4f}{NO_BREAK}{dec:+.4f}".replace("-", "\N{MINUS SIGN}")


def _short(value: float) -> str:
    """Format a number below 1000 with three digits, all of which count."""
    text = f"{value:.{_DIGITS}g}"
    return text if "e" not in text else f"{value:.0f}"
