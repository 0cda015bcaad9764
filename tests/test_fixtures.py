"""The fixtures that ship with the project say what the notebook prints, and can be made again."""

from __future__ import annotations

import importlib.util
import itertools
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from oda_proxy.fixture import open_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from numpy.typing import NDArray

    from oda_proxy.fixture import Fixture, FixtureFolder

FOLDER = Path(__file__).parents[1] / "fixtures"
FIELD = {"osa_version": "OSA10.2", "RA": 255.986542, "DEC": -37.844167, "detection_threshold": 5.0, "radius": 15.0}
WINDOW = {
    "scw_list": ["010200230010.001"],
    "osa_version": "OSA10.2",
    "detection_threshold": 5.0,
    "radius": 15.0,
}
IMAGE = {
    "T1": "2003-03-15T23:27:40.0",
    "T2": "2003-03-16T00:03:15.0",
    "E1_keV": 20.0,
    "E2_keV": 40.0,
    **FIELD,
}
TIMES = {"T1": "2003-03-15T23:27:40.0", "T2": "2003-03-16T00:03:12.0"}
CD = {"CD1_1", "CD1_2", "CD2_1", "CD2_2"}
FITTED = (0.00230365, 0.531183, 9.7834)
"""Norm, index and cut-off as the notebook prints them."""


@pytest.fixture(scope="module")
def folder() -> FixtureFolder:
    return open_folder(FOLDER)


@pytest.fixture(scope="module")
def notebook() -> ModuleType:
    """Load the printed values."""
    spec = importlib.util.spec_from_file_location("printed", FOLDER / "model" / "notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fixture(folder: FixtureFolder, path: str) -> Fixture:
    (found,) = (fixture for fixture in folder.fixtures if fixture.path == path)
    return found


def products(folder: FixtureFolder, path: str) -> list[Any]:
    return list(fixture(folder, path).answer().products["numpy_data_product_list"])


def hdu_of(folder: FixtureFolder, path: str, product: int, unit: int) -> tuple[dict[str, Any], NDArray[Any]]:
    """Return the header and the array of a data unit as they are in its file."""
    described = products(folder, path)[product]
    with fits.open(FOLDER / path / described["file"], memmap=False) as hdus:
        hdu = hdus[described["units"][unit]["hdu"]]
        return dict(hdu.header), hdu.data


# -- all of them ------------------------------------------------------------------------------------------------------


def test_making_them_again_gives_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "make_fixtures.py"), "--output", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    again = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert again == json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))


def test_every_file_is_the_one_in_the_manifest(folder: FixtureFolder) -> None:
    for each in folder.fixtures:
        assert each.answer().query_status == "done"
        for name in each.members:
            each.read_file(name)
    assert [instrument.name for instrument in folder.instruments] == ["isgri", "jemx", "polar", "spi_acs"]


def test_every_fits_file_is_valid_and_its_checksums_are_right() -> None:
    files = list(FOLDER.rglob("*.fits"))
    assert files
    for file in files:
        with fits.open(file, checksum=True) as hdus:
            hdus.verify("exception")


def test_they_say_nothing_of_who_asked() -> None:
    for file in itertools.chain(FOLDER.rglob("*.fits"), FOLDER.rglob("*.json"), FOLDER.rglob("*.root")):
        content = file.read_bytes()
        assert not any(word in content for word in (b"session_id", b"job_id", b"token", b"http", b"query_status'"))


def test_they_stay_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*.*") if file.is_file()) < 6e6


