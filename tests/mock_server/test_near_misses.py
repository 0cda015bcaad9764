"""A query without a fixture is told which one is nearest, and what differs, in words that an astronomer uses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import make_app
from mock_server.matching import Question
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
QUESTION = Question("isgri", "isgri_image", "Real", PARAMETERS)


def asks(**changes: Any) -> Question:
    return replace(QUESTION, parameters={**PARAMETERS, **changes})


def with_catalog(**changes: Any) -> Question:
    return asks(selected_catalog=json.dumps({**CATALOG, **changes}))


def explain(question: Question, *known: Question, given: Iterable[str] = PARAMETERS) -> str:
    paths = [(other, f"fixture-{number}") for number, other in enumerate(known)]
    return explain_miss(question, paths, units=UNITS, given=set(given))


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (asks(T2="2003-03-16T00:03:24.000"), "T2 is 12.0 s later"),
        (asks(T1="2003-03-15T23:27:39.995"), "T1 is 0.005 s earlier"),
        (asks(T1="2003-03-15T23:17:40.000"), "T1 is 10.0 min earlier"),
        (asks(T2="2003-03-16T12:03:12.000"), "T2 is 12.0 h later"),
        (asks(T2="2013-03-16T00:03:12.000"), "T2 is 3653.0 d later"),
        (asks(osa_version=None), "osa_version is missing"),
        (asks(radius=15.0), "radius is given (15.0)"),
        (asks(RA=84.0), "RA is 0.5 deg greater"),
        (asks(DEC=21.99), "DEC is 0.01 deg smaller"),
        (asks(E2_keV=60.0), "E2_keV is 60 and not 40"),
        (asks(max_pointings=51), "max_pointings is 51 and not 50"),
        (asks(src_name="Crab pulsar"), "src_name is Crab pulsar and not Crab"),
        (asks(src_name="x" * 100), f"src_name is {'x' * 60}... and not Crab"),
        (asks(RA=float("nan")), "RA is nan and not 83.5"),
        (asks(scw_list=["010200240010.001", "010200230010.001"]), "scw_list is in another order"),
        (asks(scw_list=["010200230010.001"]), "scw_list lacks 010200240010.001"),
        (asks(scw_list=[*PARAMETERS["scw_list"], "a", "b", "c", "d"]), "scw_list has also a, b, c and 1 more"),  # type: ignore[misc]
        (asks(scw_list=[]), "scw_list is missing"),
        (with_catalog(cat_column_list=[[1], ["Crab"], [83.63]]), "selected_catalog lacks A"),
        (
            with_catalog(cat_column_list=[[1, 2], ["Crab", "B"], [83.63, 84.0]]),
            "selected_catalog lacks A and has also B",
        ),
        (
            with_catalog(cat_column_list=[[1, 2], ["Crab", "A"], [83.63, 84.5]]),
            "selected_catalog has the same sources, but other values",
        ),
        (asks(selected_catalog=None), "selected_catalog is missing"),
        (replace(QUESTION, query_type="Dummy"), "query_type is Dummy and not Real"),
        (replace(QUESTION, api=False), "api is missing"),
        (replace(QUESTION, files={"user_catalog_file": "0" * 64}), f"file user_catalog_file is given ({'0' * 60}...)"),
    ],
)
def test_one_difference_is_told_in_the_terms_of_the_field(question: Question, told: str) -> None:
    assert explain(question, QUESTION) == (
        f"no fixture for isgri isgri_image: the nearest is fixture-0; in your query {told}"
    )


def test_several_differences_are_told_in_one_line() -> None:
    told = explain(asks(T2="2003-03-16T00:03:24.000", osa_version=None, RA=84.0, E2_keV=60.0), QUESTION)
    assert told.endswith(
        "in your query RA is 0.5 deg greater; T2 is 12.0 s later; E2_keV is 60 and not 40; osa_version is missing"
    )


def test_a_default_is_called_one() -> None:
    told = explain(asks(E2_keV=60.0), QUESTION, given=set(PARAMETERS) - {"E2_keV"})
    assert told.endswith("E2_keV is 60 and not 40 (it was not given: that is its default)")


def test_very_many_differences_are_counted() -> None:
    told = explain(asks(**{f"p{number}": 1 for number in range(12)}), QUESTION)
    assert told.endswith("p7 is given (1); and 4 more differences")


def test_the_fewest_differences_are_nearest() -> None:
    one, two = asks(E2_keV=60.0), asks(RA=83.5001, DEC=22.0001)
    assert "the nearest is fixture-1; " in explain(QUESTION, two, one)


@pytest.mark.parametrize(
    ("near", "far"),
    [
        (asks(T2="2003-03-16T00:03:24.000"), asks(T2="2003-03-16T02:03:24.000")),
        (asks(RA=84.0), asks(RA=94.0)),
        (asks(E2_keV=41.0), asks(E2_keV=400.0)),
        (asks(E2_keV=41.0), asks(src_name="another")),
        (asks(scw_list=["010200240010.001", "010200230010.001"]), asks(scw_list=["another"])),
    ],
)
def test_of_as_many_differences_the_smaller_are_nearest(near: Question, far: Question) -> None:
    assert "the nearest is fixture-1; " in explain(QUESTION, far, near)
    assert "the nearest is fixture-0; " in explain(QUESTION, near, far)


def test_without_any_fixture_of_the_product_those_are_named_that_have_one() -> None:
    assert explain(replace(QUESTION, product="isgri_lc"), QUESTION) == (
        "no fixture for isgri isgri_lc: there are fixtures for isgri isgri_image"
    )
    assert explain(QUESTION) == "no fixture for isgri isgri_image: there are fixtures for nothing"


async def test_the_notebooks_image_asked_slightly_otherwise_is_told_what_is_wrong() -> None:
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
