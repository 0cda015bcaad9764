"""Outputs of the instrument for gravitational waves: strain, spectrogram, and maps of the sky with contours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mock_server.synthetic.scene import DAY
from mock_server.synthetic.table_columns import rounded
from oda_proxy.codec import wire
from oda_proxy.codec.product import Card, DataProduct, DataUnit

if TYPE_CHECKING:
    from mock_server.synthetic.scene import Scene
    from oda_proxy.codec.product import HeaderValue

_GPS_EPOCH: Final = 44244.0
_LEAP_SECONDS: Final = 18.0
"""GPS time is this much ahead of UTC since 2017; a second or two less before."""
_SAMPLES: Final = 8192
_RATE: Final = 4096.0
_STRAIN: Final = 1e-21
_TIMES, _FREQUENCIES = 60, 40
_NSIDE: Final = 8
_MAX_LEVELS: Final = 10
_UNKNOWN: Final = "GW000000_000000"
_EVENTS: Final = {
    "GW150914": 1126259462.4,
    "GW151012": 1128678900.4,
    "GW151226": 1135136350.6,
    "GW170104": 1167559936.6,
    "GW170608": 1180922494.5,
    "GW170729": 1185389807.3,
    "GW170809": 1186302519.8,
    "GW170814": 1186741861.5,
    "GW170817": 1187008882.4,
    "GW170818": 1187058327.1,
    "GW170823": 1187529256.5,
    "GW190727_060333": 1248242632.0,
    "GW190728_064510": 1248331528.5,
    "GW190731_140936": 1248617394.6,
    "GW190803_022701": 1248834439.9,
    "GW190814": 1249852257.0,
}
"""GPS times, in s, of the events of the first catalogue (GWTC-1), and of those in the notebook of `oda_api`."""


def strain(scene: Scene, random: np.random.RandomState) -> list[dict[str, Any]]:
    """Return the strain as measured and filtered: noise with a chirp in the middle, at most 8192 samples."""
    begin, span = _gps(scene)
    step = max(1 / _RATE, span / _SAMPLES)
    count = max(2, min(_SAMPLES, int(span / step)))
    until_merger = np.maximum(span / 2 - step * np.arange(count), 0.0) + 0.01
    chirp = np.sin(-2 * np.pi * 40 * until_merger**0.625 * 8) * until_merger**-0.25
    chirp[step * np.arange(count) > span / 2] = 0.0
    noise = random.standard_normal(count)
    filtered = rounded(_STRAIN * (chirp + 0.3 * noise))
    measured = rounded(filtered + 100 * _STRAIN * np.sin(2 * np.pi * 10 * step * np.arange(count)))
    common = {"t0": begin, "dt": step}
    return [
        {"value": measured.tolist(), **common, "name": "Strain"},
        {"value": filtered.tolist(), **common, "name": "Strain_bp"},
    ]


def spectrogram(scene: Scene, random: np.random.RandomState) -> dict[str, Any]:
    """Return the power over 60 times and 40 frequencies, with a track that rises."""
    begin, span = _gps(scene)
    frequencies = np.geomspace(20.0, 1000.0, _FREQUENCIES)
    track = 30.0 / np.maximum(1 - np.arange(_TIMES) / (_TIMES / 2), 0.04)
    power = random.exponential(1.0, (_TIMES, _FREQUENCIES))
    power += 20 * np.exp(-0.5 * (np.log(frequencies / track[:, None]) / 0.15) ** 2)
    step = span / _TIMES
    return {
        "value": rounded(power).tolist(),
        "epoch": begin,
        "x0": begin,
        "dx": step,
        "xindex": (begin + step * np.arange(_TIMES)).tolist(),
        "y0": 20.0,
        "dy": "none",
        "yindex": rounded(frequencies).tolist(),
    }


def skymap(scene: Scene, levels: str, random: np.random.RandomState) -> dict[str, Any]:
    """Return maps of the events in the times of a query, and contours around their positions.

    Their positions are made up. Without an event in these times, one is made up at the position of the query. Maps are
    HEALPix grids of 768 pixels, nested.
    """
    begin, span = _gps(scene)
    events = [name for name, time in _EVENTS.items() if begin <= time <= begin + span]
    numbers = sorted({min(max(float(part), 1.0), 99.9) for part in levels.split(",") if _is_number(part)})[:_MAX_LEVELS]
    places = [(float(random.uniform(0, 360)), float(random.uniform(-60, 60))) for _ in events]
    contours = {
        event: _contours(place, numbers or [50.0, 90.0])
        for event, place in zip(events or [_UNKNOWN], places or [(scene.ra, scene.dec)], strict=True)
    }
    return {"skymaps": {event: _map(event, random) for event in contours}, "contours": contours}


def _map(event: str, random: np.random.RandomState) -> dict[str, Any]:
    probability = random.exponential(1.0, 12 * _NSIDE**2)
    table = np.zeros(len(probability), [("PROB", "<f8")])
    table["PROB"] = rounded(probability / probability.sum())
    cards: dict[str, HeaderValue] = {
        "EXTNAME": "SKYMAP",
        "PIXTYPE": "HEALPIX",
        "ORDERING": "NESTED",
        "COORDSYS": "C",
        "NSIDE": _NSIDE,
        "INDXSCHM": "IMPLICIT",
        "OBJECT": event,
        "TUNIT1": "pix-1",
    }
    unit = DataUnit("SKYMAP", tuple(Card(name, value) for name, value in cards.items()), table, "bintable")
    return wire.encode_product(DataProduct(f"skymap_{event}", {}, (unit,)))


def _contours(place: tuple[float, float], levels: list[float]) -> dict[str, Any]:
    """Return an ellipse around a position (RA and DEC in deg) for each level (percent)."""
    ellipses = [[_ellipse(place, 2.0 * (level / 50))] for level in levels]
    return {"levels": [f"{level:g}" for level in levels], "contours": ellipses}


def _ellipse(place: tuple[float, float], size: float) -> list[list[float]]:
    angles = np.linspace(0, 2 * np.pi, 37)
    dec = np.clip(place[1] + size * np.sin(angles), -89, 89)
    ra = (place[0] + 2 * size * np.cos(angles) / np.cos(np.radians(dec))) % 360
    return [[float(x), float(y)] for x, y in zip(rounded(ra), rounded(dec), strict=True)]


def _gps(scene: Scene) -> tuple[float, float]:
    """Return the start in GPS time and the duration, in seconds."""
    start, stop = scene.times
    return round((start - _GPS_EPOCH) * DAY + _LEAP_SECONDS, 3), round((stop - start) * DAY, 3)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
