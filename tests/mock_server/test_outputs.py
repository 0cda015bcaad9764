"""Made-up outputs of instruments that are only described: form, order and values by their kinds and units."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy.io import ascii  # noqa: A004 - its name in astropy

from mock_server.fixture_library import FixtureLibrary
from mock_server.matching import NormalisedQuery
from mock_server.settings import MockSettings
from mock_server.synthetic.guessed_outputs import guessed_outputs
from mock_server.synthetic.outputs import wire_products
from oda_proxy.codec import wire
from oda_proxy.fixture.description_folder import read_descriptions
from oda_proxy.fixture.instrument_json import OUTPUT_KINDS
from oda_proxy.fixture.model import OutputDescription

ONTOLOGY = "http://odahub.io/ontology#"
PARAMETERS: dict[str, Any] = {
    "src_name": "Crab",
    "RA": 83.63,
    "DEC": 22.01,
    "T1": "2017-03-06T13:26:48.000",
    "T2": "2017-03-06T13:27:48.000",
    "Emin": 0.1,
    "Emax": 10.0,
    "Radius": 1.0,
    "pixsize": 0.05,
    "contour_levels": "50,90",
}
UNITS = {"RA": "deg", "DEC": "deg", "Emin": "TeV", "Emax": "TeV", "Radius": "deg", "pixsize": "deg"}
QUERY = NormalisedQuery("tel", "everything", "Real", PARAMETERS)
COLUMNS = {
    "Emin[TeV]": "TeV",
    "Emax[TeV]": "TeV",
    "Emean[TeV]": "TeV",
    "Flux[TeV/cm2s]": "TeV / (cm2 s)",
    "Flux_error[TeV/cm2s]": "TeV / (cm2 s)",
    "Time": "d",
    "ra": "deg",
}
MAX_BODY = 8 * 2**20


def made(*outputs: OutputDescription, query: NormalisedQuery = QUERY, seed: int = 1) -> dict[str, Any]:
    return wire_products(query, outputs, UNITS, seed)


def table_of(item: dict[str, Any]) -> Any:
    return ascii.read(item["ascii"], format="ecsv")


@pytest.mark.parametrize("kind", sorted(OUTPUT_KINDS))
def test_every_kind_is_made_and_is_the_same_each_time(kind: str) -> None:
    output = OutputDescription("one", kind)
    first, again, other = (json.dumps(made(output, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert (first == other) == (kind in ("comment", "text", "progress"))
    assert (first == "{}") == (kind == "comment")


def test_products_of_nb2workflow_have_the_members_of_its_plugin_in_its_order() -> None:
    flux = OutputDescription("flux", "ascii_table", f"{ONTOLOGY}ODAAstropyTable", extra_metadata={"label": "Flux"})
    number = OutputDescription("z", "parameter", f"{ONTOLOGY}Float")
    comment = OutputDescription("comment", "comment", f"{ONTOLOGY}WorkflowResultComment")
    products = made(flux, number, comment)
    assert list(products) == [
        "extra_metadata",
        "prod_uris",
        "numpy_data_product_list",
        "astropy_table_product_ascii_list",
        "binary_data_product_list",
        "binary_image_product_list",
        "text_product_list",
        "progress_product_list",
    ]
    assert products["extra_metadata"] == {"flux": {"label": "Flux"}, "z": {}}
    assert products["prod_uris"] == {"flux": f"{ONTOLOGY}ODAAstropyTable", "z": f"{ONTOLOGY}Float"}
    (text,) = products["text_product_list"]
    assert (text["name"], text["meta_data"]) == ("z", {"uri": f"{ONTOLOGY}Float"})


def test_energies_fluxes_times_and_positions_follow_the_query() -> None:
    (item,) = made(OutputDescription("sed", "ascii_table", columns=COLUMNS, size=10))[
        "astropy_table_product_ascii_list"
    ]
    table = table_of(item)
    assert [str(table[name].unit or "") for name in ("Emin[TeV]", "Time", "ra")] == ["TeV", "d", "deg"]
    assert (table["Emin[TeV]"][0], table["Emax[TeV]"][-1]) == (pytest.approx(0.1), pytest.approx(10.0))
    assert np.all(table["Emin[TeV]"] < table["Emean[TeV]"])
    assert np.all(table["Flux_error[TeV/cm2s]"] > 0)
    assert 1e-13 < np.median(table["Flux[TeV/cm2s]"]) < 1e-10
    assert table["Time"][0] == pytest.approx(57818.56, abs=0.01)
    assert np.all(np.abs(table["ra"] - 83.63) < 1.2)


def test_an_image_is_centred_on_the_source_with_the_pixels_of_the_query() -> None:
    (encoded,) = made(OutputDescription("fits", "image"))["numpy_data_product_list"]
    product = wire.decode_product(encoded)
    header = {card.keyword: card.value for card in product.units[0].header}
    data = product.units[0].data
    assert data is not None
    assert data.shape == (40, 40)
    assert (header["CRVAL1"], header["CRVAL2"], header["CDELT2"]) == (83.63, 22.01, 0.05)
    assert data[18:22, 18:22].mean() > 10 * data.mean() / 2


def test_a_binary_table_is_loaded_with_its_units_by_astropy() -> None:
    (item,) = made(OutputDescription("t", "binary_table", columns={"E": "TeV", "name": None}))[
        "astropy_table_product_binary_list"
    ]
    from oda_proxy.codec.pickle_allow_list import forbidden_names, names

    content = base64.b64decode(item["binary"])
    assert forbidden_names(names(content), tables=True) == ()
    assert b"astropy.table" in content
    assert b"TeV" in content


def test_strain_covers_the_time_of_the_query() -> None:
    measured, filtered = made(OutputDescription("s", "gw_strain"))["gw_strain_product_list"]
    assert (measured["name"], filtered["name"]) == ("Strain", "Strain_bp")
    assert len(measured["value"]) * measured["dt"] == pytest.approx(60.0)
    assert measured["t0"] == pytest.approx(1172842026.0)  # GPS time


def test_maps_are_those_of_the_events_in_the_times_of_the_query() -> None:
    times = {"T1": "2019-07-27T06:03:29", "T2": "2019-08-04T00:00:00", "contour_levels": "50,90"}
    output = OutputDescription("s", "gw_skymap")
    maps = made(output, query=replace(QUERY, parameters={**PARAMETERS, **times}))["gw_skymap_product"]
    events = ["GW190727_060333", "GW190728_064510", "GW190731_140936", "GW190803_022701"]
    assert list(maps["skymaps"]) == list(maps["contours"]) == events
    assert maps["skymaps"][events[0]]["name"] == "skymap_GW190727_060333"
    assert list(made(output)["gw_skymap_product"]["skymaps"]) == ["GW000000_000000"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"Radius": 1e30, "pixsize": 1e-30},
        {"Radius": -5.0, "pixsize": 0.0},
        {"DEC": 90.0},
        {"DEC": 1e300, "RA": -1e300},
        {"T1": "9999-12-31T23:59:59", "T2": "0001-01-01T00:00:00"},
        {"T1": "no time", "T2": None},
        {"Emin": 0.0, "Emax": -1.0},
        {"Emin": 1e300, "Emax": 5e-324},
        {"contour_levels": "a,,nan,1e9," + ",".join(map(str, range(500)))},
        {"src_name": "Ünïcode\n" * 100},
    ],
)
def test_no_query_makes_more_than_some_megabytes_or_an_error(parameters: dict[str, Any]) -> None:
    query = replace(QUERY, parameters={**PARAMETERS, **parameters})
    outputs = [OutputDescription(kind, kind, columns=COLUMNS) for kind in sorted(OUTPUT_KINDS)]
    body = json.dumps(made(*outputs, query=query))
    assert len(body) < MAX_BODY
    assert "Infinity" not in body


@pytest.mark.parametrize(
    ("product", "kind"),
    [
        ("Image", "image"),
        ("tel_lc", "light_curve"),
        ("gw_spectrogram", "ascii_table"),
        ("Spectrum", "ascii_table"),
        ("x", "ascii_table"),
    ],
)
def test_outputs_that_are_not_described_are_guessed_from_the_name(product: str, kind: str) -> None:
    assert [output.kind for output in guessed_outputs(product)] == [kind]


def test_the_public_descriptions_describe_the_outputs_of_every_product() -> None:
    (folder,) = MockSettings(public_instruments=True).description_folders
    instruments = read_descriptions(folder)
    assert len(instruments) >= 10
    for instrument in instruments:
        for query in instrument.queries:
            assert (query.outputs is None) == (query.product_name is None)


def test_a_description_adds_no_data_to_the_modelled_instruments() -> None:
    library = FixtureLibrary.open(MockSettings().folders, seed=0)
    query = NormalisedQuery("isgri", "spectral_fit", "Real", {})
    assert library.synthesise(query) is None
