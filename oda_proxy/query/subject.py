"""What a query observes: the sources it names, its position, and its time range."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oda_proxy.query.query import Query

SOURCE: Final = "src_name"
"""The parameter with the name of a source."""
MJD_OF_1970: Final = 40587.0
"""1970-01-01 as a modified Julian date."""

_DAY: Final = 86400.0
_JD_OF_MJD: Final = 2400000.5
_MAX_LENGTH: Final = 100
"""Longest number or time that is read, in characters."""
_LAST_MJD: Final = 2973484.0
"""The end of the year 9999, the last that a calendar of Python has."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a query; None for what it does not name, or in a form that is not read here."""

    sources: tuple[str, ...] = ()
    position: tuple[float, float] | None = None
    """Right ascension and declination in deg."""
    begin: float | None = None
    """The first moment, as MJD."""
    end: float | None = None
    """The last moment, as MJD."""


def subject_of(query: Query | None) -> Subject:
    """Return the subject of a query; astropy is not imported, so that only decimal degrees and usual times are read."""
    if query is None:
        return Subject()
    values = dict(query.parameters)
    time_format = _first(values, "T_format") or "isot"
    ra, dec = _number(_first(values, "RA")), _number(_first(values, "DEC"))
    return Subject(
        sources=values.get(SOURCE, ()),
        position=None if ra is None or dec is None or abs(dec) > 90 else (ra % 360, dec),  # noqa: PLR2004 - the poles
        begin=read_time(_first(values, "T1"), time_format),
        end=read_time(_first(values, "T2"), time_format),
    )


def read_time(text: str, time_format: str) -> float | None:
    """Return a time as MJD; of the names of formats in astropy, `isot`, `iso`, `mjd`, `jd` and `unix` are read."""
    read = _READERS.get(time_format)
    if read is None or len(text) > _MAX_LENGTH:
        return None
    mjd = read(text.strip())
    return mjd if mjd is not None and 0 <= mjd < _LAST_MJD else None


def utc_of(mjd: float) -> datetime:
    """Return an MJD between those of 1858 and the year 9999 as UTC."""
    return datetime.fromtimestamp((mjd - MJD_OF_1970) * _DAY, UTC)


def _first(values: Mapping[str, tuple[str, ...]], name: str) -> str:
    return next(iter(values.get(name, ())), "")


def _number(text: str) -> float | None:
    with suppress(ValueError):
        if len(text) <= _MAX_LENGTH and math.isfinite(number := float(text)):
            return number
    return None


def _iso(text: str) -> float | None:
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() / _DAY + MJD_OF_1970
    return None


def _shifted(zero: float, unit: float = 1.0) -> Callable[[str], float | None]:
    """Return what reads a number of `unit` d since `zero`, as MJD."""

    def read(text: str) -> float | None:
        number = _number(text)
        return None if number is None else number * unit + zero

    return read


_READERS: Final[Mapping[str, Callable[[str], float | None]]] = {
    "isot": _iso,
    "iso": _iso,
    "mjd": _shifted(0.0),
    "jd": _shifted(-_JD_OF_MJD),
    "unix": _shifted(MJD_OF_1970, 1 / _DAY),
}
