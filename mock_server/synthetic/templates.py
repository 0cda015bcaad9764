"""Templates for synthetic data, from the shipped fixtures: names, meta data, headers, types, and responses."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mock_server.settings import folders_of_generation
from mock_server.synthetic.sky import ISGRI, JEMX
from oda_proxy.codec import fits, product_description
from oda_proxy.codec.json_text import JsonObject
from oda_proxy.fixture.reading import open_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from mock_server.settings import Generation
    from mock_server.synthetic.sky import Telescope
    from oda_proxy.codec.product import DataProduct
    from oda_proxy.fixture.model import FixtureAnswer
    from oda_proxy.fixture.reading import Fixture

    Array = NDArray[np.float64]

_DISTINCT_PRODUCTS: Final = 3
"""Number of different products in a fixture: a spectrum, an effective area and a redistribution."""
_PRODUCTS: Final = "numpy_data_product_list"
_BACKGROUND: Final = "Background"
_JEMX_BACKGROUND: Final = 12.0
"""Counts per second, over all energies."""


@dataclass(frozen=True)
class ProductTemplate:
    """A shipped answer: its first products, and the names of their files."""

    answer: FixtureAnswer
    products: tuple[DataProduct, ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class Detector:
    """The response of an instrument, and the background in counts per second and channel.

    `photons` are the bins of photon energy (low and high, keV), `channels` those of the channels; `matrix` (bins,
    channels) is the effective area (cm2) times the redistribution.
    """

    telescope: Telescope
    photons: tuple[Array, Array]
    channels: tuple[Array, Array]
    matrix: Array
    background: Array

    def fold(self, spectrum: Callable[[Array], Array]) -> Array:
        """Return the counts per second in each channel for a photon spectrum in photons/(cm2 s keV)."""
        low, high = self.photons
        return np.asarray((spectrum((low + high) / 2) * (high - low)) @ self.matrix)

    def shares(self, band: tuple[float, float]) -> Array:
        """Return the fraction of each channel that is within an energy band in keV."""
        low, high = self.channels
        inside = np.minimum(high, band[1]) - np.maximum(low, band[0])
        return np.asarray(np.clip(inside / (high - low), 0, 1))


@functools.cache
def product_template(instrument: str, product: str, generation: Generation) -> ProductTemplate:
    """Return the template of a product from its first shipped fixture; raises FixtureError if it is damaged."""
    fixture = _shipped(instrument, product, generation)
    answer = fixture.answer()
    entries = answer.products[_PRODUCTS][:_DISTINCT_PRODUCTS]
    return ProductTemplate(
        answer, tuple(_read(fixture, entry) for entry in entries), tuple(entry["file"] for entry in entries)
    )


@functools.cache
def detector(instrument: str) -> Detector:
    """Return the response of ISGRI or JEM-X from the shipped spectra; raises FixtureError if they are damaged."""
    fixture = _shipped(instrument, f"{instrument}_spectrum", "today")
    entries = fixture.answer().products[_PRODUCTS]
    _, areas, matrices = (_read(fixture, entry) for entry in entries[:_DISTINCT_PRODUCTS])
    area, matrix, bounds = (
        _table(product, column) for product, column in ((areas, "SPECRESP"), (matrices, "MATRIX"), (matrices, "E_MIN"))
    )
    redistribution = np.zeros((len(matrix), len(bounds)))
    for row, values in zip(redistribution, matrix, strict=True):
        row[int(values["F_CHAN"]) : int(values["F_CHAN"]) + int(values["N_CHAN"])] = values["MATRIX"][
            : int(values["N_CHAN"])
        ]
    background = np.full(len(bounds), _JEMX_BACKGROUND / len(bounds))
    for entry in entries:
        if entry["meta_data"]["src_name"] == _BACKGROUND:
            background = _table(_read(fixture, entry), "RATE")["RATE"].astype(float)
            break
    return Detector(
        telescope=ISGRI if instrument == "isgri" else JEMX,
        photons=(area["ENERG_LO"].astype(float), area["ENERG_HI"].astype(float)),
        channels=(bounds["E_MIN"].astype(float), bounds["E_MAX"].astype(float)),
        matrix=area["SPECRESP"].astype(float)[:, None] * redistribution,
        background=background,
    )


def _shipped(instrument: str, product: str, generation: Generation) -> Fixture:
    folders = [open_folder(folder) for folder in folders_of_generation(generation)]
    fixtures = (fixture for folder in folders for fixture in folder.fixtures)
    return next(fixture for fixture in fixtures if fixture.path.startswith(f"{instrument}/{product}/"))


def _read(fixture: Fixture, entry: Mapping[str, Any]) -> DataProduct:
    return product_description.read_product(JsonObject.of(entry), lambda name: fits.read(fixture.read_file(name)))


def _table(product: DataProduct, column: str) -> NDArray[Any]:
    """Return the first table of a product with a column."""
    return next(
        unit.data for unit in product.units if unit.data is not None and column in (unit.data.dtype.names or ())
    )
