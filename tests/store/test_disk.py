"""What the store on disk survives: damage, pickles, a crash, a full disk, a broken index."""

from __future__ import annotations

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
from oda_proxy.store.base import Usage
from oda_proxy.store.disk import PENDING_AGE, DiskStore
from tests.support.recordings import KEYS, read, recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


def test_a_folder_keeps_what_another_process_put_there(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording())
    script = (
        "import sys; from pathlib import Path; from oda_proxy.store.disk import DiskStore;"
        "found = DiskStore(Path(sys.argv[1])).get(sys.argv[2]); print(found.stored_at); found.head.close()"
    )

    told = subprocess.run([sys.executable, "-c", script, tmp_path, KEYS[0]], capture_output=True, text=True, check=True)

    assert told.stdout == "12.5\n"


def test_a_hit_writes_nothing(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording())

    def state() -> list[tuple[str, int, int]]:
        files = sorted(file for file in tmp_path.rglob("*") if file.is_file() and not file.name.endswith("-shm"))
        return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]

    before = state()
    for _ in range(3):
        read(disk.get(KEYS[0]))

    assert state() == before
    disk.save_use_times()
    assert state() != before


def test_heads_are_compressed_as_any_zstd_reads_them(disk: DiskStore, tmp_path: Path) -> None:
    import zstandard

    disk.put(recording(text=b"AAAA" * 100_000))

    (head,) = heads(tmp_path)
    assert head.stat().st_size < 1000
    assert zstandard.decompress(head.read_bytes()) == b"AAAA" * 100_000


def test_no_recording_cut_at_any_byte_is_ever_given_out(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording())
    (head,) = heads(tmp_path)
    whole = head.read_bytes()

    for size in range(len(whole)):
        head.write_bytes(whole[:size])
        assert disk.get(KEYS[0]) is None, size
        assert list(disk.keys()) == []
        disk.put(recording())  # as after asking again
        assert read(disk.get(KEYS[0])) == recording()


def test_no_recording_with_any_byte_changed_is_ever_given_out(disk: DiskStore, tmp_path: Path) -> None:
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
            assert read(disk.get(KEYS[0])) == recording()


def test_a_head_with_something_behind_it_is_not_given_out(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording())
    (head,) = heads(tmp_path)
    head.write_bytes(head.read_bytes() + b"x")

    assert disk.get(KEYS[0]) is None


def test_a_head_that_is_gone_is_a_miss(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording())
    heads(tmp_path)[0].unlink()

    assert disk.get(KEYS[0]) is None


def test_a_head_that_changes_after_it_was_checked_breaks_off(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording(text=os.urandom(1_000_000)))
    (head,) = heads(tmp_path)
    found = disk.get(KEYS[0])
    assert found is not None

    with head.open("r+b") as file:
        file.seek(500_000)
        file.write(b"changed")

    with pytest.raises(StoreUnusableError, match=r"cannot be read|not as long"), closing(found.head):
        list(found.head.pieces())


@pytest.mark.parametrize("size", [0, 11, 13, 10**15])
def test_a_row_that_lies_about_the_size_is_found_out(disk: DiskStore, size: int) -> None:
    disk.put(recording())  # 12 bytes
    row = disk._index().get(KEYS[0])
    disk._index().set(KEYS[0], row.replace('"size":12', f'"size":{size}'))
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
        '{"format": 99}',
        '{"format": 2, "head": {"sha256": "", "name": "../../../etc/passwd", "size": 1, "occupies": 1}}',
        '{"format": 2, "head": 7}',
    ],
)
def test_a_damaged_row_is_a_miss(disk: DiskStore, row: str) -> None:
    disk.put(recording())
    disk._index().set(KEYS[0], row)

    assert list(disk.entries()) == []
    assert disk.get(KEYS[0]) is None
    assert list(disk.keys()) == []


def test_what_another_process_mended_meanwhile_is_not_removed(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording(text=b"old"))
    text = disk._index().get(KEYS[0])
    with closing(DiskStore(tmp_path)) as other:
        other.put(recording(text=b"new", stored_at=99.0))

    assert not disk._drop(disk._index(), KEYS[0], text)
    assert read(disk.get(KEYS[0])) == recording(text=b"new", stored_at=99.0)


