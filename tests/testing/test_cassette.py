"""A cassette replays and records as its record mode demands."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

import oda_proxy
from oda_proxy.capsule.capsule import open_capsule
from oda_proxy.errors import UsageError
from oda_proxy.pytest_plugin import RECORD_MODES
from oda_proxy.testing.cassette import CassetteOptions, RecordMode, open_cassette
from tests.support.image_query import get_image, mock_status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def upstream() -> Iterator[str]:
    """Return the URL of a dispatcher to record from, which answers every query."""
    with oda_proxy.mocking() as url:
        yield url


def request_image(folder: Path, record_mode: RecordMode, upstream: str, ra: str) -> str:
    """Request an image through a cassette, and return the status of its query."""
    with open_cassette(CassetteOptions(folder, record_mode, upstream=upstream)) as cassette:
        return str(get_image(cassette.url, RA=ra)["query_status"])


def test_the_plugin_offers_all_record_modes() -> None:
    assert get_args(RecordMode) == RECORD_MODES


@pytest.mark.parametrize(
    ("record_mode", "outcomes", "requests"),
    [
        ("none", ["done", "failed"], 1),
        ("once", ["done", "failed"], 1),
        ("new_episodes", ["done", "done"], 2),
        ("all", ["done", "done"], 3),
    ],
)
def test_a_record_mode_decides_what_is_sent_to_the_dispatcher(
    tmp_path: Path, upstream: str, record_mode: RecordMode, outcomes: list[str], requests: int
) -> None:
    folder = tmp_path / "cassette"
    request_image(folder, "once", upstream, "250")

    found = [request_image(folder, record_mode, upstream, ra) for ra in ("250", "251")]

    assert found == outcomes
    assert mock_status(upstream)["asked"]["new"] == requests


def test_recordings_are_saved_only_when_the_cassette_is_closed(tmp_path: Path, upstream: str) -> None:
    folder = tmp_path / "cassette"

    with open_cassette(CassetteOptions(folder, "once", upstream=upstream)) as cassette:
        get_image(cassette.url)
        assert not folder.exists()

    assert len(open_capsule(folder).dispatchers[0].fixtures) == 1


def interrupted(folder: Path, upstream: str) -> None:
    """Request an image with record mode `all`, and interrupt the test."""
    with open_cassette(CassetteOptions(folder, "all", upstream=upstream)) as cassette:
        get_image(cassette.url, RA="251")
        raise KeyboardInterrupt


def test_an_interrupted_test_changes_no_recordings(tmp_path: Path, upstream: str) -> None:
    folder = tmp_path / "cassette"
    request_image(folder, "once", upstream, "250")

    with pytest.raises(KeyboardInterrupt):
        interrupted(folder, upstream)

    assert request_image(folder, "none", upstream, "250") == "done"


def test_recordings_of_two_dispatchers_are_not_merged(tmp_path: Path, upstream: str) -> None:
    folder = tmp_path / "cassette"
    request_image(folder, "once", upstream, "250")

    with pytest.raises(UsageError, match="record from that dispatcher, or into another folder"):
        request_image(folder, "new_episodes", "http://127.0.0.1:1", "251")
