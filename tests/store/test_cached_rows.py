"""Small recordings that do not stay in memory: their rows do, and their heads are read from the page cache."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from oda_proxy.recordings.loaded import LoadedRecording
from oda_proxy.store import heads
from oda_proxy.store.cached_rows import MAX_HEAD, MAX_ROW, MAX_ROWS, CachedRows
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.index import Index
from oda_proxy.store.memory import MemoryStore
from tests.support.recordings import KEYS, recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Store

KEY = KEYS[0]
TEXT = b'"catalog":{"a":1}'


@pytest.fixture(autouse=True)
def page_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the page cache hold all files, also where the system cannot tell."""

    def read_cached(path: str, size: int) -> bytes | None:
        return Path(path).read_bytes()[:size] if Path(path).exists() else None

    monkeypatch.setattr(heads, "read_cached", read_cached)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    with closing(DiskStore(tmp_path)) as store:
        store.put(recording(KEY, TEXT))
        yield store


@pytest.fixture
def other(tmp_path: Path, store: DiskStore) -> Iterator[DiskStore]:
    """Return the store as another process has it open."""
    assert store.usage().recordings == 1
    with closing(DiskStore(tmp_path)) as other:
        assert other.usage().recordings == 1
        yield other


def find(rows: CachedRows, store: Store, key: Key = KEY) -> Recording | None:
    return rows.find(key, store.version)


def requested_twice(store: Store, key: Key = KEY) -> CachedRows:
    rows = CachedRows(store)
    for _ in range(2):
        assert rows.read(key)
    return rows


def head_file(folder: Path) -> Path:
    (file,) = (folder / "heads").glob("*/*")
    return file


def test_a_recording_that_was_requested_twice_is_found_without_its_row(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = CachedRows(store)
    assert rows.read(KEY)
    assert find(rows, store) is None
    assert rows.read(KEY)

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(Index, "get", refuse)
        found = find(rows, store)

    assert isinstance(found, LoadedRecording)
    assert b"".join(found.head.pieces()) == TEXT
    assert found.head.digest == recording(KEY, TEXT).head.digest


def test_its_head_does_not_stay_in_memory(store: DiskStore) -> None:
    rows = requested_twice(store)

    held = rows._rows[KEY]

    assert held is not None
    assert b"".join((*held.recording.head.pieces(), held.head.text)) == b""


@pytest.mark.parametrize("by_other", [False, True], ids=["here", "by another process"])
@pytest.mark.parametrize("event", ["removed", "replaced", "another one stored"])
def test_after_a_change_of_the_store_the_row_is_read_again(
    store: DiskStore, other: DiskStore, event: str, *, by_other: bool
) -> None:
    rows, changing = requested_twice(store), other if by_other else store

    if event == "removed":
        changing.remove(KEY)
    else:
        changing.put(recording(KEY if event == "replaced" else KEYS[1], TEXT, stored_at=99.0))

    assert find(rows, store) is None
    assert (rows.read(KEY) is None) == (event == "removed")
    assert (find(rows, store) is None) == (event == "removed")


@pytest.mark.parametrize("event", ["changed", "cut", "longer", "removed", "not in the page cache"])
def test_a_head_that_is_not_as_it_was_written_is_not_found(
    store: DiskStore, tmp_path: Path, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, file = requested_twice(store), head_file(tmp_path)
    content = file.read_bytes()

    if event == "removed":
        file.unlink()
    elif event == "not in the page cache":
        monkeypatch.setattr(heads, "read_cached", lambda *_: None)
    else:
        changed = {"changed": content[:-1] + bytes([content[-1] ^ 1]), "cut": content[:-1], "longer": content + b"\0"}
        file.write_bytes(changed[event])

    assert find(rows, store) is None


def test_times_of_use_are_noted(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path, clock=iter(range(10**9, 10**9 + 10**6)).__next__)) as store:
        store.put(recording(KEY, TEXT))
        rows = requested_twice(store)
        before = store.entry(KEY)

        assert find(rows, store)

        after = store.entry(KEY)
        assert before
        assert after
        assert after.used_at > before.used_at


def test_large_heads_and_large_rows_are_read_in_threads(store: DiskStore) -> None:
    text = random.Random(1).randbytes(MAX_HEAD + 1)  # noqa: S311 - a text that is not compressible
    store.put(recording(KEYS[1], text))
    store.put(recording(KEYS[2], TEXT, other_members={"long": "x" * MAX_ROW}))

    assert [find(requested_twice(store, key), store, key) for key in KEYS[1:3]] == [None, None]


def test_few_rows_are_held(store: DiskStore) -> None:
    rows = requested_twice(store)
    for number in range(MAX_ROWS):
        key: Key = KEY[:-4] + f"{number:04x}"  # type: ignore[assignment]  # a key is a text
        store.put(recording(key, TEXT))
        assert rows.read(key)

    assert len(rows._rows) == MAX_ROWS
    assert KEY not in rows._rows


def test_a_store_in_memory_has_no_rows_to_hold() -> None:
    store = MemoryStore()
    store.put(recording(KEY, TEXT))

    assert find(requested_twice(store), store) is None
