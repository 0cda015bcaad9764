"""Entries of the client's cache that may be returned for another query are found."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.commands.client_cache import NoClientCacheError, scan
from oda_proxy.commands.doctor import doctor
from tests.support.dispatcher_responses import answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "oda_api_data_collection_0123456789abcdef.json.gz"
PARAMETERS = {
    "instrument": "isgri",
    "product_type": "isgri_image",
    "query_type": "Real",
    "api": "True",
    "RA": 83.63,
    "DEC": 22,
}


def write_entry(file: Path, *, state: str = "done", **changes: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    body = answer(query_status=state, products={"analysis_parameters": PARAMETERS | {"session_id": "S"} | changes})
    file.write_bytes(gzip.compress(json.dumps(body).encode()))
    return file


def test_an_entry_is_listed_with_its_query_and_another_with_the_same_name(tmp_path: Path) -> None:
    file = write_entry(tmp_path / "cache" / NAME)

    (entry,) = scan(tmp_path)

    assert entry.file == file
    assert entry.query == "DEC=22 RA=83.63 api=True instrument=isgri product_type=isgri_image query_type=Real"
    assert entry.doubts == ["is also returned for RA=22 DEC=83.63"]


@pytest.mark.parametrize(
    ("changes", "collision"),
    [
        ({"DEC": None, "RA": 83.63}, "RA=38.63"),
        ({"DEC": 1, "RA": 1, "T1": "2003-01-12T00:00:00.000"}, "T1=0203-01-12T00:00:00.000"),
        ({"DEC": 1, "RA": 1}, ""),
    ],
)
def test_digits_of_one_value_may_be_exchanged(tmp_path: Path, changes: dict[str, Any], collision: str) -> None:
    write_entry(tmp_path / NAME, **changes)

    assert scan(tmp_path)[0].collision == collision


def test_files_of_one_name_with_two_queries_are_found(tmp_path: Path) -> None:
    one, other = write_entry(tmp_path / "a" / NAME, RA=1, DEC=1), write_entry(tmp_path / "b" / NAME, RA=2, DEC=2)
    same = write_entry(tmp_path / "c" / NAME, RA=1, DEC=1, session_id="another")

    assert [entry.clashes for entry in scan(tmp_path)] == [(other,), (one, same), (other,)]


def test_failures_and_damage_are_found(tmp_path: Path) -> None:
    write_entry(tmp_path / NAME, state="failed", RA=1, DEC=1)
    (tmp_path / NAME.replace("0", "1")).write_bytes(b"no gzip")
    (tmp_path / NAME.replace("0", "2")).write_bytes(gzip.compress(b"[]"))
    (tmp_path / NAME.replace("0", "3")).write_bytes(gzip.compress(b'{"query_status": "done"}'))

    assert [entry.doubts for entry in scan(tmp_path)] == [
        ["holds a job in state 'failed', and never expires"],
        ["cannot be read"],
        ["cannot be read"],
        ["does not name its query"],
    ]


def test_a_folder_without_entries_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "other.json.gz").write_bytes(b"")

    with pytest.raises(NoClientCacheError, match="oda_api_data_collection"):
        scan(tmp_path)


def test_doubtful_entries_are_printed_and_set_the_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_entry(tmp_path / NAME)
    write_entry(tmp_path / NAME.replace("0", "1"), RA=1, DEC=1)

    assert doctor(tmp_path, as_json=False) == 1
    assert "1 of 2 entries may be returned for a query that they do not answer" in capsys.readouterr().out
    assert doctor(tmp_path, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["doubtful"] == 1
    (tmp_path / NAME).unlink()
    assert doctor(tmp_path, as_json=False) == 0


@pytest.mark.real
def test_a_real_client_uses_one_name_for_these_queries(run_client: Callable[..., Any], tmp_path: Path) -> None:
    queries: list[dict[str, Any]] = [
        {"RA": 83.63, "DEC": 22.01, "T1": "2003-01-12T00:00:00"},
        {"RA": 22.01, "DEC": 83.63, "T1": "2003-01-12T00:00:00"},
        {"RA": 83.63, "DEC": 22.01, "T1": "2003-01-21T00:00:00"},
        {"RA": 83.63, "DEC": 22.02, "T1": "2003-01-12T00:00:00"},
    ]

    names = run_client("1.3.5", "cache_name.py", "http://127.0.0.1:1", json.dumps(queries))

    assert names[0] == names[1] == names[2] != names[3]
    write_entry(tmp_path / names[0], **queries[0])
    assert scan(tmp_path)[0].collision == "RA=22.01 DEC=83.63"
