"""The overview: figures of the store, and a page of the recordings that a search finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.pages import overview, quantities
from oda_proxy.pages.search_form import read_form
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query
from oda_proxy.store.base import Entry, ProductTotals
from oda_proxy.store.search import Found

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 1e9
CRAB = Query(
    "isgri",
    "isgri_image",
    "Real",
    (
        ("DEC", ("22.0145",)),
        ("RA", ("83.6331",)),
        ("T1", ("2003-03-15T12:00:00",)),
        ("T2", ("2003-03-16T00:00:00",)),
        ("src_name", ("Crab",)),
    ),
    api=True,
)


def entry(number: int = 1, query: Query | None = CRAB, **changes: Any) -> Entry:
    members = {
        "key": Key(f"{number:064x}"),
        "stored_at": NOW - 7200,
        "used_at": NOW - 60,
        "size": 1_110_000,
        "stored_size": 300_000,
        "head_name": "0" * 64,
        "cost": 930.0,
        "private": False,
        "pinned": False,
        "query": query,
    }
    return Entry(**{**members, **changes})


def view(
    fields: Mapping[str, str], *entries: Entry, total: int | None = None, totals: tuple[ProductTotals, ...] = ()
) -> overview.RecordingList:
    found = Found(entries, len(entries) if total is None else total)
    return overview.recording_list(read_form(fields, now=NOW), found, totals, now=NOW)


def plain(text: str) -> str:
    return text.replace(quantities.NO_BREAK, " ").replace("\N{NARROW NO-BREAK SPACE}", "'")


def test_a_row_says_what_was_observed_and_what_it_saves() -> None:
    row = overview.row_of(entry(pinned=True, private=True), now=NOW)

    assert (row.product, row.instrument, row.source) == ("isgri_image", "isgri", "Crab")
    assert plain(row.position) == "83.6331 +22.0145"
    assert plain(row.time_range) == "2003-03-15 12:00, 12 h"
    assert [plain(text) for text in (row.cost, row.size, row.used, row.stored)] == [
        "15.5 min",
        "1.11 MB",
        "1 min ago",
        "2 h ago",
    ]
    assert row.flags == ("pinned", "private")


def test_a_recording_without_a_query_has_a_row() -> None:
    row = overview.row_of(entry(query=None, cost=0.0), now=NOW)

    assert (row.product, row.instrument, row.source, row.position, row.time_range, row.cost) == (
        "unknown query",
        "",
        "",
        "",
        "",
        "",
    )


@pytest.mark.parametrize(
    ("page", "shown", "total", "summary", "links"),
    [
        ("1", 2, 2, "2 recordings", (False, False)),
        ("1", 50, 120, "1\N{EN DASH}50 of 120 recordings", (False, True)),
        ("2", 50, 120, "51\N{EN DASH}100 of 120 recordings", (True, True)),
        ("3", 20, 120, "101\N{EN DASH}120 of 120 recordings", (True, False)),
        ("9", 0, 120, "120 recordings; this page is beyond the last", (True, False)),
        ("1", 0, 0, "0 recordings", (False, False)),
    ],
)
def test_pages_are_linked(page: str, shown: int, total: int, summary: str, links: tuple[bool, bool]) -> None:
    found = view({"page": page}, *[entry(number) for number in range(shown)], total=total)

    assert plain(found.summary) == summary
    assert (bool(found.previous), bool(found.next)) == links


def test_a_heading_sorts_and_the_current_one_turns_the_order_around() -> None:
    headings = {heading.title: heading for heading in view({"sort": "size", "q": "crab"}).headings}

    assert headings["Size"].direction == "descending"
    assert headings["Size"].link == "?q=crab&sort=size&ascending=1"
    assert headings["Stored"].direction == ""
    assert headings["Stored"].link == "?q=crab&sort=stored"
    assert headings["Last used"].link == "?q=crab"
    again = {heading.title: heading for heading in view({"sort": "size", "ascending": "1"}).headings}
    assert (again["Size"].direction, again["Size"].link) == ("ascending", "?sort=size")


def test_choices_are_the_names_in_the_store_and_the_one_that_was_chosen() -> None:
    totals = (
        ProductTotals("jemx", "jemx_lc", False, 1, 1, 1.0, 0),
        ProductTotals("isgri", "isgri_lc", False, 1, 1, 1.0, 0),
        ProductTotals(None, None, False, 1, 1, 1.0, 0),
    )
    found = view({"instrument": "gone"}, totals=totals)

    assert [(one.value, one.is_chosen) for one in found.instruments] == [
        ("gone", True),
        ("isgri", False),
        ("jemx", False),
    ]
    assert [one.value for one in found.products] == ["isgri_lc", "jemx_lc"]


def test_figures_are_those_of_the_store_and_of_what_it_saves() -> None:
    totals = [
        ProductTotals("isgri", "isgri_image", False, 90_000, 1, 3600.0 * 5000, 3),
        ProductTotals("jemx", "jemx_lc", True, 10_000, 1, 3600.0 * 1000, 0),
    ]
    store = {"recordings": 123_456, "occupied": 5 * 10**9}  # with private ones

    found = {
        one.name: one for one in overview.figures(store, totals, overview.savings_of(SNAPSHOT), max_size=20 * 10**9)
    }

    assert plain(found["recordings"].value) == "100'000"
    assert plain(found["recordings"].remark) == "of 2 products, 3 pinned"
    assert (plain(found["stored"].value), found["stored"].fraction) == ("5 GB", 0.25)
    assert plain(found["computing time stored"].value) == "6000 h"
    assert plain(found["saved since the start"].value) == "20 h"
    assert plain(found["saved since the start"].remark) == "30 hits (75 % of queries), 5 MB not downloaded"


SNAPSHOT: dict[str, dict[tuple[str, ...], tuple[float, ...]]] = {
    "queries_total": {
        ("isgri", "hit_hot"): (20.0,),
        ("jemx", "hit_cold"): (9.0,),
        ("jemx", "stale"): (1.0,),
        ("jemx", "miss"): (10.0,),
    },
    "saved_compute_seconds_total": {("isgri",): (3600.0 * 15,), ("jemx",): (3600.0 * 5,)},
    "sent_bytes_total": {(): (7e6,)},
    "upstream_received_bytes_total": {(): (2e6,)},
}


def test_without_hits_nothing_was_saved() -> None:
    savings = overview.savings_of({"queries_total": {("isgri", "miss"): (4.0,)}, "sent_bytes_total": {(): (7e6,)}})
    [*_, saved] = overview.figures({}, [], savings, max_size=None)

    assert (plain(saved.value), plain(saved.remark)) == ("0 s", "0 hits (0 % of queries)")


def test_without_a_store_that_works_there_are_the_other_figures() -> None:
    found = overview.figures({"faults": []}, [], overview.savings_of({}), max_size=None)

    assert [one.name for one in found] == ["computing time stored", "saved since the start"]
