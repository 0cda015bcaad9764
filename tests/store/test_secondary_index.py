"""Secondary indexes agree with the rows, whoever writes them, and save reading all rows."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from oda_proxy.handlers.policy import Policy
from oda_proxy.proxy import Proxy
from oda_proxy.query.query import Query
from oda_proxy.store import eviction, rows, scans, secondary_index
from oda_proxy.store.base import ProductTotals
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.eviction import Limits
from oda_proxy.store.maintenance import prune
from oda_proxy.store.read_only_index import ReadOnlyIndex
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.stores import index_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Entry

FAULT = "its secondary indexes do not agree with its rows"
PRODUCTS = [Query("isgri", "isgri_lc", "Real", (), api=True), Query("jemx", "jemx_lc", "Real", (), api=True), None]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    with closing(DiskStore(tmp_path, clock=lambda: 50.0)) as store:
        yield store


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[Key]:
    """Return a list to which the key of each row that is read is added."""
    loads, read = rows.loads, []

    def note(key: Key, text: str) -> rows.Row:
        read.append(key)
        return loads(key, text)

    monkeypatch.setattr(rows, "loads", note)
    return read


def many(number: int) -> Iterable[Key]:
    """Return keys of recordings, each of which has a head of its own."""
    return [type(KEYS[0])(f"{count:064x}") for count in range(number)]


def fill(store: DiskStore, number: int) -> list[Key]:
    keys = list(many(number))
    for count, key in enumerate(keys):
        store.put(recording(key, key.encode(), stored_at=float(count), cost=1.5, query=PRODUCTS[count % 2]))
    return keys


def assert_as_scanned(store: DiskStore) -> None:
    """Assert that orders and totals are those that all entries have."""
    entries = list(store.entries())

    def in_any_order(totals: Iterable[ProductTotals]) -> list[str]:
        return sorted(map(repr, totals))

    assert secondary_index.is_complete(store._folder.index())
    assert [one.used_at for one in store.entries_by_use()] == [one.used_at for one in scans.by_use(entries)]
    assert sorted(map(repr, store.entries_by_use())) == sorted(map(repr, entries))
    assert in_any_order(store.totals()) == in_any_order(scans.totals(entries))
    for query in filter(None, PRODUCTS):
        product = query.instrument, query.product_type
        expected = scans.of_product(entries, *product)
        found = list(store.entries_of(*product))
        assert [one.stored_at for one in found] == [one.stored_at for one in expected]
        assert {one.key for one in found} == {one.key for one in expected}
    groups, scanned = list(store.groups_to_evict()), eviction.groups_to_evict(entries, versions_in(store))
    assert [eviction.order(group) for group in groups] == [eviction.order(group) for group in scanned]
    assert {_keys(group) for group in groups} == {_keys(group) for group in scanned}
    assert list(store.verify(fix=False)) == []


def versions_in(store: DiskStore) -> list[Entry]:
    return [one for key in KEYS for one in store.versions(key) if one.valid_until is not None]


def _keys(group: list[Entry]) -> frozenset[Key]:
    return frozenset(one.key for one in group)


KEY = st.sampled_from(KEYS)
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"),
            KEY,
            st.sampled_from([b"one", b"two", b"three"]),
            st.integers(0, 100),
            st.sampled_from([0.0, 0.5, 1e5]),
            st.sampled_from(PRODUCTS),
            st.booleans(),
        ),
        st.tuples(st.sampled_from(["remove", "pin", "unpin", "use", "save"]), KEY),
    ),
    max_size=25,
)


@settings(max_examples=25, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # shrinking takes minutes
@given(STEPS)
def test_after_any_steps_they_agree_with_the_rows(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]
) -> None:
    with closing(DiskStore(tmp_path_factory.mktemp("store"), clock=lambda: 50.0)) as store:
        for name, key, *details in steps:
            if name == "put":
                text, at, cost, query, private = details
                store.put(recording(key, text, stored_at=float(at), cost=cost, query=query, private=private))
            elif name == "use":
                into_memory(store.get(key))
            elif name == "save":
                store.save_use_times()
            elif name == "remove":
                store.remove(key)
            else:
                store.pin(key, pinned=name == "pin")
        entries = list(store.entries())
        groups = list(store.groups_to_evict())
        expected = eviction.groups_to_evict(entries, versions_in(store))
        assert [eviction.order(group) for group in groups] == [eviction.order(group) for group in expected], (
            "unwritten uses count"
        )
        store.save_use_times()
        assert_as_scanned(store)


def test_what_an_older_release_writes_is_read_before_it_is_used(store: DiskStore) -> None:
    """An older release knows no secondary indexes, but its statements run the triggers."""
    fill(store, 3)
    key, index = KEYS[0], index_of(store)
    text = index.get(next(iter(store.keys())))
    with index.writing():
        index.set(key, text)
        index.set(f"pin:{key}", "")
        index.set(f"used:{key}", "70.25")
        head = rows.loads(key, text).head.name
        index.set(f"head:{head}", "2")
        index.set("filling", f"4 {store.usage().occupied}")

    assert next(store.entries_by_use()).key == key
    assert sum(one.pinned for one in store.totals()) == 1
    assert_as_scanned(store)
    index.delete(f"pin:{key}")
    index.set(f"used:{key}", "80.0")
    assert_as_scanned(store)
    store.remove(key)
    assert_as_scanned(store)


def test_a_folder_of_an_older_release_is_read_once(store: DiskStore, tmp_path: Path, rows_read: list[Key]) -> None:
    fill(store, 3)
    drop_tables(store, tmp_path)

    with closing(DiskStore(tmp_path)) as upgraded:
        into_memory(upgraded.get(KEYS[0]))
        rows_read.clear()
        assert sum(one.recordings for one in upgraded.totals()) == 3
        assert len(rows_read) == 3
        assert sum(one.recordings for one in upgraded.totals()) == 3
        assert len(rows_read) == 3
        assert_as_scanned(upgraded)


def test_a_store_that_is_closed_reads_no_more_rows(
    store: DiskStore, tmp_path: Path, rows_read: list[Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 9)
    drop_tables(store, tmp_path)
    monkeypatch.setattr(secondary_index, "_BATCH", 2)
    upgraded = DiskStore(tmp_path)
    assert upgraded.usage().recordings == 9
    rows_read.clear()
    read_batch = secondary_index._read_batch

    def close_and_read(*arguments: Any) -> None:
        upgraded._folder.closing.set()
        read_batch(*arguments)

    monkeypatch.setattr(secondary_index, "_read_batch", close_and_read)
    upgraded.totals()
    upgraded.close()

    assert len(rows_read) == 2


def test_a_read_only_folder_of_an_older_release_is_scanned(store: DiskStore, tmp_path: Path) -> None:
    keys = fill(store, 4)
    drop_tables(store, tmp_path)
    index = ReadOnlyIndex(tmp_path / "index", OSError(30, os.strerror(30)), reopen_at=float("inf"))

    with closing(DiskStore(tmp_path)) as read_only:
        read_only._folder._index = index
        assert [one.key for one in read_only.entries_by_use()] == keys[::-1]
        assert [one.key for one in read_only.entries_of("jemx", "jemx_lc")] == [keys[3], keys[1]]
        assert [[one.key for one in group] for group in read_only.groups_to_evict()] == [[key] for key in keys]
        assert sum(one.recordings for one in read_only.totals()) == 4


def drop_tables(store: DiskStore, folder: Path) -> None:
    """Remove the secondary indexes of a closed store, as if an older release had written it."""
    store.close()
    with closing(sqlite3.connect(folder / "index" / "cache.db")) as connection:
        names = connection.execute(
            "SELECT type, name FROM sqlite_master WHERE name LIKE '%\\_2%' ESCAPE '\\'"
        ).fetchall()
        for kind, name in names:
            if kind != "index":
                connection.execute(f"DROP {kind} IF EXISTS {name}")
        connection.commit()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE Entries_2_3 SET pinned = 1 WHERE id = (SELECT max(id) FROM Entries_2_3)",
        "UPDATE Entries_2_3 SET used_at = used_at + 1 WHERE id = (SELECT min(id) FROM Entries_2_3)",
        "DELETE FROM Entries_2_3 WHERE id = (SELECT max(id) FROM Entries_2_3)",
        "INSERT INTO Entries_2_3 (id, private, pinned) VALUES (999, 0, 0)",
        "UPDATE Totals_2_3 SET recordings = recordings + 1",
        "DELETE FROM Totals_2_3",
    ],
)
def test_verify_finds_and_repairs_differences(store: DiskStore, damage: str) -> None:
    fill(store, 3)
    index_of(store).execute(damage)

    assert [fault.message for fault in store.verify(fix=False)] == [FAULT]
    assert [fault.message for fault in store.verify(fix=True)] == [FAULT]
    assert_as_scanned(store)


def test_another_process_stores_while_counters_are_compared(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 3)
    is_correct = secondary_index.is_correct

    def store_and_compare(*arguments: Any) -> bool:
        other.put(recording(KEYS[0]))
        return is_correct(*arguments)

    monkeypatch.setattr(secondary_index, "is_correct", store_and_compare)
    with closing(DiskStore(tmp_path)) as other:
        assert list(store.verify(fix=False)) == []
        assert store.usage().recordings == 4


@pytest.mark.parametrize("row", ["", "{}", '{"format":2,"head":{}}', "[" * 100_000, '{"format":2,"stored_at":NaN}'])
def test_a_damaged_row_is_left_out(store: DiskStore, row: str) -> None:
    fill(store, 2)
    index_of(store).set(KEYS[0], row)

    assert len(list(store.entries_by_use())) == 2
    assert sum(one.recordings for one in store.totals()) == 2


def test_totals_read_no_row_and_eviction_only_those_it_needs(store: DiskStore, rows_read: list[Key]) -> None:
    keys = fill(store, 40)
    occupied = store.usage().occupied
    rows_read.clear()

    assert store.totals() == [
        ProductTotals("isgri", "isgri_lc", False, 20, 1280, 30.0, 0),
        ProductTotals("jemx", "jemx_lc", False, 20, 1280, 30.0, 0),
    ]
    assert store.other_recordings().recordings == 0
    assert rows_read == []

    assert [one.key for one in prune(store, Limits(occupied - 1))] == keys[:1]
    assert set(rows_read) == {keys[0]}


def test_the_last_recordings_are_found_without_reading_the_others(
    store: DiskStore, rows_read: list[Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secondary_index, "_BATCH", 2)
    keys = fill(store, 40)
    rows_read.clear()

    assert [one.key for one in islice(store.entries_by_use(), 2)] == keys[:-3:-1]
    assert len(rows_read) == 2


async def test_durations_are_estimated_from_the_last_recordings_of_each_product(
    store: DiskStore, rows_read: list[Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oda_proxy.handlers.past_durations.MAX_RUNS", 3)
    monkeypatch.setattr(secondary_index, "_BATCH", 1)
    keys = fill(store, 40)
    rows_read.clear()
    proxy = Proxy(store, None, Policy())

    await proxy.estimate()

    assert set(rows_read) == set(keys[-6:])
    for query in filter(None, PRODUCTS):
        assert str(proxy.jobs.estimates.estimate(query)).startswith("3 earlier runs took 2 s")
    await proxy.close()
