"""What the parameters of a query say of the sky: position, field, energies and times, whatever the instrument."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mock_server.matching import NormalisedQuery

DAY: Final = 86400.0
# In keV, in degrees, in seconds.
ENERGIES: Final = {"eV": 1e-3, "keV": 1.0, "MeV": 1e3, "GeV": 1e6, "TeV": 1e9}
_ANGLES: Final = {"deg": 1.0, "arcmin": 1 / 60, "arcsec": 1 / 3600}
_MJD_0: Final = datetime(1858, 11, 17, tzinfo=UTC)
_DEFAULT_TIMES: Final = (datetime(2017, 3, 6, tzinfo=UTC), datetime(2017, 3, 7, tzinfo=UTC))
_DEFAULT_ENERGIES: Final = (1e8, 1e11)
_LOWEST_ENERGY, _HIGHEST_ENERGY = 1e-6, 1e15
_MIN_PIXELS, _MAX_PIXELS = 8, 512
_LARGEST_FIELD: Final = 90.0
_POLE: Final = 90.0


@dataclass(frozen=True)
class Scene:
    """A part of the sky as observed.

    Attributes
    ----------
    ra, dec, radius
        Centre and half of the width, in degrees.
    pixels
        Pixels along a side of an image.
    energies
        Lowest and highest energy, in keV.
    times
        Start and end, in MJD (UTC).
    index
        Photon index of the source's power law.
    """

    source: str
    ra: float
    dec: float
    radius: float
    pixels: int
    energies: tuple[float, float]
    times: tuple[float, float]
    index: float


def read_scene(query: NormalisedQuery, units: Mapping[str, str | None], size: int) -> Scene:
    """Read the scene from a query; `size` is the number of pixels if the query does not tell it.

    Values that no telescope could have are replaced by the nearest that it could.
    """
    values = {name: value for name, value in query.parameters.items() if _is_number(value)}
    angles = {name: value * _ANGLES[units[name] or ""] for name, value in values.items() if units.get(name) in _ANGLES}
    pixel = next((angle for name, angle in angles.items() if "pix" in name.lower()), None)
    width = next((angle for name, angle in angles.items() if "image_size" in name.lower()), None)
    radius = next((angle for name, angle in angles.items() if "radius" in name.lower()), 1.0)
    radius = min(max(abs(radius if width is None else width / 2), 1e-3), _LARGEST_FIELD)
    pixels = size or 64
    if pixel is not None and pixel > 0:
        pixels = min(max(round(2 * radius / pixel), _MIN_PIXELS), _MAX_PIXELS)
    return Scene(
        source=str(query.parameters.get("src_name") or query.instrument),
        ra=values.get("RA", 0.0) % 360,
        dec=min(max(values.get("DEC", 0.0), -_POLE), _POLE),
        radius=radius,
        pixels=pixels,
        energies=_energies(values, units),
        times=_times(query.parameters),
        index=min(max(next((values[one] for one in ("Gamma", "Slope", "index_min") if one in values), 2.0), 0.5), 5.0),
    )


def _energies(values: Mapping[str, float], units: Mapping[str, str | None]) -> tuple[float, float]:
    found = [value * ENERGIES[units[name] or ""] for name, value in values.items() if units.get(name) in ENERGIES]
    positive = sorted(min(max(value, _LOWEST_ENERGY), _HIGHEST_ENERGY) for value in found if value > 0)
    if len(positive) < 2 or positive[0] == positive[-1]:  # noqa: PLR2004 - both ends of a band
        return _DEFAULT_ENERGIES
    return positive[0], positive[-1]


def _times(parameters: Mapping[str, Any]) -> tuple[float, float]:
    start, stop = (
        _mjd(parameters.get(name), default) for name, default in zip(("T1", "T2"), _DEFAULT_TIMES, strict=True)
    )
    return start, max(stop, start + 1 / DAY)


def _mjd(text: Any, default: datetime) -> float:
    try:
        moment = datetime.fromisoformat(str(text)).replace(tzinfo=UTC)
    except ValueError:
        moment = default
    return (moment - _MJD_0).total_seconds() / DAY


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
