"""Commands that end, or are ended by a signal, leave no temporary files."""

from __future__ import annotations

import os
import signal
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

from oda_proxy.cli import main
from oda_proxy.commands.signals import ended_by_signals
from oda_proxy.files import archives
from oda_proxy.files.trees import FolderTree
from oda_proxy.files.zip_writing import write_zip_file
from tests.support import capsules


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the system's temporary folder of this test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def archive(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a capsule in an archive of a kind."""
    capsules.write_capsule(tmp_path / "capsule")
    target = tmp_path / f"paper.{request.param}"
    if request.param == "zip":
        write_zip_file(FolderTree(tmp_path / "capsule"), target)
    else:
        with tarfile.open(target, "w:gz") as written:
            written.add(tmp_path / "capsule", "paper")
    return target


@pytest.mark.parametrize("archive", ["zip", "tar.gz"], indirect=True)
@pytest.mark.parametrize("command", ["verify", "import", "diff", "replay", "unknown"])
def test_no_command_on_an_archive_leaves_temporary_files(
    archive: Path, temporary: Path, tmp_path: Path, command: str
) -> None:
    store = ["--upstream", capsules.URL, "--cache-dir", str(tmp_path / "caches")]
    words, status = {
        "verify": (["verify", str(archive)], 0),
        "import": (["import", str(archive), *store], 0),
        "diff": (["diff", str(archive), "--upstream", "http://127.0.0.1:1"], 1),
        "replay": (["replay", str(archive), "--", "true"], 0),
        "unknown": (["replay", str(archive), "--", "no-such-command"], 127),
    }[command]

    assert main(words) == status
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("archive", ["tar.gz"], indirect=True)
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)], ids=str
)
def test_a_command_that_a_signal_ends_while_it_unpacks_leaves_nothing(
    archive: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    unpack, found = archives._unpack, list[Path]()

    def interrupted(*words: Any) -> Any:
        names = unpack(*words)
        found.extend(temporary.iterdir())
        os.kill(os.getpid(), number)
        return names

    monkeypatch.setattr(archives, "_unpack", interrupted)
    try:
        assert main(["verify", str(archive)]) == status
    except SystemExit as error:
        assert error.code == status  # noqa: PT017 - SIGINT ends `main`, the others the program
    assert found
    assert list(temporary.iterdir()) == []


def test_signals_do_what_they_did_before_after_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    ignoring = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, ignoring)
    assert {number: signal.getsignal(number) for number in before} == before
