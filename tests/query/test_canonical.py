"""Equal values have one canonical form, and different values have two."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oda_proxy.query import canonical


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        (["83", "83.0", "83.000", "8.3e1", "+83", " 83 ", "083", "830e-1", "8_3", "83."], "83"),
        (["0", "0.0", "0e5", "+0", ".0"], "0"),
        (["-0", "-0.0"], "-0"),
        (["1e-05", "0.00001", "1E-5"], "0.00001"),
        (["nan", "NaN", "-nan"], "nan"),
        (["inf", "Infinity", "+inf"], "inf"),
        (["1e400"], "1E+400"),
        (["100", "1e2", "1.00E+2"], "100"),
    ],
)
def test_a_number_has_one_form_however_it_is_written(texts: list[str], form: str) -> None:
    assert {canonical.number(text) for text in texts} == {form}


@pytest.mark.parametrize(
    "text", ["", "a", "12h", "0x10", "1e", "--1", "1_", "1" * 1001, "\u0663", "snan", "1e" + "9" * 30]
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert canonical.number(text) is None


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_the_form_of_a_number_is_that_number_to_its_last_digit(value: Decimal) -> None:
    form = canonical.number(str(value))

    assert form is not None
    assert Decimal(form).compare_total(value) == 0 or Decimal(form) == value
    assert canonical.number(form) == form


def test_numbers_that_are_one_float_stay_two() -> None:
    assert canonical.number("0.1") != canonical.number("0.1000000000000000055511151231257827")


@pytest.mark.parametrize(
    ("text", "unit", "form"),
    [
        ("05h34m32s", "deg", "83.63333333333331"),  # as dispatcher 1.3.3 repeats it
        ("5:34:32", "deg", "5.575555555555555"),
        ("83d38m", "deg", "83.63333333333334"),
        ("83.63", "deg", "83.63"),
        ("1d", "arcsec", "3600"),
        ("83.63d", "deg", "83.63"),
    ],
)
def test_an_angle_is_what_the_dispatcher_makes_of_it(text: str, unit: str, form: str) -> None:
    assert canonical.angle(text, unit) == form


@pytest.mark.parametrize("text", ["a", "", "5h99x", "1E1740.7-2942", "d", "\x00", "5h" * 600])
def test_what_is_no_angle_is_none(text: str) -> None:
    assert canonical.angle(text, "deg") is None


@pytest.mark.parametrize(
    ("text", "time_format"),
    [
        ("2003-03-15T23:27:40", "isot"),
        ("2003-03-15T23:27:40.0", "isot"),
        ("2003-03-15T23:27:40.00049", "isot"),  # the dispatcher rounds to milliseconds
        ("2003-03-15 23:27:40.000", "iso"),
        ("52713.97754629630", "mjd"),
        ("2452714.47754629630", "jd"),
        ("2003:074:23:27:40", "yday"),
        ("1047770860", "unix"),
    ],
)
def test_an_instant_has_one_form_whatever_its_format(text: str, time_format: str) -> None:
    assert canonical.time(text, time_format) == "2003-03-15T23:27:40.000"


@pytest.mark.parametrize(
    ("text", "time_format", "form"),
    [
        ("2003-03-15", "isot", "2003-03-15T00:00:00.000"),
        ("2003-03-15T23:59:59.9996", "isot", "2003-03-16T00:00:00.000"),
        ("2016-12-31T23:59:60", "isot", "2016-12-31T23:59:60.000"),  # a leap second
    ],
)
def test_a_time_is_what_astropy_makes_of_it(text: str, time_format: str, form: str) -> None:
    assert canonical.time(text, time_format) == form


@pytest.mark.parametrize(
    ("text", "time_format"),
    [
        ("2003-02-30T00:00:00", "isot"),
        ("52713", "isot"),
        ("2003-03-15T23:27:40", "mjd"),
        ("2003-03-15T23:27:40", "nonsense"),
        ("2003-03-15 23:27:40", "isot"),
        ("nan", "mjd"),
        ("1e300", "mjd"),
        ("1" * 2000, "mjd"),
    ],
)
def test_what_is_no_time_of_its_format_is_none(text: str, time_format: str) -> None:
    assert canonical.time(text, time_format) is None


@given(st.datetimes(min_value=datetime(1800, 1, 1)))  # noqa: DTZ001 - the dispatcher's times have no zone
@example(datetime(1971, 12, 31, 1))  # noqa: DTZ001 - a day of UTC whose seconds are not those of today
@example(datetime(2016, 12, 31, 23, 59, 59, 999_000))  # noqa: DTZ001 - just before a leap second
def test_the_quick_rule_for_times_says_what_astropy_says(moment: datetime) -> None:
    text = moment.isoformat()[:23]

    assert canonical.time(text, "isot") == canonical.time(f"{text}000" if "." in text else f"{text}.0000", "isot")


@pytest.mark.parametrize(
    ("value", "unit", "wanted", "form"),
    [
        ("1", "MeV", "keV", "1000"),
        ("4.35", "MeV", "keV", "4350"),
        ("1000", "keV", "MeV", "1"),
        ("1", "keV", "keV", "1"),
        ("1E+21", "MeV", "keV", "1E+24"),
        ("1.001", "MeV", "keV", None),  # 1000.9999999999999 for the dispatcher, which uses floats
        ("1", "GHz", "keV", None),
        ("inf", "MeV", "keV", None),
    ],
)
def test_a_unit_is_converted_where_that_is_exact(value: str, unit: str, wanted: str, form: str | None) -> None:
    assert canonical.in_unit(value, unit, wanted) == form


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["a", "b"], ("a", "b")),
        (["a,b"], ("a", "b")),
        (["b,a"], ("b", "a")),
        (["a"], ("a",)),
        (["a", "b,c"], ("a", "b,c")),
        ([""], ()),
        (["a, b"], None),
        (['["a"]'], None),
    ],
)
def test_a_list_of_names_is_read_as_the_dispatcher_splits_it(values: list[str], form: tuple[str, ...] | None) -> None:
    assert canonical.names(values) == form


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1, "b": [1.50]}', '{"b":[1.5],"a":1}'),
        ('[ 1e2, "x" ]', '[100.0,"x"]'),
        ('{"a": "\\u0041"}', '{"a":"A"}'),
        (' {"a": NaN}', '{"a":NaN}'),
    ],
)
def test_spacing_and_order_of_names_do_not_matter_in_json(one: str, other: str) -> None:
    assert canonical.json_form(one) == canonical.json_form(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[1, 2]", "[2, 1]"),
        ("[1]", "[1.0]"),
        ("[1]", '["1"]'),
        ("[0.1]", "[0.1000000000000000055511151231257827]"),
        ('{"a": null}', "{}"),
        ("[true]", "[1]"),
    ],
)
def test_values_order_and_types_matter_in_json(one: str, other: str) -> None:
    assert canonical.json_form(one) != canonical.json_form(other)


@pytest.mark.parametrize("text", ["", "1", "text", "[1", '{"a": 1, "a": 2}', "[" * 100_000, "[1]]"])
def test_what_is_no_json_list_or_object_is_none(text: str) -> None:
    assert canonical.json_form(text) is None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_the_form_of_json_reads_as_what_was_written(value: object) -> None:
    text = json.dumps([value])
    form = canonical.json_form(text)

    assert form is not None
    assert repr(json.loads(form)) == repr(json.loads(text))


@given(st.text(), st.text())
def test_every_rule_takes_any_text(text: str, other: str) -> None:
    rules = [canonical.number(text), canonical.angle(text, "deg"), canonical.time(text, other), canonical.boolean(text)]
    rules += [canonical.time(text, "mjd"), canonical.json_form(text)]

    assert all(form is None or isinstance(form, str) for form in rules)
    assert canonical.json_names(text) is None or canonical.json_form(text) is not None
