"""Plots of data products on a terminal: an image, or the points of a light curve or spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from oda_proxy.drawing.product_list import name_of
from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from oda_proxy.codec.product import DataProduct, DataUnit

    Array = npt.NDArray[Any]

_BEST_IMAGE = "SIGNIFICANCE"
_X_COLUMNS = ("TIME", "CHANNEL", "ENERG_LO", "E_MIN")
_Y_COLUMNS = ("RATE", "COUNTS", "FLUX", "TOT_COUNTS")
_ERROR_COLUMNS = {
    "RATE": ("ERROR", "STAT_ERR", "RATE_ERR"),
    "COUNTS": ("STAT_ERR", "ERROR"),
    "FLUX": ("ERROR", "STAT_ERR", "FLUX_ERR"),
}
_IMAGE_DIMENSIONS = 2
_COLOUR_MAP = np.array([[13, 8, 60], [106, 23, 110], [212, 72, 66], [252, 165, 10], [252, 255, 164]], float)
"""Red, green and blue at equal steps from the faintest to the brightest pixel."""
_BACKGROUND, _FOREGROUND = (24, 24, 24), (120, 190, 255)
_PERCENTILES = (5.0, 99.95)
"""Percentiles of the colour range of an image; pixels of exactly 0, the empty border of a mosaic, are ignored."""


class NoPlotError(OdaProxyError):
    """There is nothing to plot."""


@dataclass(frozen=True, eq=False)
class Image:
    """An image; the first row of `pixels` is at the bottom."""

    title: str
    pixels: Array


@dataclass(frozen=True, eq=False)
class Curve:
    """Points (x, y), with symmetric errors in y if they are known."""

    title: str
    x: Array
    y: Array
    error: Array | None
    labels: tuple[str, str]


def choose_plot(products: Sequence[DataProduct]) -> Image | Curve:
    """Choose the image or curve to plot of some products. Raises NoPlotError if there is none."""
    units = [(product, unit) for product in products for unit in product.units]
    images = [(product, unit) for product, unit in units if _is_image(unit)]
    if images:
        product, unit = max(images, key=lambda pair: _image_type(pair[1]) == _BEST_IMAGE)
        return Image(f"{name_of(product)} {_image_type(unit).casefold()}".strip(), np.asarray(unit.data, float))
    for product, unit in units:
        if (curve := _curve(product, unit)) is not None:
            return curve
    raise NoPlotError("this recording has no image and no curve to plot")


def render_terminal(plot: Image | Curve, *, width: int, height: int) -> Iterator[str]:
    """Render a plot as lines of half blocks in 24-bit colours; each character shows two pixels."""
    pixels = _colours(plot, width, 2 * height)
    for top, bottom in zip(pixels[0::2], pixels[1::2], strict=True):
        cells = (
            f"\x1b[38;2;{a[0]};{a[1]};{a[2]};48;2;{b[0]};{b[1]};{b[2]}m▀" for a, b in zip(top, bottom, strict=True)
        )
        yield "".join(cells) + "\x1b[0m"


def _is_image(unit: DataUnit) -> bool:
    data = unit.data
    return (
        data is not None and data.dtype.names is None and data.ndim == _IMAGE_DIMENSIONS and data.size > 0
    ) and data.dtype.kind in "biuf"


def _image_type(unit: DataUnit) -> str:
    return next((str(card.value).upper() for card in unit.header if card.keyword == "IMATYPE"), "")


def _curve(product: DataProduct, unit: DataUnit) -> Curve | None:
    data = unit.data
    if data is None or data.dtype.names is None or data.size == 0:
        return None
    columns = {
        name.upper(): data[name] for name in data.dtype.names if data[name].ndim == 1 and data[name].dtype.kind in "iuf"
    }
    x = next((name for name in _X_COLUMNS if name in columns), None)
    y = next((name for name in _Y_COLUMNS if name in columns), None)
    if x is None or y is None:
        return None
    error = next((columns[name] for name in _ERROR_COLUMNS.get(y, ()) if name in columns), None)
    return Curve(
        name_of(product),
        x=np.asarray(columns[x], float),
        y=np.asarray(columns[y], float),
        error=None if error is None else np.abs(np.nan_to_num(np.asarray(error, float))),
        labels=(_label(unit, x), _label(unit, y)),
    )


def _label(unit: DataUnit, column: str) -> str:
    """Return the name of a column, with its unit if the header has it (TUNITn, FITS standard 4.0, section 7.3.2)."""
    cards = {card.keyword: str(card.value) for card in unit.header if card.value is not None}
    index = next((key[5:] for key in cards if key.startswith("TTYPE") and cards[key].strip().upper() == column), "")
    measure = cards.get(f"TUNIT{index}", "").strip()
    return f"{column} ({measure})" if measure else column


def _colours(plot: Image | Curve, width: int, height: int) -> Array:
    """Return red, green and blue of each pixel, shape (height, width, 3); the first row is at the top."""
    if isinstance(plot, Curve):
        return _points(plot, width, height)
    rows, columns = plot.pixels.shape
    scale = min(width / columns, height / rows)
    height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
    height += height % 2
    shown = _downsampled(plot.pixels, height, width)[::-1]
    low, high = _range(shown)
    fraction = np.clip((shown - low) / (high - low or 1.0), 0, 1)
    colours = np.empty((*shown.shape, 3), np.uint8)
    steps = np.linspace(0, 1, len(_COLOUR_MAP))
    for number in range(3):
        colours[..., number] = np.interp(np.nan_to_num(fraction), steps, _COLOUR_MAP[:, number])
    colours[~np.isfinite(shown)] = _BACKGROUND
    return colours


def _downsampled(pixels: Array, height: int, width: int) -> Array:
    """Return the brightest pixel of each block, so that point sources stay visible."""
    rows = np.linspace(0, pixels.shape[0], height + 1).astype(int)
    columns = np.linspace(0, pixels.shape[1], width + 1).astype(int)
    blocks = ([pixels[a : max(b, a + 1), c : max(d, c + 1)] for c, d in pairwise(columns)] for a, b in pairwise(rows))
    return np.array([[np.nanmax(block) if np.isfinite(block).any() else np.nan for block in row] for row in blocks])


def _points(curve: Curve, width: int, height: int) -> Array:
    colours = np.empty((height, width, 3), np.uint8)
    colours[:] = _BACKGROUND
    good = np.isfinite(curve.x) & np.isfinite(curve.y)
    x, y = curve.x[good], curve.y[good]
    if x.size:
        columns = _scaled(x, width)
        rows = height - 1 - _scaled(y, height)
        colours[rows, columns] = _FOREGROUND
    return colours


def _scaled(values: Array, count: int) -> npt.NDArray[np.int64]:
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low or 1.0) * (count - 1), np.int64)


def _range(pixels: Array) -> tuple[float, float]:
    finite = pixels[np.isfinite(pixels) & (pixels != 0)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, _PERCENTILES)
    return float(low), float(high)
