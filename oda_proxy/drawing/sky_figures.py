"""Figures of images of the sky: a grid of coordinates, a colour bar, and the sources of a catalogue."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.colors import FuncNorm
from matplotlib.ticker import FuncFormatter, MaxNLocator

from oda_proxy.drawing import images
from oda_proxy.drawing.figure_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.figure import Figure

    from oda_proxy.codec.product import Array
    from oda_proxy.drawing.drawings import ImageDrawing, Source

_NO_DATA: Final = "0.82"
"""The grey of pixels without data."""
_MARK: Final = "white"
_OUTLINE: Final = [patheffects.withStroke(linewidth=2.2, foreground="black", alpha=0.75)]
_STRIP: Final = 8
"""How many times longer than wide an image is whose pixels are not drawn as squares."""
_MOST_NAMES: Final = 50
_LARGEST_CAP: Final = 60.0
"""Degrees from a pole to the farthest corner of an image, up to which the grid is labelled as around a pole."""
_LABELLED_MERIDIAN: Final = 45.0
_WHOLE_SKY: Final = ("AIT", "MOL")
_FRAMES: Final = {"icrs": "ICRS", "fk5": "J2000", "fk4": "B1950", "galactic": "galactic"}


def draw_image(figure: Figure, drawing: ImageDrawing) -> None:
    """Draw an image into a figure, with its sky coordinates where it has valid ones."""
    _fit(figure, drawing.pixels.shape)
    wcs, problem = _sky(drawing)
    if wcs is None:
        axes = figure.add_subplot()
        axes.set_xlabel("column (pixels)")
        axes.set_ylabel("row (pixels)")
        sources: list[tuple[Source, float, float]] = []
        remark = problem
    else:
        axes = figure.add_subplot(projection=wcs, **_frame(wcs))
        _label_sky(axes, wcs)
        _label_pole(axes, wcs, drawing.pixels.shape)
        sources, remark = _placed(drawing, wcs)
    _draw_pixels(figure, axes, drawing)
    _mark(axes, sources, drawing.pixels.shape)
    if remark:
        axes.text(
            0.01, 0.01, plain(remark), transform=axes.transAxes, fontsize=8, color="black",
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2},
        )  # fmt: skip


_HEIGHT, _WIDTH = 5.2, 7.0
"""Inches that an image may have."""
_BESIDE, _BELOW = 2.1, 1.1
"""Inches for labels and the colour bar, and for labels, the title and notes."""


def _fit(figure: Figure, shape: tuple[int, ...]) -> None:
    """Set the size of a figure for an image, so that it has no empty space around it."""
    rows, columns = shape
    aspect = columns / rows if max(shape) <= _STRIP * min(shape) else _WIDTH / _HEIGHT
    width = min(_WIDTH, _HEIGHT * aspect)
    figure.set_size_inches(max(width, _HEIGHT / 2) + _BESIDE, max(width / aspect, _HEIGHT / 2) + _BELOW)


def without_sky(drawing: ImageDrawing, reason: str) -> ImageDrawing:
    """Return the drawing of an image with axes in pixels."""
    return replace(drawing, header={}, sources=(), notes=[*drawing.notes, reason])


def _sky(drawing: ImageDrawing) -> tuple[Any, str]:
    """Return the sky coordinates of an image, or None and why it has none."""
    if not any(name.startswith("CTYPE") for name in drawing.header):
        return None, ""
    from astropy.io import fits
    from astropy.wcs import WCS

    header = fits.Header()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, value in images.sky_header(drawing.header).items():
                if len(name) <= 8 and isinstance(value, str | int | float):  # noqa: PLR2004 - a standard keyword
                    header[name] = value
            wcs = WCS(header, naxis=2).celestial
            rows, columns = wcs.array_shape = drawing.pixels.shape
            corners = wcs.wcs_pix2world([[columns / 2, rows / 2]], 0)
            scales = np.abs(np.linalg.det(wcs.pixel_scale_matrix))
    except Exception as error:  # noqa: BLE001 - wcslib raises many types
        return None, f"no sky coordinates: the header is not valid ({type(error).__name__})"
    if wcs.naxis != 2 or not np.isfinite(corners).all() or not 0 < scales < np.inf:  # noqa: PLR2004 - a plane
        return None, "no sky coordinates: the header is not valid"
    return wcs, ""


def _frame(wcs: Any) -> dict[str, Any]:
    """Return the shape of the frame: an ellipse for maps of the whole sky, whose coordinates no rectangle crosses."""
    from astropy.visualization.wcsaxes.frame import EllipticalFrame

    rows, columns = wcs.array_shape or (0, 0)
    is_whole = str(wcs.wcs.ctype[0]).endswith(_WHOLE_SKY)
    corners = wcs.wcs_pix2world([[0, 0], [columns - 1, rows - 1]], 0) if is_whole else np.zeros(1)
    return {"frame_class": EllipticalFrame} if is_whole and not np.isfinite(corners).all() else {}


def _label_sky(axes: Any, wcs: Any) -> None:
    from astropy import units
    from astropy.wcs.utils import wcs_to_celestial_frame

    frame = _FRAMES.get(wcs_to_celestial_frame(wcs).name, wcs_to_celestial_frame(wcs).name)
    longitude, latitude = axes.coords
    is_galactic = frame == "galactic"
    names = ("galactic longitude", "galactic latitude") if is_galactic else ("right ascension", "declination")
    is_ellipse = "frame_class" in _frame(wcs)
    for coordinate, name in zip((longitude, latitude), names, strict=True):
        coordinate.set_format_unit(units.deg, decimal=True)
        if is_ellipse:  # its labels are within the map
            coordinate.set_axislabel(" ")
            coordinate.set_ticklabel(color="white", path_effects=_OUTLINE)
        else:
            coordinate.set_axislabel(f"{name} (deg{'' if is_galactic else f', {frame}'})")
    axes.coords.grid(color="white", alpha=0.5, linestyle=":", linewidth=0.8)


def _label_pole(axes: Any, wcs: Any, shape: tuple[int, ...]) -> None:
    """Label the grid around a pole inside an image: meridians on all sides, and parallels along one meridian."""
    from astropy import units

    rows, columns = shape
    corners = np.array([(x, y) for x in (-0.5, columns - 0.5) for y in (-0.5, rows - 0.5)])
    longitude, latitude = axes.coords
    for pole in (90.0, -90.0):
        x, y = (float(place) for place in wcs.wcs_world2pix([[0.0, pole]], 0)[0])
        if not (0 <= x + 0.5 <= columns and 0 <= y + 0.5 <= rows):
            continue
        reach = float(np.nanmax(90 - np.abs(wcs.wcs_pix2world(corners, 0)[:, 1])))
        if not 0 < reach < _LARGEST_CAP:  # a map of much of the sky, whose edges cross parallels
            return
        distances = [value for value in MaxNLocator(4).tick_values(0, reach) if 0 < value < reach]
        parallels = [float(np.copysign(90 - distance, pole)) for distance in distances]
        latitude.set_ticks(parallels * units.deg)
        latitude.set_ticks_visible(False)
        latitude.set_ticklabel_visible(False)
        longitude.set_ticks(spacing=30 * units.deg)
        longitude.set_ticks_position("all")
        longitude.set_ticklabel_position("all")
        longitude.set_axislabel_position("b")
        name, _, frame = longitude.get_axislabel().partition(" (")
        longitude.set_axislabel(f"{name}, and {latitude.get_axislabel().partition(' (')[0]} on the circles ({frame}")
        latitude.set_axislabel(" ")
        for parallel in parallels:
            column, row = (float(place) for place in wcs.wcs_world2pix([[_LABELLED_MERIDIAN, parallel]], 0)[0])
            axes.annotate(
                f"{parallel:g}\N{DEGREE SIGN}".replace("-", "\N{MINUS SIGN}"), (column, row), ha="center", va="center",
                fontsize=8, color=_MARK, path_effects=_OUTLINE, annotation_clip=True,
            )  # fmt: skip
        return


def _draw_pixels(figure: Figure, axes: Any, drawing: ImageDrawing) -> None:
    pixels = images.reduced(drawing.pixels)
    scale = images.colour_scale(pixels)
    rows, columns = drawing.pixels.shape
    step = [-(-length // images.MOST_PIXELS) for length in (rows, columns)]
    extent = (-0.5, pixels.shape[1] * step[1] - 0.5, -0.5, pixels.shape[0] * step[0] - 0.5)
    colour_map = colormaps["viridis"].copy()
    colour_map.set_bad(_NO_DATA)
    if scale is None:
        shown: Any = np.full(pixels.shape, np.nan)
        axes.imshow(shown, origin="lower", cmap=colour_map, extent=extent, interpolation="nearest")
        axes.text(
            0.5, 0.5, "no pixel has a value", transform=axes.transAxes, ha="center", va="center", fontsize=12,
        )  # fmt: skip
    else:
        shown = np.ma.masked_where(images.without_value(pixels), pixels)
        norm = FuncNorm((scale.stretched, scale.unstretched), vmin=scale.low, vmax=scale.high)
        image = axes.imshow(shown, origin="lower", cmap=colour_map, norm=norm, extent=extent, interpolation="nearest")
        ticks = scale_ticks(scale)
        bar = figure.colorbar(image, ax=axes, ticks=ticks, shrink=0.9, pad=0.02)
        bar.set_label(plain(drawing.label))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}".replace("-", "\N{MINUS SIGN}")))
        bar.ax.minorticks_off()
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(-0.5, rows - 0.5)
    if max(rows, columns) > _STRIP * min(rows, columns):  # it would be a line
        axes.set_aspect("auto")


def scale_ticks(scale: images.ColourScale) -> list[float]:
    """Return round values, of which steps are equal within the noise and grow beyond."""
    candidates = {0.0}
    power = np.floor(np.log10(max(scale.width / 10, (scale.high - scale.low) * 1e-6)))
    while not scale.centre and 10**power <= 2 * max(abs(scale.high), abs(scale.low)):
        candidates |= {sign * digit * 10**power for digit in (1, 2, 5) for sign in (1, -1)}
        power += 1
    if scale.centre:
        near = (max(scale.low, scale.centre - 2 * scale.width), min(scale.high, scale.centre + 2 * scale.width))
        candidates |= {*MaxNLocator(5).tick_values(*near), *MaxNLocator(5).tick_values(scale.low, scale.high)}
    values = [value for value in sorted(candidates) if scale.low <= value <= scale.high]
    places = dict(zip(values, scale.stretched(np.array(values)).tolist(), strict=True))
    low, high = scale.stretched(np.array([scale.low, scale.high])).tolist()
    chosen: list[float] = []
    # Rounder values first: 0, powers of ten, then 5 and 2.
    for value in sorted(places, key=lambda tick: (tick != 0, f"{abs(tick):e}"[0] != "1", -abs(tick))):
        distance = min((abs(places[value] - places[other]) for other in chosen), default=np.inf)
        if distance > 0.07 * (high - low):
            chosen.append(value)
    return sorted(chosen) or [scale.low, scale.high]


def _placed(drawing: ImageDrawing, wcs: Any) -> tuple[list[tuple[Source, float, float]], str]:
    """Return the sources inside the image with their pixels, and a remark on others."""
    if not drawing.sources:
        return [], ""
    positions = np.array([[source.ra, source.dec] for source in drawing.sources])
    x, y = pixels_of(wcs, positions)
    rows, columns = drawing.pixels.shape
    placed = [
        (source, float(column), float(row))
        for source, column, row in zip(drawing.sources, x, y, strict=True)
        if 0 <= column + 0.5 <= columns and 0 <= row + 0.5 <= rows
    ]
    outside = len(drawing.sources) - len(placed)
    return placed, f"{outside} of {len(drawing.sources)} sources of the catalogue outside" if outside else ""


def pixels_of(wcs: Any, positions: Array) -> tuple[Array, Array]:
    """Return the pixels, counted from 0, of equatorial positions in deg (J2000); NaN where they are not on the map."""
    from astropy import units
    from astropy.coordinates import SkyCoord

    try:
        sky = SkyCoord(positions[:, 0] * units.deg, np.clip(positions[:, 1], -90, 90) * units.deg, frame="fk5")
        x, y = wcs.world_to_pixel(sky)
    except Exception:  # noqa: BLE001 - wcslib raises many types for positions that are not on the map
        return np.full(len(positions), np.nan), np.full(len(positions), np.nan)
    return np.asarray(x, float), np.asarray(y, float)


def _mark(axes: Any, sources: Sequence[tuple[Source, float, float]], shape: tuple[int, ...]) -> None:
    """Mark sources with circles, and name them where there is room."""
    if not sources:
        return
    for colour, width in (("black", 2.4), (_MARK, 1.2)):
        axes.plot(
            [x for _, x, _ in sources], [y for _, _, y in sources], linestyle="none", marker="o", markersize=12,
            markerfacecolor="none", markeredgecolor=colour, markeredgewidth=width,
        )  # fmt: skip
    for name, x, y, (dx, dy, align, vertical) in _named(sources, shape):
        axes.annotate(
            plain(name), (x, y), xytext=(dx, dy), textcoords="offset points", ha=align, va=vertical, fontsize=8,
            color=_MARK, path_effects=_OUTLINE, annotation_clip=True,
        )  # fmt: skip


_POINTS: Final = 72 * 0.92
"""Points of an inch of an image in the figure, less what its labels take."""
_CHARACTER, _LINE = 5.4, 10.0
"""Points of a character and of a line of a name."""
_PLACES: Final = (
    (8, 0, "left", "center"), (-8, 0, "right", "center"), (0, 8, "center", "bottom"), (0, -8, "center", "top"),
    (7, 8, "left", "bottom"), (-7, 8, "right", "bottom"), (7, -8, "left", "top"), (-7, -8, "right", "top"),
)  # fmt: skip


def _named(
    sources: Sequence[tuple[Source, float, float]], shape: tuple[int, ...]
) -> Iterator[tuple[str, float, float, tuple[float, float, str, str]]]:
    """Choose a place for each name beside its source, in which it covers no other name, and few marks."""
    points = _POINTS * min(_WIDTH / shape[1], _HEIGHT / shape[0])
    marks = [(x * points - 6, y * points - 6, x * points + 6, y * points + 6) for _, x, y in sources]
    names: list[tuple[float, ...]] = []
    for source, x, y in sources[:_MOST_NAMES]:
        width, height = _CHARACTER * len(source.name), _LINE
        own = (x * points - 6, y * points - 6, x * points + 6, y * points + 6)
        free: list[tuple[int, int, tuple[float, ...], tuple[float, float, str, str]]] = []
        for place in _PLACES:
            dx, dy, align, vertical = place
            left = x * points + dx - width * {"left": 0.0, "center": 0.5, "right": 1.0}[align]
            bottom = y * points + dy - height * {"bottom": 0.0, "center": 0.5, "top": 1.0}[vertical]
            box = (left, bottom, left + width, bottom + height)
            inside = left >= 0 and box[2] <= shape[1] * points and bottom >= 0 and box[3] <= shape[0] * points
            if inside and not any(_overlap(box, other) for other in names):
                free.append((sum(_overlap(box, other) for other in marks if other != own), len(free), box, place))
        if free:  # over as few marks as possible
            _, _, taken, chosen = min(free)
            names.append(taken)
            yield source.name, x, y, chosen


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
