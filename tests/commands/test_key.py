"""The command `key` prints the cache key of a request, and what differs between two."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from oda_proxy.cli import main
from oda_proxy.config.folders import cache_folder
from oda_proxy.config.options import PRODUCTION
from oda_proxy.query.cache_key import key_of
from oda_proxy.query.query import parse_fields, split_query
from tests.support.sample_descriptions import IMAGE_ARGUMENTS, SCHEMA, meta_data

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = f"{IMAGE_ARGUMENTS}&RA=83.630&query_status=new&session_id=S&token=SECRET"


@pytest.fixture(autouse=True)
def _described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a folder with a cached description of the production dispatcher."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ODA_PROXY_CACHE_DIR", str(tmp_path))
    description = cache_folder(tmp_path, PRODUCTION) / "descriptions" / "isgri.json"
    description.parent.mkdir(parents=True)
    description.write_text(json.dumps({"format": 1, "instrument": "isgri", "meta_data": [meta_data()]}))


@pytest.mark.parametrize(
    "prefix", ["", "https://www.astro.unige.ch/mmoda/dispatch-data/run_analysis?", "/run_analysis?"]
)
def test_the_key_of_a_request_is_that_of_the_proxy(prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", prefix + REQUEST]) == 0
    assert capsys.readouterr().out.strip() == key_of(split_query(parse_fields(REQUEST))[0], SCHEMA)


def test_an_explained_key_has_no_token(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "--explain", REQUEST]) == 0

    out = capsys.readouterr().out
    assert "parameter RA = 83.63 deg\n" in out
    assert "parameter E1_keV = 20 keV (default)\n" in out
    assert "SECRET" not in out


def test_two_requests_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "--diff", REQUEST, REQUEST.replace("83.630", "38.63")]) == 0
    assert capsys.readouterr().out == "parameter RA: 83.63 deg | 38.63 deg\n"
    assert main(["key", "--diff", REQUEST, REQUEST.replace("83.630", "8.363e1")]) == 0
    assert capsys.readouterr().out.startswith("both have the key ")


def test_json_has_keys_and_differences(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "--json", "--diff", REQUEST, f"{REQUEST}&DEC=1"]) == 0

    printed = json.loads(capsys.readouterr().out)
    assert printed["questions"][0]["parameters"]["RA"] == ["number", "83.63", "deg"]
    assert printed["differences"] == ["parameter DEC: -29.74516667 deg (default) | 1 deg"]


@pytest.mark.parametrize("words", [REQUEST.replace("isgri&", "jemx&"), REQUEST.replace("isgri_image", "nosuch")])
def test_values_are_text_if_there_is_no_description(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "--explain", words]) == 0

    captured = capsys.readouterr()
    assert 'parameter RA = "83.630" (as sent)' in captured.out
    assert "values are compared as text" in captured.err


def test_an_unreachable_upstream_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "--upstream", "http://127.0.0.1:1", REQUEST]) == 0
    assert "there is no cached description of 'isgri'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["key", "--diff", REQUEST], "--diff compares two requests, not 1"),
        (["key", "nonsense"], "this is not a request for run_analysis: the request must have one instrument, it has 0"),
        (["key"], "REQUEST"),
        (["doctor"], "--scan"),
    ],
)
def test_invalid_usage_is_an_error_of_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