@pytest.mark.parametrize(
    ("path", "query_type", "parameters"),
    [
        ("isgri/isgri_image/4u1700-377", "Real", IMAGE),
        ("isgri/isgri_lc/4u1700-377", "Real", {**TIMES, "time_bin": 70, **FIELD}),
        ("isgri/isgri_spectrum/4u1700-377", "Real", {**TIMES, "time_bin": 50, **FIELD}),
        ("jemx/jemx_image/010200230010", "dummy", {"jemx_num": "2", **WINDOW}),
        ("jemx/jemx_lc/010200230010", "Real", {"jemx_nume": "2", **WINDOW}),
        ("jemx/jemx_spectrum/010200230010", "Real", {"jemx_num": "2", **WINDOW}),
        (
            "polar/polar_lc/2016-12-18",
            "Real",
            {"T1": "2016-12-18T08:32:21.000", "T2": "2016-12-18T08:34:01.000", "time_bin": 0.5},
        ),
        (
            "spi_acs/spi_acs_lc/2003-03-15",
            "Real",
            {"T1": "2003-03-15T23:27:40.0", "T2": "2003-03-15T23:57:12.0", "time_bin": 2, **FIELD},
        ),
    ],
)
def test_a_query_is_as_the_notebook_asks_it(
    folder: FixtureFolder, path: str, query_type: str, parameters: dict[str, Any]
) -> None:
    query = fixture(folder, path).query()
    assert [query.instrument, query.product_type] == path.split("/")[:2]
    assert query.query_type == query_type
    assert query.parameters == parameters
    assert query.api
    assert not query.dry_run


def test_the_second_mosaic_is_asked_with_the_catalogue_of_the_first(folder: FixtureFolder) -> None:
    plain, selected = (fixture(folder, f"isgri/isgri_image/4u1700-377{end}") for end in ("", "-catalog"))
    catalog = json.dumps(plain.answer().products["catalog"])
    assert len(catalog) == 911
    assert selected.query().parameters == {**plain.query().parameters, "selected_catalog": catalog}
    assert selected.members["mosaic_image.fits"] == plain.members["mosaic_image.fits"]


@pytest.mark.parametrize(
    ("path", "product", "printed"),
    [
        ("isgri/isgri_image/4u1700-377", 0, "MOSAIC_HEADER"),
        ("isgri/isgri_spectrum/4u1700-377", 3, "SPECTRUM_HEADER"),
        ("spi_acs/spi_acs_lc/2003-03-15", 0, "ACS_HEADER"),
    ],
)
def test_a_client_is_sent_the_printed_header(
    folder: FixtureFolder, notebook: ModuleType, path: str, product: int, printed: str
) -> None:
    sent = fixture(folder, path).wire_products()["numpy_data_product_list"][product]["data_unit_list"][1]
    assert sent["name"] == sent["header"]["EXTNAME"]
    assert sent["header"] == getattr(notebook, printed)
    assert {name: type(value) for name, value in sent["header"].items()} == {
        name: type(value) for name, value in getattr(notebook, printed).items()
    }


def test_a_client_is_sent_the_printed_types(folder: FixtureFolder) -> None:
    def sent(path: str) -> str:
        return str(fixture(folder, path).wire_products()["numpy_data_product_list"][0]["data_unit_list"][1]["dt"])

    columns = ("TOT_COUNTS", "BACKV", "BACKE", "RATE", "ERROR", "FRACEXP")
    assert sent("isgri/isgri_lc/4u1700-377") == str(
        ("numpy.record", [("TIME", ">f8"), *((column, ">f4") for column in columns)])
    ).replace("'numpy.record'", "numpy.record")
    assert sent("spi_acs/spi_acs_lc/2003-03-15") == str([(column, "<f8") for column in ("TIME", "RATE", "ERROR")])


def test_only_polar_and_spi_acs_answer_at_once(folder: FixtureFolder) -> None:
    at_once = {each.path.split("/")[0] for each in folder.fixtures if not each.answer().timeline}
    assert at_once == {"polar", "spi_acs"}
    assert {query.product_name for each in folder.instruments for query in each.queries if query.synchronous} == {
        "polar_lc",
        "spi_acs_lc",
    }


def test_defaults_are_those_that_the_notebook_prints(folder: FixtureFolder) -> None:
    isgri, jemx, acs = (folder.instrument(name) for name in ("isgri", "jemx", "spi_acs"))
    described = {parameter.name: parameter for query in isgri.queries for parameter in query.parameters}
    assert [query.query_name for query in isgri.queries] == [
        *("src_query", "isgri_parameters", "isgri_image_query"),
        *("isgri_spectrum_query", "isgri_lc_query", "spectral_fit_query"),
    ]
    assert (described["E1_keV"].value, described["E2_keV"].value, described["radius"].value) == (10.0, 40.0, 5.0)
    assert described["T1"].units is None
    assert described["scw_list"].value == []
    assert [query.query_name for query in jemx.queries][-1] == "jemx_lc_query"
    assert [(parameter.name, parameter.units) for parameter in acs.queries[1].parameters] == [
        ("user_catalog", "str"),
        ("[]", "names_list"),
    ]


