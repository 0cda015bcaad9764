"""Images of the sky: the unit of a product to draw, its colour scale, and the sources on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from oda_proxy.drawing import headers
from oda_proxy.drawing.drawings import ImageDrawing, Source
from oda_proxy.drawing.product_list import Catalog, title_of
from oda_proxy.query.message_text import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from oda_proxy.codec.product import Array, DataProduct, DataUnit

_BEST: Final = "SIGNIFICANCE"
_PLANE: Final = 2
MOST_PIXELS: Final = 1200
"""Pixels of a side that are drawn; of a larger image, the brightest of each block, so that point sources stay."""
LARGEST: Final = 1e30
"""Values beyond count as missing: their differences and squares do not fit into floating-point numbers."""
MAX_SOURCES: Final = 500
"""Sources of a catalogue that are marked, those of the highest significance first."""

_FAR: Final = 5.0
"""Standard deviations of the noise from which on a median is that of a background."""
_NEIGHBOURS: Final = 4
"""Pixels without a value around a pixel of 0, and itself, from which on it counts as one of them."""

_SKY_KEYWORDS: Final = (
    "CTYPE", "CUNIT", "CRPIX", "CRVAL", "CDELT", "CROTA", "CD", "PC", "PV", "EQUINOX", "RADECSYS", "RADESYS", "LONPOLE",
    "LONGPOLE", "LATPOLE", "WCSAXES",
)  # fmt: skip
_NAME_COLUMNS: Final = ("src_names", "src_name", "NAME", "SOURCE", "source_name")
_RA_COLUMNS: Final = ("ra", "RA_OBJ", "RA_FIN", "RA_OBJ_FIN")
_DEC_COLUMNS: Final = ("dec", "DEC_OBJ", "DEC_FIN", "DEC_OBJ_FIN")
_SIGNIFICANCE_COLUMNS: Final = ("significance", "DETSIG", "SNR")


def is_image(unit: DataUnit) -> bool:
    """Return whether a unit has an array of numbers with two or more axes."""
    data = unit.data
    if data is None or data.dtype.names is not None or data.dtype.kind not in "biuf":
        return False
    return data.ndim >= _PLANE and data.size > 0


def image_type(unit: DataUnit) -> str:
    """Return what the pixels of an image are, such as `SIGNIFICANCE` (IMATYPE of INTEGRAL's images)."""
    return headers.text(headers.values_of(unit), "IMATYPE").upper()


def best_image(units: Iterable[DataUnit]) -> DataUnit | None:
    """Return the image to draw: that of the significance, or else the first; None if there is none."""
    images = [unit for unit in units if is_image(unit)]
    return max(images, key=lambda unit: image_type(unit) == _BEST, default=None)


def drawing_of(product: DataProduct, unit: DataUnit, sources: Sequence[Source]) -> ImageDrawing:
    """Return the drawing of an image of a product; of a cube, the first plane that is not empty."""
    assert unit.data is not None  # noqa: S101 - called for images
    values = headers.values_of(unit)
    pixels, plane, planes = _plane(unit.data)
    kind = image_type(unit).casefold()
    others = [image_type(other).casefold() or other.name for other in product.units if is_image(other)]
    notes = [
        headers.instrument(values),
        headers.energy_band(values),
        headers.interval(values),
        f"plane {plane + 1} of {planes}" if planes > 1 else "",
        f"one of {len(others)} images: {', '.join(others[:4])}" if len(others) > 1 else "",
    ]
    measure = headers.pixel_unit(values) or ("sigma" if kind == _BEST.casefold() else "")
    pixels = np.asarray(pixels, np.float32 if pixels.dtype.itemsize <= 4 else np.float64)  # noqa: PLR2004 - bytes
    return ImageDrawing(
        title=shorten(" ".join(filter(None, [title_of(product), kind]))),
        pixels=np.where(np.abs(pixels) < LARGEST, pixels, np.nan),
        label=headers.with_unit(kind or "value", measure),
        header={name: value for name, value in values.items() if name.startswith(_SKY_KEYWORDS) and value is not None},
        sources=sources[:MAX_SOURCES],
        notes=[note for note in notes if note],
    )


def _plane(data: Array) -> tuple[Array, int, int]:
    """Return a plane of an image, its number, and the number of planes."""
    planes = data.reshape(-1, *data.shape[-2:])
    number = next((index for index, plane in enumerate(planes) if np.any(np.isfinite(plane) & (plane != 0))), 0)
    return planes[number], number, len(planes)


def sources_of(catalog: Catalog) -> list[Source]:
    """Return the sources of a catalogue with a position, the most significant first."""
    columns = catalog.columns
    names, ra, dec, significance = (
        next((columns[name] for name in candidates if name in columns), [])
        for candidates in (_NAME_COLUMNS, _RA_COLUMNS, _DEC_COLUMNS, _SIGNIFICANCE_COLUMNS)
    )
    found = []
    for index, (longitude, latitude) in enumerate(zip(ra, dec, strict=False)):
        east, north = _finite(longitude), _finite(latitude)
        if east is not None and north is not None:
            name = shorten(str(names[index]).strip(), 24) if index < len(names) else ""
            strength = _finite(significance[index]) if index < len(significance) else None
            found.append(Source(name, east, north, strength))
    return sorted(found, key=lambda source: -(source.significance or 0.0))


def catalog_of(unit: DataUnit) -> Catalog | None:
    """Return the catalogue in a table with names and positions of sources (ISGR-SRCL-RES for instance), or None."""
    data = unit.data
    if data is None or data.dtype.names is None or data.ndim != 1:
        return None
    wanted = {*_NAME_COLUMNS, *_RA_COLUMNS, *_DEC_COLUMNS, *_SIGNIFICANCE_COLUMNS}
    columns = {name: _plain(data[name]) for name in data.dtype.names if name in wanted and data[name].ndim == 1}
    has_positions = any(name in columns for name in _RA_COLUMNS) and any(name in columns for name in _DEC_COLUMNS)
    return Catalog(columns) if has_positions else None


def _plain(values: Array) -> list[Any]:
    return [value.decode("latin-1") if isinstance(value, bytes) else value for value in values.tolist()]


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


@dataclass(frozen=True, slots=True)
class ColourScale:
    """A scale that is linear up to `width` from its centre, and logarithmic beyond (arcsinh)."""

    low: float
    high: float
    width: float
    centre: float = 0.0

    def stretched(self, values: Array | float) -> Any:
        """Return values on the scale; masked ones remain so."""
        return np.arcsinh((values - self.centre) / self.width)

    def unstretched(self, places: Array) -> Any:
        """Return the values at places on the scale; masked ones remain so."""
        return np.sinh(places) * self.width + self.centre


def without_value(pixels: Array) -> Array:
    """Return a mask of the pixels without a value: not finite, or 0 as in the empty border of a mosaic.

    Among other values, a pixel may be 0 by chance: one of the border has three or more neighbours without a value.
    """
    empty = ~np.isfinite(pixels) | (pixels == 0)
    padded = np.pad(empty, 1, constant_values=True)
    rows, columns = pixels.shape
    neighbours = np.zeros(pixels.shape, np.int8)
    for row in range(3):
        for column in range(3):
            neighbours += padded[row : row + rows, column : column + columns]
    return np.asarray(empty & (~np.isfinite(pixels) | (neighbours >= _NEIGHBOURS)))


def colour_scale(pixels: Array) -> ColourScale | None:
    """Return the colour scale of an image: linear within its noise, so that it shows faint and bright sources.

    Its centre is 0, or the median of an image with a background.

    Pixels of exactly 0, the empty border of a mosaic, do not count. None where no pixel is left.
    """
    finite = pixels[np.isfinite(pixels) & (pixels != 0)]
    if not finite.size:
        return None
    low, middle, high = (float(value) for value in np.percentile(finite, (0.5, 50, 100)))
    noise = 1.4826 * float(np.median(np.abs(finite - middle)))
    if not math.isfinite(noise) or noise <= 0:
        noise = (high - low) / 100
    if not low < high:
        low, high = low - abs(low or 1.0), high + abs(high or 1.0)
    width = 3 * noise or abs(high) or 1.0
    centre = middle if abs(middle) > _FAR * noise else 0.0
    return ColourScale(low, min(high, middle + 1e5 * noise) if noise > 0 else high, width, centre)


def reduced(pixels: Array) -> Array:
    """Return an image of at most `MOST_PIXELS` a side: of each block its brightest pixel, or NaN where it has none."""
    step = [math.ceil(length / MOST_PIXELS) for length in pixels.shape]
    if max(step) == 1:
        return pixels
    rows, columns = (math.ceil(length / size) for length, size in zip(pixels.shape, step, strict=True))
    padded = np.full((rows * step[0], columns * step[1]), -np.inf, pixels.dtype)
    padded[: pixels.shape[0], : pixels.shape[1]] = np.where(np.isnan(pixels), -np.inf, pixels)
    blocks = padded.reshape(rows, step[0], columns, step[1]).max(axis=(1, 3))
    return np.where(np.isneginf(blocks), np.nan, blocks)


def sky_header(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cards of sky coordinates with the names of the standard: RADECSYS and LONGPOLE are older ones."""
    current = {"RADECSYS": "RADESYS", "LONGPOLE": "LONPOLE"}
    return {current.get(name, name): value for name, value in header.items()}
