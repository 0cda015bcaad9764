"""Temporary folders: what ends them, and that nothing else does."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pytest

from oda_proxy.files.temporary import TemporaryFolder, readable_folder, remove_abandoned

LONG_AGO: Final = 1_000_000_000.0
KILLED: Final = """
import os, signal, sys
from oda_proxy.files.temporary import TemporaryFolder
folder = TemporaryFolder("capsule")
open(folder.name + "/file", "w").close()
os.kill(os.getpid(), int(sys.argv[1])) if len(sys.argv) > 1 else None
"""


@pytest.fixture(autouse=True)
def system_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make temporary folders in one of this test, as a process that has made none."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    remove_abandoned.cache_clear()
    return tmp_path


def age(folder: Path) -> None:
    os.utime(folder, (LONG_AGO, LONG_AGO))


def in_process(folder: Path, *signals: str) -> int:
    """Make a temporary folder in a process, and return its exit status."""
    env = {**os.environ, "TMPDIR": str(folder)}
    return subprocess.run([sys.executable, "-c", KILLED, *signals], env=env, check=False).returncode


def test_a_folder_ends_with_its_block_and_with_its_process(system_folder: Path) -> None:
    with TemporaryFolder("capsule") as name:
        assert Path(name).parent == system_folder
    assert in_process(system_folder) == 0

    assert list(system_folder.iterdir()) == []


def test_the_folder_of_a_killed_process_ends_with_the_next_one(system_folder: Path) -> None:
    assert in_process(system_folder, "9") == -9
    (left,) = system_folder.iterdir()

    remove_abandoned(str(system_folder))
    assert left.exists(), "another process may be about to lock it"
    age(left)
    remove_abandoned.cache_clear()
    remove_abandoned(str(system_folder))
    assert not left.exists()


def test_folders_in_use_and_those_of_others_stay(system_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = system_folder / "oda-proxy-abcdefgh"
    linked = system_folder / "oda-proxy-for-capsule-link"
    other.mkdir()
    linked.symlink_to(other)
    foreign = system_folder / "oda-proxy-for-capsule-abcdefgh"
    foreign.mkdir()
    with TemporaryFolder("capsule") as name:
        for folder in (Path(name), other, foreign):
            age(folder)
        with monkeypatch.context() as as_another_user:
            as_another_user.setattr(os, "geteuid", lambda: os.getuid() + 1)
            remove_abandoned.cache_clear()
            remove_abandoned(str(system_folder))
        assert foreign.exists()
        remove_abandoned.cache_clear()
        remove_abandoned(str(system_folder))

        assert Path(name).exists()
        assert not foreign.exists()
        assert other.exists()
        assert linked.is_symlink()


def test_files_for_other_programs_end_after_a_week() -> None:
    earlier, recent = readable_folder(), readable_folder()
    (earlier / "mosaic.fits").touch()
    age(earlier)

    readable_folder()

    assert not earlier.exists()
    assert recent.exists()


def test_a_system_without_locks_removes_nothing_of_others(system_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", refuse)
    with TemporaryFolder("capsule") as name:
        age(Path(name))
        remove_abandoned.cache_clear()
        remove_abandoned(str(system_folder))
        assert Path(name).exists()