# -- ISGRI: mosaic ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["isgri/isgri_image/4u1700-377", "jemx/jemx_image/010200230010"])
def test_a_source_stands_where_and_as_high_as_the_catalogue_says(folder: FixtureFolder, path: str) -> None:
    header, image = hdu_of(folder, path, 0, 1)
    wcs = WCS({name: value for name, value in header.items() if name[:5] in {"CTYPE", "CUNIT", "CRPIX", "CRVAL", *CD}})
    catalog = fixture(folder, path).answer().products["catalog"]
    columns = dict(zip(catalog["cat_column_names"], catalog["cat_column_list"], strict=True))
    for ra, dec, significance in zip(columns["ra"], columns["dec"], columns["significance"], strict=True):
        x, y = (float(value) for value in wcs.world_to_pixel_values(ra, dec))
        x0, y0, height = peak(image, round(x), round(y))
        assert np.hypot(x0 - x, y0 - y) < 0.01
        assert height == pytest.approx(significance, rel=0.01)


def peak(image: NDArray[Any], x: int, y: int) -> tuple[float, float, float]:
    """Return place and height of the Gaussian through a pixel and its four neighbours."""
    place, height = [], np.log(image[y, x])
    for three in (image[y, x - 1 : x + 2], image[y - 1 : y + 2, x]):
        before, middle, after = np.log(np.maximum(three, 0.1))
        slope, curvature = (after - before) / 2, before - 2 * middle + after
        place.append(-slope / curvature)
        height -= slope**2 / (2 * curvature)
    return x + place[0], y + place[1], float(np.exp(height))


def test_the_mosaic_is_noise_in_the_field_of_view_and_zero_in_its_corners(folder: FixtureFolder) -> None:
    _, image = hdu_of(folder, "isgri/isgri_image/4u1700-377", 0, 1)
    assert image.shape == (455, 455)
    assert image.dtype == np.dtype(">f4")
    for corner in (image[:3, :3], image[:3, -3:], image[-3:, :3], image[-3:, -3:]):
        assert not corner.any()
    quiet = image[250:350, 250:350]
    assert quiet.std() == pytest.approx(1, abs=0.05)
    assert quiet.mean() == pytest.approx(0, abs=0.05)


def test_parameters_stand_in_the_primary_header_as_text_under_their_own_names(folder: FixtureFolder) -> None:
    header, _ = hdu_of(folder, "isgri/isgri_lc/4u1700-377", 0, 0)
    assert header == {
        "SIMPLE": True,
        "BITPIX": 8,
        "NAXIS": 0,
        "EXTEND": True,
        "DEC": "-37.844167",
        "RA": "255.986542",
        "T1": "2003-03-15T23:27:40.0",
        "T2": "2003-03-16T00:03:12.0",
        "detection_threshold": "5.0",
        "instrument": "isgri",
        "osa_version": "OSA10.2",
        "product_type": "isgri_lc",
        "query_type": "Real",
        "radius": "15.0",
        "time_bin": "70",
    }


# -- light curves -----------------------------------------------------------------------------------------------------


def test_the_light_curves_stand_in_the_printed_order(folder: FixtureFolder, notebook: ModuleType) -> None:
    curves = products(folder, "isgri/isgri_lc/4u1700-377")
    assert tuple(curve["meta_data"]["src_name"] for curve in curves) == notebook.SOURCE_NAMES
    assert list(curves[0]["meta_data"].items()) == list(notebook.LIGHT_CURVE_META_DATA.items())
    for number, curve in enumerate(curves):
        header, _ = hdu_of(folder, "isgri/isgri_lc/4u1700-377", number, 1)
        assert header["NAME"] == curve["meta_data"]["src_name"]


