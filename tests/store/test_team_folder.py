"""The folder of a team survives a full disk, a restart on a read-only disk, an import by root, and a rollback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.config import cache_folder
from oda_proxy.store import index_keys, rows
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.eviction import Limits
from oda_proxy.store.maintenance import prune
from tests.support.image_query import get_image_and_headers
from tests.support.paths import FIXTURES
from tests.support.permissions import NOBODY
from tests.support.recordings import KEYS, recording
from tests.support.servers import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.servers import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system"),
]

SIZE = "6m"
SOURCES = [str(ra) for ra in range(10, 30)]


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of `SIZE` that belongs to another user."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], check=False).returncode:  # noqa: S607 - the system's
        pytest.skip("cannot mount a file system here")
    try:
        os.chown(folder, NOBODY, NOBODY)
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)  # noqa: S607 - the system's


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)  # noqa: S607 - the system's


@dataclass(frozen=True)
class Team:
    """A folder of recordings, and the address of the dispatcher that they are from."""

    folder: Path
    upstream: str

    @property
    def options(self) -> tuple[str, ...]:
        return "--cache-dir", str(self.folder), "--upstream", self.upstream

    @property
    def store(self) -> Path:
        return cache_folder(self.folder, self.upstream)

    def serve(self, log: Path, *options: str) -> AbstractContextManager[Server]:
        return running(log, "serve", "--port", "0", *self.options, *options)


def command(team: Team, *arguments: str) -> Any:
    """Run a command on the folder, and return what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "oda_proxy.cli", *arguments, *team.options, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def owners(folder: Path) -> set[int]:
    return {path.stat().st_uid for path in folder.rglob("*")}


@contextmanager
def next_release() -> Iterator[None]:
    """Read and write rows in the format of a next release."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "FORMAT", 99)
        patch.setattr(rows, "OWN_PREFIX", '{"format":99,')
        patch.setattr(index_keys, "_ASIDE_PREFIX", "format-99:")
        yield


def products(url: str, ra: str) -> tuple[Any, str]:
    response, headers = get_image_and_headers(url, RA=ra)
    assert response["query_status"] == "done", response
    return response["products"]["numpy_data_product_list"], headers["Cache-Status"]


def test_a_folder_of_a_team_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    with small_disk(tmp_path / "team") as folder:
        # A full disk: every client gets its data, and what is stored is whole.
        team, computed = fill(tmp_path, folder)
        stored = {one["key"]: one["query"]["parameters"]["RA"][0] for one in command(team, "ls")}
        assert 0 < len(stored) < len(SOURCES)
        assert command(team, "verify")["sound"]

        # A restart where nothing can be written: every recording is a hit, with the same data.
        remount(folder, "ro")
        with team.serve(tmp_path / "read-only", "--offline") as server:
            for ra in stored.values():
                assert products(server.url, ra) == (computed[ra], "oda-proxy; hit")
        assert {one["key"] for one in command(team, "ls")} == set(stored)
        remount(folder, "rw,size=64m")

        # Root imports fixtures: the owner of the folder can read and remove all of it.
        assert command(team, "import", str(FIXTURES))["failed"] == {}
        assert owners(folder) == {NOBODY}

        # A later release stores more and is taken back: nothing of either is lost.
        with next_release(), closing(DiskStore(team.store)) as later:
            later.put(recording(KEYS[0], b"of a later release"))
        assert command(team, "verify", "--fix")["sound"]
        with closing(DiskStore(team.store)) as ours:
            prune(ours, Limits(max_size=10**9, min_free=0))
        with team.serve(tmp_path / "rolled-back", "--offline") as server:
            for ra in stored.values():
                assert products(server.url, ra) == (computed[ra], "oda-proxy; hit")
        with next_release(), closing(DiskStore(team.store)) as later:
            found = later.get(KEYS[0])
            assert found is not None
            with closing(found.head) as head:
                assert b"".join(head.pieces()) == b"of a later release"


def fill(tmp_path: Path, folder: Path) -> tuple[Team, dict[str, Any]]:
    """Query more images than the disk holds, and return their products by source."""
    with running(tmp_path / "mock", "mock", "--port", "0", "--synthetic", "--time-scale", "0") as mock:
        team = Team(folder, mock.url)
        with team.serve(tmp_path / "full") as server:
            return team, {ra: products(server.url, ra)[0] for ra in SOURCES}
