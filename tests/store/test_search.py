"""Searches find the same recordings in the secondary indexes as in a scan of all."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query
from oda_proxy.store import search as search_module
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.search import Cone, Order, Search
from tests.support.recordings import recording
from tests.support.stores import index_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry, Store

DAY = 86400.0


def query(instrument: str = "isgri", product: str = "isgri_image", **parameters: str) -> Query:
    pairs = tuple(sorted((name, (value,)) for name, value in parameters.items()))
    return Query(instrument, product, "Real", pairs, api=True)


def some() -> list[Recording]:
    """Return recordings of all kinds, of which no two are equal in any order."""
    numbers = random.Random(5)  # noqa: S311 - the same each time
    found = []
    for count in range(60):
        instrument = numbers.choice(["isgri", "jemx", "Straße"])
        parameters = {"src_name": numbers.choice(["Crab", "Cyg X-1", "GRS 1915+105", "100%_"])}
        if count % 3:
            parameters |= {"RA": str(numbers.uniform(80, 90)), "DEC": str(numbers.uniform(20, 25))}
        if count % 4:
            begin = 52000 + count * 10
            parameters |= {"T_format": "mjd", "T1": str(begin), "T2": str(begin + numbers.randint(1, 40))}
        found.append(
            recording(
                Key(f"{numbers.getrandbits(256):064x}"),
                b"x" * (count + 1),
                stored_at=1e9 + count * DAY,
                cost=float(numbers.randint(0, 10**6)),
                query=query(instrument, f"{instrument}_image", **parameters) if count % 7 else None,
                private=count % 5 == 0,
            )
        )
    return found


def own(entry: Entry) -> bool:
    return entry.key < "8"


SEARCHES = [
    Search(),
    Search(words=("crab",)),
    Search(words=("X-1", "CYG")),
    Search(words=("%_",)),
    Search(words=("STRASSE",)),
    Search(words=("nothing",)),
    Search(instrument="jemx"),
    Search(instrument="isgri", product="isgri_image"),
    Search(product="jemx_image", words=("crab",)),
    Search(cone=Cone(85.0, 22.0, 2.0)),
    Search(cone=Cone(-275.0, 22.0, 2.0)),
    Search(cone=Cone(0.0, -90.0, 180.0)),
    Search(cone=Cone(85.0, 22.0, 0.0)),
    Search(begin=52200.0),
    Search(end=52200.0),
    Search(begin=52200.0, end=52230.0),
    Search(stored_after=1e9 + 10 * DAY),
    Search(stored_before=1e9 + 10 * DAY, words=("crab",)),
]
"""Searches without an order."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskStore]:
    with closing(DiskStore(tmp_path, clock=lambda: 2e9)) as store:
        fill(store)
        yield store


def fill(store: Store) -> None:
    for one in some():
        store.put(one)


def test_both_stores_find_the_same_in_every_order(disk: DiskStore) -> None:
    memory = MemoryStore(clock=lambda: 2e9)
    fill(memory)
    assert disk.search(Search(words=("crab",)), offset=0, limit=9).total, "the searches find something"
    for search in SEARCHES:
        for order in Order:
            for ascending in (False, True):
                for sees_all, may_see in ((False, None), (False, own), (True, None)):
                    full = replace(search, order=order, ascending=ascending, sees_all=sees_all, may_see=may_see)
                    ours, theirs = (store.search(full, offset=2, limit=20) for store in (disk, memory))
                    assert ours.total == theirs.total, full
                    assert _orders(ours.entries, order) == _orders(theirs.entries, order), full
                    everything = disk.search(full, offset=0, limit=100), memory.search(full, offset=0, limit=100)
                    assert len({frozenset(entry.key for entry in one.entries) for one in everything}) == 1, full


def _orders(entries: tuple[Entry, ...], order: Order) -> list[float | None]:
    return [search_module._value(entry, order) for entry in entries]


def test_the_pages_have_each_recording_once(disk: DiskStore) -> None:
    search = Search(sees_all=True, order=Order.TIME)
    pages = [disk.search(search, offset=offset, limit=7) for offset in range(0, 63, 7)]

    assert sorted(entry.key for page in pages for entry in page.entries) == sorted(one.key for one in some())
    assert {page.total for page in pages} == {60}


def test_others_neither_find_nor_count_a_private_recording(disk: DiskStore) -> None:
    private = {one.key for one in some() if one.private}
    seen = {key for key in private if key < "8"}
    assert 0 < len(seen) < len(private)
    for search, expected in ((Search(), set()), (Search(may_see=own), seen), (Search(sees_all=True), private)):
        found = disk.search(search, offset=0, limit=100)
        assert {entry.key for entry in found.entries if entry.private} == expected
        assert found.total == 60 - len(private) + len(expected)


def test_only_private_recordings_are_read_to_learn_who_may_see_them(disk: DiskStore) -> None:
    asked = []

    def may_see(entry: Entry) -> bool:
        asked.append(entry.private)
        return False

    disk.search(Search(may_see=may_see), offset=0, limit=5)

    assert set(asked) == {True}


def test_a_word_is_the_beginning_of_a_key(disk: DiskStore) -> None:
    one = next(one for one in some() if not one.private)

    for word in (one.key[:8], one.key[:8].upper(), one.key):
        assert [entry.key for entry in disk.search(Search(words=(word,)), offset=0, limit=5).entries] == [one.key]
    assert not disk.search(Search(words=(one.key[1:9],)), offset=0, limit=5).total


@pytest.mark.parametrize("word", ["'", "*", "\\", '"); DROP TABLE Cache; --', "\x00", "\udc80"])
def test_any_word_is_searched_as_it_is(disk: DiskStore, word: str) -> None:
    for search in (Search(words=(word,)), Search(instrument=word), Search(product=word)):
        assert disk.search(search, offset=0, limit=5).total == 0
    disk.put(recording(Key("e" * 64), query=query(src_name=f"a{word}b")))

    assert [one.key for one in disk.search(Search(words=(word,)), offset=0, limit=5).entries] == ["e" * 64]


def test_a_position_is_found_at_an_arc_second(disk: DiskStore) -> None:
    disk.put(recording(Key("e" * 64), query=query(RA="10.0", DEC="60.0")))
    arc_second = 1 / 3600
    for distance, total in ((0.5, 1), (1.5, 0)):
        cone = Cone(10.0, 60.0 + distance * arc_second, arc_second)
        assert disk.search(Search(cone=cone), offset=0, limit=5).total == total


def test_the_recordings_used_last_are_read_in_order_and_not_sorted(
    disk: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, statements = index_of(disk), []
    select = index.select

    def note(statement: str, *values: object) -> list[Any]:
        statements.append(statement)
        return select(statement, *values)

    monkeypatch.setattr(index, "select", note)
    disk.search(Search(), offset=0, limit=5)

    [page] = [statement for statement in statements if "OFFSET" in statement]
    plan = [step[3] for step in select(f"EXPLAIN QUERY PLAN {page}", 5, 0)]
    assert not any("ORDER BY" in step for step in plan), plan