class _Plant:
    """What a pickle makes when it is loaded: a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)


def test_a_planted_pickle_is_never_loaded(tmp_path: Path) -> None:
    folder, planted = tmp_path / "store", tmp_path / "planted"
    with closing(DiskStore(folder)) as store:
        store.put(recording(KEYS[2]))
    with diskcache.Cache(str(folder / "index")) as index:  # with diskcache's own access, which pickles
        index.set(KEYS[0], _Plant(planted))
        index.set((KEYS[1],), _Plant(planted))
        index.set(f"used:{KEYS[2]}", _Plant(planted))
        index.set("filling", _Plant(planted))

    with closing(DiskStore(folder)) as store:
        assert [entry.key for entry in store.entries()] == [KEYS[2]]
        assert store.get(KEYS[0]) is None
        assert not planted.exists()
        with pytest.raises(TypeError, match="text"):
            store._index().set(KEYS[0], _Plant(planted))
        assert faults(store, fix=True) != []
        assert faults(store) == []
        assert [entry.key for entry in store.entries()] == [KEYS[2]]
    assert not planted.exists()


@pytest.mark.parametrize("step", ["oda_proxy.store.heads.os.fsync", "oda_proxy.store.rows.written"])
def test_nothing_is_left_behind_where_writing_fails(
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
    assert read(disk.get(KEYS[0])) == recording()


def test_a_recording_that_cannot_be_replaced_stays(disk: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.put(recording(text=b"old"))
    with monkeypatch.context() as patch:
        patch.setattr("oda_proxy.store.rows.written", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            disk.put(recording(text=b"new"))

    assert read(disk.get(KEYS[0])) == recording(text=b"old")


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreUnusableError, match="--cache-dir"):
        DiskStore(tmp_path / "file" / "store")


def test_an_index_that_is_no_database_is_moved_aside_and_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "cache.db").write_bytes(b"no database" * 100)

    with closing(DiskStore(tmp_path)) as store:
        store.put(recording())
        assert read(store.get(KEYS[0])) == recording()

    assert (tmp_path / "index.broken-1" / "cache.db").read_bytes().startswith(b"no database")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "index.broken-1" in caplog.text


def test_an_index_that_breaks_at_run_time_fails_one_call_and_is_begun_anew(disk: DiskStore, tmp_path: Path) -> None:
    for number in range(50):
        disk.put(recording(text=b"%d" % number, parameters={"analysis_parameters": {"x": "y" * 5000}}))
        disk.put(recording(KEYS[number % 6], b"%d" % number))
    disk._index().close()  # so that it is written back, and read anew
    database = tmp_path / "index" / "cache.db"
    damaged = bytearray(database.read_bytes())
    damaged[4096:] = b"\xa5" * (len(damaged) - 4096)
    database.write_bytes(damaged)

    with pytest.raises(StoreUnusableError):
        disk.put(recording())
    disk.put(recording())

    assert read(disk.get(KEYS[0])) == recording()
    assert (tmp_path / "index.broken-1").exists()
    assert faults(disk, fix=True) != [], "the heads that nothing names any longer"
    assert faults(disk) == []


@pytest.mark.parametrize("page", [8, 20, 60])
def test_what_can_be_read_of_a_damaged_index_stays(disk: DiskStore, tmp_path: Path, page: int) -> None:
    many = [Key(f"{number:064x}") for number in range(100)]
    large = {"analysis_parameters": {"selected_catalog": "x" * 3000}}
    for key in many:
        disk.put(recording(key, key.encode(), parameters=large))
    disk.pin(many[0], pinned=True)
    disk._index().close()
    database = tmp_path / "index" / "cache.db"
    damaged = bytearray(database.read_bytes())
    damaged[page * 4096 : (page + 1) * 4096] = b"\xa5" * 4096
    database.write_bytes(damaged)

    assert faults(disk)[:1] == ["index"]
    assert faults(disk, fix=True)[:1] == ["index"]

    left = list(disk.keys())
    assert 80 <= len(left) < 100
    for key in left:
        assert read(disk.get(key)) == recording(key, key.encode(), parameters=large)
    assert faults(disk) == []
    assert disk.usage().recordings == len(left)


def test_an_index_that_cannot_be_opened_is_tried_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(folder: Path, *_: object, doubted: bool) -> None:
        tried.append(folder)
        raise sqlite3.OperationalError("attempt to write a readonly database")

    with closing(DiskStore(tmp_path)) as store:
        with monkeypatch.context() as patch:
            patch.setattr("oda_proxy.store.disk.open_index", refuse)
            for _ in range(3):
                with pytest.raises(StoreUnusableError, match="readonly"):
                    store.get(KEYS[0])
        assert tried == [tmp_path]
        store._failed = None  # as time passes
        store.put(recording())
        assert read(store.get(KEYS[0])) == recording()


def test_what_crashed_writers_left_is_swept(tmp_path: Path) -> None:
    clock = Clock()
    with closing(DiskStore(tmp_path, clock=clock)) as store:
        store.put(recording())
        kept = heads(tmp_path)
        unnamed = tmp_path / "heads" / "00" / ("0" * 64)  # a crash after the rename, before the index names it
        unnamed.parent.mkdir(exist_ok=True)
        unnamed.write_bytes(b"x")
        unfinished = tmp_path / "heads" / "new-old"
        unfinished.write_bytes(b"x")
        os.utime(unfinished, (clock.now, clock.now))
        being_written = tmp_path / "heads" / "new-now"
        being_written.write_bytes(b"x")
        os.utime(being_written, (clock.now + PENDING_AGE, clock.now + PENDING_AGE))
        clock.now += PENDING_AGE + 1

        assert sorted(faults(store)) == sorted([unnamed.name, unfinished.name])
        assert store.remove_orphans() == 2

        assert sorted(heads(tmp_path)) == sorted([*kept, being_written])
        assert faults(store) == []
        assert read(store.get(KEYS[0])) == recording()


def test_a_sweep_does_not_take_what_is_being_put(
    disk: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that has its name, and whose row is about to be written, is safe from a sweep in another process."""
    from oda_proxy.store import rows

    script = (
        "import sys; from pathlib import Path; from oda_proxy.store.disk import DiskStore;"
        "store = DiskStore(Path(sys.argv[1])); store.usage(); print('ready', flush=True);"
        "sys.stdin.readline(); print(len(list(store._orphans(remove=False))), flush=True);"
        "print(store.remove_orphans())"
    )
    write = rows.written
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as sweeper:
        assert sweeper.stdin is not None
        assert sweeper.stdout is not None
        assert sweeper.stdout.readline() == "ready\n"

        def sweep_meanwhile(*told: Any) -> str:
            assert sweeper.stdin is not None
            assert sweeper.stdout is not None
            print(file=sweeper.stdin, flush=True)
            assert sweeper.stdout.readline() == "1\n", "it sees a head without a name"
            with pytest.raises(subprocess.TimeoutExpired):
                sweeper.wait(0.2)  # it waits for us
            return write(*told)

        with monkeypatch.context() as patch:
            patch.setattr(rows, "written", sweep_meanwhile)
            disk.put(recording())
        assert sweeper.communicate()[0] == "0\n", "it thought again"

    assert read(disk.get(KEYS[0])) == recording()


