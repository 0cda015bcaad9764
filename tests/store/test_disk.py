"""The store on disk survives damage, pickles, crashes, a full disk and a damaged index."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import diskcache
import pytest

from oda_proxy.errors import StoreUnusableError
from oda_proxy.query.cache_key import Key
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.store import heads as heads_module
from oda_proxy.store.base import Usage
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.disk_verification import PENDING_AGE
from oda_proxy.store.heads import SMALL, CompressedHeadWriter, Heads
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.stores import index_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.recordings.head import Head
    from oda_proxy.store.heads import PendingHead


class Clock:
    """A clock that stands until it is set; s since 1970."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskStore]:
    with closing(DiskStore(tmp_path)) as store:
        yield store


def heads(folder: Path) -> list[Path]:
    return [file for file in (folder / "heads").rglob("*") if file.is_file()]


def faults(store: DiskStore, *, fix: bool = False) -> list[str]:
    return [fault.subject for fault in store.verify(fix=fix)]


def test_a_recording_of_another_process_is_found(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording())
    script = (
        "import sys; from pathlib import Path; from oda_proxy.store.disk import DiskStore;"
        "found = DiskStore(Path(sys.argv[1])).get(sys.argv[2]); print(found.stored_at); found.head.close()"
    )

    result = subprocess.run(
        [sys.executable, "-c", script, tmp_path, KEYS[0]], capture_output=True, text=True, check=True
    )

    assert result.stdout == "12.5\n"


def test_a_hit_writes_nothing(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording())

    def state() -> list[tuple[str, int, int]]:
        files = sorted(file for file in tmp_path.rglob("*") if file.is_file() and not file.name.endswith("-shm"))
        return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]

    before = state()
    for _ in range(3):
        into_memory(disk.get(KEYS[0]))

    assert state() == before
    disk.save_use_times()
    assert state() != before


def test_heads_can_be_read_by_any_zstd(disk: DiskStore, tmp_path: Path) -> None:
    import zstandard

    disk.put(recording(text=b"AAAA" * 100_000))

    (head,) = heads(tmp_path)
    assert head.stat().st_size < 1000
    assert zstandard.decompress(head.read_bytes()) == b"AAAA" * 100_000


def test_the_folder_of_heads_is_flushed_only_for_subfolders_that_may_be_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(heads_module, "_sync_folder", lambda folder: flushed.append(folder.name))
    folder = tmp_path / "heads"
    folder.mkdir()
    store = Heads(folder)

    def commit(name: str) -> list[str]:
        flushed.clear()
        replace(store.write(MemoryHead(name.encode())), path=folder / name[:2] / name).commit()
        assert (folder / name[:2] / name).exists()
        return [*flushed]

    assert commit("ab1") == ["ab", "heads"]
    assert commit("ab2") == ["ab"]
    assert commit("cd1") == ["cd", "heads"]
    shutil.rmtree(folder / "ab")
    assert commit("ab3") == ["ab", "heads"]
    store = Heads(folder)
    assert commit("ab4") == ["ab", "heads"], "of another process, which may have ended before it flushed"


@pytest.mark.parametrize("size", [0, 1, 255, 256, 131_072, 3_000_000])
@pytest.mark.parametrize("expected", [0, 100_000_000])
def test_a_head_that_is_compressed_while_it_is_made_states_its_size(size: int, expected: int) -> None:
    import zstandard

    text = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    writer = CompressedHeadWriter(expected)
    for at in range(0, size, 65_536):
        writer.write(text[at : at + 65_536])
    head = writer.finish()

    assert zstandard.frame_content_size(b"".join(head.content)) == size
    assert zstandard.decompress(b"".join(head.content)) == text
    assert (b"".join(head.pieces()), head.size) == (text, size)
    assert head.digest == hashlib.sha256(text).hexdigest()
    assert head.head_file.name == hashlib.sha256(b"".join(head.content)).hexdigest()


