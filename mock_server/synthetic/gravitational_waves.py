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
_EVENT: Final = "GW000000_000000"


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
    """Return the map of one event on a HEALPix grid (768 pixels, nested), and contours around its position."""
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
        "OBJECT": _EVENT,
        "TUNIT1": "pix-1",
    }
    unit = DataUnit("SKYMAP", tuple(Card(name, value) for name, value in cards.items()), table, "bintable")
    numbers = sorted({min(max(float(part), 1.0), 99.9) for part in levels.split(",") if _is_number(part)}) or [
        50.0,
        90.0,
    ]
    contours = [[_ellipse(scene, 2.0 * (level / 50))] for level in numbers]
    return {
        "skymaps": {_EVENT: wire.encode_product(DataProduct(f"skymap_{_EVENT}", {}, (unit,)))},
        "contours": {_EVENT: {"levels": [f"{level:g}" for level in numbers], "contours": contours}},
    }


def _ellipse(scene: Scene, size: float) -> list[list[float]]:
    angles = np.linspace(0, 2 * np.pi, 37)
    dec = np.clip(scene.dec + size * np.sin(angles), -89, 89)
    ra = (scene.ra + 2 * size * np.cos(angles) / np.cos(np.radians(dec))) % 360
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
