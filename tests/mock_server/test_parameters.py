"""Parameters are read, checked and normalised as by dispatcher 1.3.6."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from mock_server.descriptions import Description, UnknownProductError
from mock_server.parameter_values import BadParameterError
from mock_server.parameters import BadParameter2019Error, check, check_2019, read_arguments
from oda_proxy.fixture.model import Instrument, ParameterDescription, QueryDescription
from tests.support.mock_fixtures import ISGRI

CATALOG = json.dumps({"cat_frame": "fk5", "cat_coord_units": "deg", "cat_column_list": [], "cat_column_names": []})


def description_of(document: dict[str, Any]) -> Description:
    queries = tuple(
        QueryDescription(
            query_name=query["query_name"],
            product_name=query.get("product_name"),
            parameters=tuple(ParameterDescription(**parameter) for parameter in query["parameters"]),
        )
        for query in document["queries"]
    )
    return Description(Instrument(document["instrument"], document["prod_dict"], queries))


INSTRUMENT = description_of(ISGRI)
KINDS = Description(
    Instrument(
        "kinds",
        {"product": "product_query"},
        (
            QueryDescription("src_query", None, ()),
            QueryDescription(
                "product_query",
                "product",
                (
                    ParameterDescription("flag", None, False),
                    ParameterDescription("number", None, 1),
                    ParameterDescription("names", None, ["a"]),
                    ParameterDescription("text", "str", "a"),
                    ParameterDescription("free", None, None, kind="float"),
                ),
            ),
        ),
    )
)


# -- reading


def test_the_query_string_overrides_the_form_and_the_first_of_equal_names_wins() -> None:
    arguments = read_arguments([("RA", "1"), ("RA", "2")], [("RA", "3"), ("DEC", "4")])
    assert arguments == {"RA": "1", "DEC": "4"}


def test_only_science_windows_keep_repetitions() -> None:
    pairs = [("scw_list", "a"), ("p_list", "a"), ("scw_list", "b"), ("p_list", "b")]
    assert read_arguments(pairs, ()) == {"scw_list": ["a", "b"], "p_list": "a"}


def test_nul_is_null_and_json_lists_and_objects_are_parsed_but_numbers_are_not() -> None:
    pairs = [("a", "\0"), ("b", '[1, "x"]'), ("c", '{"d": 1}'), ("e", "1.0"), ("f", "true"), ("g", "[1")]
    assert read_arguments(pairs, ()) == {"a": None, "b": [1, "x"], "c": {"d": 1}, "e": "1.0", "f": "true", "g": "[1"}


def test_a_selected_catalogue_stays_text() -> None:
    assert read_arguments([("selected_catalog", CATALOG)], ()) == {"selected_catalog": CATALOG}


# -- normalising


def checked(product: str = "isgri_image", **arguments: Any) -> dict[str, Any]:
    return dict(check({"instrument": "isgri", **arguments}, INSTRUMENT, product).echo)


def test_the_echo_has_the_values_and_the_order_of_dispatcher_1_3_6() -> None:
    """The request of a recorded exchange, and the dispatcher's echo."""
    arguments = {
        "RA": "255.986542",
        "DEC": "-37.844167",
        "T1": "2003-03-15T23:27:40.0",
        "osa_version": "OSA10.2",
        "detection_threshold": "5.0",
        "radius": "15.0",
        "T2": "2003-03-16T00:03:12.0",
        "time_bin": "70",
        "instrument": "isgri",
        "product_type": "isgri_lc",
        "query_type": "Real",
        "off_line": "False",
        "query_status": "new",
        "verbose": "False",
        "session_id": "HBKH5XF5SLP85EAF",
        "dry_run": "False",
        "api": "True",
    }
    parameters = check(arguments, INSTRUMENT, "isgri_lc")
    assert json.dumps(parameters.echo) == json.dumps(
        {
            "RA": 255.986542,
            "DEC": -37.844167,
            "T1": "2003-03-15T23:27:40.000",
            "osa_version": "OSA10.2",
            "detection_threshold": "5.0",
            "radius": 15.0,
            "T2": "2003-03-16T00:03:12.000",
            "time_bin": 70.0,
            "instrument": "isgri",
            "product_type": "isgri_lc",
            "query_type": "Real",
            "off_line": "False",
            "query_status": "new",
            "session_id": "HBKH5XF5SLP85EAF",
            "api": "True",
            "time_bin_format": "sec",
            "selected_catalog": None,
            "max_pointings": 50,
            "integral_data_rights": "public",
            "E1_keV": 20.0,
            "E2_keV": 40.0,
            "src_name": "1E 1740.7-2942",
            "T_format": "isot",
            "token": None,
        }
    )
    assert parameters.comment == "Please note that arguments verbose, dry_run are not used"


def test_a_parameter_of_another_product_is_echoed_unchanged_and_does_not_select_the_fixture() -> None:
    parameters = check({"detection_threshold": "5"}, INSTRUMENT, "isgri_lc")
    assert parameters.echo["detection_threshold"] == "5"
    assert "detection_threshold" not in parameters.decisive


def test_a_selection_from_a_catalogue_selects_the_fixture() -> None:
    assert (
        check({"catalog_selected_objects": "1,2"}, INSTRUMENT, "isgri_lc").decisive["catalog_selected_objects"] == "1,2"
    )


def test_one_unused_argument_is_commented_on_in_the_singular() -> None:
    assert check({"nonsense": "1"}, INSTRUMENT, "isgri_lc").comment == "Please note that argument nonsense is not used"


def test_unknown_arguments_can_be_kept() -> None:
    parameters = check({"nonsense": "1", "allow_unknown_args": "True"}, INSTRUMENT, "isgri_lc")
    assert parameters.echo["nonsense"] == "1"
    assert parameters.comment == ""


