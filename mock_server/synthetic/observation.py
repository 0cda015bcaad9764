"""Reads an observation from a query: times, position, energies and sources, within the limits of the mock."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from oda_proxy.errors import BadQueryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mock_server.matching import NormalisedQuery

MAX_BINS: Final = 100_000
MAX_SOURCES: Final = 30
MAX_WINDOWS: Final = 500

DAY: Final = 86400.0
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
# Channels lie between these energies, in keV.
_BANDS: Final = {"isgri": (13.0, 584.0), "jemx": (3.0, 35.0)}
_WINDOW: Final = re.compile(r"(?P<revolution>\d{4})(?P<pointing>\d{4})\d{4}(\.\d{3})?", re.ASCII)
# Revolution 1 began 1020 days after the epoch; pointings are consecutive.
_FIRST_REVOLUTION: Final = 1020.0
_REVOLUTION: Final = 2.9917
_POINTING: Final = 3600.0
_POINTINGS: Final = 70
_EXPOSED: Final = 3480.0
# Year and month since when TAI is this many seconds ahead of UTC (IERS Bulletin C).
_LEAP_SECONDS: Final = ((2017, 1, 37), (2015, 7, 36), (2012, 7, 35), (2009, 1, 34), (2006, 1, 33))
_LEAP_SECONDS_BEFORE: Final = 32
_TT_MINUS_TAI: Final = 32.184


class ImpossibleQueryError(BadQueryError):
    """A query that cannot be observed, or is too large; the message is for the astronomer."""


@dataclass(frozen=True)
class Place:
    """A named position, in degrees."""

    name: str
    ra: float
    dec: float


@dataclass(frozen=True)
class Observation:
    """An observation.

    Attributes
    ----------
    digest
        Hash of the query and the mock's seed, for data that differ from query to query.
    seed
        The mock's seed, for data that do not: sources.
    start, stop
        Seconds (UTC) after 2000-01-01.
    exposed
        Exposure time in seconds.
    time_bin
        Seconds; 0 where the product has no bins.
    band
        Energies in keV.
    selected
        The sources of the user's catalogue; None without one.
    """

    instrument: str
    product: str
    parameters: Mapping[str, Any]
    digest: str
    seed: int
    start: float
    stop: float
    exposed: float
    time_bin: float
    band: tuple[float, float]
    target: Place
    selected: tuple[Place, ...] | None

    @property
    def bins(self) -> int:
        """The number of time bins; the last one may be shorter."""
        return max(1, math.ceil((self.stop - self.start) / self.time_bin - 1e-9))

    @property
    def terrestrial(self) -> tuple[float, float]:
        """Start and end in terrestrial time, in days after MJD 51544."""
        return terrestrial(self.start), terrestrial(self.stop)

    @property
    def random_seed(self) -> int:
        """A seed for random number generators."""
        return int(self.digest[:8], 16)


def observe(query: NormalisedQuery, seed: int) -> Observation:
    """Read the observation from a query.

    Raises
    ------
    ImpossibleQueryError
        It cannot be observed, or is larger than the limits.
    """
    parameters = query.parameters
    start, stop, exposed = _when(parameters)
    observation = Observation(
        instrument=query.instrument,
        product=query.product,
        parameters=parameters,
        digest=query.digest(seed),
        seed=seed,
        start=start,
        stop=stop,
        exposed=exposed,
        time_bin=_time_bin(parameters) if query.product.endswith("_lc") else 0.0,
        band=_band(query),
        target=_target(parameters),
        selected=_selected(parameters.get("selected_catalog")),
    )
    if parameters.get("jemx_num", 2) not in (1, 2):
        raise ImpossibleQueryError(f"jemx_num is {parameters['jemx_num']}: there are JEM-X 1 and JEM-X 2")
    width = observation.time_bin
    if width and (stop - start) / width > MAX_BINS:
        raise ImpossibleQueryError(
            f"a time_bin of {width:g} s between T1 and T2 makes {(stop - start) / width:.4g} bins: "
            f"this mock makes up {MAX_BINS} at most"
        )
    return observation


def terrestrial(seconds: float) -> float:
    """Convert seconds (UTC) after 2000-01-01 to days (TT) after MJD 51544."""
    ahead = next(
        (ahead for year, month, ahead in _LEAP_SECONDS if seconds >= _seconds(datetime(year, month, 1, tzinfo=UTC))),
        _LEAP_SECONDS_BEFORE,
    )
    return (seconds + ahead + _TT_MINUS_TAI) / DAY


def revolution(days: float) -> int:
    """Return INTEGRAL's revolution at a time in days after MJD 51544; 1 before the launch."""
    return max(1, int((days - _FIRST_REVOLUTION) / _REVOLUTION) + 1)


