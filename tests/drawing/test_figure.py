"""What figures show of their data: pixels and texts."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from oda_proxy.codec import wire
from oda_proxy.codec.product import DataProduct
from oda_proxy.drawing import curve_figures, images, light_curves
from oda_proxy.drawing.choice import choose_drawing
from oda_proxy.drawing.drawings import CurveDrawing, ImageDrawing
from oda_proxy.drawing.figure import CannotDrawError, figure_of, png_of
from oda_proxy.drawing.sky_figures import scale_ticks
from oda_proxy.errors import OdaProxyError
from tests.support import drawn
from tests.support.drawn import fixture_products, pixels_of, places_of, products, table, texts_of, unit


def picture(answer: dict[str, Any], number: int = 0) -> Image.Image:
    opened = Image.open(io.BytesIO(png_of(choose_drawing(answer, number))))
    opened.load()
    return opened


@pytest.mark.parametrize("path", [drawn.MOSAIC, pytest.param(drawn.JEMX_MOSAIC, marks=pytest.mark.slow)])
def test_the_brightest_spot_of_a_mosaic_is_where_the_catalogue_has_its_source(path: str) -> None:
    drawing = choose_drawing(fixture_products(path), 0)
    assert isinstance(drawing, ImageDrawing)
    figure = figure_of(drawing)

    x, y = places_of(figure, colormaps["viridis"](1.0), tolerance=12).mean(axis=0)

    row, column = np.unravel_index(np.nanargmax(drawing.pixels), drawing.pixels.shape)
    assert abs(x - column) < 1
    assert abs(y - row) < 1
    axes: Any = figure.axes[0]
    sky = axes.wcs.pixel_to_world(x, y)
    distances = [
        np.hypot((sky.ra.deg - s.ra) * np.cos(np.radians(s.dec)), sky.dec.deg - s.dec) for s in drawing.sources
    ]
    assert min(distances) < 0.1, "a source of the catalogue is there, within about a pixel"
    assert {source.name for source in drawing.sources} <= set(texts_of(figure)), "each is named"


def test_east_is_left_and_north_is_up_as_in_the_data() -> None:
    figure = figure_of(choose_drawing(products(unit(np.ones((80, 100), ">f4"), drawn.SKY)), 0))

    axes: Any = figure.axes[0]
    left, right = axes.wcs.pixel_to_world(0, 40), axes.wcs.pixel_to_world(99, 40)
    bottom, top = axes.wcs.pixel_to_world(50, 0), axes.wcs.pixel_to_world(50, 79)
    (x_left, _), (x_right, _) = axes.transData.transform([(0, 40), (99, 40)])
    (_, y_bottom), (_, y_top) = axes.transData.transform([(50, 0), (50, 79)])
    assert x_left < x_right
    assert left.ra > right.ra
    assert y_bottom < y_top
    assert bottom.dec < top.dec
    labels = [coordinate.get_axislabel() for coordinate in axes.coords]
    assert labels == ["right ascension (deg, J2000)", "declination (deg, J2000)"]


def test_a_source_in_the_upper_left_is_drawn_there() -> None:
    data = np.random.default_rng(1).normal(size=(80, 100)).astype(">f4")
    data[70, 10] = 500.0

    figure = figure_of(choose_drawing(products(unit(data, drawn.SKY)), 0))

    x, y = places_of(figure, colormaps["viridis"](1.0)).mean(axis=0)
    assert (abs(x - 10) < 0.6, abs(y - 70) < 0.6) == (True, True)


@pytest.mark.parametrize("declination", [89.9, -86.0])
def test_the_grid_around_a_pole_has_all_its_meridians_and_parallels_labelled(declination: float) -> None:
    header = {**drawn.SKY, "CRVAL1": 0.0, "CRVAL2": declination, "CD1_1": -0.25, "CD2_2": 0.25}

    figure = figure_of(choose_drawing(products(unit(np.ones((80, 100), ">f4"), header)), 0))

    pixels_of(figure)
    axes: Any = figure.axes[0]
    longitude = axes.coords[0]
    shown = [text for side in longitude._ticklabels.text.values() for text in side]
    assert sorted(int(text[:-1]) for text in shown) == list(range(0, 360, 30))
    texts = [text for text in texts_of(figure) if text.endswith("\N{DEGREE SIGN}")]
    values = [float(text[:-1].replace("\N{MINUS SIGN}", "-")) for text in texts]
    assert len(set(values)) > 1
    assert all(value * declination > 0 for value in values)


def test_the_empty_border_of_a_mosaic_is_grey_and_a_zero_within_is_not() -> None:
    data = np.random.default_rng(1).normal(size=(80, 100)).astype(">f4")
    data[:30], data[60, 50] = 0.0, 0.0

    places = places_of(figure_of(choose_drawing(products(unit(data)), 0)), (0.82, 0.82, 0.82), tolerance=0)

    assert 29 < places[:, 1].max() < 30
    assert places[:, 1].min() < 0


def test_an_image_with_a_background_has_a_scale_around_it() -> None:
    data = np.random.default_rng(1).normal(1e5, 1.0, (80, 100))
    data[40, 50] += 500.0

    scale = images.colour_scale(data)

    assert scale is not None
    shown = (scale.stretched(data) - scale.stretched(scale.low)) / (
        scale.stretched(scale.high) - scale.stretched(scale.low)
    )
    assert np.percentile(shown, 99) - np.percentile(shown, 1) > 0.2, "the noise has several colours"
    assert len(scale_ticks(scale)) >= 4


def test_an_image_without_sky_coordinates_has_axes_in_pixels() -> None:
    figure = figure_of(choose_drawing(products(unit(np.arange(1.0, 13.0).reshape(3, 4))), 0))

    assert figure.axes[0].get_xlabel() == "column (pixels)"


def test_the_points_of_a_light_curve_are_at_its_times_and_rates() -> None:
    curve = table(TIME=[1, 2, 3, 4], RATE=[5, 9, 2, 7])

    places = places_of(figure_of(choose_drawing(products(unit(curve)), 0)), curve_figures.COLOUR)

    for x, y in zip(curve["TIME"], curve["RATE"], strict=True):
        assert np.hypot(places[:, 0] - x, places[:, 1] - y).min() < 0.05


def test_gaps_of_a_light_curve_are_not_joined() -> None:
    curve = table(TIME=[0, 1, 2, 3, 20, 21, 22], RATE=[5, 5, 5, 5, 5, 5, 5])

    shown = pixels_of(figure := figure_of(choose_drawing(products(unit(curve)), 0)))

    axes = figure.axes[0]
    (left, height), (right, _) = axes.transData.transform([(5, 5), (18, 5)])
    row = shown.shape[0] - round(float(height)) - 1
    coloured = shown[row - 1 : row + 2, int(left) : int(right)]
    saturation = coloured.max(axis=2) - coloured.min(axis=2)
    assert saturation.max() < 20, "there are only grid lines, which are grey"


@pytest.mark.parametrize(
    ("header", "times", "last"),
    [
        ({}, [50.0, 150.0, 220.0], (200.0, 240.0)),
        ({}, [220.0, 50.0, 150.0], (200.0, 240.0)),
        ({"TIMEPIXR": 0.0}, [0.0, 100.0, 200.0], (200.0, 300.0)),
        ({}, [50.0, 150.0, 450.0], (400.0, 500.0)),
    ],
    ids=["shorter", "shorter, unordered", "times of beginnings", "after a gap"],
)
def test_bins_of_a_light_curve_touch_and_do_not_overlap(
    header: dict[str, Any], times: list[float], last: tuple[float, float]
) -> None:
    curve = unit(table(TIME=times, RATE=[5] * 3), {"TIMEDEL": 100.0, "TIMEUNIT": "s", **header})

    drawing = choose_drawing(products(curve), 0)

    assert isinstance(drawing, CurveDrawing)
    assert drawing.half_width is not None
    edges = np.column_stack((drawing.x - drawing.half_width, drawing.x + drawing.half_width))
    assert sorted(map(tuple, edges.tolist())) == [(0.0, 100.0), (100.0, 200.0), last]


def test_rows_closer_than_their_nominal_bins_reach_half_way_to_the_next() -> None:
    drawing = choose_drawing(products(unit(table(TIME=range(5), RATE=[5] * 5), {"TIMEDEL": 4.0, "TIMEUNIT": "s"})), 0)

    assert isinstance(drawing, CurveDrawing)
    assert drawing.half_width is not None
    assert drawing.half_width.tolist()[2:] == [0.5, 0.5, 0.5]


def test_titles_have_the_names_of_sources_as_they_are() -> None:
    product = DataProduct("isgri_lc", {"src_name": "NEW_1"}, (unit(table(TIME=[1, 2], RATE=[1, 2])),))

    figure = figure_of(choose_drawing({"numpy_data_product": wire.encode_product(product)}, 0))

    assert "isgri lc NEW_1" in texts_of(figure)


def test_the_rates_of_a_spectrum_are_per_kev_at_the_energies_of_its_channels() -> None:
    answer = fixture_products(drawn.JEMX_SPECTRUM)
    spectrum, _, matrix = (wire.decode_product(one) for one in answer["numpy_data_product_list"])
    (bounds,) = [one.data for one in matrix.units if one.data is not None and "E_MIN" in (one.data.dtype.names or ())]
    rates = spectrum.units[1].data
    assert bounds is not None
    assert rates is not None

    figure = figure_of(choose_drawing(answer, 0))

    places = places_of(figure, curve_figures.COLOUR)
    assert (figure.axes[0].get_xscale(), figure.axes[0].get_yscale()) == ("log", "log")
    assert figure.axes[0].get_ylabel() == "count rate (counts/s/keV)"
    for number in (5, 20, 40):
        low, high = float(bounds["E_MIN"][number]), float(bounds["E_MAX"][number])
        rate = float(rates["RATE"][number]) / (high - low)
        distance = np.hypot(np.log(places[:, 0] / np.sqrt(low * high)), np.log(places[:, 1] / rate))
        assert distance.min() < 0.03


def test_names_are_no_formulas() -> None:
    source = r"$\frac{1}{$ & ${x}_$"

    figure = figure_of(choose_drawing(products(unit(table(TIME=[1, 2], RATE=[1, 2])), src_name=source), 0))

    pixels_of(figure)
    assert any(r"\$" in text for text in texts_of(figure))
    assert len(png_of(choose_drawing(products(unit(np.ones((3, 3)), {"BUNIT": "$$^{"})), 0))) > 1000


def test_the_configuration_of_the_user_has_no_effect() -> None:
    answer = products(unit(table(TIME=[1, 2], RATE=[1, 2])), src_name="x_1")
    expected = png_of(choose_drawing(answer, 0))

    with mpl.rc_context({"text.usetex": True, "font.size": 40, "axes.facecolor": "black"}):
        assert png_of(choose_drawing(answer, 0)) == expected
        assert mpl.rcParams["font.size"] == 40


HOSTILE: dict[str, dict[str, Any]] = {
    "nan everywhere": products(unit(np.full((30, 30), np.nan, ">f4"), drawn.SKY)),
    "zero everywhere": products(unit(np.zeros((30, 30), ">f4"), drawn.SKY)),
    "one value": products(unit(np.full((30, 30), 7.0, ">f4"), drawn.SKY)),
    "infinities": products(unit(np.array([[np.inf, -np.inf], [1.0, 2.0]]), drawn.SKY)),
    "largest numbers": products(unit(np.array([[1.7e308, -1.7e308], [1.0, 2.0]]), drawn.SKY)),
    "one pixel": products(unit(np.ones((1, 1)), drawn.SKY)),
    "a strip": products(unit(np.arange(30000.0).reshape(1, 30000), drawn.SKY)),
    "booleans": products(unit(np.eye(5, dtype=bool))),
    "no pixels": products(unit(np.zeros((0, 5)))),
    "a cube": products(unit(np.arange(60.0).reshape(3, 4, 5), drawn.SKY)),
    "one axis": products(unit(np.arange(5.0))),
    "no axes": products(unit(np.array(5.0))),
    "complex": products(unit(np.ones((3, 3), complex))),
    "singular": products(unit(np.ones((5, 5)), {**drawn.SKY, "CD2_2": 0.0})),
    "half a header": products(unit(np.ones((5, 5)), {"CTYPE1": "RA---TAN"})),
    "unknown projection": products(unit(np.ones((5, 5)), {**drawn.SKY, "CTYPE1": "RA---XXX", "CTYPE2": "DEC--XXX"})),
    "texts as numbers": products(unit(np.ones((5, 5)), {**drawn.SKY, "CRVAL1": "here"})),
    "far reference": products(unit(np.ones((5, 5)), {**drawn.SKY, "CRPIX1": 1e300})),
    "whole sky": products(unit(np.ones((50, 99)), {**drawn.SKY, "CTYPE1": "GLON-AIT", "CTYPE2": "GLAT-AIT",
                                                  "CD1_1": -4.0, "CD2_2": 4.0})),
    "frequency axis": products(unit(np.ones((5, 5)), {"CTYPE1": "FREQ", "CTYPE2": "STOKES", "CRVAL1": 1.0})),
    "no rows": products(unit(table(TIME=[], RATE=[]))),
    "one row": products(unit(table(TIME=[1], RATE=[1]))),
    "nan curve": products(unit(table(TIME=[np.nan, np.nan], RATE=[1, 2]))),
    "infinite curve": products(unit(table(TIME=[np.inf, 1], RATE=[1, -np.inf], ERROR=[np.nan, np.inf]))),
    "same times": products(unit(table(TIME=[5, 5, 5], RATE=[1, 2, 3], ERROR=[-1, 0, 1]))),
    "huge times": products(unit(table(TIME=[-1e308, 1e308], RATE=[-1e308, 1e308]), {"MJDREF": 1e300})),
    "negative counts": products(unit(table(CHANNEL=[0, 1], RATE=[-1, -2], STAT_ERR=[0, 0]))),
    "no channels": products(unit(table(CHANNEL=[], RATE=[]))),
    "wrong channels": products(unit(table(CHANNEL=[7, 8], RATE=[1, 2])),
                               unit(table(CHANNEL=[0], E_MIN=[1], E_MAX=[2]))),
    "reversed energies": products(unit(table(CHANNEL=[0, 1], RATE=[1, 2])),
                                  unit(table(CHANNEL=[0, 1], E_MIN=[5, 1], E_MAX=[2, 0]))),
    "negative area": products(unit(table(ENERG_LO=[1, 2], ENERG_HI=[2, 3], SPECRESP=[-1, np.nan]))),
    "no matrix": products(unit(np.array([(2.0, 1.0, [0.0, 0.0])], [("ENERG_LO", "f8"), ("ENERG_HI", "f8"),
                                                                 ("MATRIX", "f8", (2,))]))),
    "texts": products(unit(np.array([(b"\x00\xff$x$", "\u202e\x1b[31m")], [("A", "S6"), ("B", "U9")]))),
    "many columns": products(unit(table(**{f"C{number}": [number] for number in range(400)}))),
    "header alone": products(unit(None, {"KEY": "$1"})),
    "no units": products(),
    "odd catalogue": {"numpy_data_product": products(unit(np.ones((9, 9)), drawn.SKY))["numpy_data_product"],
                      "catalog": {"cat_column_names": ["src_names", "ra", "dec"],
                                  "cat_column_list": [["$a$", None, "x" * 9999], [83.0, "here", 1e300],
                                                      [22.0, None, 1e9]]}},
    "unknown member": {"other": {"$": [1, None]}},
    "a text": {"text_product_list": ["line\n" * 100_000]},
    "no picture": {"binary_image_product_list": [{"img_type": "png", "b64data": "iVBORw0KGgo="}]},
}  # fmt: skip
QUICK = {"nan everywhere", "singular", "same times", "no units"}
"""Those that `make check` draws."""


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in HOSTILE]
)
def test_a_hostile_product_has_a_picture_or_one_clear_line(name: str) -> None:
    if name in {"no units", "no picture"}:
        with pytest.raises(OdaProxyError, match=r"^[^\n]+$"):
            picture(HOSTILE[name])
        return
    shown = picture(HOSTILE[name])
    assert 100 < shown.width < 3000
    assert 100 < shown.height < 3000


@pytest.mark.slow
def test_ten_million_points_are_drawn_as_ranges() -> None:
    number = 10_000_000
    curve = np.zeros(number, [("TIME", ">f8"), ("RATE", ">f4")])
    curve["TIME"] = np.arange(number)
    curve["RATE"][number // 2] = 100.0

    figure = figure_of(choose_drawing(products(unit(curve)), 0))

    assert figure.axes[0].get_ylim()[1] > 90, "a single point remains in the range of its bin"


def test_of_a_large_image_the_brightest_pixel_of_each_block_remains() -> None:
    data = np.zeros((3000, 2500), np.float32)
    data[1777, 901] = 9.0

    shown = images.reduced(data)

    assert max(shown.shape) <= images.MOST_PIXELS
    assert shown[1777 // 3, 901 // 3] == 9.0


def test_a_png_of_a_product_is_passed_on_after_a_check() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(buffer, "PNG")
    complete = buffer.getvalue()

    def answer(data: bytes) -> dict[str, Any]:
        return {"binary_image_product_list": [wire.encode_picture(wire.Picture(data, "png"))]}

    assert png_of(choose_drawing(answer(complete), 0)) == complete
    with_more = png_of(choose_drawing(answer(complete + b"<script>"), 0))
    assert b"<script>" not in with_more, "what follows the picture is left out"
    assert Image.open(io.BytesIO(with_more)).size == (20, 10)
    with pytest.raises(CannotDrawError, match="not a complete PNG"):
        png_of(choose_drawing(answer(complete[:-30]), 0))
    with pytest.raises(CannotDrawError, match="not a complete PNG"):
        png_of(choose_drawing(answer(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), 0))


@pytest.mark.parametrize("half_width", [None, np.full(4, 0.5)])
def test_no_step_leads_between_rows_at_the_same_time(half_width: Any) -> None:
    """They are of several detectors, and the step would be slanted."""
    assert light_curves.segments(np.array([1.0, 1.0, 2.0, 3.0]), half_width) == [slice(0, 1), slice(1, 4)]


def test_no_step_leads_between_bins_that_overlap() -> None:
    assert light_curves.segments(np.array([0.0, 1.0, 1.5]), np.full(3, 0.5)) == [slice(0, 2), slice(2, 3)]