def test_verify_finds_and_mends_what_is_damaged(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording(KEYS[0], b"zero"))
    (damaged,) = heads(tmp_path)
    for key in KEYS[1:4]:
        disk.put(recording(key, key.encode()))
    assert faults(disk) == []
    damaged.write_bytes(b"damaged")
    disk._index().set("filling", "7 7")
    disk._index().set(f"pin:{KEYS[5]}", "")

    assert faults(disk) == [KEYS[0], "index", f"pin:{KEYS[5]}"]
    assert faults(disk, fix=True)[0] == KEYS[0]
    assert faults(disk) == []
    assert sorted(disk.keys()) == KEYS[1:4]
    assert disk.usage().recordings == 3


def test_verify_says_that_the_index_is_no_database(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path)) as store:
        store.put(recording())
    (tmp_path / "index" / "cache.db").write_bytes(b"no database" * 100)
    for beside in (tmp_path / "index").glob("*-*"):
        beside.unlink()

    with closing(DiskStore(tmp_path)) as store:
        assert faults(store) == ["index"]
        assert faults(store, fix=True)[0] == "index"
        assert faults(store) == []
        assert store.usage() == Usage(0, 0)


def test_a_folder_of_its_own_making_that_vanishes_is_an_error_and_not_a_crash(disk: DiskStore, tmp_path: Path) -> None:
    disk.put(recording())
    shutil.rmtree(tmp_path / "heads")

    assert disk.get(KEYS[0]) is None
    with pytest.raises(StoreUnusableError, match="No such file"):
        disk.put(recording())


def test_others_may_not_look_into_the_folder(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path / "a" / "store")) as store:
        store.put(recording())

    assert (tmp_path / "a" / "store").stat().st_mode & 0o077 == 0


def test_what_was_noted_is_not_lost_where_it_cannot_be_written(
    disk: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.put(recording(stored_at=1.0))
    read(disk.get(KEYS[0]))
    used_at = next(disk.entries()).used_at

    with monkeypatch.context() as patch:
        patch.setattr(disk._index(), "transact", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            disk.save_use_times()

    assert next(disk.entries()).used_at == used_at > 1.0


def test_a_large_row_survives_whole(disk: DiskStore) -> None:
    large = replace(recording(), parameters={"analysis_parameters": {"selected_catalog": "x" * 1_000_000}})

    disk.put(large)

    assert read(disk.get(KEYS[0])) == large


def test_who_only_looks_on_uses_nothing(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path, clock=lambda: 100.0)) as store:
        store.put(recording(stored_at=50.0))
    with closing(DiskStore(tmp_path, clock=lambda: 200.0, track_use=False)) as store:
        assert read(store.get(KEYS[0])) is not None
    with closing(DiskStore(tmp_path)) as store:
        (entry,) = store.entries()

    assert entry.used_at == 50.0
