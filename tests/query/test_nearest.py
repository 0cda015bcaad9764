"""The difference from the nearest recording is described in the terms of the field."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from oda_proxy.query.message_text import shorten
from oda_proxy.query.nearest import join_differences, nearest
from oda_proxy.query.normalised import NormalisedQuery, normalise
from oda_proxy.query.query import parse_fields, split_query
from tests.support.sample_descriptions import IMAGE_ARGUMENTS, SCHEMA, normalised

if TYPE_CHECKING:
    from oda_proxy.query.schema import Schema

COLUMNS = ["meta_ID", "src_names", "ra"]
CATALOG = {"cat_column_names": COLUMNS, "cat_column_list": [[1, 2], ["Crab", "A"], [83.63, 84.0]]}
PARAMETERS = {
    "src_name": "Crab",
    "RA": "83.5",
    "DEC": "22.0",
    "T1": "2003-03-15T23:27:40.000",
    "T2": "2003-03-16T00:03:12.000",
    "E1_keV": "20.0",
    "E2_keV": "40.0",
    "osa_version": "OSA10.2",
    "max_pointings": "50",
    "scw_list": "010200230010.001,010200240010.001",
    "selected_catalog": json.dumps(CATALOG),
}


def query(schema: Schema | None = SCHEMA, /, **changes: str | None) -> NormalisedQuery:
    given = {name: value for name, value in {**PARAMETERS, **changes}.items() if value is not None}
    return normalised(urlencode(given), schema)


def catalog(**changes: Any) -> str:
    return json.dumps({**CATALOG, **changes})


def differences(one: NormalisedQuery, other: NormalisedQuery) -> str:
    near = nearest(one, [("the only one", other)])
    assert near is not None
    return join_differences(difference.text for difference in near.differences)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"T2": "2003-03-16T00:03:24.000"}, "T2 is 12.0 s later"),
        ({"T1": "2003-03-15T23:27:39.995"}, "T1 is 0.005 s earlier"),
        ({"T1": "2003-03-15T23:17:40.000"}, "T1 is 10.0 min earlier"),
        ({"T2": "2003-03-16T12:03:12.000"}, "T2 is 12.0 h later"),
        ({"T2": "2013-03-16T00:03:12.000"}, "T2 is 3653.0 d later"),
        ({"T2": "next Tuesday"}, "T2 is next Tuesday and not 2003-03-16T00:03:12.000"),
        ({"RA": "84.0"}, "RA is 0.5 deg greater"),
        ({"DEC": "21.99"}, "DEC is 0.01 deg smaller"),
        ({"RA": "05h36m00s"}, "RA is 0.5 deg greater"),
        ({"RA": "nan"}, "RA is nan deg and not 83.5 deg"),
        ({"RA": "83.500000000000000000001"}, "RA is 83.500000000000000000001 deg and not 83.5 deg"),
        ({"RA": "\x00"}, "RA is missing"),
        ({"E2_keV": "60"}, "E2_keV is 60 keV and not 40 keV"),
        ({"max_pointings": "51"}, "max_pointings is 51 and not 50"),
        ({"max_pointings": None, "E1_keV": "20"}, ""),
        ({"osa_version": None}, "osa_version is OSA11.2 and not OSA10.2 (it was not given: that is its default)"),
        ({"src_name": "Crab pulsar"}, "src_name is Crab pulsar and not Crab"),
        ({"src_name": "x" * 100}, f"src_name is {'x' * 60}... and not Crab"),
        ({"src_name": "Crab\x1b[2J\n"}, "src_name is Crab\\x1b[2J and not Crab"),
        ({"flag": "yes"}, "flag is true and not false"),
        ({"image_scale_min": "2"}, "image_scale_min is given (2)"),
        ({"misspelt": "1"}, "misspelt is given (1)"),
        ({"table": "{}"}, 'table is {} and not {"a":1,"b":[1.5]}'),
        ({"scw_list": "010200240010.001,010200230010.001"}, "scw_list is in another order"),
        ({"scw_list": "010200230010.001"}, "scw_list lacks 010200240010.001"),
        (
            {"scw_list": "010200230010.001,010200230010.001,010200240010.001"},
            "scw_list has the same items, some repeated",
        ),
        (
            {"scw_list": "010200230010.001,010200240010.001,a,b,c,d"},
            "scw_list has also a, b, c and 1 more",
        ),
        ({"scw_list": ""}, "scw_list is missing"),
        ({"selected_catalog": catalog(cat_column_list=[[1], ["Crab"], [83.63]])}, "selected_catalog lacks A"),
        (
            {"selected_catalog": catalog(cat_column_list=[[1, 2], ["Crab", "B"], [83.63, 84.0]])},
            "selected_catalog lacks A and has also B",
        ),
        (
            {"selected_catalog": catalog(cat_column_list=[[1, 2], ["Crab", "A"], [83.63, 84.5]])},
            "selected_catalog has the same sources, but other values",
        ),
        ({"selected_catalog": "{}"}, "selected_catalog has other values"),
        ({"selected_catalog": None}, "selected_catalog is missing"),
    ],
)
def test_one_difference_is_described_in_the_terms_of_the_field(changes: dict[str, str | None], expected: str) -> None:
    assert differences(query(**changes), query()) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"selected_catalog": None}, "selected_catalog is given (with Crab, A)"),
        ({"scw_list": None}, "scw_list is given (010200230010.001,010200240010.001)"),
        ({"RA": "\x00"}, "RA is given (83.5 deg)"),
    ],
)
def test_what_the_recording_lacks_is_named(changes: dict[str, str | None], expected: str) -> None:
    assert differences(query(), query(**changes)) == expected


def test_two_spellings_of_one_value_are_no_difference() -> None:
    one = query(
        RA="8.35e1", T1="2003-03-15 23:27:40", T_format="iso", T2="2003-03-16 00:03:12", osa_version=" OSA10.2 "
    )

    assert differences(one, query()) == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"RA": "84.0"}, "RA is 84 and not 83.5"),
        ({"RA": "83.50"}, "RA is written 83.50 and not 83.5"),
        ({"T2": "2003-03-16T00:33:12.000"}, "T2 is 30.0 min later"),
        (
            {"T2": "2003-03-16T00:33:12.000+00:00"},
            "T2 is 2003-03-16T00:33:12.000+00:00 and not 2003-03-16T00:03:12.000",
        ),
        (
            {"selected_catalog": catalog(cat_column_list=[[1], ["Crab"], [83.63]])},
            "selected_catalog lacks A",
        ),
    ],
)
def test_without_a_description_values_are_compared_as_what_they_look_like(
    changes: dict[str, str | None], expected: str
) -> None:
    assert differences(query(None, **changes), query(None)) == expected


def test_a_default_that_may_be_converted_differs_from_the_same_value_sent() -> None:
    assert differences(query(band="1", band_units="MeV"), query()) == "band is written 1,MeV and not as its default"


def test_several_differences_are_described_in_one_line() -> None:
    joined = differences(query(T2="2003-03-16T00:03:24.000", RA="84", osa_version="OSA11.2"), query())

    assert joined == "RA is 0.5 deg greater; T2 is 12.0 s later; osa_version is OSA11.2 and not OSA10.2"


def test_very_many_differences_are_counted() -> None:
    many = differences(query(**{f"p{number:02}": "1" for number in range(12)}), query())

    assert many.endswith("p07 is given (1); and 4 more differences")


def test_query_type_and_files_are_described_too() -> None:
    words = "instrument=isgri&product_type=isgri_image&query_type="
    query, _ = split_query(parse_fields(f"{words}Dummy&api=True"), [("user_catalog_file", "0" * 64)])
    other, _ = split_query(parse_fields(f"{words}Real&api=True"))

    assert differences(normalise(query, SCHEMA), normalise(other, SCHEMA)) == (
        f"query_type is Dummy and not Real; file user_catalog_file is given ({'0' * 60}...)"
    )


@pytest.mark.parametrize(
    ("near", "far"),
    [
        ({"E2_keV": "60"}, {"RA": "83.5001", "DEC": "22.0001"}),
        ({"T2": "2003-03-16T00:03:24.000"}, {"T2": "2003-03-16T02:03:24.000"}),
        ({"RA": "84.0"}, {"RA": "94.0"}),
        ({"E2_keV": "41.0"}, {"E2_keV": "400.0"}),
        ({"E2_keV": "41.0"}, {"src_name": "another"}),
        ({"scw_list": "010200240010.001,010200230010.001"}, {"scw_list": "another"}),
    ],
)
def test_near_is_what_differs_in_the_fewest_things_and_least_in_them(near: dict[str, str], far: dict[str, str]) -> None:
    for known in [("near", query(**near)), ("far", query(**far))], [("far", query(**far)), ("near", query(**near))]:
        found = nearest(query(), known)
        assert found is not None
        assert found.recorded == "near"


def test_of_equals_the_first_is_taken() -> None:
    found = nearest(query(), [(name, query(RA="84")) for name in ("first", "second")])

    assert found is not None
    assert found.recorded == "first"


def test_another_product_or_instrument_is_never_near() -> None:
    curve, _ = split_query(parse_fields(IMAGE_ARGUMENTS.replace("isgri_image", "isgri_lc")))
    jemx, _ = split_query(parse_fields(IMAGE_ARGUMENTS.replace("=isgri&", "=jemx&")))

    assert nearest(query(), [("curve", normalise(curve, SCHEMA)), ("jemx", normalise(jemx, None))]) is None


def test_what_is_long_is_cut_and_what_does_not_print_is_spelled() -> None:
    assert shorten("a" * 61) == "a" * 60 + "..."
    assert shorten("a\udc80\u202e") == "a\\udc80\\u202e"
