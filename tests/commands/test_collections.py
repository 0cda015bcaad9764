"""The commands on the collections of a store, and the export of one: output, exit status, and what is replaced."""

from __future__ import annotations

import errno
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import oda_proxy
from oda_proxy.capsule.capsule import open_capsule
from oda_proxy.capsule.errors import capsule_errors
from oda_proxy.capsule.writer import DispatcherWriter
from oda_proxy.cli import main
from oda_proxy.config.folders import cache_folder
from oda_proxy.errors import StoreUnusableError
from oda_proxy.files.trees import FolderTree
from oda_proxy.files.zip_writing import write_zip_file
from oda_proxy.fixture import writing
from oda_proxy.store.collection_index import CollectionIndex
from oda_proxy.store.collections import RECORDING, Member
from oda_proxy.store.disk import DiskStore
from tests.support import capsules
from tests.support.image_query import get_image
from tests.support.recordings import KEYS, recording

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording

URL = "http://dispatcher.example"


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    return ["--upstream", URL, "--cache-dir", str(tmp_path / "caches")]


def note(folder: Path, key: Key) -> None:
    """Store a recording, and note it in the collection `paper`."""
    with closing(DiskStore(folder)) as store:
        store.put(recording(key, b"head"))
        store.pin(key, pinned=True)
    index = CollectionIndex(folder, lambda: 100.0)
    index.note("paper", "", Member(RECORDING, key, 1, 0.0, was_pinned=False, content=None), 10, [])


def test_unpin_names_the_collections_that_relied_on_the_pin(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cache_folder(tmp_path / "caches", URL)
    note(folder, KEYS[0])
    with closing(DiskStore(folder)) as store:
        store.put(recording(KEYS[1], b"other"))

    assert main(["unpin", KEYS[1], *options]) == 0
    assert capsys.readouterr().err == ""
    assert main(["unpin", KEYS[0], *options]) == 0
    assert capsys.readouterr().err.startswith("oda-proxy: recordings of the collection paper may be evicted now")


@pytest.mark.parametrize("command", [["collections"], ["export", "--collection", "paper", "capsule"]])
def test_collections_of_another_dispatcher_are_not_said_to_be_none(
    tmp_path: Path,
    options: list[str],
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    note(cache_folder(tmp_path / "caches", URL), KEYS[0])

    assert main([*command, *options[2:]]) != 0

    assert f"but beside it those of {URL}; use --upstream" in capsys.readouterr().err


def test_an_export_that_fills_the_disk_replaces_nothing(
    tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    note(cache_folder(tmp_path / "caches", URL), KEYS[0])
    target = tmp_path / "paper.zip"
    capsules.write_capsule(tmp_path / "capsule")
    write_zip_file(FolderTree(tmp_path / "capsule"), target)
    before = target.read_bytes()

    def save(_: DispatcherWriter, recording: Recording) -> bool:
        with capsule_errors(tmp_path / recording.key):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(DispatcherWriter, "save_recording", save)

    assert main(["export", "--collection", "paper", str(target), "--replace", *options]) == 1

    assert capsys.readouterr().err.endswith("cannot be written: No space left on device\n")
    assert target.read_bytes() == before
    assert list(tmp_path.glob("paper.zip-*")) == []


@pytest.mark.parametrize("name", ["paper", "paper.zip"])
def test_an_export_from_a_store_that_cannot_be_read_writes_nothing(
    tmp_path: Path, options: list[str], name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    note(cache_folder(tmp_path / "caches", URL), KEYS[0])

    def peek(store: DiskStore, key: Key) -> Recording | None:
        raise StoreUnusableError(tmp_path, f"Input/output error at {key}")

    monkeypatch.setattr(DiskStore, "peek", peek)

    assert main(["export", "--collection", "paper", str(tmp_path / name), *options]) == 1

    assert "cannot use the recordings in" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["caches"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["capsule", "capsule.zip"])
def test_an_export_of_a_collection_replaces_a_capsule_on_request(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / name

    def export(*more: str) -> int:
        store = ["--upstream", mock, "--cache-dir", str(tmp_path / "caches")]
        return main(["export", "--collection", "paper", str(target), *store, *more])

    with oda_proxy.mocking() as mock, oda_proxy.serving(mock, cache_dir=tmp_path / "caches") as url:
        get_image(f"{url}/in/paper")
        assert export() == 0
        get_image(f"{url}/in/paper", RA="250")
        assert export() == 2
        assert "--replace" in capsys.readouterr().err
        assert recorded(target) == 1
        assert export("--replace") == 0
        assert recorded(target) == 2
        with monkeypatch.context() as full:
            full.setattr(writing, "_write", no_space)
            assert export("--replace") == 1
        assert "cannot be written: No space left on device" in capsys.readouterr().err
        assert recorded(target) == 2
        shutil.rmtree(tmp_path / "caches")
        assert export("--replace") != 0
        assert recorded(target) == 2
    with oda_proxy.replaying(target) as url:
        assert get_image(url, RA="250")["query_status"] == "done"


def no_space(file: Path, content: bytes) -> None:
    """Write no file: the disk is full."""
    raise OSError(errno.ENOSPC, "No space left on device", f"{file} ({len(content)})")


def recorded(path: Path) -> int:
    """Return the number of recordings in a sound capsule."""
    assert main(["verify", str(path)]) == 0
    with closing(open_capsule(path)) as capsule:
        return sum(len(dispatcher.fixtures) for dispatcher in capsule.dispatchers)
