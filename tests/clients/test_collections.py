"""A notebook that runs at the address of a collection is exported, and replayed elsewhere with the same numbers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.capsule.capsule import open_capsule
from tests.support.internet import internet
from tests.support.namespaces import why_no_namespace
from tests.support.paths import CLIENT_SCRIPTS
from tests.support.real_clients import environment
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]

TEAM = "http://team.example:8400"
"""The proxy of a team, as a notebook in its JupyterHub names it."""


def notebook(folder: Path, address: str) -> Path:
    """Write the cells of the seed notebook for the dispatcher at an address."""
    text, replaced = re.subn(
        r"(?m)^disp=DispatcherAPI\(.*\)$",
        f"try:\n    disp = DispatcherAPI(url={address!r})\n"
        f"except TypeError:\n    disp = DispatcherAPI(host={address!r})",
        (CLIENT_SCRIPTS / "seed_notebook.py").read_text(),
    )
    assert replaced == 1
    file = folder / "notebook.py"
    file.write_text(text)
    return file


def run(
    command: Sequence[str | Path], folder: Path, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ODA_", "DISP_"))}
    env |= {"HOME": str(folder), "TMPDIR": str(folder), "MPLBACKEND": "agg", **(environ or {})}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=env, capture_output=True, text=True, timeout=PATIENCE * 2, check=False
    )


def numbers(output: str) -> list[str]:
    """Return the digests of all arrays that a notebook prints."""
    return re.findall(r"\b[0-9a-f]{64}\b", output)


def contents(capsule: Path) -> dict[str, Any]:
    """Return what a capsule holds, apart from times."""
    with closing(open_capsule(capsule)) as opened:
        (one,) = opened.dispatchers
        recordings = {recording.key: recording for recording in one.recordings()}
        return {
            "products": {key: b"".join(found.head.pieces()) for key, found in recordings.items()},
            "states": {key: [state for state, _ in found.timeline] for key, found in recordings.items()},
            "queries": {key: found.query for key, found in recordings.items()},
            "failures": {key: (one.status, one.query) for key, one in one.failures.items()},
            "descriptions": sorted(file.name for file in (one.folder / "descriptions").iterdir()),
            "uses": sorted(use.count for use in opened.uses.values()),
            "versions": opened.versions.get("oda_api"),
        }


def test_a_notebook_of_a_collection_replays_with_another_client_and_the_network_off(tmp_path: Path) -> None:
    if reason := why_no_namespace():
        pytest.skip(reason)
    oda_proxy: list[str | Path] = [sys.executable, "-m", "oda_proxy.cli"]
    author = environment("oda_api-1.3.5")
    with running(tmp_path / "mock-log", "mock", "--time-scale", "0", "--port", "0") as mock:
        of_store = ["--upstream", mock.url, "--cache-dir", str(tmp_path / "cache")]
        with (
            running(tmp_path / "log", "serve", *of_store, "--port", "0", "--public-url", TEAM) as server,
            internet({TEAM: server.url, "http://dispatcher.example": mock.url}) as net,
        ):
            program = notebook(tmp_path, f"{TEAM}/in/my-paper")
            first = run([author, program], tmp_path, net.environment)
            assert first.returncode == 0, first.stderr
            plain = notebook(tmp_path, "http://dispatcher.example/dispatch-data")
            recorded = run([*oda_proxy, "record", "-o", "recorded", "--", author, plain], tmp_path, net.environment)
            assert recorded.returncode == 0, recorded.stderr
        exported = run([*oda_proxy, "export", "--collection", "my-paper", "paper.zip", *of_store], tmp_path)
    assert exported.returncode == 0, exported.stderr

    program = notebook(tmp_path, f"{TEAM}/in/my-paper")
    isolated = ["unshare", "--map-root-user", "--net"]
    replay = [*isolated, *oda_proxy, "replay", "paper.zip", "--", environment("oda_api-1.0"), program]
    again = run(replay, tmp_path)

    assert again.returncode == 0, again.stderr
    assert len(numbers(first.stdout)) > 20
    assert numbers(again.stdout) == numbers(first.stdout)
    assert contents(tmp_path / "paper.zip") == contents(tmp_path / "recorded")