def test_a_head_cut_at_any_byte_is_never_served(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording())
    (head,) = heads(tmp_path)
    whole = head.read_bytes()

    for size in range(len(whole)):
        head.write_bytes(whole[:size])
        assert disk.get(KEYS[0]) is None, size
        assert list(disk.keys()) == []
        disk.put(recording())  # as after another request
        assert into_memory(disk.get(KEYS[0])) == recording()


def test_a_head_with_any_byte_changed_is_never_served(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording())
    (head,) = heads(tmp_path)
    whole = head.read_bytes()

    for at in range(len(whole)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[at] ^= change
            head.write_bytes(damaged)
            assert disk.get(KEYS[0]) is None, (at, change)
            disk.put(recording())
            assert into_memory(disk.get(KEYS[0])) == recording()


def test_a_head_with_trailing_bytes_is_not_served(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording())
    (head,) = heads(tmp_path)
    head.write_bytes(head.read_bytes() + b"x")

    assert disk.get(KEYS[0]) is None


def test_a_missing_head_is_a_miss(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording())
    heads(tmp_path)[0].unlink()

    assert disk.get(KEYS[0]) is None


def test_a_head_that_changes_after_its_check_is_an_error(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording(text=os.urandom(1_000_000)))
    (head,) = heads(tmp_path)
    found = disk.get(KEYS[0])
    assert found is not None

    with head.open("r+b") as file:
        file.seek(500_000)
        file.write(b"changed")

    with pytest.raises(StoreUnusableError, match=r"cannot be read|has not the size"), closing(found.head):
        list(found.head.pieces())


def set_size(disk: DiskStore, size: int, *, stated: int) -> None:
    """Have the row of a recording state another size of its head."""
    row = index_of(disk).get(KEYS[0])
    index_of(disk).set(KEYS[0], row.replace(f'"size":{size}', f'"size":{stated}'))


@pytest.mark.parametrize("stated", [0, 11, 13])
def test_a_small_recording_with_a_wrong_size_is_removed(disk: DiskStore, stated: int) -> None:
    disk.put(recording(text=b'"catalog":{}'))
    set_size(disk, 12, stated=stated)

    assert KEYS[0] in faults(disk)
    assert disk.get(KEYS[0]) is None
    assert list(disk.keys()) == []


@pytest.mark.parametrize("stated", [SMALL + 1, SMALL + 11, 10**15])
def test_a_large_recording_with_a_wrong_size_is_detected(disk: DiskStore, stated: int) -> None:
    disk.put(recording(text=b"x" * (SMALL + 10)))
    set_size(disk, SMALL + 10, stated=stated)
    found = disk.get(KEYS[0])
    assert found is not None

    with pytest.raises(StoreUnusableError), closing(found.head):
        list(found.head.pieces())
    assert KEYS[0] in faults(disk)


@pytest.mark.parametrize(
    "row",
    [
        "",
        "[]",
        "null",
        '{"head": {}}',
        '{"format": true}',
        '{"format": 2, "head": {"sha256": "", "name": "../../../etc/passwd", "size": 1, "occupies": 1}}',
        '{"format": 2, "head": 7}',
    ],
)
def test_a_damaged_row_is_a_miss(disk: DiskStore, row: str) -> None:
    disk.put(recording())
    index_of(disk).set(KEYS[0], row)

    assert list(disk.entries()) == []
    assert disk.get(KEYS[0]) is None
    assert list(disk.keys()) == []


def test_a_recording_that_another_process_repaired_meanwhile_is_not_removed(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording(text=b"old"))
    text = index_of(disk).get(KEYS[0])
    with closing(DiskStore(tmp_path)) as other:
        other.put(recording(text=b"new", stored_at=99.0))

    assert not disk._folder.remove_damaged(index_of(disk), KEYS[0], text)
    assert into_memory(disk.get(KEYS[0])) == recording(text=b"new", stored_at=99.0)


class _Plant:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)


