"""The client in this process has an empty cache while a block runs."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import oda_proxy
from oda_proxy.run.client_cache import empty_client_cache
from oda_proxy.testing.cassette import CassetteOptions, open_cassette

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


@pytest.fixture(autouse=True)
def warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the cache of the user, which has a file."""
    (tmp_path / "warm").mkdir()
    (tmp_path / "warm" / "oda_api_data_collection_1.json.gz").write_text("of the user")
    monkeypatch.setenv("ODA_CACHE", str(tmp_path / "warm"))
    return tmp_path / "warm"


CONTEXTS: dict[str, Callable[[Path], AbstractContextManager[object]]] = {
    "recording": lambda folder: oda_proxy.recording(folder / "new", upstream="http://127.0.0.1:1"),
    "replaying": lambda folder: oda_proxy.replaying(folder / "capsule"),
    "mocking": lambda _: oda_proxy.mocking(),
    "a cassette that is replayed": lambda folder: open_cassette(CassetteOptions(folder / "capsule")),
    "a cassette that is recorded": lambda folder: open_cassette(CassetteOptions(folder / "new", "all")),
}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_the_cache_is_empty_within_the_block_and_that_of_the_user_after_it(
    context: Callable[[Path], AbstractContextManager[object]], tmp_path: Path, warm: Path
) -> None:
    with oda_proxy.recording(tmp_path / "capsule", upstream="http://127.0.0.1:1"):
        pass

    with context(tmp_path):
        folder = Path(os.environ["ODA_CACHE"])
        assert list(folder.iterdir()) == []
        (folder / "oda_api_data_collection_2.json.gz").write_text("of the block")

    assert not folder.exists()
    assert os.environ["ODA_CACHE"] == str(warm)
    assert len(list(warm.iterdir())) == 1


def test_without_the_variable_there_is_none_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ODA_CACHE")

    with empty_client_cache():
        assert "ODA_CACHE" in os.environ

    assert "ODA_CACHE" not in os.environ


def test_the_replaced_cache_is_returned_only_if_it_is_warm_and_of_the_user(
    warm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with empty_client_cache() as replaced:
        (Path(os.environ["ODA_CACHE"]) / "file").write_text("of the block")
        with empty_client_cache() as replaced_within:
            pass
    monkeypatch.setenv("ODA_CACHE", str(tmp_path / "cold"))
    with empty_client_cache() as cold:
        pass

    assert (replaced, replaced_within, cold) == (warm, None, None)


def test_blocks_that_overlap_restore_the_cache_of_the_user(warm: Path) -> None:
    first, second = ExitStack(), ExitStack()
    first.enter_context(empty_client_cache())
    second.enter_context(empty_client_cache())
    of_second = os.environ["ODA_CACHE"]

    first.close()
    assert os.environ["ODA_CACHE"] == of_second
    second.close()
    assert os.environ["ODA_CACHE"] == str(warm)


def test_a_cache_that_the_block_sets_itself_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with empty_client_cache():
        monkeypatch.setenv("ODA_CACHE", str(tmp_path / "own"))

    assert os.environ["ODA_CACHE"] == str(tmp_path / "own")
