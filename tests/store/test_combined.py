"""The store of a dispatcher, with those of its former addresses."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import StoreUnusableError
from oda_proxy.query.query import Query
from oda_proxy.store.combined import CombinedStore, open_stores
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.search import Order, Search
from tests.support.recordings import KEYS, into_memory, recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUERY = Query("isgri", "isgri_image", "Real", (("RA", ("83.0",)),), api=True)


@pytest.fixture
def former(tmp_path: Path) -> Iterator[DiskStore]:
    with closing(DiskStore(tmp_path / "former", track_use=False)) as store:
        yield store


@pytest.fixture
def store(tmp_path: Path, former: DiskStore) -> Iterator[CombinedStore]:
    former.put(recording(KEYS[0], b"of the former address", stored_at=1.0, query=QUERY, cost=3.0))
    with closing(open_stores(tmp_path / "now", [tmp_path / "former"])) as opened:
        assert isinstance(opened, CombinedStore)
        yield opened


def test_a_recording_of_a_former_address_is_returned_and_stays_where_it_is(
    store: CombinedStore, former: DiskStore
) -> None:
    found = into_memory(store.get(KEYS[0]))

    assert found is not None
    assert b"".join(found.head.pieces()) == b"of the former address"
    assert list(former.keys()) == [KEYS[0]]


def test_a_recording_that_replaces_one_of_a_former_address_is_the_only_one(
    store: CombinedStore, former: DiskStore
) -> None:
    before = store.fingerprint(KEYS[0])
    store.put(recording(KEYS[0], b"new", stored_at=2.0))

    assert [entry.stored_at for entry in store.entries()] == [2.0]
    assert list(former.keys()) == []
    assert store.fingerprint(KEYS[0]) != before
    assert store.usage().recordings == 1


def test_a_recording_that_cannot_be_replaced_at_a_former_address_is_neither_returned_nor_listed(
    store: CombinedStore, former: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise StoreUnusableError(former._folder.path, "read-only")

    monkeypatch.setattr(DiskStore, "archive", fail)
    store.put(recording(KEYS[0], b"new", stored_at=2.0, query=QUERY))

    assert [entry.stored_at for entry in former.entries()] == [1.0]
    assert list(store.keys()) == [KEYS[0]]
    for entries in (store.entries(), store.entries_by_use(), store.entries_of("isgri", "isgri_image")):
        assert [entry.stored_at for entry in entries] == [2.0]


def test_recordings_of_all_addresses_are_listed_in_the_order_of_use(store: CombinedStore, former: DiskStore) -> None:
    former.put(recording(KEYS[1], b"b", stored_at=30.0, query=QUERY))
    store.put(recording(KEYS[2], b"c", stored_at=20.0, query=QUERY))

    assert [entry.key for entry in store.entries_by_use()] == [KEYS[1], KEYS[2], KEYS[0]]
    assert [entry.key for entry in store.entries_of("isgri", "isgri_image")] == [KEYS[1], KEYS[2], KEYS[0]]
    (total,) = store.totals()
    assert (total.recordings, total.cost) == (3, 3.0)
    assert store.keys_beginning("a") == [KEYS[0]]


def test_a_search_finds_pages_of_the_recordings_of_all_addresses(store: CombinedStore, former: DiskStore) -> None:
    former.put(recording(KEYS[1], b"b", stored_at=30.0, query=QUERY))
    store.put(recording(KEYS[2], b"c", stored_at=20.0, query=QUERY))
    search = Search(instrument="isgri", order=Order.STORED)

    pages = [store.search(search, offset=offset, limit=2) for offset in (0, 2)]

    assert [[entry.key for entry in page.entries] for page in pages] == [[KEYS[1], KEYS[2]], [KEYS[0]]]
    assert [page.total for page in pages] == [3, 3]


def test_the_least_used_recording_is_evicted_first_from_whichever_address(
    store: CombinedStore, former: DiskStore
) -> None:
    former.put(recording(KEYS[1], b"b", stored_at=3000.0))
    store.put(recording(KEYS[2], b"c", stored_at=2000.0))
    groups = list(store.groups_to_evict())

    assert [[entry.key for entry in group] for group in groups] == [[KEYS[0]], [KEYS[2]], [KEYS[1]]]
    assert [entry.key for entry in store.evict_all([entry for group in groups[:2] for entry in group])] == [
        KEYS[2],
        KEYS[0],
    ]
    assert store.usage().recordings == 1


def test_a_former_address_that_is_read_only_does_not_take_the_space_of_the_present_one(
    store: CombinedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(recording(KEYS[2], b"c" * 1000, stored_at=2000.0))
    both = store.usage()
    monkeypatch.setattr(DiskStore, "is_read_only", lambda _: True)

    assert store.usage().recordings == both.recordings == 2
    assert 0 < store.usage().occupied < both.occupied
    assert [[entry.key for entry in group] for group in store.groups_to_evict()] == [[KEYS[2]]]


def test_recordings_of_a_former_address_are_pinned_and_removed(store: CombinedStore, former: DiskStore) -> None:
    assert store.pin_all([KEYS[0], KEYS[5]], pinned=True) == [KEYS[0]]
    entry = former.entry(KEYS[0])
    assert entry is not None
    assert entry.pinned

    assert list(store.remove_each([KEYS[5], KEYS[0]])) == [KEYS[0]]
    assert former.entry(KEYS[0]) is None


def test_a_change_at_a_former_address_is_noticed(store: CombinedStore, former: DiskStore) -> None:
    assert store.get(KEYS[0]) is not None
    before = store.version()
    assert before is not None
    assert store.version() == before

    former.remove(KEYS[0])

    assert store.version() != before


def test_damage_at_a_former_address_is_found(store: CombinedStore, tmp_path: Path) -> None:
    (head,) = (tmp_path / "former" / "heads").glob("*/*")
    head.write_bytes(head.read_bytes()[:-1])

    assert [fault.subject for fault in store.verify(fix=False)] == [KEYS[0]]
    assert store.get(KEYS[0]) is None


def test_a_former_address_without_recordings_is_logged_and_its_folder_is_not_created(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(open_stores(tmp_path / "now", [tmp_path / "misspelt"])):
        pass

    assert f"there are no recordings of the former address of the dispatcher in {tmp_path / 'misspelt'}" in caplog.text
    assert not (tmp_path / "misspelt").exists()