def test_arguments_that_the_dispatcher_removes_silently_are_not_in_the_comment() -> None:
    parameters = check({"use_scws": "no", "client-name": "x", "return_progress": "True"}, INSTRUMENT, "isgri_lc")
    assert parameters.unused == ()
    assert not parameters.echo.keys() & {"use_scws", "client-name", "return_progress"}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("RA", " 83 ", 83.0),
        ("RA", "8.3e1", 83.0),
        ("RA", "", None),
        ("radius", "1e-05", 1e-05),
        ("max_pointings", "100", 100),
        ("src_name", " Crab ", "Crab"),
        ("scw_list", "A,B", ["A", "B"]),
        ("scw_list", ["A", "B"], ["A", "B"]),
        ("scw_list", "", []),
        ("T1", "2003-03-15", "2003-03-15T00:00:00.000"),
        ("T1", "2003-03-15T23:27:40.1236", "2003-03-15T23:27:40.124"),
        ("image_scale_min", None, None),
        ("selected_catalog", CATALOG, CATALOG),
    ],
)
def test_a_value_is_normalised_as_in_the_dispatchers_echo(name: str, value: Any, expected: Any) -> None:
    assert checked(**{name: value})[name] == expected


def test_not_a_number_is_a_number_to_dispatcher_1_3_6() -> None:
    assert math.isnan(checked(RA="nan")["RA"])


@pytest.mark.parametrize(
    ("time_format", "text"), [("isot", "2001-04-02T12:00"), ("iso", "2001-04-02 12:00"), ("mjd", "52001.5")]
)
def test_times_in_all_formats_are_one_and_the_format_is_repeated_as_isot(time_format: str, text: str) -> None:
    echo = checked(T1=text, T2=text, T_format=time_format)
    assert (echo["T1"], echo["T2"], echo["T_format"]) == ("2001-04-02T12:00:00.000", "2001-04-02T12:00:00.000", "isot")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"RA": "a"}, "Parameter RA wrong value a. could not convert string to float: 'a'"),
        ({"RA": "12h"}, "Parameter RA wrong value 12h. could not convert string to float: '12h'"),
        ({"max_pointings": "3.0"}, "Parameter max_pointings wrong value 3.0. invalid literal for int()"),
        ({"T1": "yesterday"}, "Parameter T1 wrong value yesterday: can't be parsed as Time of isot format"),
        (
            {"T1": "2003-03-15 23:27:40"},
            "Parameter T1 wrong value 2003-03-15 23:27:40: can't be parsed as Time of isot",
        ),
        ({"T1": "1", "T_format": "nosuch"}, "Parameter T1 wrong value 1: can't be parsed as Time of nosuch format"),
        ({"RA": None}, "Non-optional parameter RA is set to None"),
        ({"selected_catalog": ""}, "Error while setting catalog object"),
        ({"selected_catalog": None}, "Error while setting catalog object"),
        ({"integral_data_rights": "mine"}, "Parameter integral_data_rights wrong value mine: not in allowed ["),
        ({"E1_keV": "1"}, "Parameter E1_keV wrong value 1.0keV: should be greater or equal than 15.0"),
        ({"E1_keV": "900"}, "Parameter E1_keV wrong value 900.0keV: should be lower or equal than 800.0"),
    ],
)
def test_a_value_that_is_none_of_its_parameter_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameterError) as raised:
        checked(**arguments)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("flag", "yes", True),
        ("flag", "0", False),
        ("number", "2", 2),
        ("names", "b,c", ["b", "c"]),
        ("text", ["b"], '["b"]'),
        ("free", None, None),
    ],
)
def test_without_a_stated_kind_the_default_tells_it(name: str, value: Any, expected: Any) -> None:
    assert check({name: value}, KINDS, "product").echo[name] == expected


def test_a_truth_value_has_eight_spellings_and_no_other() -> None:
    with pytest.raises(BadParameterError, match="Wrong value for boolean parameter flag"):
        check({"flag": "on"}, KINDS, "product")


def test_an_unknown_product_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownProductError, match=r"product type nosuch not in query_dictionary \{'isgri_image': "):
        check({}, INSTRUMENT, "nosuch")


# -- 2019


def test_in_2019_all_arguments_are_repeated_as_they_came_and_no_default_is_added() -> None:
    parameters = check_2019({"RA": "83", "verbose": "False"}, INSTRUMENT, "isgri_image")
    assert parameters.echo == {"RA": "83", "verbose": "False"}
    assert parameters.decisive["RA"] == 83.0
    assert parameters.comment == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"RA": "a"}, "ValueError(u\"Invalid character at col 0 in angle u'a'\",)"),
        ({"RA": "12x"}, "ValueError(u\"Invalid character at col 2 in angle u'12x'\",)"),
        ({"radius": "a"}, "ValueError('could not convert string to float: a',)"),
        ({"T1": "a"}, "ValueError(u'Input values did not match the format class isot',)"),
    ],
)
def test_in_2019_a_refusal_is_an_exception_of_python_2(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(BadParameter2019Error) as raised:
        check_2019(arguments, INSTRUMENT, "isgri_image")
    assert str(raised.value) == message


@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":[', "]}")])
def test_what_is_nested_too_deeply_stays_text(start: str, end: str) -> None:
    levels = 100 // len(end)
    allowed, deeper = (start * number + end * number for number in (levels, levels + 1))
    read = read_arguments([("allowed", allowed), ("deeper", deeper)], [])
    assert read == {"allowed": json.loads(allowed), "deeper": deeper}
