"""An answer whose echo contradicts the query is not the answer to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from oda_proxy.query.echo import confirms, contradictions
from oda_proxy.query.query import parse_fields, split_query
from tests.support.sample_descriptions import IMAGE_ARGUMENTS, OLD_SCHEMA, SCHEMA

if TYPE_CHECKING:
    from oda_proxy.query.query import Query
    from oda_proxy.query.schema import Schema

# As dispatcher 1.3.6 repeats the parameters of an image, without the client.
ECHO: dict[str, Any] = {
    "instrument": "isgri",
    "product_type": "isgri_image",
    "query_type": "Real",
    "src_name": "1E 1740.7-2942",
    "RA": 265.97845833,
    "DEC": -29.74516667,
    "T1": "2017-03-06T13:26:48.000",
    "T2": "2017-03-06T15:32:27.000",
    "T_format": "isot",
    "selected_catalog": None,
    "radius": 15.0,
    "max_pointings": 50,
    "osa_version": "OSA11.2",
    "E1_keV": 20.0,
    "E2_keV": 40.0,
    "detection_threshold": 7.0,
    "image_scale_min": None,
    "flag": False,
    "table": {"a": 1, "b": [1.5]},
    "band": 1.0,
    "band_units": "keV",
    "sources": ["a"],
}
CATALOGUE = '{"cat_frame": "fk5", "cat_column_list": [[1], ["a"], [7.5]]}'


def query(words: str) -> Query:
    return split_query(parse_fields(f"{IMAGE_ARGUMENTS}&{words}"))[0]


@pytest.mark.parametrize("schema", [SCHEMA, OLD_SCHEMA, None], ids=["today", "old", "none"])
@pytest.mark.parametrize(
    ("words", "echo"),
    [
        ("", {}),
        ("RA=83.630", {"RA": 83.63}),
        ("RA=0.1000000000000000055511151231257827", {"RA": 0.1}),
        ("RA=05h34m32s", {"RA": 83.63333333333331}),
        ("T1=52713.97754629630&T_format=mjd", {"T1": "2003-03-15T23:27:40.000"}),
        ("T1=2003-03-15T23:27:40", {"T1": "2003-03-15T23:27:40.000"}),
        ("osa_version= OSA10.2 ", {"osa_version": "OSA10.2"}),
        ("max_pointings=40", {"max_pointings": 40}),
        ("scw_list=a,b", {"scw_list": ["a", "b"]}),
        ("scw_list=a&scw_list=b", {"scw_list": ["a", "b"]}),
        (f"selected_catalog={quote(CATALOGUE)}", {"selected_catalog": CATALOGUE}),
        (f"selected_catalog={quote(CATALOGUE)}", {"selected_catalog": CATALOGUE.replace(" ", "")}),
        ("detection_thresholds=5", {}),  # an argument it does not know is dropped
        ("time_bin=70.0", {"time_bin": "70.0"}),
        ("radius=nan", {"radius": float("nan")}),
    ],
)
def test_what_the_dispatcher_repeats_in_its_own_form_agrees(
    schema: Schema | None, words: str, echo: dict[str, Any]
) -> None:
    assert contradictions(query(words), schema, ECHO | echo) == []


@pytest.mark.parametrize(
    ("words", "echo"),
    [
        ("band=2", {"band": 2000.0}),
        ("band=2000&band_units=keV", {"band": 2000.0}),
        ("image_scale_min=", {}),
        ("flag=yes", {"flag": True}),
        ('table={"a": 2}', {"table": '{"a": 2}'}),
        ('x=[1, "a"]', {"x": [1, "a"]}),
        ("x=%00", {"x": None}),
    ],
)
def test_todays_dispatcher_agrees_in_more(words: str, echo: dict[str, Any]) -> None:
    assert contradictions(query(words), SCHEMA, ECHO | echo) == []


def test_an_angle_may_be_repeated_in_another_unit() -> None:
    assert contradictions(query("radius=1"), OLD_SCHEMA, ECHO | {"radius": 3600.0}) == []


@pytest.mark.parametrize("schema", [SCHEMA, OLD_SCHEMA], ids=["today", "old"])
@pytest.mark.parametrize(
    ("words", "echo", "name"),
    [
        ("RA=83", {"RA": 38.0}, "RA"),
        ("RA=83", {"RA": None}, "RA"),
        ("RA=83", {"RA": "x"}, "RA"),
        ("RA=83.63", {"RA": 83.630001}, "RA"),
        ("", {"E1_keV": 15.0}, "E1_keV"),  # a default that changed
        ("T1=2003-01-12T00:00:00", {"T1": "2003-01-21T00:00:00.000"}, "T1"),
        ("src_name=ab", {"src_name": "ba"}, "src_name"),
        ("scw_list=a,b", {"scw_list": ["b", "a"]}, "scw_list"),
        (
            f"selected_catalog={quote(CATALOGUE)}",
            {"selected_catalog": CATALOGUE.replace("7.5", "5.7")},
            "selected_catalog",
        ),
        ("", {"instrument": "jemx"}, "instrument"),
        ("x=ab", {"x": "ba"}, "x"),
        ("x=83", {"x": 38}, "x"),
        ("x=a,b", {"x": ["b", "a"]}, "x"),
    ],
)
def test_another_value_contradicts(schema: Schema, words: str, echo: dict[str, Any], name: str) -> None:
    assert contradictions(query(words), schema, ECHO | echo) == [name]


@pytest.mark.parametrize(
    ("words", "echo", "names"),
    [
        ("RA=83", {"RA": 38.0}, ["RA"]),
        ("T1=2003-01-12T00:00:00", {"T1": "2003-01-21T00:00:00.000"}, ["T1"]),
        ("T1=52713&T_format=mjd", {}, []),  # cannot be compared without knowing what it is
        ("band=1&band_units=MeV", {"band": 1000.0}, []),
        ("src_name=ab", {"src_name": "ba"}, ["src_name"]),
    ],
)
def test_without_a_description_only_what_can_be_compared_contradicts(
    words: str, echo: dict[str, Any], names: list[str]
) -> None:
    assert contradictions(query(words), None, ECHO | echo) == names


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_null_in_a_repaired_answer_is_the_echo_of_nan_and_infinities(value: str) -> None:
    assert contradictions(query(f"RA={value}"), SCHEMA, ECHO | {"RA": None}) == []
    assert contradictions(query("RA=83"), SCHEMA, ECHO | {"RA": None}) == ["RA"]


def test_null_in_a_repaired_answer_is_the_echo_of_nan_in_a_catalogue() -> None:
    sent = quote('{"a": [1, NaN], "b": "NaN"}')
    for schema in (SCHEMA, None):
        for echo in ({"a": [1, None], "b": "NaN"}, '{"a": [1, null], "b": "NaN"}', '{"a":[1,NaN],"b":"NaN"}'):
            assert contradictions(query(f"selected_catalog={sent}"), schema, ECHO | {"selected_catalog": echo}) == []
    other = {"a": [2, None], "b": "NaN"}
    assert contradictions(query(f"selected_catalog={sent}"), SCHEMA, ECHO | {"selected_catalog": other})


def test_an_echo_confirms_a_query_when_it_shows_all_that_was_sent() -> None:
    assert confirms(query("RA=83"), SCHEMA, ECHO | {"RA": 83.0})
    assert not confirms(query("RA=83"), SCHEMA, ECHO)
    assert not confirms(query("new=5"), SCHEMA, ECHO)  # the dispatcher that answered did not know it
    assert not confirms(query(""), SCHEMA, {})


def test_an_echo_without_what_was_left_out_confirms_and_one_with_another_default_does_not() -> None:
    shorter = {name: value for name, value in ECHO.items() if name != "max_pointings"}

    assert confirms(query(""), SCHEMA, shorter)
    assert not confirms(query(""), SCHEMA, ECHO | {"max_pointings": 100})
