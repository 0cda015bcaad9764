"""Queries of a store whose recordings are used and will expire."""

from __future__ import annotations

from dataclasses import replace

from oda_proxy.query.query import Query
from oda_proxy.store.freshness import Freshness, Rule
from oda_proxy.store.memory import MemoryStore
from oda_proxy.warming.selection import DAY, StoreSelection
from tests.support.recordings import KEYS, recording

NOW = 1000 * DAY
WEEK = Freshness((Rule.parse("isgri/*=7"),))


def query(product: str) -> Query:
    return Query("isgri", product, "Real", (), api=True)


def store_of(**ages: float) -> MemoryStore:
    """Return a store with a recording of each product, stored so many days ago and not used since."""
    store = MemoryStore(clock=lambda: NOW)
    for key, (product, age) in zip(KEYS, ages.items(), strict=False):
        parameters = {"analysis_parameters": {"instrument": "isgri", "product_type": product}}
        one = recording(key, query=query(product), stored_at=NOW - age * DAY)
        store.put(replace(one, parameters=parameters))
    return store


def selected(selection: StoreSelection, store: MemoryStore) -> list[tuple[str, bool]]:
    return [(one.query.product_type, one.refresh) for one in selection.queries(store, WEEK, NOW)]


def test_the_recordings_used_last_are_selected() -> None:
    assert selected(StoreSelection(last_used=2), store_of(old=5, new=1, middle=3)) == [
        ("new", False),
        ("middle", False),
    ]


def test_recordings_that_expire_soon_are_computed_again() -> None:
    store = store_of(soon=5.5, stale=9, later=4.5)

    assert selected(StoreSelection(expiring_within=2), store) == [("soon", True), ("stale", True)]


def test_one_that_was_computed_lately_is_left_whatever_its_lifetime() -> None:
    """A second run after the first finds what that has computed."""
    assert selected(StoreSelection(expiring_within=30), store_of(today=0, young=3, old=4)) == [("old", True)]


def test_of_those_used_last_the_ones_that_expire() -> None:
    store = store_of(first=1, second=6, third=6.5)

    assert selected(StoreSelection(last_used=2, expiring_within=2), store) == [("second", True)]


def test_private_recordings_uploads_and_unknown_queries_are_left_out() -> None:
    store = MemoryStore(clock=lambda: NOW)
    store.put(recording(KEYS[0], query=query("private"), private=True))
    store.put(recording(KEYS[1], query=replace(query("upload"), files=(("file", "0" * 64),))))
    store.put(recording(KEYS[2]))
    store.put(recording(KEYS[3], query=query("usable")))

    assert selected(StoreSelection(last_used=9), store) == [("usable", False)]
