"""Values for the columns of a table that is described by names and units: plausible where these tell what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mock_server.synthetic.scene import ENERGIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mock_server.synthetic.scene import Scene

    Array = NDArray[Any]

_DIGITS: Final = 7
"""Values are rounded to these, because the last bits of functions differ between machines."""
_TIMES: Final = {"d": 1.0, "s": 86400.0}
_MASSES: Final = (5.0, 60.0)
_RELATIVE_ERROR: Final = 0.15
# At 1 TeV; a tenth of the Crab's flux (F. Aharonian et al. 2006, A&A 457, 899), in 1/(TeV cm2 s).
_NORM: Final = 3.5e-12
_ERG_PER_TEV: Final = 1.602176634


def table_columns(
    columns: Mapping[str, str | None], rows: int, scene: Scene, random: np.random.RandomState
) -> dict[str, Array]:
    """Return an array of `rows` values for each column.

    Energies and frequencies are on a logarithmic grid, times on a linear one, positions within the field; fluxes
    follow the power law of the scene, with errors.
    """
    low, high = scene.energies
    edges = np.geomspace(low, high, rows + 1)
    centres = np.sqrt(edges[:-1] * edges[1:])
    grids = {"min": edges[:-1], "max": edges[1:]}
    scatter = 1 + _RELATIVE_ERROR * random.standard_normal(rows)
    made: dict[str, Array] = {}
    for name, units in columns.items():
        short = name.lower()
        if units in ENERGIES:
            values = grids.get(short[1:4], centres) / ENERGIES[units]
        elif units == "Hz":
            values = np.geomspace(1e-9, 1e-6, rows)
        elif units in _TIMES:
            values = np.linspace(*scene.times, rows) * _TIMES[units]
        elif units == "deg":
            values = _position(short, scene, rows, random)
        elif units is None:
            values = _without_units(short, scene, rows, random)
        else:
            values = _quantity(short, units, scene, (centres, scatter), random)
        made[name] = values if values.dtype.kind in "US" else rounded(values)
    return made


def rounded(values: Array) -> Array:
    """Return values with seven significant digits."""
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values.ravel()]).reshape(values.shape)


def _position(name: str, scene: Scene, rows: int, random: np.random.RandomState) -> Array:
    offsets = random.uniform(-scene.radius, scene.radius, rows)
    if name.startswith("ra"):
        return np.asarray((scene.ra + offsets / max(np.cos(np.radians(scene.dec)), 0.01)) % 360)
    return np.clip(scene.dec + offsets, -90, 90) if name.startswith("dec") else offsets


def _without_units(name: str, scene: Scene, rows: int, random: np.random.RandomState) -> Array:
    if "name" in name:
        return np.array([f"MOCK J{number:04d}" for number in range(1, rows + 1)])
    if any(word in name for word in ("gamma", "slope", "index")):
        return np.asarray(scene.index + 0.1 * random.standard_normal(rows))
    if "omega" in name:
        place = np.linspace(-2.0, 2.0, rows)
        return np.asarray(1e-9 / (10**-place + 10 ** (2 * place)))
    if "min" in name or "max" in name:
        edges = np.geomspace(1.0, 1e3, rows + 1)
        return edges[:-1] if "min" in name else edges[1:]
    counts = np.asarray(random.poisson(100, rows), float)
    return np.sqrt(counts) if "unc" in name or "err" in name else counts


def _quantity(  # noqa: PLR0911 - one for each quantity
    name: str, units: str, scene: Scene, flux: tuple[Array, Array], random: np.random.RandomState
) -> Array:
    """Return a flux, a rate, a mass or a distance, by its units; `flux` are energies and the scatter of fluxes."""
    energies, scatter = flux
    rows = len(energies)
    if units == "solMass":
        return np.asarray(random.uniform(*_MASSES, rows))
    if units.endswith("pc"):
        return np.asarray(random.uniform(100, 3000, rows))
    if units == "nmgy":
        return np.asarray(random.pareto(1.5, rows) + 0.1)
    if "norm" in name:
        return np.asarray(_NORM * np.exp(0.1 * random.standard_normal(rows)))
    if "cm2" in units:
        in_tev = energies / ENERGIES["TeV"]
        values = _NORM * in_tev ** (2 - scene.index) * (_ERG_PER_TEV if "erg" in units else 1.0)
        values *= 1e3 if "GeV" in units else 1.0
        bounds = {"min": 1 - _RELATIVE_ERROR, "max": 1 + _RELATIVE_ERROR}
        for word, factor in bounds.items():
            if f"_{word}" in name:
                return np.asarray(values * factor)
    else:
        values = np.full(rows, 10.0)
    if "err" in name:
        return np.asarray(_RELATIVE_ERROR * values)
    return np.asarray(values * 3 if "sens" in name or "ul" in name else values * np.abs(scatter))
