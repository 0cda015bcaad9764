"""A dispatcher whose address has changed: what was recorded at its former addresses is used."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

import oda_proxy
from oda_proxy.cli import main
from oda_proxy.errors import UsageError
from tests.support.image_query import IMAGE, get_image, get_image_and_headers, mock_status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def former_url(tmp_path: Path) -> str:
    """Record an image of a dispatcher at the address it had."""
    with oda_proxy.mocking() as former, oda_proxy.serving(former, cache_dir=tmp_path) as url:
        assert get_image(url)["query_status"] == "done"
    return former


@pytest.fixture
def dispatcher(former_url: str) -> Iterator[str]:
    with oda_proxy.mocking() as url:
        yield url


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_query_of_before_the_move_is_answered_in_any_spelling_and_not_submitted_again(
    tmp_path: Path, former_url: str, dispatcher: str
) -> None:
    with oda_proxy.serving(dispatcher, former_url=[former_url], cache_dir=tmp_path) as url:
        _, headers = get_image_and_headers(url, RA="255.98654200")
        _, others = get_image_and_headers(url, RA="250")

    assert headers["Cache-Status"] == "oda-proxy; hit"
    assert others["Cache-Status"] == "oda-proxy; fwd=uri-miss; fwd-status=200; stored"
    assert mock_status(dispatcher)["runs"] == 1


def test_without_its_former_address_the_query_is_submitted(tmp_path: Path, dispatcher: str) -> None:
    with oda_proxy.serving(dispatcher, cache_dir=tmp_path) as url:
        get_image(url)

    assert mock_status(dispatcher)["runs"] == 1


def test_the_recordings_are_found_offline_too(tmp_path: Path, former_url: str) -> None:
    with oda_proxy.serving("http://moved.example/", former_url=[former_url], cache_dir=tmp_path, offline=True) as url:
        assert get_image(url, E1_keV="20")["query_status"] == "done"


def test_commands_work_on_the_recordings_of_all_addresses(
    tmp_path: Path, former_url: str, dispatcher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with oda_proxy.serving(dispatcher, cache_dir=tmp_path) as url:
        get_image(url, RA="250")
    where = ("--cache-dir", str(tmp_path), "--upstream", dispatcher, "--former-url", former_url)

    assert len(output(capsys, "ls", *where)) == 2
    assert output(capsys, "stats", *where)["recordings"] == 2
    assert output(capsys, "verify", *where)["sound"]
    key = next(one["key"] for one in output(capsys, "ls", *where) if one["query"]["parameters"]["RA"] != ["250"])
    assert output(capsys, "show", key[:8], *where)["key"] == key
    assert len(output(capsys, "export", str(tmp_path / "fixtures"), *where)["written"]) == 2
    assert output(capsys, "rm", key, *where)["removed"] == [key]
    assert len(output(capsys, "ls", *where)) == 1


def test_a_former_address_alone_is_listed_and_creates_no_folder(
    tmp_path: Path, former_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(tmp_path.iterdir())

    where = ("--cache-dir", str(tmp_path), "--upstream", "http://moved.example", "--former-url", former_url)
    assert len(output(capsys, "ls", *where)) == 1

    assert set(tmp_path.iterdir()) == before


def test_a_capsule_of_the_former_address_is_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with oda_proxy.mocking() as former, oda_proxy.recording(tmp_path / "capsule", upstream=former) as url:
        get_image(url)
    where = ("--cache-dir", str(tmp_path / "cache"), "--upstream", "http://moved.example")

    assert main(["import", str(tmp_path / "capsule"), *where]) == 2
    assert "name a former address of the dispatcher with --former-url" in capsys.readouterr().err
    assert output(capsys, "import", str(tmp_path / "capsule"), *where, "--former-url", former)["failed"] == {}


ASK = """
import json, sys, urllib.request
print(json.load(urllib.request.urlopen(sys.argv[1]))["query_status"])
"""


@pytest.mark.parametrize("is_named", [True, False])
def test_a_capsule_of_the_former_address_answers_programs_that_use_the_present_one(
    tmp_path: Path, is_named: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with oda_proxy.mocking() as former, oda_proxy.recording(tmp_path / "capsule", upstream=former) as url:
        get_image(url)
    moved = ("--upstream", "http://moved.example", "--former-url", former) if is_named else ()
    query = f"http://moved.example/run_analysis?{urlencode(IMAGE)}"

    status = main(["replay", *moved, str(tmp_path / "capsule"), "--", sys.executable, "-c", ASK, query])

    assert (status, capfd.readouterr().out) == ((0, "done\n") if is_named else (1, ""))


@pytest.mark.parametrize(
    ("urls", "reason"),
    [
        (["http://a.example/"], "--former-url http://a.example is the --upstream itself"),
        (["http://b.example", "http://B.example/"], "--former-url http://B.example is named twice"),
    ],
)
def test_an_address_that_is_named_twice_is_refused(tmp_path: Path, urls: list[str], reason: str) -> None:
    with (
        pytest.raises(UsageError, match=reason),
        oda_proxy.serving("http://a.example", former_url=urls, cache_dir=tmp_path, offline=True),
    ):
        pass


def test_several_addresses_in_the_environment_are_separated_by_spaces(
    tmp_path: Path, former_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODA_PROXY_FORMER_URL", f"{former_url}  http://older.example")

    assert len(output(capsys, "ls", "--cache-dir", str(tmp_path), "--upstream", "http://moved.example")) == 1
