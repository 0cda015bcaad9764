"""Capsules are rewritten as a whole, under a lock: nothing is lost, and nothing else changes."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from oda_proxy.capsule import rewriting
from oda_proxy.capsule.capsule import open_capsule, verify
from oda_proxy.capsule.errors import CapsuleError
from oda_proxy.capsule.writer import CapsuleWriter
from oda_proxy.cli import main
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import parse_fields, split_query
from tests.support.recordings import recording

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://dispatcher.example"
QUERY = split_query(parse_fields("instrument=i&product_type=p&query_type=Real&RA=1"))[0]


def write(folder: Path, *letters: str, text: bytes = b'"x":1') -> Path:
    """Write a capsule with recordings whose keys consist of these letters."""
    writer = CapsuleWriter(folder, command=("pytest",))
    dispatcher = writer.dispatcher(URL)
    for letter in letters:
        query = split_query(parse_fields(f"instrument=i&product_type=p&query_type=Real&RA={ord(letter)}"))[0]
        dispatcher.save_recording(replace(recording(Key(letter * 64), text, client_members={}), query=query))
    writer.finish(0)
    return folder


def keys(folder: Path) -> str:
    """Return the first letter of each key in a sound capsule."""
    assert verify(folder) == []
    (dispatcher,) = open_capsule(folder).dispatchers
    return "".join(sorted(one.key[0] for one in dispatcher.recordings()))


def files(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_new_recordings_are_added(tmp_path: Path) -> None:
    folder = write(tmp_path / "capsule", "a", "b")
    (folder / "README.md").write_text("mine")

    rewriting.replace(folder, write(tmp_path / "new", "b", "c", text=b'"x":2'), command=(), merges=True)

    assert keys(folder) == "abc"
    texts = {one.key[0]: b"".join(one.head.pieces()) for one in open_capsule(folder).dispatchers[0].recordings()}
    assert texts == {"a": b'"x":1', "b": b'"x":2', "c": b'"x":2'}
    assert (folder / "README.md").read_text() == "mine"


def test_recordings_that_are_recorded_again_keep_their_names(tmp_path: Path) -> None:
    folder = write(tmp_path / "capsule", "a", "b")
    before = files(folder)

    for number in range(3):
        rewriting.replace(folder, write(tmp_path / f"new{number}", "a", "b"), command=(), merges=True)

    assert files(folder) == before


def test_a_capsule_is_replaced(tmp_path: Path) -> None:
    folder = write(tmp_path / "capsule", "a")

    rewriting.replace(folder, write(tmp_path / "new", "b"), command=(), merges=False)

    assert keys(folder) == "b"


def test_recordings_are_removed_by_the_beginning_of_their_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "capsule", "a", "b", "c")
    (folder / "README.md").write_text("mine")

    assert main(["rm", "--capsule", str(folder), "a" * 12, "C"]) == 0

    assert capsys.readouterr().out == f"removed {'a' * 12}\nremoved {'c' * 12}\n"
    assert keys(folder) == "b"
    assert (folder / "README.md").read_text() == "mine"


def test_a_capsule_stays_that_of_its_run_when_recordings_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "capsule"
    writer = CapsuleWriter(folder, environment={"SOURCE_DATE_EPOCH": "1600000000"}, clock=lambda: 1_700_000_000.0)
    writer.note_packages({"python": ["3.11.7"], "numpy": ["2.4.6"]})
    writer.note_version("oda_api", "1.3.5")
    for key in (Key("a" * 64), Key("b" * 64)):
        writer.dispatcher(URL).save_recording(recording(key, query=QUERY, client_members={}))
        for _ in range(2):
            writer.dispatcher(URL).count_use(key)
    writer.finish(3)
    before = open_capsule(folder).manifest

    rewriting.remove(folder, ["a"])

    after = open_capsule(folder).manifest
    assert (after.created, after.ended, after.exit_status) == (before.created, before.ended, 3)
    assert after.source_date_epoch == 1_600_000_000
    assert after.versions == before.versions
    assert {entry: usage for entry, usage in before.uses.items() if "b" * 12 in entry} == after.uses
    assert [usage.count for usage in after.uses.values()] == [2]
    assert "numpy | 2.4.6" in (folder / "README.md").read_text()


def test_an_interrupted_run_stays_one_when_recordings_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "capsule"
    CapsuleWriter(folder).dispatcher(URL).save_recording(recording(Key("a" * 64), query=QUERY, client_members={}))

    rewriting.remove(folder, ["a"])

    assert open_capsule(folder).manifest.ended is None
    assert open_capsule(folder).exit_status is None


@pytest.mark.parametrize("beginning", ["d", "", "ab"])
def test_an_unknown_key_removes_nothing(tmp_path: Path, beginning: str) -> None:
    folder = write(tmp_path / "capsule", "a", "b")

    with pytest.raises(CapsuleError, match="no recording has a key that begins with"):
        rewriting.remove(folder, ["a", beginning])

    assert keys(folder) == "ab"


def test_all_recordings_can_be_removed(tmp_path: Path) -> None:
    folder = write(tmp_path / "capsule", "a")

    rewriting.remove(folder, ["a"])

    assert verify(folder) == []
    assert not any(one.fixtures for one in open_capsule(folder).dispatchers)


def test_a_folder_without_a_capsule_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rm", "--capsule", str(tmp_path), "a"]) == 1
    assert capsys.readouterr().err == f"oda-proxy: there is no capsule in {tmp_path}\n"
    assert main(["rm", "--capsule", str(tmp_path), "--instrument", "i"]) == 2
    assert main(["rm", "--capsule", str(tmp_path)]) == 2


def test_capsules_that_are_added_at_once_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "capsule"
    new = [write(tmp_path / f"new-{letter}", letter) for letter in "abcdef"]

    with ThreadPoolExecutor(6) as executor:
        list(executor.map(lambda one: rewriting.replace(folder, one, command=(), merges=True), new))

    assert keys(folder) == "abcdef"
    assert {file.name for file in tmp_path.iterdir() if file.name.startswith(".")} == set()


def test_a_process_that_dies_releases_the_lock(tmp_path: Path) -> None:
    folder = write(tmp_path / "capsule", "a")
    program = (
        "import os, sys; from pathlib import Path; from oda_proxy.capsule import rewriting\n"
        "with rewriting.locked(Path(sys.argv[1])): os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)

    rewriting.replace(folder, write(tmp_path / "new", "b"), command=(), merges=True)

    assert keys(folder) == "ab"
