"""A copy of a store that is made while a proxy uses it has all of its recordings."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import CHECKOUT
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from pathlib import Path

BACKUP = CHECKOUT / "deploy/backup.sh"
SESSION = "K7Q2ZP9X4M1TB6WD"
QUERY = (
    "instrument=isgri&product_type=isgri_image&query_type=Real&api=True&query_status=new&osa_version=OSA10.2&"
    f"scw_list=010200230010.001&session_id={SESSION}"
)


def cache_status(url: str, radius: float) -> str:
    with urllib.request.urlopen(f"{url}/run_analysis?{QUERY}&radius={radius}", timeout=PATIENCE) as response:  # noqa: S310 - on this machine
        assert json.load(response)["query_status"] == "done"
        return str(response.headers["Cache-Status"])


def oda_proxy(*arguments: str) -> str:
    command = [sys.executable, "-m", "oda_proxy.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout


@pytest.mark.slow
def test_a_copy_of_a_store_in_use_is_complete_and_can_be_restored(tmp_path: Path) -> None:
    if shutil.which("sqlite3") is None:
        pytest.skip("needs sqlite3, which is not installed")
    copies = tmp_path / "it's a copy"
    with running(tmp_path / "mock.log", "mock", "--port", "0", "--time-scale", "0", "--synthetic") as mock:
        serve = ["serve", "--upstream", mock.url, "--port", "0"]
        with running(tmp_path / "proxy.log", *serve, "--cache-dir", str(tmp_path / "cache")) as proxy:
            for radius in (5.0, 6.0):
                cache_status(proxy.url, radius)
                (store,) = (tmp_path / "cache").iterdir()
                subprocess.run([BACKUP, store, copies / store.name], check=True, timeout=PATIENCE)
            cache_status(proxy.url, 7.0)
        upstream = mock.url

    shutil.copytree(copies, restored := tmp_path / "restored")
    where = ["--upstream", upstream, "--cache-dir", str(restored)]
    assert "damaged" not in oda_proxy("verify", *where)
    assert len(json.loads(oda_proxy("ls", "--json", *where))) == 2
    with running(tmp_path / "again.log", "serve", "--offline", "--port", "0", *where) as again:
        assert [cache_status(again.url, radius) for radius in (5.0, 6.0)] == ["oda-proxy; hit"] * 2


def test_a_folder_that_is_no_store_is_not_copied(tmp_path: Path) -> None:
    result = subprocess.run([BACKUP, tmp_path, tmp_path / "copy"], capture_output=True, text=True, check=False)

    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "copy").exists()
