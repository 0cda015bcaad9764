"""Entries of the client's own cache that may be given for a question they do not answer are found."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.commands.client_cache import NoClientCacheError, scan
from oda_proxy.commands.doctor import doctor
from tests.support.answers import answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "oda_api_data_collection_0123456789abcdef.json.gz"
ASKED = {
    "instrument": "isgri",
    "product_type": "isgri_image",
    "query_type": "Real",
    "api": "True",
    "RA": 83.63,
    "DEC": 22,
}


def keep(file: Path, *, state: str = "done", **changes: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    body = answer(query_status=state, products={"analysis_parameters": ASKED | {"session_id": "S"} | changes})
    file.write_bytes(gzip.compress(json.dumps(body).encode()))
    return file


def test_an_entry_is_named_with_its_question_and_another_that_has_its_file(tmp_path: Path) -> None:
    file = keep(tmp_path / "cache" / NAME)

    (entry,) = scan(tmp_path)

    assert entry.file == file
    assert entry.resolved == "DEC=22 RA=83.63 api=True instrument=isgri product_type=isgri_image query_type=Real"
    assert entry.doubts == ["is also given for RA=22 DEC=83.63"]


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({"DEC": None, "RA": 83.63}, "RA=38.63"),
        ({"DEC": 1, "RA": 1, "T1": "2003-01-12T00:00:00.000"}, "T1=0203-01-12T00:00:00.000"),
        ({"DEC": 1, "RA": 1}, ""),
    ],
)
def test_digits_of_one_value_may_be_exchanged(tmp_path: Path, changes: dict[str, Any], other: str) -> None:
    keep(tmp_path / NAME, **changes)

    assert scan(tmp_path)[0].mistaken_for == other


def test_files_of_one_name_that_answer_two_questions_are_found(tmp_path: Path) -> None:
    one, other = keep(tmp_path / "a" / NAME, RA=1, DEC=1), keep(tmp_path / "b" / NAME, RA=2, DEC=2)
    same = keep(tmp_path / "c" / NAME, RA=1, DEC=1, session_id="another")

    assert [entry.clashes for entry in scan(tmp_path)] == [(other,), (one, same), (other,)]


def test_failures_and_damage_are_found(tmp_path: Path) -> None:
    keep(tmp_path / NAME, state="failed", RA=1, DEC=1)
    (tmp_path / NAME.replace("0", "1")).write_bytes(b"no gzip")
    (tmp_path / NAME.replace("0", "2")).write_bytes(gzip.compress(b"[]"))
    (tmp_path / NAME.replace("0", "3")).write_bytes(gzip.compress(b'{"query_status": "done"}'))

    assert [entry.doubts for entry in scan(tmp_path)] == [
        ["holds an analysis that is 'failed', and is given for ever"],
        ["cannot be read"],
        ["cannot be read"],
        ["does not say what it answers"],
    ]


def test_a_folder_that_is_no_cache_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "other.json.gz").write_bytes(b"")

    with pytest.raises(NoClientCacheError, match="oda_api_data_collection"):
        scan(tmp_path)


def test_a_person_is_told_and_the_exit_status_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path / NAME)
    keep(tmp_path / NAME.replace("0", "1"), RA=1, DEC=1)

    assert doctor(tmp_path, as_json=False) == 1
    assert "1 of 2 entries may be given for a question they do not answer" in capsys.readouterr().out
    assert doctor(tmp_path, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["doubtful"] == 1
    (tmp_path / NAME).unlink()
    assert doctor(tmp_path, as_json=False) == 0


@pytest.mark.real
def test_a_real_client_gives_the_questions_one_name(run_client: Callable[..., Any], tmp_path: Path) -> None:
    resolver: list[dict[str, Any]] = [
        {"RA": 83.63, "DEC": 22.01, "T1": "2003-01-12T00:00:00"},
        {"RA": 22.01, "DEC": 83.63, "T1": "2003-01-12T00:00:00"},
        {"RA": 83.63, "DEC": 22.01, "T1": "2003-01-21T00:00:00"},
        {"RA": 83.63, "DEC": 22.02, "T1": "2003-01-12T00:00:00"},
    ]

    names = run_client("1.3.5", "cache_name.py", "http://127.0.0.1:1", json.dumps(resolver))

    assert names[0] == names[1] == names[2] != names[3]
    keep(tmp_path / names[0], **resolver[0])
    assert scan(tmp_path)[0].mistaken_for == "RA=22.01 DEC=83.63"
