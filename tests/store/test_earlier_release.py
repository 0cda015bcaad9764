"""A folder that an earlier release wrote is used, and can be used by it again.

`samples/store-of-2026-11-28` was written by the program of that day, for the query below.
"""

from __future__ import annotations

import shutil
import sqlite3
import urllib.parse
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from oda_proxy.cli import main
from tests.support.servers import PATIENCE, running

SAMPLE = Path(__file__).parents[1] / "support/samples/store-of-2026-11-28"
UPSTREAM = "http://dispatcher.example"
QUERY = {
    "instrument": "polar",
    "product_type": "polar_lc",
    "query_type": "Real",
    "api": "True",
    "query_status": "new",
    "session_id": "Z3Q2ZP9X4M1TB6WE",
    "T1": "2016-12-18T08:32:21.000",
    "T2": "2016-12-18T08:34:01.000",
    "time_bin": "0.5",
    "time_format": "isot",
    "E1_keV": "50",
    "E2_keV": "500",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the folder."""
    shutil.copytree(SAMPLE, folder := tmp_path / "cache")
    return folder


def rows(folder: Path) -> dict[str, object]:
    """Return the rows of the index by key, as they are stored, but for the totals."""
    (index,) = folder.glob("*/index/cache.db")
    with closing(sqlite3.connect(index)) as database:
        return dict(database.execute("SELECT key, value FROM Cache WHERE key != 'filling'").fetchall())


def heads(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*/heads/*/*")}


def test_its_recordings_answer_and_are_left_as_they_were(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(folder), heads(folder)
    where = ["--upstream", UPSTREAM, "--cache-dir", str(folder)]

    with running(tmp_path / "log", "serve", "--offline", "--port", "0", *where) as proxy:
        url = f"{proxy.url}/run_analysis?{urllib.parse.urlencode(QUERY)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:  # noqa: S310 - on this machine
            assert response.headers["Cache-Status"] == "oda-proxy; hit"
            assert QUERY["session_id"] in response.read().decode()
    assert main(["verify", "--fix", *where]) == 0
    assert "1 sound recording" in capsys.readouterr().out
    after = rows(folder)
    assert {key: after.get(key) for key in before[0]} == before[0]  # there is a time of use, too
    assert heads(folder) == before[1]
