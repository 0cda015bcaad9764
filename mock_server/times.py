"""Converts times of a query from any astropy format to ISO with milliseconds, as in the dispatcher's echo."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import BadQueryError

if TYPE_CHECKING:
    from collections.abc import Iterable

_ISO: Final = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})(?:(?P<between>[T ])(?P<time>\d{2}:\d{2})(?:(?P<second>:\d{2})(?P<fraction>\.\d*)?)?)?",
    re.ASCII,
)
_SEPARATOR: Final = {"isot": "T", "iso": " "}
_MAX_LENGTH: Final = 100


class BadTimeError(BadQueryError):
    """A text that is not a time in its format."""


def needs_astropy(times: Iterable[object], time_format: str) -> bool:
    """Return whether some of these times need astropy, which takes a second to import."""
    return time_format not in _SEPARATOR or any(_is_unusual(str(time), time_format) for time in times)


def _is_unusual(text: str, time_format: str) -> bool:
    try:
        _from_iso(text, _SEPARATOR[time_format])
    except BadTimeError:
        return True
    return False


def isot(value: object, time_format: str) -> str:
    """Return a time as ISO with a `T` and milliseconds, rounded (protocol: dispatcher 1.3.6).

    Usual ISO times are read here; astropy, which takes a second to import, reads leap seconds and other formats.

    Raises
    ------
    BadTimeError
        The value is not a time in that format, or there is no such format.
    """
    text = str(value)
    if needs_astropy([text], time_format):
        return _from_astropy(text, time_format)
    return _from_iso(text, _SEPARATOR[time_format])


def _from_iso(text: str, separator: str) -> str:
    match = _ISO.fullmatch(text)
    if match is None or match["between"] not in (separator, None):
        raise BadTimeError("not a time")
    try:
        moment = datetime.fromisoformat(f"{match['day']}T{match['time'] or '00:00'}{match['second'] or ':00'}")
        moment += timedelta(milliseconds=round(float(f"0{match['fraction'] or '.0'}0") * 1000))
    except (ValueError, OverflowError):
        raise BadTimeError("not a time") from None
    return moment.isoformat(timespec="milliseconds")


def _from_astropy(text: str, time_format: str) -> str:
    from astropy.time import Time  # slow to import, and rarely needed

    value: str | float
    try:
        value = float(text)
    except ValueError:
        value = text[:_MAX_LENGTH]
    try:
        return str(Time(value, format=time_format[:_MAX_LENGTH], precision=3).isot)
    except ValueError:
        raise BadTimeError("not a time") from None
