"""Values of FITS headers that tell how to draw: units, energies, times, reference dates."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.query.message_text import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.codec.product import DataUnit

DAY: Final = 86400.0
SECONDS: Final = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "d": DAY, "day": DAY, "days": DAY}
"""Seconds of the units of time in headers."""

_MJD_ZERO: Final = datetime(1858, 11, 17, tzinfo=UTC)
_UNIX_MJD: Final = 40_587.0
_MAX_MJD: Final = 200_000.0
_NO_UNITS = frozenset({"", "no units", "none", "dimensionless", "unitless"})


def values_of(unit: DataUnit) -> dict[str, Any]:
    """Return the values of a header by keyword in capital letters; the first of a repeated keyword counts."""
    values: dict[str, Any] = {}
    for card in unit.header:
        values.setdefault(card.keyword.upper(), card.value)
    return values


def text(values: Mapping[str, Any], *keywords: str) -> str:
    """Return the first of these values that is not empty, as short printable text; "" if there is none."""
    for keyword in keywords:
        value = values.get(keyword)
        if value is not None and (found := shorten(str(value).strip())):
            return found
    return ""


def number(values: Mapping[str, Any], *keywords: str) -> float | None:
    """Return the first of these values that is a finite number, or the text of one."""
    for keyword in keywords:
        value = values.get(keyword)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            continue
        try:
            found = float(value)
        except (ValueError, OverflowError):
            continue
        if math.isfinite(found):
            return found
    return None


def column_unit(unit: DataUnit, column: str) -> str:
    """Return the unit of a column (TUNITn, FITS standard 4.0, section 7.3.2); "" if it has none."""
    if unit.units_dict and isinstance(known := unit.units_dict.get(column), str):
        return _unit(known)
    values = values_of(unit)
    for keyword, value in values.items():
        if keyword.startswith("TTYPE") and str(value).strip().upper() == column.upper():
            return _unit(text(values, f"TUNIT{keyword[5:]}"))
    return ""


def pixel_unit(values: Mapping[str, Any]) -> str:
    """Return the unit of the pixels of an image; "" if it has none."""
    return _unit(text(values, "BUNIT"))


def _unit(name: str) -> str:
    return "" if name.strip().casefold() in _NO_UNITS else shorten(name.strip(), 30)


def with_unit(name: str, unit: str) -> str:
    """Return a label such as `RATE (count/s)`."""
    return f"{name} ({unit})" if unit else name


def energy_band(values: Mapping[str, Any]) -> str:
    """Return the energies of an image or a curve, such as `20-40 keV`; "" if they are not known."""
    low, high = number(values, "E_MIN"), number(values, "E_MAX")
    return "" if low is None or high is None or high <= low else f"{low:g}\N{EN DASH}{high:g} keV"


def interval(values: Mapping[str, Any]) -> str:
    """Return the dates of an observation, such as `2003-03-15T23:27:53 to 23:57:39`; "" if they are not known."""
    begin, end = (text(values, name).removesuffix(".000") for name in ("DATE-OBS", "DATE-END"))
    scale = ""
    if not begin or not end or begin == end:
        first, last, zero = number(values, "TSTART"), number(values, "TSTOP"), number(values, "MJDREF")
        if first is not None and last is not None and zero is not None and first < last:
            day = SECONDS.get(text(values, "TIMEUNIT"), DAY) / DAY
            dates = [date_of(zero + moment * day).partition(".")[0] for moment in (first, last)]
            if all(dates):
                begin, end, scale = dates[0], dates[1], text(values, "TIMESYS")
    if not begin or begin == end:
        return begin
    day_text, _, clock = end.partition("T")
    period = f"{begin} to {clock if clock and begin.startswith(day_text) else end}" if end else begin
    return f"{period} {scale}".strip()


def instrument(values: Mapping[str, Any]) -> str:
    """Return the instrument, such as `INTEGRAL IBIS/ISGRI`; "" if it is not known."""
    telescope, name, detector = (text(values, keyword) for keyword in ("TELESCOP", "INSTRUME", "DETNAM"))
    name = f"{name}/{detector}" if name and detector and detector != name else name or detector
    return f"{telescope} {name}".strip()


def zero_time(values: Mapping[str, Any], measure: str) -> float | None:
    """Return the MJD at which the time of a table is 0 (OGIP 93-003: MJDREF and TIMEZERO); None if not known."""
    reference = number(values, "MJDREF")
    if reference is None:
        whole, fraction = number(values, "MJDREFI"), number(values, "MJDREFF")
        if whole is None:
            return None
        reference = whole + (fraction or 0.0)
    zero = (number(values, "TIMEZERO") or 0.0) + (number(values, "TIMEZERI") or 0.0)
    return reference + zero * SECONDS.get(measure, DAY) / DAY


def unix_date(values: Mapping[str, Any], seconds: float) -> str:
    """Return the date of a time in s since 1970 (UTC); "" unless it is within a day of the begin of the observation."""
    try:
        begin = datetime.fromisoformat(text(values, "DATE-OBS")).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return ""
    return f"{date_of(_UNIX_MJD + seconds / DAY)} UTC" if abs(seconds - begin) < DAY else ""


def date_of(mjd: float) -> str:
    """Return the date and the clock time of an MJD, in its own scale; "" for one that no calendar has."""
    if not 0 <= mjd <= _MAX_MJD:
        return ""
    moment = _MJD_ZERO + timedelta(milliseconds=round(mjd * DAY * 1000))
    text = moment.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return text.removesuffix(".000")
