"""The fields of the search form become a search; what is wrong is said beside the field."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest

from oda_proxy.pages.search_form import read_form, read_position
from oda_proxy.store.search import Cone, Order, Search

NOW = 1e9
DAY = 86400.0


def test_all_fields_are_conditions() -> None:
    form = read_form(
        {
            "q": " Crab  image ",
            "instrument": "isgri",
            "product": "isgri_image",
            "position": "83.63 22.01",
            "radius": "30'",
            "from": "2003-03-15",
            "to": "2003-03-16",
            "age": "new-7",
            "sort": "size",
            "ascending": "1",
            "page": "3",
        },
        now=NOW,
    )

    assert form.search == Search(
        words=("Crab", "image"),
        instrument="isgri",
        product="isgri_image",
        cone=Cone(83.63, 22.01, 0.5),
        begin=52713.0,
        end=52715.0,
        stored_after=NOW - 7 * DAY,
        order=Order.SIZE,
        ascending=True,
    )
    assert (form.page, form.offset, form.errors) == (3, 100, {})


def test_without_fields_all_recordings_are_found_the_last_used_first() -> None:
    form = read_form({}, now=NOW)

    assert form.search == Search()
    assert (form.page, form.is_filtered, form.has_details, form.link()) == (1, False, False, "?")


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("83.633 22.014", (83.633, 22.014)),
        ("83.633, -22.014", (83.633, -22.014)),
        ("-10 +5", (-10.0, 5.0)),
        ("05 34 30 +22 00 36", (83.625, 22.01)),
        ("05:34:30 -00:00:36", (83.625, -0.01)),
        ("5h34m30s \N{MINUS SIGN}22d00m36s", (83.625, -22.01)),
        ("5h34m30.0s +22\N{DEGREE SIGN}00'36\"", (83.625, 22.01)),
    ],
)
def test_positions_are_read_in_degrees_and_in_hours(text: str, position: tuple[float, float]) -> None:
    assert read_position(text) == pytest.approx(position)


@pytest.mark.parametrize(
    "text", ["Crab", "83.6", "1 2 3", "83 91", "400 0", "05 60 00 +22 00 00", "1 1 -1 1 1 1", "⁵ 5"]
)
def test_what_is_no_position_is_said(text: str) -> None:
    form = read_form({"position": text}, now=NOW)

    assert form.search.cone is None
    assert "is no position" in form.errors["position"]


@pytest.mark.parametrize(
    ("text", "radius"),
    [("", 1.0), ("0", 0.0), ("2.5", 2.5), ("2 deg", 2.0), ("30 arcmin", 0.5), ('36"', 0.01), (".5", 0.5)],
)
def test_a_radius_is_in_degrees_or_has_a_unit(text: str, radius: float) -> None:
    form = read_form({"position": "1 2", "radius": text}, now=NOW)

    assert form.search.cone is not None
    assert form.search.cone.radius == pytest.approx(radius)


@pytest.mark.parametrize("text", ["wide", "-1", "181", "1e9", "nan"])
def test_what_is_no_radius_is_said(text: str) -> None:
    form = read_form({"position": "1 2", "radius": text}, now=NOW)

    assert form.search.cone is None
    assert "is no radius" in form.errors["radius"]


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2003-03-15", 52713.0, 52714.0),
        ("2003-03-15T12:00", 52713.5, 52713.5),
        ("2003-03-15 12:00:00", 52713.5, 52713.5),
        ("52713.25", 52713.25, 52713.25),
        ("52713", 52713.0, 52713.0),
    ],
)
def test_times_are_dates_or_mjd_and_a_day_ends_at_its_end(text: str, begin: float, end: float) -> None:
    form = read_form({"from": text, "to": text}, now=NOW)

    assert (form.search.begin, form.search.end) == (begin, end)


@pytest.mark.parametrize("text", ["yesterday", "2003", "2003-13-01", "1e400", "-5"])
def test_what_is_no_time_is_said(text: str) -> None:
    form = read_form({"from": text, "to": text}, now=NOW)

    assert (form.search.begin, form.search.end) == (None, None)
    assert set(form.errors) == {"from", "to"}


def test_an_age_is_a_time_before_now() -> None:
    assert read_form({"age": "old-30"}, now=NOW).search.stored_before == NOW - 30 * DAY
    assert read_form({"age": "new-1"}, now=NOW).search.stored_after == NOW - DAY
    for age in ("old-5", "x", "-", "old-"):
        search = read_form({"age": age}, now=NOW).search
        assert (search.stored_before, search.stored_after) == (None, None)


@pytest.mark.parametrize("page", ["0", "-1", "x", "", "²", "9" * 400])
def test_any_page_has_a_number(page: str) -> None:
    assert 1 <= read_form({"page": page}, now=NOW).page <= 10**6


def test_a_link_keeps_the_conditions_and_begins_with_the_first_page() -> None:
    form = read_form({"q": "a&b=c", "position": "1 2", "sort": "size", "page": "4", "age": "new-7"}, now=NOW)

    assert dict(parse_qsl(form.link(sort="cost", ascending="1").removeprefix("?"))) == {
        "q": "a&b=c",
        "position": "1 2",
        "age": "new-7",
        "sort": "cost",
        "ascending": "1",
    }
    assert dict(parse_qsl(form.link(page="5").removeprefix("?")))["page"] == "5"


@pytest.mark.parametrize("name", ["q", "instrument", "product", "position", "radius", "from", "to", "age", "sort"])
@pytest.mark.parametrize("value", ["\x00", "\udc80", "x" * 100_000, "1" * 100_000, "<script>", "'", "9" * 400 + " 1"])
def test_any_text_is_read(name: str, value: str) -> None:
    form = read_form({name: value, "position": "1 2", **({"position": value} if name == "position" else {})}, now=NOW)

    assert len(form.values.get(name, "")) <= 200
    form.link(page="2")
