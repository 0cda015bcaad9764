"""A store that cannot be written to: what it holds is read all the same."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from oda_proxy.cli import main
from oda_proxy.commands import recordings, remote_recordings, verify_files
from oda_proxy.config.folders import cache_folder
from oda_proxy.errors import StoreUnusableError
from oda_proxy.store import read_only_index, store_folder
from oda_proxy.store.base import Usage
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.eviction import Limits
from oda_proxy.store.index import Index
from oda_proxy.store.maintenance import maintain, prune
from oda_proxy.store.read_only_index import ReadOnlyIndex
from tests.support.permissions import folder_for_all, privileged, set_modes, unprivileged
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.small_disks import only_root, output_on_small_disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UPSTREAM = "http://dispatcher.example"
IMPORTED_BY_COMMANDS = (recordings, remote_recordings, verify_files)
"""Imported here: the user nobody may be unable to read the interpreter of root."""


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return the folder of a store with two recordings that may only be read."""
    with folder_for_all() as parent:
        with closing(DiskStore(folder := cache_folder(parent, UPSTREAM))) as store:
            store.put(recording(KEYS[0], b"first"))
            store.put(recording(KEYS[1], b"second"))
            store.pin(KEYS[1], pinned=True)
        set_modes(folder, of_folders=0o555, of_files=0o444)
        with unprivileged():
            yield folder
        set_modes(folder, of_folders=0o755, of_files=0o644)


def test_a_read_only_store_is_into_memory(shared: Path) -> None:
    with closing(DiskStore(shared)) as store:
        assert into_memory(store.get(KEYS[0])) == recording(KEYS[0], b"first")
        assert store.get(KEYS[2]) is None
        assert sorted(store.keys()) == KEYS[:2]
        assert [entry.pinned for entry in sorted(store.entries(), key=lambda entry: entry.key)] == [False, True]
        assert store.usage().recordings == 2
        assert list(store.verify(fix=False)) == []
        store.save_use_times()


def test_a_read_only_store_names_the_reason_for_each_write(shared: Path) -> None:
    with closing(DiskStore(shared)) as store:
        (entry, _) = store.entries()
        for write in (
            lambda: store.put(recording(KEYS[2])),
            lambda: store.remove(KEYS[0]),
            lambda: store.evict(entry),
            lambda: store.pin(KEYS[0], pinned=True),
        ):
            with pytest.raises(
                StoreUnusableError,
                match=r"(readonly|unable|[Pp]ermission).*(make the folder writable|chown).*--cache-dir",
            ):
                write()
        assert sorted(store.keys()) == KEYS[:2]