def _when(parameters: Mapping[str, Any]) -> tuple[float, float, float]:
    windows = parameters.get("scw_list")
    if windows:
        return _of_windows([str(window) for window in windows])
    start, stop = (_time(name, parameters.get(name)) for name in ("T1", "T2"))
    if stop <= start:
        raise ImpossibleQueryError(f"T2 ({parameters['T2']}) is not later than T1 ({parameters['T1']})")
    return start, stop, stop - start


def _of_windows(windows: list[str]) -> tuple[float, float, float]:
    """Return start and end of science windows, which are consecutive in a revolution, and their exposure."""
    if len(windows) > MAX_WINDOWS:
        raise ImpossibleQueryError(f"scw_list names {len(windows)} science windows: give {MAX_WINDOWS} at most")
    begins = []
    for window in windows:
        match = _WINDOW.fullmatch(window)
        if match is None:
            raise ImpossibleQueryError(
                f"scw_list names {window[:40]!r}, which is no science window as 010200230010.001 is"
            )
        days = _FIRST_REVOLUTION + (int(match["revolution"]) - 1) * _REVOLUTION
        begins.append(days * DAY + int(match["pointing"]) % _POINTINGS * _POINTING)
    return min(begins), max(begins) + _EXPOSED, _EXPOSED * len(set(begins))


def _time(name: str, text: Any) -> float:
    try:
        return _seconds(datetime.fromisoformat(str(text)).replace(tzinfo=UTC))
    except ValueError:
        raise ImpossibleQueryError(f"{name} is {text}: give a time between the years 1 and 9999") from None


def _seconds(moment: datetime) -> float:
    return (moment - _EPOCH).total_seconds()


def _time_bin(parameters: Mapping[str, Any]) -> float:
    width = parameters.get("time_bin")
    if not _is_number(width) or width <= 0:
        raise ImpossibleQueryError(f"time_bin is {width}: give seconds, more than 0")
    return float(width)


def _band(query: NormalisedQuery) -> tuple[float, float]:
    if query.instrument not in _BANDS:
        return 0.0, math.inf
    low, high = (query.parameters.get(name) for name in ("E1_keV", "E2_keV"))
    if not _is_number(low) or not _is_number(high) or not 0 <= low < high:
        raise ImpossibleQueryError(f"E1_keV is {low} and E2_keV is {high}: give two energies, the lower one first")
    least, most = _BANDS[query.instrument]
    if high <= least or low >= most:
        raise ImpossibleQueryError(
            f"{query.instrument} sees nothing from {low:g} to {high:g} keV: its channels are those "
            f"from {least:g} to {most:g} keV"
        )
    return float(low), float(high)


def _target(parameters: Mapping[str, Any]) -> Place:
    ra, dec = parameters.get("RA"), parameters.get("DEC")
    if not _is_number(ra) or not _is_number(dec) or abs(dec) > 90:  # noqa: PLR2004  # degrees to a pole
        raise ImpossibleQueryError(f"RA is {ra} and DEC is {dec}: that is no position in the sky")
    return Place(str(parameters.get("src_name") or ""), float(ra) % 360, float(dec))


def _selected(text: Any) -> tuple[Place, ...] | None:
    """Return the sources of a catalogue as sent by clients."""
    if not text:
        return None
    catalog = json.loads(text)
    try:
        columns = dict(zip(catalog["cat_column_names"], catalog["cat_column_list"], strict=True))
        rows = zip(
            columns["src_names"],
            columns[catalog.get("cat_lon_name", "ra")],
            columns[catalog.get("cat_lat_name", "dec")],
            strict=True,
        )
        places = tuple(_target({"src_name": name, "RA": ra, "DEC": dec}) for name, ra, dec in rows)
    except (KeyError, TypeError, ValueError) as error:
        raise ImpossibleQueryError(f"selected_catalog has no columns of names and positions ({error})") from None
    if len(places) > MAX_SOURCES:
        raise ImpossibleQueryError(f"selected_catalog has {len(places)} sources: give {MAX_SOURCES} at most")
    return places


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
