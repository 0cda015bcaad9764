"""A person asks what a request is, and why two are the same or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from oda_proxy.cli import main
from oda_proxy.config import PRODUCTION, cache_folder
from oda_proxy.query.cache_key import key_of
from oda_proxy.query.query import parse_fields, split_query
from tests.support.described import IMAGE_OF, TODAY, meta_data

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = f"{IMAGE_OF}&RA=83.630&query_status=new&session_id=S&token=SECRET"


@pytest.fixture(autouse=True)
def _described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where the production dispatcher has been asked before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ODA_PROXY_CACHE_DIR", str(tmp_path))
    kept = cache_folder(tmp_path, PRODUCTION) / "descriptions" / "isgri.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"format": 1, "instrument": "isgri", "meta_data": [meta_data()]}))


@pytest.mark.parametrize(
    "prefix", ["", "https://www.astro.unige.ch/mmoda/dispatch-data/run_analysis?", "/run_analysis?"]
)
def test_a_request_has_the_key_it_has_for_the_proxy(prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", prefix + REQUEST]) == 0
    assert capsys.readouterr().out.strip() == key_of(split_query(parse_fields(REQUEST))[0], TODAY)


def test_a_key_is_explained_without_who_asks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "--explain", REQUEST]) == 0

    said = capsys.readouterr().out
    assert "parameter RA = 83.63 deg\n" in said
    assert "parameter E1_keV = 20 keV (default)\n" in said
    assert "SECRET" not in said


def test_two_requests_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "--diff", REQUEST, REQUEST.replace("83.630", "38.63")]) == 0
    assert capsys.readouterr().out == "parameter RA: 83.63 deg | 38.63 deg\n"
    assert main(["key", "--diff", REQUEST, REQUEST.replace("83.630", "8.363e1")]) == 0
    assert capsys.readouterr().out.startswith("both ask the same: key ")


def test_a_program_reads_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "--json", "--diff", REQUEST, f"{REQUEST}&DEC=1"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["questions"][0]["parameters"]["RA"] == ["number", "83.63", "deg"]
    assert told["differences"] == ["parameter DEC: -29.74516667 deg (default) | 1 deg"]


@pytest.mark.parametrize("words", [REQUEST.replace("isgri&", "jemx&"), REQUEST.replace("isgri_image", "nosuch")])
def test_words_are_words_where_no_description_is_known(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "--explain", words]) == 0

    told = capsys.readouterr()
    assert 'parameter RA = "83.630" (as sent)' in told.out
    assert "words are taken as they are" in told.err


def test_a_dispatcher_that_is_named_is_asked_and_does_not_have_to_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "--upstream", "http://127.0.0.1:1", REQUEST]) == 0
    assert "no description of 'isgri' is known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["key", "--diff", REQUEST], "--diff compares two requests, here are 1"),
        (["key", "nonsense"], "this is no request for run_analysis: the request must have one instrument, it has 0"),
        (["key"], "REQUEST"),
        (["doctor"], "--scan"),
    ],
)
def test_wrong_usage_is_said_in_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