def test_commands_that_read_work_on_a_read_only_store(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("ls", "stats", "verify"):
        assert main([command, "--upstream", UPSTREAM, "--cache-dir", str(shared.parent)]) == 0
    assert "2 sound recordings" in capsys.readouterr().out


def test_a_damaged_recording_of_a_read_only_store_is_a_miss(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(DiskStore(shared)) as store:
        (head,) = (shared / "heads").glob(f"*/{store.entry(KEYS[0]).head_name}")  # type: ignore[union-attr]
    set_writable(head, b"changed")
    with closing(DiskStore(shared)) as store:
        assert store.get(KEYS[0]) is None
        assert [fault.subject for fault in store.verify(fix=False)] == [KEYS[0]]
    assert "is damaged" in caplog.text


def set_writable(file: Path, content: bytes) -> None:
    """Write to a file as the user that owns it."""
    with privileged():
        file.chmod(0o644)
        file.write_bytes(content)


def test_a_store_that_becomes_writable_is_written_to(shared: Path) -> None:
    with closing(DiskStore(shared)) as store:
        assert into_memory(store.get(KEYS[0]))
        index = store._folder.index()
        assert isinstance(index, ReadOnlyIndex)
        with privileged():
            set_modes(shared, of_folders=0o777, of_files=0o666)
        index.reopen_at = 0.0  # as time passes

        store.put(recording(KEYS[2]))
        assert into_memory(store.get(KEYS[2])) == recording(KEYS[2])
        assert isinstance(store._folder.index(), Index)


def test_a_store_with_the_log_of_a_crashed_writer_is_written_to_once_it_becomes_writable(tmp_path: Path) -> None:
    """SQLite shares the index of a log, and whether it may be written to, among the connections of a process."""
    with folder_for_all() as parent:
        folder = parent / "store"
        with closing(DiskStore(tmp_path / "store")) as store:
            store.put(recording(KEYS[0]))
            shutil.copytree(tmp_path / "store", folder)
        assert (folder / "index" / "cache.db-shm").exists()
        set_modes(folder, of_folders=0o555, of_files=0o444)
        with unprivileged(), closing(DiskStore(folder)) as copy:
            for _ in range(2):
                with pytest.raises(StoreUnusableError, match="readonly"):
                    copy.put(recording(KEYS[1]))
                index = copy._folder.index()
                assert isinstance(index, ReadOnlyIndex)
                index.reopen_at = 0.0  # as time passes
            with privileged():
                set_modes(folder, of_folders=0o777, of_files=0o666)
            copy.put(recording(KEYS[1]))
            assert sorted(copy.keys()) == KEYS[:2]


def test_writes_that_fail_retain_no_frames(shared: Path) -> None:
    with closing(DiskStore(shared)) as store:
        for _ in range(3):
            with pytest.raises(StoreUnusableError):
                store.put(recording(KEYS[2]))
        index = store._folder.index()
        assert isinstance(index, ReadOnlyIndex)
        assert index.cause.__traceback__ is None


def test_the_log_of_a_crashed_writer_is_into_memory(tmp_path: Path) -> None:
    """A copy of the files of a running store is what a crash leaves: the rows are in the write-ahead log."""
    with folder_for_all() as parent:
        folder = parent / "store"
        with closing(DiskStore(tmp_path / "store")) as store:
            store.put(recording(KEYS[0]))
            shutil.copytree(tmp_path / "store", folder)
        (folder / "index" / "cache.db-shm").unlink()
        assert (folder / "index" / "cache.db-wal").stat().st_size
        set_modes(folder, of_folders=0o555, of_files=0o444)
        with unprivileged(), closing(DiskStore(folder)) as copy:
            assert into_memory(copy.get(KEYS[0])) == recording(KEYS[0])
            assert list(copy.verify(fix=False)) == []
        set_modes(folder, of_folders=0o755, of_files=0o644)


class FullDisk:
    """A disk on which the index can be written only after heads were removed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._heads = folder / "heads"
        self._number = self._count()
        self._write = Index.writing
        monkeypatch.setattr(Index, "writing", self.writing())

    def _count(self) -> int:
        return sum(file.is_file() for file in self._heads.glob("*/*"))

    def writing(self) -> Any:
        disk = self

        @contextmanager
        def writing(index: Index) -> Iterator[Index]:
            if disk._count() >= disk._number - 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with disk._write(index) as writable:
                yield writable

        return writing


def test_prune_works_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(DiskStore(tmp_path)) as store:
        for number, key in enumerate(KEYS):
            store.put(recording(key, os.urandom(1000), stored_at=float(number)))
        size = store.usage().occupied // 6
        FullDisk(tmp_path, monkeypatch)

        evicted = prune(store, Limits(2 * size + 100))

        assert [entry.key for entry in evicted] == KEYS[:4]
        assert sorted(store.keys()) == KEYS[4:]
        assert store.usage().recordings == 2
        assert list(store.verify(fix=False)) == []


def test_maintenance_makes_room_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(DiskStore(tmp_path)) as store:
        for number, key in enumerate(KEYS):
            store.put(recording(key, os.urandom(1000), stored_at=float(number)))
        into_memory(store.get(KEYS[5]))
        size = store.usage().occupied // 6
        FullDisk(tmp_path, monkeypatch)

        maintain(store, Limits(3 * size), remove_orphans=True)

        assert sorted(store.keys()) == KEYS[4:]


def test_a_pinned_recording_stays_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(DiskStore(tmp_path)) as store:
        store.put(recording())
        (entry,) = store.entries()
        store.pin(KEYS[0], pinned=True)
        FullDisk(tmp_path, monkeypatch)

        with pytest.raises(StoreUnusableError, match="No space left on device; free space on its disk"):
            store.evict(entry)
        assert into_memory(store.get(KEYS[0])) == recording()


def test_an_index_that_cannot_be_read_either_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    with closing(DiskStore(tmp_path)) as store:
        store.put(recording())
    monkeypatch.setattr(store_folder, "open_index", refuse)
    monkeypatch.setattr(read_only_index, "connect", refuse)
    with closing(DiskStore(tmp_path)) as store, pytest.raises(StoreUnusableError, match="unable to open database file"):
        store.usage()


ON_TMPFS = """
import os, sys
from contextlib import closing, suppress
from pathlib import Path
from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.eviction import Limits
from oda_proxy.store.maintenance import prune
from oda_proxy.query.cache_key import Key
from tests.support.recordings import recording

folder = Path(sys.argv[1])
with closing(DiskStore(folder / "store")) as store:
    with suppress(StoreUnusableError):
        for number in range(100):
            store.put(recording(Key(f"{number:064x}"), os.urandom(100_000), stored_at=float(number)))
    with suppress(OSError), (folder / "rest").open("wb", buffering=0) as rest:
        while rest.write(b"x" * 512):
            pass
with closing(DiskStore(folder / "store")) as store:
    print(len(list(store.entries())), store.free_space().free)
    print(len(prune(store, Limits(600_000))))
    store.put(recording(text=os.urandom(100_000)))
    print(len(list(store.entries())), len(list(store.verify(fix=False))))
"""


@only_root
def test_prune_works_on_a_full_file_system_of_2_mb(tmp_path: Path) -> None:
    output = output_on_small_disk(ON_TMPFS, tmp_path, "2m")

    (stored, free), (evicted,), (left, faults) = (map(int, line.split()) for line in output.splitlines())
    assert stored > 8
    assert free < 4096
    assert evicted == stored - 5
    assert (left, faults) == (6, 0)


def test_the_usage_of_a_read_only_store_without_recordings_is_zero(tmp_path: Path) -> None:
    with folder_for_all() as parent:
        with closing(DiskStore(folder := parent / "store")) as store:
            store.usage()
        set_modes(folder, of_folders=0o555, of_files=0o444)
        with unprivileged(), closing(DiskStore(folder)) as store:
            assert store.usage() == Usage(0, 0)
        set_modes(folder, of_folders=0o755, of_files=0o644)
