"""The sources of an observation: selected ones, or that of the query and some faint ones around it.

A source is a power law whose flux depends on the mock's seed, its name and its position, so that it is the same in
mosaics, light curves and spectra.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mock_server.synthetic import sky
from mock_server.synthetic.observation import Place
from mock_server.synthetic.random_numbers import random_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from mock_server.synthetic.observation import Observation
    from mock_server.synthetic.templates import Detector

    Array = NDArray[np.float64]

_CRAB: Final = (9.7, 2.1)
"""Photons/(cm2 s keV) at 1 keV and index (A. Toor and F. Seward 1974, AJ 79, 995)."""
_FIELD_SOURCES: Final = 3


@dataclass(frozen=True)
class Source:
    """A power law of `norm` photons/(cm2 s keV) at 1 keV and photon index `index`, with its number in a catalogue."""

    place: Place
    norm: float
    index: float
    number: int

    def rates(self, instrument: Detector) -> Array:
        """Return the counts per second in each channel."""
        return instrument.fold(lambda energy: np.asarray(self.norm * energy**-self.index))


def sources_of(observation: Observation, instrument: Detector) -> list[Source]:
    """Return the selected sources; without a selection the source of the query, and some more in its field."""
    if observation.selected is not None:
        places = list(observation.selected)
        return [_source(observation, place, number) for number, place in enumerate(places, 1)]
    target = observation.target
    random = random_state(seed_of(f"{observation.seed} {observation.instrument} {target.ra} {target.dec}"))
    reach = 0.35 * instrument.telescope.field_of_view_deg
    offsets = random.uniform(-reach, reach, (_FIELD_SOURCES, 2))
    field = [_beside(target, f"NEW_{number}", *offset) for number, offset in enumerate(offsets, 1)]
    named = Place(target.name or "query", target.ra, target.dec)
    faint = [_source(observation, place, number, brightest=-1.5) for number, place in enumerate(field, 2)]
    return [_source(observation, named, 1), *faint]


def _source(observation: Observation, place: Place, number: int, *, brightest: float = 0.0) -> Source:
    """Draw brightness, within a decade below a power of ten of the Crab's, and index of a source."""
    random = random_state(seed_of(f"{observation.seed} {place.name} {place.ra:.3f} {place.dec:.3f}"))
    return Source(
        place=place,
        norm=_CRAB[0] * 10 ** round(random.uniform(brightest - 1, brightest), 3),
        index=round(random.uniform(1.8, 2.8), 3),
        number=number,
    )


def _beside(centre: Place, name: str, east: float, north: float) -> Place:
    """Return the position at an offset in degrees in the tangent plane at the centre."""
    x, y = np.radians([east, north])
    dec = np.radians(centre.dec)
    depth = np.cos(dec) - y * np.sin(dec)
    ra = np.degrees(np.arctan2(x, depth))
    up = np.degrees(np.arctan2(np.sin(dec) + y * np.cos(dec), np.hypot(x, depth)))
    return Place(name, round(float(centre.ra + ra) % 360, 4), round(float(up), 4))


def in_field(sources: Iterable[Source], header: Mapping[str, Any], telescope: sky.Telescope) -> list[Source]:
    """Return the sources in the field of view."""
    ra, dec = np.radians([header["CRVAL1"], header["CRVAL2"]])
    seen = []
    for source in sources:
        a, d = np.radians([source.place.ra, source.place.dec])
        away = np.degrees(np.arccos(np.clip(np.sin(d) * np.sin(dec) + np.cos(d) * np.cos(dec) * np.cos(a - ra), -1, 1)))
        if away < 0.47 * telescope.field_of_view_deg:
            seen.append(source)
    return seen


def resolved(sources: Iterable[Source], header: Mapping[str, Any], telescope: sky.Telescope) -> list[Source]:
    """Return the sources that the mosaic resolves from earlier ones."""
    apart: list[Source] = []
    places: list[tuple[float, float]] = []
    least = telescope.psf_fwhm_arcmin / 60 / float(header["CD2_2"])
    for source in sources:
        x, y = sky.pixels(header, np.array([source.place.ra]), np.array([source.place.dec]))
        if all(np.hypot(x[0] - other[0], y[0] - other[1]) > 2 * least + 3 for other in places):
            apart.append(source)
            places.append((float(x[0]), float(y[0])))
    return apart


def significance_of(source: Source, instrument: Detector, observation: Observation) -> float:
    """Return the significance of a source in the energy band, in standard deviations."""
    shares = instrument.shares(observation.band)
    rate = float(source.rates(instrument) @ shares)
    return round(rate / float(np.sqrt((rate + 2 * instrument.background @ shares) / observation.exposed)), 4)


def seed_of(text: str) -> int:
    """Return a seed for random numbers, the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
