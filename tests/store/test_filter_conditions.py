"""Filters read only the rows that may meet them, and find what a look at all recordings finds."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query
from oda_proxy.store import filter_conditions, rows
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.selection import Filters
from tests.support.recordings import recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("isgri", "ISGRI", "jemx", "a[b]c", "Stra\u00dfe", "x\0y", "")
SOURCES = (
    "Crab",
    "crab pulsar",
    "1E 1740.7-2942",
    "STRASSE",
    "a[b]c",
    "\0Crab",
    "x" * 2000 + "Crab",
    "\u0130",
    "\u1e9e",
)
PATTERNS = (
    "*",
    "isgri",
    "I*",
    "?emx",
    "a[[]b]c",
    "[a]*",
    "stra\u00dfe",
    "STRASSE",
    "x*",
    "*crab*",
    "CRAB",
    "*0.7-29*",
    "\0*",
    "i\u0307",
    "",
    "zz",
)


def queries() -> list[Query | None]:
    found: list[Query | None] = [None]
    for number, source in enumerate(SOURCES):
        name = NAMES[number % len(NAMES)]
        parameters = (("src_name", (source, "second")), ("RA", ("1.5",))) if number % 2 else (("src_name", (source,)),)
        found.append(Query(name, NAMES[(number + 1) % len(NAMES)], "Real", parameters, api=True))
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskStore]:
    with closing(DiskStore(tmp_path_factory.mktemp("store"), clock=lambda: 15.0)) as store:
        for number, query in enumerate(queries()):
            key = Key(f"{number:064x}")
            store.put(recording(key, b"-" * number, stored_at=float(number), query=query))
            if number % 3 == 0:
                store.note_use(key)
        yield store


def optional(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | values


FILTERS = st.builds(
    Filters,
    instrument=optional(st.sampled_from(PATTERNS + NAMES)),
    product=optional(st.sampled_from(PATTERNS + NAMES)),
    source=optional(st.sampled_from(PATTERNS + SOURCES)),
    stored_before=optional(st.integers(0, 12).map(float)),
    used_before=optional(st.integers(0, 20).map(float)),
    larger_than=optional(st.integers(0, 12)),
)


@pytest.mark.parametrize("name", ["instrument", "product", "source"])
@pytest.mark.parametrize("pattern", PATTERNS + NAMES + SOURCES, ids=lambda value: ascii(value)[:40])
def test_a_pattern_finds_what_a_look_at_all_recordings_finds(store: DiskStore, name: str, pattern: str) -> None:
    values: dict[str, Any] = {name: pattern}
    filters = Filters(**values)
    expected = [entry for entry in store.entries_by_use() if filters.matches(entry)]

    assert list(store.entries_by_use(filters)) == expected


@given(filters=FILTERS)
def test_filters_together_find_what_a_look_at_all_recordings_finds(store: DiskStore, filters: Filters) -> None:
    expected = [entry for entry in store.entries_by_use() if filters.matches(entry)]

    assert list(store.entries_by_use(filters)) == expected


def test_only_rows_that_may_meet_the_filters_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Key] = []
    with closing(DiskStore(tmp_path)) as store:
        for number in range(100):
            query = Query(
                "isgri" if number % 10 else "jemx",
                f"product {number % 4}",
                "Real",
                (("src_name", (f"source {number}",)),),
                api=True,
            )
            store.put(recording(Key(f"{number:064x}"), b"-" * number, stored_at=float(number), query=query))
        loads = rows.loads

        def note(key: Key, text: str) -> rows.Row:
            read.append(key)
            return loads(key, text)

        monkeypatch.setattr(rows, "loads", note)
        for filters, number in (
            (Filters(instrument="JEM*"), 10),
            (Filters(instrument="jemx", product="*2"), 5),
            (Filters(source="source 7"), 11),  # also those of 70 to 79, whose names have it
            (Filters(larger_than=97), 2),
            (Filters(stored_before=3.0, used_before=4.0), 3),
            (Filters(instrument="spi"), 0),
        ):
            read.clear()
            found = list(store.entries_by_use(filters))
            assert len(read) == number
            assert len(found) == (1 if filters.source else number)


def test_a_store_with_many_products_is_filtered_alike(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_conditions, "_MAX_PRODUCTS", 1)
    filters = Filters(instrument="*s*")

    assert list(store.entries_by_use(filters)) == [one for one in store.entries_by_use() if filters.matches(one)]
