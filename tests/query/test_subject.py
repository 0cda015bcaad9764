"""What a query observes is read from its parameters."""

from __future__ import annotations

import pytest

from oda_proxy.query.query import Query
from oda_proxy.query.subject import Subject, read_time, subject_of, utc_of


def query(**parameters: str) -> Query:
    pairs = tuple(sorted((name, (value,)) for name, value in parameters.items()))
    return Query("isgri", "isgri_image", "Real", pairs, api=True)


def test_a_query_names_a_source_a_position_and_a_time_range() -> None:
    found = subject_of(query(src_name="Crab", RA="83.6331", DEC="22.0145", T1="2003-03-15T00:00:00", T2="2003-03-16"))

    assert found == Subject(("Crab",), (83.6331, 22.0145), 52713.0, 52714.0)


def test_a_right_ascension_is_between_0_and_360_deg() -> None:
    assert subject_of(query(RA="-10", DEC="-90")).position == (350.0, -90.0)


@pytest.mark.parametrize(
    "position", [{"RA": "83"}, {"RA": "05h34m", "DEC": "22"}, {"RA": "1", "DEC": "91"}, {"RA": "nan", "DEC": "0"}]
)
def test_a_position_that_is_none_is_left_out(position: dict[str, str]) -> None:
    assert subject_of(query(**position)).position is None


@pytest.mark.parametrize(
    ("text", "time_format", "mjd"),
    [
        ("2003-03-15T23:27:40.0", "isot", 52713 + (23 * 3600 + 27 * 60 + 40) / 86400),
        ("2003-03-15 12:00:00", "iso", 52713.5),
        ("52713.25", "mjd", 52713.25),
        ("2452713.75", "jd", 52713.25),
        ("1047686400", "unix", 52713.0),
    ],
)
def test_usual_formats_of_times_are_read(text: str, time_format: str, mjd: float) -> None:
    assert read_time(text, time_format) == pytest.approx(mjd, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "time_format"),
    [("soon", "isot"), ("nan", "mjd"), ("1e300", "mjd"), ("-1", "mjd"), ("2003", "byear"), ("9" * 5000, "mjd")],
)
def test_other_times_are_left_out(text: str, time_format: str) -> None:
    assert read_time(text, time_format) is None


def test_the_last_time_that_is_read_is_a_date() -> None:
    assert utc_of(read_time("2973483.999", "mjd") or 0).year == 9999
    assert utc_of(52713.5).isoformat() == "2003-03-15T12:00:00+00:00"


def test_without_a_query_there_is_no_subject() -> None:
    assert subject_of(None) == Subject()
