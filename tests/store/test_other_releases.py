"""Recordings of other releases are left alone: a rollback, or a rolling deployment on one folder, loses nothing."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oda_proxy.cli import main
from oda_proxy.config.folders import cache_folder
from oda_proxy.errors import StoreUnusableError
from oda_proxy.files.versions import path_of_format
from oda_proxy.store import index_keys, rows
from oda_proxy.store.base import OtherRecordings
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.eviction import Limits
from oda_proxy.store.layout import FILE, OtherLayoutError
from oda_proxy.store.maintenance import prune
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.stores import index_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OURS, THEIRS = recording(KEYS[0], b"ours"), recording(KEYS[0], b"theirs")
UPSTREAM = "http://dispatcher.example"


@pytest.fixture
def other_release(monkeypatch: pytest.MonkeyPatch) -> Callable[[], pytest.MonkeyPatch]:
    """Return a function that makes this program the next release, until its result is undone."""

    def patch() -> pytest.MonkeyPatch:
        context = pytest.MonkeyPatch()
        context.setattr(rows, "FORMAT", 99)
        context.setattr(rows, "OWN_PREFIX", '{"format":99,')
        context.setattr(index_keys, "_ASIDE_PREFIX", "format-99:")
        return context

    return patch


@pytest.fixture
def folder(tmp_path: Path, other_release: Callable[[], pytest.MonkeyPatch]) -> Path:
    """Return the folder of a store with two recordings of the next release."""
    release = other_release()
    with closing(DiskStore(folder := cache_folder(tmp_path, UPSTREAM))) as store:
        store.put(THEIRS)
        store.put(recording(KEYS[1], b"theirs, too"))
        store.pin(KEYS[1], pinned=True)
    release.undo()
    return folder


def recorded_by_other(folder: Path, other_release: Callable[[], pytest.MonkeyPatch]) -> list[object]:
    release = other_release()
    try:
        with closing(DiskStore(folder)) as store:
            assert list(store.verify(fix=False)) == []
            return [into_memory(store.get(key)) for key in KEYS[:2]]
    finally:
        release.undo()


THEIR_RECORDINGS = [THEIRS, recording(KEYS[1], b"theirs, too")]


def test_a_request_verify_eviction_and_removal_leave_them_alone(
    folder: Path, other_release: Callable[[], pytest.MonkeyPatch], caplog: pytest.LogCaptureFixture
) -> None:
    with closing(DiskStore(folder)) as store:
        assert [store.get(key) for key in KEYS[:2]] == [None, None]
        assert list(store.entries()) == []
        assert list(store.verify(fix=True)) == []
        assert prune(store, Limits(0)) == []
        assert not store.remove(KEYS[0])
        assert not store.pin(KEYS[0], pinned=True)
        store.remove_orphans()

    assert caplog.records == []
    assert recorded_by_other(folder, other_release) == THEIR_RECORDINGS


def test_the_same_recording_is_stored_by_each_release(
    folder: Path, other_release: Callable[[], pytest.MonkeyPatch]
) -> None:
    with closing(DiskStore(folder)) as store:
        store.put(OURS)
        assert into_memory(store.get(KEYS[0])) == OURS
        assert [entry.key for entry in store.entries()] == [KEYS[0]]
        assert sorted(store.keys()) == KEYS[:2]
        assert [store.keys_beginning(text) for text in ("a", KEYS[1], "ab", "c", "used:")] == [
            KEYS[:1],
            KEYS[1:2],
            [],
            [],
            [],
        ]
        assert list(store.verify(fix=False)) == []
        assert store.usage().recordings == 3

    assert recorded_by_other(folder, other_release) == THEIR_RECORDINGS
    with closing(DiskStore(folder)) as store:
        assert into_memory(store.get(KEYS[0])) == OURS
        assert [entry.key for entry in prune(store, Limits(0))] == [KEYS[0]]
        store.put(OURS)
        assert store.remove(KEYS[0])
        assert store.get(KEYS[0]) is None
    assert recorded_by_other(folder, other_release) == THEIR_RECORDINGS


def test_after_an_upgrade_the_recordings_of_the_release_before_stay(
    tmp_path: Path, other_release: Callable[[], pytest.MonkeyPatch]
) -> None:
    with closing(DiskStore(tmp_path)) as store:
        store.put(OURS)
    release = other_release()
    with closing(DiskStore(tmp_path)) as store:
        assert store.get(KEYS[0]) is None
        store.put(THEIRS)
        assert into_memory(store.get(KEYS[0])) == THEIRS
        assert list(store.verify(fix=True)) == []
    release.undo()

    with closing(DiskStore(tmp_path)) as store:
        assert into_memory(store.get(KEYS[0])) == OURS


def test_a_shared_head_stays_where_a_recording_of_another_release_refers_to_it(
    folder: Path, other_release: Callable[[], pytest.MonkeyPatch]
) -> None:
    with closing(DiskStore(folder)) as store:
        store.put(recording(KEYS[2], b"theirs"))
        store.remove(KEYS[2])

    assert recorded_by_other(folder, other_release) == THEIR_RECORDINGS


@pytest.mark.parametrize("row", ['{"format":99}', '{"format":"two","head":{"file":"x"}}', '{"format":1,"head":7}'])
def test_a_row_that_does_not_show_its_head_protects_all_heads(tmp_path: Path, row: str) -> None:
    """The counters that its release wrote are not reduced, nor are the heads that they protect removed."""
    with closing(DiskStore(tmp_path)) as store:
        store.put(recording(KEYS[0], b"one"))
        store.put(recording(KEYS[1], b"two"))
        index_of(store).set(KEYS[0], row)

        for _ in range(2):
            assert list(store.verify(fix=True)) == []
            assert store.remove_orphans() == 0
        assert store.get(KEYS[0]) is None
        assert index_of(store).get(KEYS[0]) == row
        assert len(list((tmp_path / "heads").glob("*/*"))) == 2
        assert store.usage().recordings == 2


def test_a_damaged_index_is_replaced_with_their_rows(
    folder: Path, other_release: Callable[[], pytest.MonkeyPatch]
) -> None:
    with closing(DiskStore(folder)) as store:
        store.put(recording(KEYS[2]))
        store._folder.replace_index()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("oda_proxy.store.index.check", lambda _: "damaged")
            assert into_memory(store.get(KEYS[2]))

    assert (folder / "index.broken-1").exists()
    assert recorded_by_other(folder, other_release) == THEIR_RECORDINGS


def test_commands_count_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--upstream", UPSTREAM, "--cache-dir", str(folder.parent)]
    with closing(DiskStore(folder)) as store:
        store.put(recording(KEYS[3]))
        others = store.other_recordings()
    assert (others.recordings, others.formats) == (2, ("99",))

    assert main(["ls", *where]) == 0
    assert "2 recordings of another release (format 99, " in capsys.readouterr().err
    assert main(["stats", "--json", *where]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["recordings"], found["others"]["recordings"]) == (1, 2)
    assert main(["verify", "--fix", *where]) == 0
    shown = capsys.readouterr()
    assert shown.out == "1 sound recording\n"
    assert "left alone" in shown.err


def test_only_prune_removes_them_where_that_is_requested(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--upstream", UPSTREAM, "--cache-dir", str(folder.parent), "--min-free", "0"]
    with closing(DiskStore(folder)) as store:
        store.put(recording(KEYS[3]))

    assert main(["prune", *where]) == 0
    assert "left alone" in capsys.readouterr().err
    assert main(["prune", "--other-releases", *where]) == 0

    assert "removed 2 recordings of other releases" in capsys.readouterr().out
    with closing(DiskStore(folder)) as store:
        assert store.other_recordings() == OtherRecordings()
        assert list(store.verify(fix=False)) == []
        assert len(list((folder / "heads").glob("*/*"))) == 1


def test_a_folder_of_a_later_layout_is_refused_and_left_alone(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path)) as store:
        store.put(recording())
    assert json.loads((tmp_path / FILE).read_text())["format"] == 1
    (tmp_path / FILE).write_text('{"format": 2, "written_by": "oda-proxy 9.0"}')

    with pytest.raises(OtherLayoutError, match=r"version 2 \(oda-proxy 9.0\), and this release reads version 1"):
        DiskStore(tmp_path)
    (tmp_path / FILE).unlink()
    with closing(DiskStore(tmp_path)) as store:
        assert into_memory(store.get(KEYS[0])) == recording()
    assert json.loads((tmp_path / FILE).read_text())["format"] == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", "no JSON"])
def test_a_damaged_version_is_an_error_that_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)

    with pytest.raises(StoreUnusableError, match=r"store\.json is damaged; remove store\.json"):
        DiskStore(tmp_path)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ('{"format": 1}', "a.json"),
        ('{\n "format": 1,\n "x": 2}', "a.json"),
        ('{"format": 2, "x": 2}', "a.format-1.json"),
        ('{\n "format": 12}', "a.format-1.json"),
        ('{"x": 2, "format": 2}', "a.json"),
        ("damaged", "a.json"),
        ("", "a.json"),
    ],
)
def test_a_file_of_another_format_is_not_replaced(tmp_path: Path, content: str, name: str) -> None:
    (tmp_path / "a.json").write_text(content)

    assert path_of_format(tmp_path / "a.json", 1) == tmp_path / name
    assert path_of_format(tmp_path / "b.json", 1) == tmp_path / "b.json"
