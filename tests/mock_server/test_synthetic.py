"""Synthetic data: plausible, according to the query, in the form of the shipped fixtures, and reproducible."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from astropy.time import Time
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_server.app import RUNNER_OPTIONS, make_app
from mock_server.fixture_library import FixtureLibrary
from mock_server.matching import NormalisedQuery
from mock_server.settings import MockSettings, fixtures_folder
from mock_server.synthetic.observation import MAX_BINS
from mock_server.synthetic.synthetic_fixture import synthetic_fixture
from oda_proxy.codec import fits, wire
from oda_proxy.fixture.reading import open_folder
from tests.support.examples import examples
from tests.support.mock_fixtures import write_folder
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from aiohttp import web

    from oda_proxy.codec.product import DataProduct, DataUnit

FIELD = {"T1": "2004-03-15T23:27:40.000", "T2": "2004-03-16T00:03:15.000", "RA": 83.63, "DEC": 22.01}
SOURCE = {**FIELD, "src_name": "Crab", "T_format": "isot"}
SOFT, HARD = {"E1_keV": 3.0, "E2_keV": 20.0}, {"E1_keV": 20.0, "E2_keV": 60.0}
QUERIES: dict[str, NormalisedQuery] = {
    product: NormalisedQuery(product.rpartition("_")[0], product, "Real", {**SOURCE, **more})
    for product, more in {
        "isgri_image": {**HARD, "detection_threshold": 5.0},
        "isgri_lc": {**HARD, "time_bin": 100.0},
        "isgri_spectrum": HARD,
        "jemx_image": {**SOFT, "jemx_num": 2},
        "jemx_lc": {**SOFT, "jemx_num": 2, "time_bin": 100.0},
        "jemx_spectrum": {**SOFT, "jemx_num": 2},
        "polar_lc": {"time_bin": 1.0},
        "spi_acs_lc": {"time_bin": 1.0},
    }.items()
}
LIGHT_CURVES = [product for product in QUERIES if product.endswith("_lc")]
CATALOG = {
    "cat_frame": "fk5",
    "cat_coord_units": "deg",
    "cat_column_names": ["meta_ID", "src_names", "significance", "ra", "dec"],
    "cat_column_list": [[1, 2], ["one", "two"], [9.0, 8.0], [83.0, 85.0], [21.0, 23.0]],
    "cat_lon_name": "ra",
    "cat_lat_name": "dec",
}
CHECKSUMS = {"CHECKSUM", "DATASUM"}


def query_with(product: str, **changes: Any) -> NormalisedQuery:
    query = QUERIES[product]
    return replace(query, parameters={**query.parameters, **changes})


def products_json(query: NormalisedQuery, seed: int = 0) -> dict[str, Any]:
    answer = synthetic_fixture(query, seed, "today")
    assert answer is not None
    assert answer.observation is not None, answer.refusal
    return answer.wire_products()


def products_of(query: NormalisedQuery) -> list[DataProduct]:
    return [wire.decode_product(product) for product in products_json(query)["numpy_data_product_list"]]


def significance_of(mosaic: DataProduct) -> DataUnit:
    return next(unit for unit in mosaic.units if cards(unit).get("IMATYPE") == "SIGNIFICANCE")


def cards(unit: DataUnit) -> dict[str, Any]:
    return {card.keyword: card.value for card in unit.header}


def failure_message(query: NormalisedQuery) -> str:
    answer = synthetic_fixture(query, 0, "today")
    assert answer is not None
    assert answer.observation is None
    assert answer.answer().query_status == "failed"
    return str(answer.answer().exit_status["message"])


# -- repeatable -----------------------------------------------------------------------------------


@pytest.mark.parametrize("product", QUERIES)
def test_the_same_query_gets_the_same_data(product: str) -> None:
    query = QUERIES[product]
    again = replace(query, parameters=dict(reversed([*query.parameters.items()])), query_type="dummy")
    assert products_json(query) == products_json(again)


@pytest.mark.parametrize("product", QUERIES)
def test_another_query_or_another_seed_gets_other_data(product: str) -> None:
    first = products_json(QUERIES[product])
    assert products_json(query_with(product, T2="2004-03-16T00:03:16.000")) != first
    assert products_json(query_with(product, radius=3.0)) != first
    assert products_json(QUERIES[product], seed=1) != first


def test_the_seed_of_a_query_is_the_same_in_every_process() -> None:
    query = query_with("isgri_image", scw_list=["a", "b"], flag=True, selected_catalog='{"a": [1, {"b": 2.0}]}')
    assert query.digest(7)[:16] == "77c4e0f0fb54a42b"


def test_numbers_that_are_equal_give_the_same_data() -> None:
    assert query_with("isgri_lc", time_bin=70).digest(0) == query_with("isgri_lc", time_bin=70.0).digest(0)


def test_a_source_has_the_same_flux_in_all_observations() -> None:
    first, second = (products_of(query_with("isgri_lc", T2=f"2004-03-16T{hour}:00:00.000"))[0] for hour in ("02", "04"))
    means = [float(np.mean(product.units[1].data["RATE"])) for product in (first, second)]  # type: ignore[index]
    error = float(np.mean(first.units[1].data["ERROR"])) / np.sqrt(90)  # type: ignore[index]
    assert abs(means[0] - means[1]) < 6 * error


# -- the shapes of the fixtures -------------------------------------------------------------------


@pytest.mark.parametrize("product", QUERIES)
def test_synthetic_data_have_the_form_of_the_fixture(product: str) -> None:
    """Names, units, types, meta data and cards are those of the shipped fixture."""
    instrument = QUERIES[product].instrument
    fixture = next(f for f in open_folder(fixtures_folder()).fixtures if f.path.startswith(f"{instrument}/{product}/"))
    shipped = fixture.wire_products()
    synthetic = products_json(QUERIES[product])
    assert synthetic.keys() == shipped.keys() - {"input_prod_list"}
    if "catalog" in shipped:
        assert synthetic["catalog"].keys() == shipped["catalog"].keys()
        assert synthetic["catalog"]["cat_column_names"] == shipped["catalog"]["cat_column_names"]
    kinds = 3 if product.endswith("spectrum") else 1
    ours, theirs = (
        [wire.decode_product(one) for one in products["numpy_data_product_list"][:kinds]]
        for products in (synthetic, shipped)
    )
    for our, their in zip(ours, theirs, strict=True):
        assert our.name == their.name
        assert our.meta_data.keys() == their.meta_data.keys()
        assert [unit.name for unit in our.units] == [unit.name for unit in their.units]
        assert [unit.hdu_type for unit in our.units] == [unit.hdu_type for unit in their.units]
        for unit, other in zip(our.units[1:], their.units[1:], strict=True):
            assert cards(unit).keys() == cards(other).keys() - CHECKSUMS
            assert unit.data is not None
            assert other.data is not None
            assert unit.data.dtype == other.data.dtype
            assert type(unit.data) is type(other.data)


def test_a_spectrum_comes_with_the_response_of_the_fixture() -> None:
    fixture = next(f for f in open_folder(fixtures_folder()).fixtures if f.path.startswith("isgri/isgri_spectrum/"))
    shipped = fixture.wire_products()["numpy_data_product_list"]
    synthetic = products_json(QUERIES["isgri_spectrum"])["numpy_data_product_list"]
    for ours, theirs in zip(synthetic[1:3], shipped[1:3], strict=True):
        assert [unit["binarys"] for unit in ours["data_unit_list"]] == [u["binarys"] for u in theirs["data_unit_list"]]


# -- what the parameters say ----------------------------------------------------------------------


@given(
    product=st.sampled_from(LIGHT_CURVES),
    begin=st.integers(0, 500_000_000),
    lasting=st.integers(10, 20_000),
    width=st.sampled_from([0.5, 1.0, 7.0, 100.0, 5000.0, 50_000.0]),
)
@settings(max_examples=examples(25), deadline=None)
def test_time_bins_cover_the_time_range(product: str, begin: int, lasting: int, width: float) -> None:
    first, last = (Time(946684800 + at, format="unix").isot for at in (begin, begin + lasting))
    unit = products_of(query_with(product, T1=first, T2=last, time_bin=width))[0].units[1]
    assert unit.data is not None
    assert len(unit.data) == np.ceil(lasting / width)
    name = "time" if product == "polar_lc" else "TIME"
    times = np.asarray(unit.data[name], dtype=float)
    scale = 86400.0 if product.startswith(("isgri", "jemx")) else 1.0
    assert np.allclose(np.diff(times)[:-1] * scale, width, atol=1e-4)
    if scale == 86400.0:
        assert cards(unit)["TIMEDEL"] * scale == pytest.approx(min(width, lasting)), "of the widest bin"
    start = {"polar_lc": 946684800.0 + begin, "spi_acs_lc": begin - float(cards(unit).get("TIMEZERO", 0))}
    begun = start.get(product, Time(first, scale="utc").tt.mjd - 51544.0)
    assert (times[0] - begun) * scale == pytest.approx(min(width, lasting if scale == 86400.0 else width) / 2, abs=2e-3)


@given(ra=st.floats(0, 359.99), dec=st.floats(-89.9, 89.9), product=st.sampled_from(["isgri_image", "jemx_image"]))
@settings(max_examples=examples(10), deadline=None)
def test_a_mosaic_is_centred_on_the_position_of_the_source(ra: float, dec: float, product: str) -> None:
    answer = products_json(query_with(product, RA=ra, DEC=dec, detection_threshold=0.0))
    unit = significance_of(wire.decode_product(answer["numpy_data_product_list"][0]))
    assert unit.data is not None
    rows, columns = unit.data.shape
    coordinates = ("CTYPE", "CUNIT", "CRPIX", "CRVAL", "CD")
    wcs = WCS({name: value for name, value in cards(unit).items() if name.startswith(coordinates)})
    x, y = wcs.all_world2pix([[ra, dec]], 0)[0]
    assert (x, y) == pytest.approx(((columns - 1) / 2, (rows - 1) / 2), abs=1e-3)
    names = answer["catalog"]["cat_column_list"][1]
    significances = answer["catalog"]["cat_column_list"][2]
    assert names[0] == "Crab"
    assert unit.data[round(y), round(x)] == pytest.approx(significances[0], abs=0.01)


@given(low=st.floats(15, 100), width=st.floats(1, 100))
@settings(max_examples=examples(10), deadline=None)
def test_a_wider_energy_band_has_more_counts(low: float, width: float) -> None:
    rates = []
    for high in (low + width, low + 2 * width):
        unit = products_of(query_with("isgri_lc", E1_keV=low, E2_keV=high))[0].units[1]
        assert (cards(unit)["E_MIN"], cards(unit)["E_MAX"]) == (low, high)
        assert unit.data is not None
        rates.append(unit.data["BACKE"][0])
    assert rates[0] < rates[1]


def test_the_query_is_in_the_headers() -> None:
    product = products_of(QUERIES["isgri_lc"])[0]
    header = cards(product.units[1])
    assert header["TSTART"] == pytest.approx(Time(SOURCE["T1"], scale="utc").tt.mjd - 51544.0, abs=1e-8)
    assert header["TSTOP"] == pytest.approx(Time(SOURCE["T2"], scale="utc").tt.mjd - 51544.0, abs=1e-8)
    assert header["ONTIME"] == 2135.0
    assert (header["NAME"], header["RA_OBJ"], header["DEC_OBJ"]) == ("Crab", 83.63, 22.01)
    assert header["TIMEDEL"] == pytest.approx(100 / 86400)
    assert product.meta_data["src_name"] == "Crab"
    primary = cards(product.units[0])
    assert (primary["RA"], primary["product_type"], primary["time_bin"]) == ("83.63", "isgri_lc", "100.0")
    mosaic = products_of(query_with("isgri_image", detection_threshold=7.0))[0]
    assert cards(significance_of(mosaic))["DATE-OBS"] == "2004-03-15T23:27:40.000"
    repeated = json.loads(mosaic.meta_data["query_parameters"])
    assert {"units": "sigma", "name": "detection_threshold", "value": "7.0"} in repeated


def test_a_catalogue_has_the_sources_above_the_threshold() -> None:
    significances = products_json(query_with("isgri_image", detection_threshold=0.0))["catalog"]["cat_column_list"][2]
    threshold = sorted(significances)[1]
    found = products_json(query_with("isgri_image", detection_threshold=threshold))["catalog"]["cat_column_list"][2]
    assert found == [value for value in significances if value >= threshold]
    nothing = products_json(query_with("isgri_image", detection_threshold=1e6))["catalog"]["cat_column_list"]
    assert nothing == [[] for _ in nothing]


def test_selected_sources_are_those_of_the_response() -> None:
    text = json.dumps(CATALOG)
    curves = products_of(query_with("isgri_lc", selected_catalog=text))
    assert [curve.meta_data["src_name"] for curve in curves] == ["one", "two"]
    assert [cards(curve.units[1])["RA_OBJ"] for curve in curves] == [83.0, 85.0]
    image = products_json(query_with("isgri_image", selected_catalog=text, detection_threshold=0.0))
    assert image["catalog"]["cat_column_list"][1] == ["one", "two"]


def test_a_mosaic_copes_with_selected_sources_at_one_position_or_outside_the_field() -> None:
    columns = [[1, 2, 3], ["a", "b", "c"], [9.0] * 3, [83.0, 83.0, 263.0], [21.0, 21.0, -20.0]]
    catalog = {**CATALOG, "cat_column_list": columns}
    image = products_json(query_with("isgri_image", selected_catalog=json.dumps(catalog), detection_threshold=0.0))
    assert image["catalog"]["cat_column_list"][1] == ["a"]


def test_science_windows_override_the_times() -> None:
    windows = ["010200230010.001", "010200240010.001"]
    header = cards(products_of(query_with("jemx_spectrum", scw_list=windows))[0].units[1])
    assert header["REVOL"] == 102
    assert header["EXPOSURE"] == 2 * 3480.0


def test_the_requested_unit_of_jemx_is_named() -> None:
    unit = products_of(query_with("jemx_image", jemx_num=1))[0].units[1]
    assert (unit.name, cards(unit)["INSTRUME"], cards(unit)["EXTNAME"]) == ("JMX1-MOSA-IMA", "JMX1", "JMX1-MOSA-IMA")


def test_a_source_name_that_does_not_fit_into_a_header_is_accepted() -> None:
    answer = synthetic_fixture(query_with("isgri_lc", src_name="Čerenkov ☉" * 50), 0, "today")
    assert answer is not None
    assert len(fits.read(answer.read_file("isgri_lc.fits"))) == 5


# -- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("product", "changes", "message"),
    [
        ("spi_acs_lc", {"T1": "0001-01-01T00:00:00.000", "T2": "9999-01-01T00:00:00.000"}, "100000 at most"),
        ("isgri_lc", {"time_bin": 1e-9}, "a time_bin of 1e-09 s between T1 and T2 makes 2.135e+12 bins"),
        ("isgri_lc", {"time_bin": 0.0}, "time_bin is 0.0: give seconds, more than 0"),
        ("isgri_lc", {"time_bin": None}, "time_bin is None"),
        ("polar_lc", {"time_bin": float("nan")}, "time_bin is nan"),
        ("isgri_image", {"T2": FIELD["T1"]}, "T2 (2004-03-15T23:27:40.000) is not later than T1"),
        ("isgri_image", {"T1": "-0100-01-01T00:00:00.000"}, "T1 is -0100-01-01T00:00:00.000"),
        ("isgri_image", {"RA": float("inf")}, "RA is inf and DEC is 22.01"),
        ("isgri_image", {"DEC": 91.0}, "that is no position in the sky"),
        ("isgri_image", {"RA": None}, "RA is None"),
        ("isgri_image", {"E1_keV": 60.0, "E2_keV": 20.0}, "give two energies, the lower one first"),
        ("jemx_image", {"E1_keV": 500.0, "E2_keV": 600.0}, "jemx sees nothing from 500 to 600 keV"),
        ("jemx_image", {"jemx_num": 3}, "jemx_num is 3: there are JEM-X 1 and JEM-X 2"),
        ("isgri_image", {"scw_list": ["Crab"]}, "scw_list names 'Crab', which is no science window"),
        (
            "isgri_image",
            {"scw_list": ["010200230010.001"] * 501},
            "501 science windows: give 500 at most",
        ),
        ("isgri_image", {"selected_catalog": '{"cat_frame": "fk5"}'}, "selected_catalog has no columns"),
    ],
)
def test_an_impossible_observation_fails_with_a_message_for_an_astronomer(
    product: str, changes: dict[str, Any], message: str
) -> None:
    assert message in failure_message(query_with(product, **changes))


def test_as_many_bins_as_the_limit_are_generated() -> None:
    width = 2135.0 / MAX_BINS
    assert len(products_of(query_with("spi_acs_lc", time_bin=width))[0].units[1].data) == MAX_BINS  # type: ignore[arg-type]


def test_a_catalogue_of_too_many_sources_fails() -> None:
    columns = [list(range(31)), ["x"] * 31, [1.0] * 31, [83.0] * 31, [22.0] * 31]
    assert "31 sources: give 30 at most" in failure_message(
        query_with("isgri_image", selected_catalog=json.dumps({**CATALOG, "cat_column_list": columns}))
    )


@pytest.mark.parametrize(
    "query",
    [
        replace(QUERIES["isgri_image"], product="spectral_fit"),
        replace(QUERIES["isgri_image"], api=False),
        replace(QUERIES["isgri_image"], files={"user_catalog_file": "0" * 64}),
        NormalisedQuery("other", "other_lc", "Real", SOURCE),
    ],
)
def test_queries_without_a_template_have_no_synthetic_data(query: NormalisedQuery) -> None:
    assert synthetic_fixture(query, 0, "today") is None


# -- served ---------------------------------------------------------------------------------------


@pytest.fixture
async def mock() -> AsyncIterator[TestClient[web.Request, web.Application]]:
    app = make_app(MockSettings(synthetic=True, time_scale=0))
    async with TestClient(TestServer(app)) as client:
        yield client


LIGHT_CURVE = {
    **{name: str(value) for name, value in FIELD.items()},
    "time_bin": "10",
    "instrument": "spi_acs",
    "product_type": "spi_acs_lc",
    "query_type": "Real",
    "query_status": "new",
    "api": "True",
    "session_id": "SESSIONSYNTHETIC",
    "oda_api_version": "1.3.5",
}


async def ask(mock: TestClient[web.Request, web.Application], **changes: str) -> tuple[int, dict[str, Any]]:
    async with mock.get("/run_analysis", params={**LIGHT_CURVE, **changes}) as response:
        return response.status, await response.json()


async def test_a_query_without_a_fixture_gets_data_and_files(mock: Any) -> None:
    status, answer = await ask(mock)
    assert (status, answer["query_status"]) == (200, "done")
    assert len(answer["products"]["numpy_data_product_list"]) == 1
    wanted = {"job_id": answer["job_monitor"]["job_id"], "session_id": "SESSIONSYNTHETIC", "query_status": "ready"}
    async with mock.get(
        "/download_products", params={**wanted, "file_list": "spi_acs_lc.fits", "return_archive": "False"}
    ) as response:
        assert [unit.name for unit in fits.read(await response.read())][1] == "RATE"


async def test_an_impossible_query_fails_like_in_a_dispatcher(mock: Any) -> None:
    status, answer = await ask(mock, T1="0001-01-01T00:00:00", T2="9999-01-01T00:00:00", time_bin="1")
    assert (status, answer["query_status"], answer["exit_status"]["status"]) == (200, "failed", 1)
    assert "makes 3.155e+11 bins: this mock makes up 100000 at most" in answer["exit_status"]["message"]


async def test_an_invalid_value_fails_before_data_are_generated(mock: Any) -> None:
    status, answer = await ask(mock, RA="a")
    assert status == 400
    assert "Parameter RA wrong value a" in answer["error"]


async def test_a_fixture_has_priority_over_synthetic_data(tmp_path: Path) -> None:
    app = make_app(MockSettings(fixtures=(write_folder(tmp_path),), synthetic=True, time_scale=0))
    async with TestClient(TestServer(app)) as client:
        query = {"instrument": "isgri", "product_type": "isgri_lc", "query_type": "Real", "RA": "83"}
        control = {"query_status": "new", "api": "True"}
        async with client.get("/run_analysis", params={**query, **control}) as response:
            assert (await response.json())["exit_status"]["message"] == "no data"


async def test_the_cache_of_synthetic_data_is_limited(mock: Any) -> None:
    library = FixtureLibrary.open([fixtures_folder()], seed=0)
    for number in range(20):
        answer = library.synthesise(query_with("spi_acs_lc", time_bin=float(100 + number)))
        assert answer is not None
        await library.products(answer, for_1_0=False)
    assert len(library._encoded) == 16


def test_a_mock_with_synthetic_data_starts_without_array_libraries() -> None:
    script = (
        "import sys; from mock_server.app import make_app; from mock_server import MockSettings;"
        "make_app(MockSettings(synthetic=True)); print(*sorted({'numpy', 'astropy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "\n"


CALLS = [
    {
        "product_type": "Real",
        "product": product,
        "instrument": query.instrument,
        **{name: value for name, value in query.parameters.items() if name != "T_format"},
    }
    for product, query in QUERIES.items()
]


@pytest.mark.parametrize("command", [["mock"], ["serve", "--mock"]])
def test_both_commands_have_the_option_synthetic(tmp_path: Path, command: list[str]) -> None:
    query = urlencode({**LIGHT_CURVE, "DEC": "23"})
    with running(tmp_path / "log", *command, "--synthetic", "--time-scale", "0", "--port", "0") as server:
        url = f"{server.url}/run_analysis?{query}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:  # noqa: S310 - on this machine
            assert json.load(response)["query_status"] == "done"


@pytest.mark.real
@pytest.mark.parametrize("version", ["1.0", "1.3.5"])
async def test_real_clients_read_all_synthetic_data(run_client: Callable[..., Any], version: str) -> None:
    server = TestServer(make_app(MockSettings(synthetic=True, time_scale=0)))
    await server.start_server(**RUNNER_OPTIONS)
    try:
        url = str(server.make_url("/dispatch-data"))
        run: Awaitable[Any] = asyncio.to_thread(run_client, version, "get_product.py", url, *map(json.dumps, CALLS))
        answers = (await run)["answers"]
    finally:
        await server.close()
    numbers = [len(answer.get("products", [])) for answer in answers]
    assert numbers == [2, 4, 15, 2, 4, 12, 2, 1], answers
    places = [4 if len(answer["products"][0]["units"]) == 6 else 1 for answer in answers]  # six: a mosaic of ISGRI
    shapes = [answer["products"][0]["units"][n]["data"][0] for answer, n in zip(answers, places, strict=True)]
    assert shapes == [[455, 455], [22], [62], [401, 401], [22], [64], [2135], [2135]]
