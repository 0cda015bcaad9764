"""What every store does, and what the one on disk survives."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from answers import SESSION, answer, written

from oda_proxy.errors import StoreUnusableError
from oda_proxy.key import Key
from oda_proxy.query import Envelope
from oda_proxy.recording import Recording, redact
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.store.base import Store

KEYS = [Key(digit * 64) for digit in "ab"]


def recording(key: Key, **products: object) -> Recording:
    return redact(written(answer(products=products)), Envelope(session_id=SESSION), key=key, stored_at=12.5)


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    on_disk = DiskStore(tmp_path)
    yield on_disk
    on_disk.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskStore]:
    store = DiskStore(tmp_path)
    yield store
    store.close()


def test_an_empty_store_has_nothing(store: Store) -> None:
    assert store.get(KEYS[0]) is None
    assert list(store.keys()) == []


def test_what_was_put_is_got(store: Store) -> None:
    kept = [recording(KEYS[0]), recording(KEYS[1], catalog={"cat_frame": "fk5"})]

    for one in kept:
        store.put(one)

    assert [store.get(key) for key in KEYS] == kept
    assert sorted(store.keys()) == KEYS


def test_a_second_recording_replaces_the_first(store: Store) -> None:
    store.put(recording(KEYS[0]))
    store.put(recording(KEYS[0], catalog={}))

    assert store.get(KEYS[0]) == recording(KEYS[0], catalog={})


def test_what_was_removed_is_gone(store: Store) -> None:
    store.put(recording(KEYS[0]))

    store.remove(KEYS[0])
    store.remove(KEYS[1])

    assert store.get(KEYS[0]) is None


def test_a_folder_keeps_what_another_process_put_there(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording(KEYS[0]))
    script = (
        "import sys; from pathlib import Path; from oda_proxy.store.disk import DiskStore;"
        "print(DiskStore(Path(sys.argv[1])).get(sys.argv[2]).stored_at)"
    )

    told = subprocess.run([sys.executable, "-c", script, tmp_path, KEYS[0]], capture_output=True, text=True, check=True)

    assert told.stdout == "12.5\n"


def heads(folder: Path) -> list[Path]:
    return [file for file in (folder / "heads").rglob("*") if file.is_file()]


def test_two_recordings_of_the_same_products_are_one_file(disk: DiskStore, tmp_path: Path) -> None:
    for key in KEYS:
        disk.put(recording(key))

    assert len(heads(tmp_path)) == 1


@pytest.mark.parametrize("size", [0, 1, -1])
def test_a_truncated_head_is_noticed_and_removed(disk: DiskStore, tmp_path: Path, size: int) -> None:
    disk.put(recording(KEYS[0]))
    (head,) = heads(tmp_path)
    head.write_bytes(head.read_bytes()[:size])

    assert disk.get(KEYS[0]) is None
    assert list(disk.keys()) == []


def test_a_flipped_bit_is_noticed_and_mended_by_putting_again(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording(KEYS[0]))
    (head,) = heads(tmp_path)
    damaged = bytearray(head.read_bytes())
    damaged[10] ^= 1
    head.write_bytes(damaged)

    assert disk.get(KEYS[0]) is None

    disk.put(recording(KEYS[0]))
    assert disk.get(KEYS[0]) == recording(KEYS[0])


def test_a_head_that_is_gone_is_a_miss(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording(KEYS[0]))
    heads(tmp_path)[0].unlink()

    assert disk.get(KEYS[0]) is None


@pytest.mark.parametrize(
    "row",
    [
        "",
        "[]",
        "null",
        '{"format": 99}',
        '{"format": 2, "head": "../../../etc/passwd"}',
        '{"format": 2, "head": 7}',
    ],
)
def test_a_damaged_row_is_a_miss(disk: DiskStore, row: str) -> None:
    disk._index.set(KEYS[0], row)

    assert disk.get(KEYS[0]) is None
    assert list(disk.keys()) == []


class _Plant:
    """What a pickle makes when it is loaded: a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)


def test_a_planted_pickle_is_never_loaded(tmp_path: Path) -> None:
    import diskcache

    folder, planted = tmp_path / "store", tmp_path / "planted"
    DiskStore(folder).close()
    with diskcache.Cache(str(folder / "index")) as index:  # with diskcache's own access, which pickles
        index.set(KEYS[0], _Plant(planted))
        index.set((KEYS[1],), _Plant(planted))

    store = DiskStore(folder)

    assert store.get(KEYS[0]) is None
    assert list(store.keys()) == []
    assert not planted.exists()
    with pytest.raises(TypeError, match="text"):
        store._index.set(KEYS[0], _Plant(planted))
    store.close()


def test_nothing_is_left_behind_where_writing_fails(
    disk: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(StoreUnusableError, match="No space left on device"):
        disk.put(recording(KEYS[0]))
    assert heads(tmp_path) == []
    assert disk.get(KEYS[0]) is None


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreUnusableError, match="--cache-dir"):
        DiskStore(tmp_path / "file" / "store")


def test_an_index_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "cache.db").write_bytes(b"no database" * 100)

    with pytest.raises(StoreUnusableError, match="not a database"):
        DiskStore(tmp_path)


def test_a_large_row_survives_whole(disk: DiskStore) -> None:
    large = replace(recording(KEYS[0]), parameters={"analysis_parameters": {"selected_catalog": "x" * 1_000_000}})

    disk.put(large)

    assert disk.get(KEYS[0]) == large
