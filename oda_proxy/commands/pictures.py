"""Small pictures of data products: an image, or the points of a light curve or spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from oda_proxy.commands.products import name_of
from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from oda_proxy.codec.product import DataProduct, DataUnit

    Array = npt.NDArray[Any]

_BEST_IMAGE = "SIGNIFICANCE"
_ACROSS = ("TIME", "CHANNEL", "ENERG_LO", "E_MIN")
_UP = ("RATE", "COUNTS", "FLUX", "TOT_COUNTS")
_ERROR = {"RATE": "ERROR", "COUNTS": "STAT_ERR", "FLUX": "ERROR"}
_IMAGE_DIMENSIONS = 2
_DARK_TO_BRIGHT = np.array([[13, 8, 60], [106, 23, 110], [212, 72, 66], [252, 165, 10], [252, 255, 164]], float)
"""Red, green and blue, evenly spaced from the faintest to the brightest."""
_BACKGROUND, _INK = (24, 24, 24), (120, 190, 255)
_PARTS = (5.0, 99.95)
"""Percentiles between which the colours of an image run, what is exactly 0 left out: mosaics are empty around."""


class NoPictureError(OdaProxyError):
    """There is nothing to draw, or nothing to draw with."""


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels, the first row at the bottom."""

    title: str
    pixels: Array


@dataclass(frozen=True, eq=False)
class Curve:
    """Points, with errors upwards and downwards where they are known."""

    title: str
    across: Array
    up: Array
    error: Array | None
    labels: tuple[str, str]


def picture(products: Sequence[DataProduct]) -> Image | Curve:
    """Choose what stands for these products. Raises NoPictureError where nothing does."""
    units = [(product, unit) for product in products for unit in product.units]
    images = [(product, unit) for product, unit in units if _is_image(unit)]
    if images:
        product, unit = max(images, key=lambda pair: _image_type(pair[1]) == _BEST_IMAGE)
        return Image(f"{name_of(product)} {_image_type(unit).casefold()}".strip(), np.asarray(unit.data, float))
    for product, unit in units:
        if (curve := _curve(product, unit)) is not None:
            return curve
    raise NoPictureError("this recording holds neither an image nor a curve to draw")


def on_terminal(drawn: Image | Curve, *, width: int, height: int) -> Iterator[str]:
    """Draw in lines of half blocks with 24-bit colours, two pixels above each other in each character."""
    pixels = _colours(drawn, width, 2 * height)
    for top, bottom in zip(pixels[0::2], pixels[1::2], strict=True):
        cells = (
            f"\x1b[38;2;{a[0]};{a[1]};{a[2]};48;2;{b[0]};{b[1]};{b[2]}m▀" for a, b in zip(top, bottom, strict=True)
        )
        yield "".join(cells) + "\x1b[0m"


def to_png(drawn: Image | Curve, file: Path) -> None:
    """Draw to a PNG file. Raises NoPictureError where matplotlib is missing or the file cannot be written."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NoPictureError("--png needs matplotlib: pip install 'oda-proxy[plots]'") from None
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    axes.set_title(drawn.title)
    if isinstance(drawn, Image):
        low, high = _range(drawn.pixels)
        shown = axes.imshow(drawn.pixels, origin="lower", vmin=low, vmax=high, cmap="inferno")
        figure.colorbar(shown)
    else:
        axes.errorbar(drawn.across, drawn.up, drawn.error, fmt=".", markersize=3)
        axes.set_xlabel(drawn.labels[0])
        axes.set_ylabel(drawn.labels[1])
    try:
        figure.savefig(file, format="png", dpi=100)
    except OSError as error:
        raise NoPictureError(f"cannot write {file}: {error.strerror}") from error


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
    across = next((name for name in _ACROSS if name in columns), None)
    up = next((name for name in _UP if name in columns), None)
    if across is None or up is None:
        return None
    error = columns.get(_ERROR.get(up, ""))
    return Curve(
        name_of(product),
        across=np.asarray(columns[across], float),
        up=np.asarray(columns[up], float),
        error=None if error is None else np.abs(np.nan_to_num(np.asarray(error, float))),
        labels=(across, up),
    )


def _colours(drawn: Image | Curve, width: int, height: int) -> Array:
    """Give red, green and blue of each pixel, the first row at the top."""
    if isinstance(drawn, Curve):
        return _points(drawn, width, height)
    rows, columns = drawn.pixels.shape
    scale = min(width / columns, height / rows)
    height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
    height += height % 2
    shown = _shrunk(drawn.pixels, height, width)[::-1]
    low, high = _range(shown)
    part = np.clip((shown - low) / (high - low or 1.0), 0, 1)
    colours = np.empty((*shown.shape, 3), np.uint8)
    places = np.linspace(0, 1, len(_DARK_TO_BRIGHT))
    for number in range(3):
        colours[..., number] = np.interp(np.nan_to_num(part), places, _DARK_TO_BRIGHT[:, number])
    colours[~np.isfinite(shown)] = _BACKGROUND
    return colours


def _shrunk(pixels: Array, height: int, width: int) -> Array:
    """Take the brightest of the pixels that become one: a point source is not lost."""
    rows = np.linspace(0, pixels.shape[0], height + 1).astype(int)
    columns = np.linspace(0, pixels.shape[1], width + 1).astype(int)
    blocks = ([pixels[a : max(b, a + 1), c : max(d, c + 1)] for c, d in pairwise(columns)] for a, b in pairwise(rows))
    return np.array([[np.nanmax(block) if np.isfinite(block).any() else np.nan for block in row] for row in blocks])


def _points(drawn: Curve, width: int, height: int) -> Array:
    colours = np.empty((height, width, 3), np.uint8)
    colours[:] = _BACKGROUND
    good = np.isfinite(drawn.across) & np.isfinite(drawn.up)
    across, up = drawn.across[good], drawn.up[good]
    if across.size:
        columns = _placed(across, width)
        rows = height - 1 - _placed(up, height)
        colours[rows, columns] = _INK
    return colours


def _placed(values: Array, count: int) -> npt.NDArray[np.int64]:
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low or 1.0) * (count - 1), np.int64)


def _range(pixels: Array) -> tuple[float, float]:
    finite = pixels[np.isfinite(pixels) & (pixels != 0)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, _PARTS)
    return float(low), float(high)