def test_a_planted_pickle_is_never_loaded(tmp_path: Path) -> None:
    folder, planted = tmp_path / "store", tmp_path / "planted"
    with closing(DiskStore(folder)) as store:
        store.put(recording(KEYS[2]))
    with diskcache.Cache(str(folder / "index")) as index:  # with diskcache's own serialisation, which pickles
        index.set(KEYS[0], _Plant(planted))
        index.set((KEYS[1],), _Plant(planted))
        index.set(f"used:{KEYS[2]}", _Plant(planted))
        index.set("filling", _Plant(planted))

    with closing(DiskStore(folder)) as store:
        assert [entry.key for entry in store.entries()] == [KEYS[2]]
        assert store.get(KEYS[0]) is None
        assert not planted.exists()
        with pytest.raises(TypeError, match="text"):
            index_of(store).set(KEYS[0], _Plant(planted))
        assert faults(store, fix=True) != []
        assert faults(store) == []
        assert [entry.key for entry in store.entries()] == [KEYS[2]]
    assert not planted.exists()


@pytest.mark.parametrize("step", ["oda_proxy.store.heads.os.fsync", "oda_proxy.store.rows.dumps"])
def test_no_file_is_left_where_writing_fails(
    disk: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    disk.put(recording(KEYS[1], b"other"))
    with monkeypatch.context() as patch:
        patch.setattr(step, full)
        with pytest.raises(StoreUnusableError, match="No space left on device"):
            disk.put(recording())

    assert disk.get(KEYS[0]) is None
    disk.remove_orphans()
    assert len(heads(tmp_path)) == 1
    assert faults(disk) == []
    disk.put(recording())
    assert into_memory(disk.get(KEYS[0])) == recording()


def test_a_recording_that_cannot_be_replaced_stays(disk: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.put(recording(text=b"old"))
    with monkeypatch.context() as patch:
        patch.setattr("oda_proxy.store.rows.dumps", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            disk.put(recording(text=b"new"))

    assert into_memory(disk.get(KEYS[0])) == recording(text=b"old")


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreUnusableError, match="--cache-dir"):
        DiskStore(tmp_path / "file" / "store")


def test_an_index_that_is_no_database_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "cache.db").write_bytes(b"no database" * 100)

    with closing(DiskStore(tmp_path)) as store:
        store.put(recording())
        assert into_memory(store.get(KEYS[0])) == recording()

    assert (tmp_path / "index.broken-1" / "cache.db").read_bytes().startswith(b"no database")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "index.broken-1" in caplog.text


def test_an_index_that_is_damaged_at_run_time_fails_one_call_and_is_replaced(disk: DiskStore, tmp_path: Path) -> None:
    for number in range(50):
        disk.put(recording(text=b"%d" % number, parameters={"analysis_parameters": {"x": "y" * 5000}}))
        disk.put(recording(KEYS[number % 6], b"%d" % number))
    index_of(disk).close()  # so that it is written, and read again
    database = tmp_path / "index" / "cache.db"
    damaged = bytearray(database.read_bytes())
    damaged[4096:] = b"\xa5" * (len(damaged) - 4096)
    database.write_bytes(damaged)

    with pytest.raises(StoreUnusableError):
        disk.put(recording())
    disk.put(recording())

    assert into_memory(disk.get(KEYS[0])) == recording()
    assert (tmp_path / "index.broken-1").exists()
    assert faults(disk, fix=True) != [], "the heads without references"
    assert faults(disk) == []


@pytest.mark.parametrize("page", [24, 30, 60])
def test_the_readable_rows_of_a_damaged_index_are_restored(disk: DiskStore, tmp_path: Path, page: int) -> None:
    many = [Key(f"{number:064x}") for number in range(100)]
    large = {"analysis_parameters": {"selected_catalog": "x" * 3000}}
    for key in many:
        disk.put(recording(key, key.encode(), parameters=large))
    disk.pin(many[0], pinned=True)
    index_of(disk).close()
    database = tmp_path / "index" / "cache.db"
    damaged = bytearray(database.read_bytes())
    damaged[page * 4096 : (page + 1) * 4096] = b"\xa5" * 4096
    database.write_bytes(damaged)

    assert faults(disk)[:1] == ["index"]
    assert faults(disk, fix=True)[:1] == ["index"]

    left = list(disk.keys())
    assert 80 <= len(left) < 100
    for key in left:
        assert into_memory(disk.get(key)) == recording(key, key.encode(), parameters=large)
    assert faults(disk) == []
    assert disk.usage().recordings == len(left)


def test_an_index_that_cannot_be_opened_is_tried_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []

    def refuse(folder: Path, *_: object, is_suspect: bool) -> None:
        attempts.append(folder)
        raise sqlite3.OperationalError("attempt to write a readonly database")

    with closing(DiskStore(tmp_path)) as store:
        with monkeypatch.context() as patch:
            patch.setattr("oda_proxy.store.store_folder.open_index", refuse)
            for _ in range(3):
                with pytest.raises(StoreUnusableError, match="readonly"):
                    store.get(KEYS[0])
        assert attempts == [tmp_path]
        store._folder._open_failure = None  # as time passes
        store.put(recording())
        assert into_memory(store.get(KEYS[0])) == recording()


def test_files_of_crashed_writers_are_removed(tmp_path: Path) -> None:
    clock = Clock()
    with closing(DiskStore(tmp_path, clock=clock)) as store:
        store.put(recording())
        stored = heads(tmp_path)
        orphan = tmp_path / "heads" / "00" / ("0" * 64)  # a crash after the rename, before the index refers to it
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_bytes(b"x")
        pending = tmp_path / "heads" / "new-old"
        pending.write_bytes(b"x")
        os.utime(pending, (clock.now, clock.now))
        being_written = tmp_path / "heads" / "new-now"
        being_written.write_bytes(b"x")
        os.utime(being_written, (clock.now + PENDING_AGE, clock.now + PENDING_AGE))
        clock.now += PENDING_AGE + 1

        assert sorted(faults(store)) == sorted([orphan.name, pending.name])
        assert store.remove_orphans() == 2

        assert sorted(heads(tmp_path)) == sorted([*stored, being_written])
        assert faults(store) == []
        assert into_memory(store.get(KEYS[0])) == recording()


def test_a_head_that_is_being_stored_is_no_orphan(
    disk: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renamed head whose row is about to be written is not removed by another process."""
    from oda_proxy.store import rows

    script = (
        "import sys; from pathlib import Path; from oda_proxy.store.disk import DiskStore;"
        "from oda_proxy.store.disk_verification import orphans;"
        "store = DiskStore(Path(sys.argv[1])); store.usage(); print('ready', flush=True);"
        "sys.stdin.readline(); print(len(list(orphans(store._folder, now=0.0, remove=False))), flush=True);"
        "print(store.remove_orphans())"
    )
    dumps = rows.dumps
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"

        def remove_orphans_meanwhile(*args: Any) -> str:
            assert other.stdin is not None
            assert other.stdout is not None
            print(file=other.stdin, flush=True)
            assert other.stdout.readline() == "1\n", "it sees a head without a reference"
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(0.2)  # it waits for us
            row: str = dumps(*args)
            return row

        with monkeypatch.context() as patch:
            patch.setattr(rows, "dumps", remove_orphans_meanwhile)
            disk.put(recording())
        assert other.communicate()[0] == "0\n", "it checked again under the lock"

    assert into_memory(disk.get(KEYS[0])) == recording()


def test_verify_finds_and_removes_what_is_damaged(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording(KEYS[0], b"zero"))
    (damaged,) = heads(tmp_path)
    for key in KEYS[1:4]:
        disk.put(recording(key, key.encode()))
    assert faults(disk) == []
    damaged.write_bytes(b"damaged")
    index_of(disk).set("filling", "7 7")
    index_of(disk).set(f"pin:{KEYS[5]}", "")

    assert faults(disk) == [KEYS[0], "index", f"pin:{KEYS[5]}"]
    assert faults(disk, fix=True)[0] == KEYS[0]
    assert faults(disk) == []
    assert sorted(disk.keys()) == KEYS[1:4]
    assert disk.usage().recordings == 3


def test_verify_reports_an_index_that_is_no_database(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path)) as store:
        store.put(recording())
    (tmp_path / "index" / "cache.db").write_bytes(b"no database" * 100)
    for file in (tmp_path / "index").glob("*-*"):
        file.unlink()

    with closing(DiskStore(tmp_path)) as store:
        assert faults(store) == ["index"]
        assert faults(store, fix=True)[0] == "index"
        assert faults(store) == []
        assert store.usage() == Usage(0, 0)


@pytest.mark.parametrize("removed", ["heads", "index", "."])
def test_a_folder_that_is_removed_is_created_again(tmp_path: Path, removed: str) -> None:
    with closing(DiskStore(folder := tmp_path / "store")) as store:
        store.put(recording())
        into_memory(store.get(KEYS[0]))
        shutil.rmtree(folder / removed)

        assert store.get(KEYS[0]) is None
        store.put(recording())
        assert into_memory(store.get(KEYS[0])) == recording()
        store.save_use_times()
    with closing(DiskStore(folder)) as store:
        assert into_memory(store.get(KEYS[0])) == recording()
        assert faults(store) == []


def test_a_folder_that_is_removed_while_a_recording_is_written_is_created_again(
    disk: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Heads.write

    def remove_then_write(self: Heads, head: Head) -> PendingHead:
        monkeypatch.undo()
        shutil.rmtree(tmp_path / "heads")
        return write(self, head)

    monkeypatch.setattr(Heads, "write", remove_then_write)
    disk.put(recording())

    assert into_memory(disk.get(KEYS[0])) == recording()


def test_an_index_that_another_process_replaces_is_opened_again(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording(KEYS[0]))
    (tmp_path / "index").rename(tmp_path / "index.broken-1")
    with closing(DiskStore(tmp_path)) as other:
        other.put(recording(KEYS[1]))

    assert into_memory(disk.get(KEYS[1])) == recording(KEYS[1])
    disk.put(recording(KEYS[2]))
    with closing(DiskStore(tmp_path)) as other:
        assert sorted(other.keys()) == KEYS[1:3]


def test_the_folder_is_private_to_its_owner(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path / "a" / "store")) as store:
        store.put(recording())

    assert (tmp_path / "a" / "store").stat().st_mode & 0o077 == 0


def test_times_of_use_are_kept_where_they_cannot_be_written(disk: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.put(recording(stored_at=1.0))
    into_memory(disk.get(KEYS[0]))
    used_at = next(disk.entries()).used_at

    with monkeypatch.context() as patch:
        patch.setattr(index_of(disk), "transact", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            disk.save_use_times()

    assert next(disk.entries()).used_at == used_at > 1.0


def test_a_large_row_survives_whole(disk: DiskStore) -> None:
    large = replace(recording(), parameters={"analysis_parameters": {"selected_catalog": "x" * 1_000_000}})

    disk.put(large)

    assert into_memory(disk.get(KEYS[0])) == large


def test_without_track_use_reading_is_no_use(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path, clock=lambda: 100.0)) as store:
        store.put(recording(stored_at=50.0))
    with closing(DiskStore(tmp_path, clock=lambda: 200.0, track_use=False)) as store:
        assert into_memory(store.get(KEYS[0])) is not None
    with closing(DiskStore(tmp_path)) as store:
        (entry,) = store.entries()

    assert entry.used_at == 50.0
