"""Mosaics of ISGRI, shipped and made up, have the HDUs of today; dummies and those of 2019 have fewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import make_app
from mock_server.fixture_library import FixtureLibrary
from mock_server.matching import NormalisedQuery
from mock_server.settings import MockSettings
from oda_proxy.codec import wire
from tests.support.image_query import IMAGE

if TYPE_CHECKING:
    from mock_server.settings import Generation
    from oda_proxy.codec.product import DataUnit

FIELD = {"RA": 255.986542, "DEC": -37.844167, "radius": 15.0, "detection_threshold": 5.0, "osa_version": "OSA10.2"}
ENERGIES = {"E1_keV": 20.0, "E2_keV": 40.0}
SHIPPED = {"T1": "2003-03-15T23:27:40.000", "T2": "2003-03-16T00:03:15.000", **FIELD, **ENERGIES}
CRAB = {"src_name": "Crab", "RA": 83.63, "DEC": 22.01, "T1": "2004-03-15T23:27:40.000", "T2": "2004-03-16T00:03:15.000"}
MAPS = ["INTENSITY", "VARIANCE", "SIGNIFICANCE", "EXPOSURE"]
QUERIES = {"shipped": SHIPPED, "made up": {**CRAB, **ENERGIES}}
all_mosaics = pytest.mark.parametrize("mosaic", QUERIES)


def units(mosaic: str, generation: Generation = "today", query_type: str = "Real") -> tuple[DataUnit, ...]:
    library = FixtureLibrary.open(MockSettings(generation=generation).folders, seed=0, generation=generation)
    parameters = {**source_defaults(library), **QUERIES[mosaic]}
    query = NormalisedQuery("isgri", "isgri_image", query_type, parameters)
    fixture = library.find(query) or library.synthesise(query)
    assert fixture is not None
    assert ("synthetic" in fixture.path) == (mosaic == "made up" and query_type == "Real")
    (product,) = fixture.wire_products()["numpy_data_product_list"]
    return wire.decode_product(product).units


def source_defaults(library: FixtureLibrary) -> dict[str, Any]:
    """Return the parameters of the shipped mosaic that its query leaves out."""
    query, _ = next((query, fixture) for query, fixture in library.index.queries if query.product == "isgri_image")
    return {name: value for name, value in query.parameters.items() if name not in SHIPPED}


def cards(unit: DataUnit) -> dict[str, Any]:
    return {card.keyword: card.value for card in unit.header}


@all_mosaics
def test_today_it_has_six_hdus_in_which_the_fifth_is_the_significance(mosaic: str) -> None:
    primary, index, *images = units(mosaic)
    assert [unit.name for unit in (primary, index, *images)] == ["Primary", "GROUPING", *["ISGR-MOSA-IMA"] * 4]
    assert [cards(unit)["IMATYPE"] for unit in images] == MAPS
    assert [cards(unit)["EXTVER"] for unit in images] == [1, 2, 3, 4]
    assert cards(primary).keys() == {"SIMPLE", "BITPIX", "NAXIS", "EXTEND"}
    assert index.data is not None
    assert [kind.decode() for kind in index.data["IMATYPE"]] == MAPS
    assert index.data["MEMBER_POSITION"].tolist() == [3, 4, 5, 6]


@all_mosaics
def test_significance_is_intensity_in_units_of_its_error_and_errors_grow_with_less_exposure(mosaic: str) -> None:
    intensity, variance, significance, exposure = (np.asarray(unit.data, float) for unit in units(mosaic)[2:])
    seen = np.isfinite(significance)
    assert np.allclose(intensity[seen] / np.sqrt(variance[seen]), significance[seen], rtol=1e-4, atol=0)
    background = (variance * exposure)[seen]
    assert np.allclose(background, background[0], rtol=1e-4, atol=0)
    assert (exposure[seen] > 0).all()
    assert exposure[seen].max() == pytest.approx({"shipped": 1587.06, "made up": 2135.0}[mosaic], rel=0.01)


@all_mosaics
def test_all_maps_have_values_in_the_same_field_with_the_same_coordinates(mosaic: str) -> None:
    images = units(mosaic)[2:]
    fields = [np.isfinite(np.asarray(unit.data, float)) for unit in images]
    assert 0.3 < fields[0].mean() < 0.9
    assert not any(fields[0][row, column] for row in (0, -1) for column in (0, -1))
    for unit, field in zip(images, fields, strict=True):
        assert (field == fields[0]).all()
        assert cards(unit).keys() == cards(images[0]).keys()
        same = {name for name in cards(unit) if name[:2] in ("CR", "CD", "CT", "CU") or name.startswith("NAXIS")}
        assert {name: cards(unit)[name] for name in same} == {name: cards(images[0])[name] for name in same}


@pytest.mark.parametrize(("generation", "query_type"), [("2019", "Real"), ("2019", "Dummy"), ("today", "Dummy")])
@all_mosaics
def test_in_2019_and_as_a_dummy_it_has_the_significance_alone(
    mosaic: str, generation: Generation, query_type: str
) -> None:
    primary, image = units(mosaic, generation, query_type)
    assert primary.name.upper() == "PRIMARY"
    assert (image.name, cards(image)["IMATYPE"]) == ("ISGR-MOSA-IMA", "SIGNIFICANCE")


async def test_a_dummy_is_done_at_once_and_the_same_for_all_parameters() -> None:
    products = []
    async with TestClient(TestServer(make_app(MockSettings()))) as client:
        for radius in ("15.0", "3.0"):
            params = {**IMAGE, "query_type": "Dummy", "radius": radius}
            async with client.get("/run_analysis", params=params) as response:
                content = await response.json()
            assert content["query_status"] == "done"
            products.append(content["products"]["numpy_data_product_list"])
    assert products[0] == products[1]