def test_the_light_curve_of_gx_349_2_is_the_printed_one(folder: FixtureFolder, notebook: ModuleType) -> None:
    _, curve = hdu_of(folder, "isgri/isgri_lc/4u1700-377", 0, 1)
    printed = np.array(list(notebook.LIGHT_CURVE_ROWS), dtype=curve.dtype)
    assert len(printed) == 23
    assert (curve == printed).all()


def test_the_other_light_curves_share_its_times_and_scatter_as_their_errors_say(folder: FixtureFolder) -> None:
    curves = [hdu_of(folder, "isgri/isgri_lc/4u1700-377", number, 1)[1] for number in range(30)]
    assert all((curve["TIME"] == curves[0]["TIME"]).all() for curve in curves)
    residuals = [(curve["RATE"] - curve["RATE"].mean()) / curve["ERROR"] for curve in curves[1:]]
    assert np.std(residuals) == pytest.approx(1, abs=0.1)


def test_the_light_curve_of_spi_acs_begins_with_the_printed_rows(folder: FixtureFolder, notebook: ModuleType) -> None:
    _, curve = hdu_of(folder, "spi_acs/spi_acs_lc/2003-03-15", 0, 1)
    assert curve.shape == (886,)
    assert [tuple(round(float(value), 8) for value in row) for row in curve[:10]] == list(notebook.ACS_ROWS)
    assert (curve["ERROR"] == np.sqrt(curve["RATE"] / 2)).all()


def test_the_light_curve_of_polar_covers_the_times_asked_for(folder: FixtureFolder) -> None:
    _, curve = hdu_of(folder, "polar/polar_lc/2016-12-18", 0, 1)
    assert len(curve) == 200
    assert np.diff(curve["time"]) == pytest.approx(0.5)


def test_the_root_file_has_the_printed_size_and_holds_the_light_curve(folder: FixtureFolder) -> None:
    content = fixture(folder, "polar/polar_lc/2016-12-18").read_file("lc.root")
    magic, _, begin, end = struct.unpack_from(">4siii", content)
    assert (magic, begin, end, len(content)) == (b"root", 100, 5022, 5022)
    classes = [class_name for class_name, _ in records(content, begin)]
    assert classes == ["TFile", "TH1D", None, "TFile", "TList", "TFile"]
    (histogram,) = (data for class_name, data in records(content, begin) if class_name == "TH1D")
    _, curve = hdu_of(folder, "polar/polar_lc/2016-12-18", 0, 1)
    assert histogram.endswith(struct.pack(">i", 202) + np.pad(curve["rate"], 1).astype(">f8").tobytes())


def records(content: bytes, position: int) -> Iterator[tuple[str | None, bytes]]:
    """Walk through the records of a ROOT file; a gap has no class."""
    while position < len(content):
        (size,) = struct.unpack_from(">i", content, position)
        if size < 0:
            yield None, b""
        else:
            (key_length,) = struct.unpack_from(">h", content, position + 14)
            length = content[position + 26]
            class_name = content[position + 27 : position + 27 + length].decode()
            yield class_name, content[position + key_length : position + size]
        position += abs(size)
    assert position == len(content)


# -- spectra ----------------------------------------------------------------------------------------------------------


def test_the_spectra_stand_in_the_printed_order(folder: FixtureFolder, notebook: ModuleType) -> None:
    spectra = products(folder, "isgri/isgri_spectrum/4u1700-377")
    assert [spectrum["meta_data"] for spectrum in spectra] == [
        {"src_name": name, "product": f"isgri_{kind}"}
        for name in notebook.SPECTRUM_NAMES
        for kind in ("spectrum", "arf", "rmf")
    ]
    assert len(spectra) == 93
    assert [unit["name"] for unit in spectra[92]["units"]] == [
        *("PRIMARY", "GROUPING", "ISGR-RMF.-RSP", "ISGR-EBDS-MOD"),
    ]
    for number in range(0, 93, 3):
        header, _ = hdu_of(folder, "isgri/isgri_spectrum/4u1700-377", number, 1)
        assert header["NAME"] == spectra[number]["meta_data"]["src_name"]


