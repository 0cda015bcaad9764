"""Products to draw, and what their figures show."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from oda_proxy.codec import wire
from oda_proxy.codec.product import Card, DataProduct, DataUnit
from oda_proxy.fixture.reading import open_folder
from tests.support.paths import FIXTURES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from oda_proxy.codec.product import Array

MOSAIC = "isgri/isgri_image/4u1700-377"
LIGHT_CURVES = "isgri/isgri_lc/4u1700-377"
SPECTRA = "isgri/isgri_spectrum/4u1700-377"
JEMX_MOSAIC = "jemx/jemx_image/010200230010"
JEMX_SPECTRUM = "jemx/jemx_spectrum/010200230010"
POLAR = "polar/polar_lc/2016-12-18"
ACS = "spi_acs/spi_acs_lc/2003-03-15"
SKY = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg", "CRPIX1": 50.0, "CRPIX2": 40.0,
    "CRVAL1": 83.0, "CRVAL2": 22.0, "CD1_1": -0.05, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.05,
    "RADECSYS": "FK5", "EQUINOX": 2000.0,
}  # fmt: skip
"""Sky coordinates of an image with east to the left."""


@cache
def fixture_products(path: str) -> dict[str, Any]:
    """Return the products of a shipped fixture in the wire form."""
    (found,) = [one for one in open_folder(FIXTURES).fixtures if one.path == path]
    return found.wire_products()


def unit(data: Array | None, header: Mapping[str, Any] | None = None, name: str = "UNIT") -> DataUnit:
    """Return a data unit."""
    kind: Any = "image" if data is None or data.dtype.names is None else "bintable"
    return DataUnit(name, tuple(Card(key, value) for key, value in (header or {}).items()), data, kind)


def products(*units: DataUnit, **meta_data: Any) -> dict[str, Any]:
    """Return the products of an answer with one product, in the wire form."""
    return {"numpy_data_product": wire.encode_product(DataProduct("thing", meta_data, units))}


def table(**columns: Any) -> Array:
    """Return a table with columns of floating-point numbers."""
    arrays = [np.asarray(column, ">f8") for column in columns.values()]
    return np.array(list(zip(*arrays, strict=True)), [(name, ">f8") for name in columns])


def pixels_of(figure: Figure) -> Array:
    """Render a figure; return its red, green and blue pixels, of shape (rows, columns, 3), the top row first."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def texts_of(figure: Figure) -> list[str]:
    """Return all texts of a figure that are not empty."""
    from matplotlib.text import Text

    artists: list[Any] = figure.findobj(Text)
    return [artist.get_text() for artist in artists if artist.get_text()]


def places_of(figure: Figure, colour: tuple[float, ...], *, tolerance: int = 6) -> Array:
    """Return where a figure has a colour (0 to 1), in data coordinates of its first axes: shape (number, 2)."""
    shown = pixels_of(figure)
    wanted = np.round(np.array(colour[:3]) * 255).astype(int)
    rows, columns = np.nonzero((np.abs(shown - wanted) <= tolerance).all(axis=2))
    axes = figure.axes[0]
    display = np.column_stack([columns + 0.5, shown.shape[0] - rows - 0.5])
    box = axes.get_window_extent()
    inside = (display[:, 0] > box.x0) & (display[:, 0] < box.x1) & (display[:, 1] > box.y0) & (display[:, 1] < box.y1)
    return np.asarray(axes.transData.inverted().transform(display[inside]))


def fixture_maps(path: str) -> list[Array]:
    """Return the images in the first product of a shipped fixture."""
    product = wire.decode_product(fixture_products(path)["numpy_data_product_list"][0])
    return [one.data for one in product.units if one.data is not None and one.hdu_type == "image"]
