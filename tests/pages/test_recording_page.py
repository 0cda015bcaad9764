"""The page of a recording: the query with its units, where it came from, and the timeline of its job."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oda_proxy.pages import recording_page
from oda_proxy.query.query import Query
from oda_proxy.query.schema import Kind, Parameter, Schema
from tests.pages.test_overview import CRAB, NOW, entry, plain

SCHEMA = Schema(
    "isgri",
    {
        "isgri_image": {
            "src_name": Parameter("src_name", Kind.TEXT, "str", "1E 1740.7-2942"),
            "RA": Parameter("RA", Kind.ANGLE, "deg", "265.97845833"),
            "T1": Parameter("T1", Kind.TIME, "isot", "2001-12-11T00:00:00.000", written_by="T_format"),
            "E1_keV": Parameter("E1_keV", Kind.NUMBER, "keV", "15", written_by="E1_keV_unit"),
            "radius": Parameter("radius", Kind.ANGLE, "deg", "15.0"),
            "scw_list": Parameter("scw_list", Kind.LIST, "", (), filled_in=False),
        }
    },
    reads_json=True,
)


def view(query: Query | None = CRAB, **changes: Any) -> recording_page.RecordingView:
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "timeline": (),
        "exit_status": {},
        "other_members": {},
        "dispatcher": "https://dispatcher.example/oda",
        "version": "1.0",
        "now": NOW,
    }
    return recording_page.view_of(entry(query=query), **{**values, **changes})


def query(**parameters: str) -> Query:
    pairs = tuple(sorted((name, (value,)) for name, value in parameters.items()))
    return Query("isgri", "isgri_image", "Real", pairs, api=True)


def test_the_query_begins_with_source_position_and_time_and_has_units() -> None:
    assert [(row.name, row.value, row.unit) for row in view().parameters] == [
        ("src_name", "Crab", ""),
        ("RA", "83.6331", "deg"),
        ("DEC", "22.0145", "deg"),
        ("T1", "2003-03-15T12:00:00", "UTC"),
        ("T2", "2003-03-16T00:00:00", "UTC"),
    ]


def test_what_the_dispatcher_filled_in_is_shown_apart() -> None:
    assert [(row.name, row.value, row.unit) for row in view().defaults] == [
        ("E1_keV", "15", "keV"),
        ("radius", "15.0", "deg"),
    ]


@pytest.mark.parametrize(
    ("parameters", "name", "unit"),
    [
        ({"T1": "52713", "T_format": "mjd"}, "T1", "MJD"),
        ({"T2": "52713", "T_format": "mjd"}, "T2", "MJD"),
        ({"E1_keV": "20000", "E1_keV_unit": "eV"}, "E1_keV", "eV"),
        ({"E1_keV": "20"}, "E1_keV", "keV"),
        ({"E2_keV": "40"}, "E2_keV", "keV"),
        ({"something": "5"}, "something", ""),
    ],
)
def test_a_unit_is_that_of_the_request_or_of_the_description(parameters: dict[str, str], name: str, unit: str) -> None:
    assert {row.name: row.unit for row in view(query(**parameters)).parameters}[name] == unit


def test_without_a_description_the_usual_units_are_shown() -> None:
    found = view(query(RA="1", E1_keV="20", T1="5", T_format="jd", x="1"), schema=None)

    units = {row.name: row.unit for row in found.parameters}
    assert units == {"RA": "deg", "T1": "JD", "T_format": "", "E1_keV": "keV", "x": ""}
    assert found.defaults == []


def test_a_long_value_can_be_opened_in_lines() -> None:
    catalogue = json.dumps({"names": ["4U 1700-377"] * 20})
    windows = ",".join(f"0102002300{number:02d}.001" for number in range(30))
    rows = {row.name: row for row in view(query(selected_catalog=catalogue, scw_list=windows)).parameters}

    assert rows["selected_catalog"].value.endswith("...")
    assert json.loads(rows["selected_catalog"].full_value) == json.loads(catalogue)
    assert rows["scw_list"].full_value.count("\n") == 29


def test_a_value_that_does_not_end_is_cut() -> None:
    [row] = view(query(x="y" * 10**6)).parameters

    assert len(row.full_value) < 110_000


def test_facts_say_where_and_when_it_was_computed() -> None:
    facts = {fact.name: plain(fact.value) for fact in view().facts}

    assert facts["dispatcher"] == "https://dispatcher.example/oda"
    assert facts["stored"] == "2001-09-08 23:46:40 UTC"
    assert facts["computing time"] == "15.5 min"
    assert facts["served by"] == "oda-proxy 1.0"


def test_versions_that_the_dispatcher_names_are_shown() -> None:
    found = view(other_members={"cdci_data_analysis_version": "1.3.6", "version_details": {}, "something": "1"})

    facts = {fact.name: fact.value for fact in found.facts}
    assert facts["cdci data analysis version"] == "1.3.6"
    assert not {"version details", "something"} & facts.keys()


def test_the_stages_of_a_job_fill_its_duration() -> None:
    stages = recording_page.stages_of((("submitted", 0.0), ("progress", 30.0), ("ready", 90.0)), 120.0)

    assert [(stage.name, stage.begin, stage.length) for stage in stages] == [
        ("submitted", 0.0, 0.25),
        ("in progress", 0.25, 0.5),
        ("ready", 0.75, 0.25),
    ]


@pytest.mark.parametrize(
    ("timeline", "cost"),
    [((), 5.0), ((("done", 0.0),), 0.0), ((("done", -1.0),), -5.0), ((("ready", 9.0), ("submitted", 1.0)), 2.0)],
)
def test_any_timeline_stays_within_its_duration(timeline: tuple[tuple[str, float], ...], cost: float) -> None:
    for stage in recording_page.stages_of(timeline, cost):
        assert 0 <= stage.begin <= 1
        assert 0 <= stage.length <= 1 - stage.begin + 1e-9


def test_remarks_of_the_dispatcher_are_shown() -> None:
    found = view(exit_status={"message": "", "comment": " OSA11 is newer ", "warning": None, "status": 0})

    assert found.remarks == ["OSA11 is newer"]


def test_a_recording_without_a_query_has_a_page() -> None:
    found = view(None)

    assert (found.title, found.parameters, found.subtitle) == ("unknown query", [], "")
