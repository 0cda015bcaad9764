"""The message for a query without a fixture: the nearest fixture and the differences, for an astronomer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import make_app
from mock_server.matching import NormalisedQuery
from mock_server.near_misses import explain_miss
from mock_server.settings import MockSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

COLUMNS = ["meta_ID", "src_names", "ra"]
CATALOG = {"cat_column_names": COLUMNS, "cat_column_list": [[1, 2], ["Crab", "A"], [83.63, 84.0]]}
PARAMETERS = {
    "src_name": "Crab",
    "RA": 83.5,
    "DEC": 22.0,
    "T1": "2003-03-15T23:27:40.000",
    "T2": "2003-03-16T00:03:12.000",
    "E1_keV": 20.0,
    "E2_keV": 40.0,
    "osa_version": "OSA10.2",
    "max_pointings": 50,
    "scw_list": ["010200230010.001", "010200240010.001"],
    "selected_catalog": json.dumps(CATALOG),
}
UNITS = {"RA": "deg", "DEC": "deg", "E1_keV": "keV", "E2_keV": "keV"}
QUERY = NormalisedQuery("isgri", "isgri_image", "Real", PARAMETERS)


def query_with(**changes: Any) -> NormalisedQuery:
    return replace(QUERY, parameters={**PARAMETERS, **changes})


def with_catalog(**changes: Any) -> NormalisedQuery:
    return query_with(selected_catalog=json.dumps({**CATALOG, **changes}))


def explain(query: NormalisedQuery, *others: NormalisedQuery, argument_names: Iterable[str] = PARAMETERS) -> str:
    paths = [(other, f"fixture-{number}") for number, other in enumerate(others)]
    return explain_miss(query, paths, units=UNITS, argument_names=set(argument_names))


@pytest.mark.parametrize(
    ("query", "difference"),
    [
        (query_with(T2="2003-03-16T00:03:24.000"), "T2 is 12.0 s later"),
        (query_with(T1="2003-03-15T23:27:39.995"), "T1 is 0.005 s earlier"),
        (query_with(T1="2003-03-15T23:17:40.000"), "T1 is 10.0 min earlier"),
        (query_with(T2="2003-03-16T12:03:12.000"), "T2 is 12.0 h later"),
        (query_with(T2="2013-03-16T00:03:12.000"), "T2 is 3653.0 d later"),
        (query_with(osa_version=None), "osa_version is missing"),
        (query_with(radius=15.0), "radius is given (15.0)"),
        (query_with(RA=84.0), "RA is 0.5 deg greater"),
        (query_with(DEC=21.99), "DEC is 0.01 deg smaller"),
        (query_with(E2_keV=60.0), "E2_keV is 60 and not 40"),
        (query_with(max_pointings=51), "max_pointings is 51 and not 50"),
        (query_with(src_name="Crab pulsar"), "src_name is Crab pulsar and not Crab"),
        (query_with(src_name="x" * 100), f"src_name is {'x' * 60}... and not Crab"),
        (query_with(RA=float("nan")), "RA is nan and not 83.5"),
        (query_with(scw_list=["010200240010.001", "010200230010.001"]), "scw_list is in another order"),
        (query_with(scw_list=["010200230010.001"]), "scw_list lacks 010200240010.001"),
        (query_with(scw_list=[*PARAMETERS["scw_list"], "a", "b", "c", "d"]), "scw_list has also a, b, c and 1 more"),  # type: ignore[misc]
        (query_with(scw_list=[]), "scw_list is missing"),
        (with_catalog(cat_column_list=[[1], ["Crab"], [83.63]]), "selected_catalog lacks A"),
        (
            with_catalog(cat_column_list=[[1, 2], ["Crab", "B"], [83.63, 84.0]]),
            "selected_catalog lacks A and has also B",
        ),
        (
            with_catalog(cat_column_list=[[1, 2], ["Crab", "A"], [83.63, 84.5]]),
            "selected_catalog has the same sources, but other values",
        ),
        (query_with(selected_catalog=None), "selected_catalog is missing"),
        (replace(QUERY, query_type="Dummy"), "query_type is Dummy and not Real"),
        (replace(QUERY, api=False), "api is missing"),
        (replace(QUERY, files={"user_catalog_file": "0" * 64}), f"file user_catalog_file is given ({'0' * 60}...)"),
    ],
)
def test_one_difference_is_named_in_the_terms_of_an_astronomer(query: NormalisedQuery, difference: str) -> None:
    assert explain(query, QUERY) == (
        f"no fixture for isgri isgri_image: the nearest is fixture-0; in your query {difference}"
    )


def test_several_differences_are_in_one_line() -> None:
    message = explain(query_with(T2="2003-03-16T00:03:24.000", osa_version=None, RA=84.0, E2_keV=60.0), QUERY)
    assert message.endswith(
        "in your query RA is 0.5 deg greater; T2 is 12.0 s later; E2_keV is 60 and not 40; osa_version is missing"
    )


def test_a_default_is_marked_as_such() -> None:
    message = explain(query_with(E2_keV=60.0), QUERY, argument_names=set(PARAMETERS) - {"E2_keV"})
    assert message.endswith("E2_keV is 60 and not 40 (it was not given: that is its default)")


def test_very_many_differences_are_counted() -> None:
    message = explain(query_with(**{f"p{number}": 1 for number in range(12)}), QUERY)
    assert message.endswith("p7 is given (1); and 4 more differences")


def test_the_fewest_differences_are_nearest() -> None:
    one, two = query_with(E2_keV=60.0), query_with(RA=83.5001, DEC=22.0001)
    assert "the nearest is fixture-1; " in explain(QUERY, two, one)


@pytest.mark.parametrize(
    ("near", "far"),
    [
        (query_with(T2="2003-03-16T00:03:24.000"), query_with(T2="2003-03-16T02:03:24.000")),
        (query_with(RA=84.0), query_with(RA=94.0)),
        (query_with(E2_keV=41.0), query_with(E2_keV=400.0)),
        (query_with(E2_keV=41.0), query_with(src_name="another")),
        (query_with(scw_list=["010200240010.001", "010200230010.001"]), query_with(scw_list=["another"])),
    ],
)
def test_with_equally_many_differences_the_smaller_ones_are_nearest(
    near: NormalisedQuery, far: NormalisedQuery
) -> None:
    assert "the nearest is fixture-1; " in explain(QUERY, far, near)
    assert "the nearest is fixture-0; " in explain(QUERY, near, far)


def test_without_a_fixture_of_the_product_the_products_with_fixtures_are_named() -> None:
    assert explain(replace(QUERY, product="isgri_lc"), QUERY) == (
        "no fixture for isgri isgri_lc: there are fixtures for isgri isgri_image"
    )
    assert explain(QUERY) == "no fixture for isgri isgri_image: there are fixtures for nothing"


async def test_a_slightly_changed_query_of_the_notebook_gets_the_difference() -> None:
    query = {
        "T1": "2003-03-15T23:27:40.0",
        "T2": "2003-03-16T00:03:27.0",
        "E1_keV": "20",
        "E2_keV": "60",
        "RA": "256.486542",
        "DEC": "-37.844167",
        "detection_threshold": "5.0",
        "radius": "15",
        "instrument": "isgri",
        "product_type": "isgri_image",
        "query_type": "Real",
    }
    async with (
        TestClient(TestServer(make_app(MockSettings()))) as client,
        client.get("/run_analysis", params={**query, "query_status": "new", "api": "True"}) as response,
    ):
        assert response.status == 400
        answer = await response.json()
    assert (
        answer["exit_status"]["message"]
        == answer["error"]
        == (
            "no fixture for isgri isgri_image: the nearest is isgri/isgri_image/4u1700-377; in your query "
            "T2 is 12.0 s later; E2_keV is 60 and not 40; RA is 0.5 deg greater; osa_version is missing"
        )
    )