def test_a_spectrum_has_the_printed_columns_and_62_channels(folder: FixtureFolder) -> None:
    _, table = hdu_of(folder, "isgri/isgri_spectrum/4u1700-377", 3, 1)
    assert table.dtype.names == ("CHANNEL", "RATE", "SYS_ERR", "STAT_ERR", "QUALITY", "GROUPING")
    assert table.shape == (62,)


def response(folder: FixtureFolder, path: str, first: int, matrix: int) -> tuple[Callable[..., Any], NDArray[Any]]:
    """Return a function that folds a photon model through an ARF and the RMF after it, and the channels' edges."""
    _, area = hdu_of(folder, path, first, 1)
    _, rows = hdu_of(folder, path, first + 1, matrix)
    _, bounds = hdu_of(folder, path, first + 1, matrix + 1)
    full = np.zeros((len(rows), len(bounds)))
    for row, start, count, values in zip(full, rows["F_CHAN"], rows["N_CHAN"], rows["MATRIX"], strict=True):
        row[start : start + count] = values
    low, high = area["ENERG_LO"].astype(float), area["ENERG_HI"].astype(float)
    assert (rows["ENERG_LO"] == area["ENERG_LO"]).all()
    assert (full.sum(axis=1) <= 1).all()

    def fold(model: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
        energies = low[:, None] + (high - low)[:, None] * (np.arange(8) + 0.5) / 8
        return np.asarray((model(energies).mean(axis=1) * (high - low) * area["SPECRESP"]) @ full)

    return fold, np.append(bounds["E_MIN"], bounds["E_MAX"][-1])


def cutoff_power_law(parameters: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    norm, index, cutoff = parameters
    return lambda energy: norm * energy**index * np.exp(-energy / cutoff)


def test_20_to_60_kev_are_the_channels_7_to_24(folder: FixtureFolder) -> None:
    _, edges = response(folder, "isgri/isgri_spectrum/4u1700-377", 88, 2)
    assert edges[7] < 20 < edges[8]
    assert edges[24] < 60 < edges[25]
    assert len(edges) == 63


def test_the_fit_of_the_notebook_gives_its_parameters_back(folder: FixtureFolder) -> None:
    """A Gauss-Newton fit of product 87 through products 88 and 89, as the notebook does it."""
    path = "isgri/isgri_spectrum/4u1700-377"
    _, spectrum = hdu_of(folder, path, 87, 1)
    fold, _ = response(folder, path, 88, 2)
    channels = slice(7, 25)
    rates, errors = spectrum["RATE"][channels].astype(float), spectrum["STAT_ERR"][channels].astype(float)

    def residuals(parameters: NDArray[Any]) -> NDArray[Any]:
        return np.asarray((rates - fold(cutoff_power_law(parameters))[channels]) / errors)

    parameters, slopes = np.array([1e-2, 0.1, 12.0]), np.zeros((18, 3))
    for _ in range(30):
        for number, step in enumerate(1e-6 * parameters):
            shift = np.zeros(3)
            shift[number] = step
            slopes[:, number] = (residuals(parameters - shift) - residuals(parameters + shift)) / (2 * step)
        change = np.linalg.lstsq(slopes, residuals(parameters))[0]
        parameters *= np.clip(1 + change / parameters, 0.5, 2)
    assert parameters == pytest.approx(FITTED, rel=0.02)
    # What the notebook prints beside them: the error of the index, and -log(likelihood).
    assert np.sqrt(np.linalg.inv(slopes.T @ slopes)[1, 1]) == pytest.approx(0.25, rel=0.05)
    assert np.sum(residuals(parameters) ** 2) / 2 == pytest.approx(5.24134, rel=0.02)


def test_the_crab_in_jem_x_is_the_power_law_of_the_model(folder: FixtureFolder) -> None:
    path = "jemx/jemx_spectrum/010200230010"
    _, spectrum = hdu_of(folder, path, 0, 1)
    fold, _ = response(folder, path, 1, 1)
    residuals = (spectrum["RATE"] - fold(lambda energy: 9.7 * energy**-2.1)) / spectrum["STAT_ERR"]
    assert np.sum(residuals**2) == pytest.approx(64, abs=35)
