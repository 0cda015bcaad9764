"""Recordings are copied from a folder to a store in Redis, and back."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oda_proxy.cli import main
from oda_proxy.config.folders import cache_folder
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.opening import open_store
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UPSTREAM = "https://example.org/dispatcher"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with running_redis(tmp_path / "redis", fsync="no") as server:
        yield f"{server.url}?bodies=file://{tmp_path}/heads"


def copy(capsys: pytest.CaptureFixture[str], source: Path | str, target: Path | str) -> dict[str, int]:
    status = main(["copy", "--upstream", UPSTREAM, "--from", str(source), "--to", str(target), "--json"])
    counts: dict[str, int] = json.loads(capsys.readouterr().out)
    assert status == (1 if counts["failed"] else 0)
    return counts


@pytest.mark.real
def test_a_store_moves_to_redis_and_back(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    with closing(DiskStore(cache_folder(before, UPSTREAM))) as store:
        for key in KEYS:
            store.put(recording(key, key.encode() * 100, stored_at=float(KEYS.index(key))))
        store.pin(KEYS[2], pinned=True)
    with closing(open_store(StoreAddress.parse(url), UPSTREAM)) as shared:
        shared.put(recording(KEYS[0], b"newer", stored_at=99.0))  # as a copy that was interrupted left it

    assert copy(capsys, before, url) == {"copied": 5, "present": 1, "failed": 0}
    assert copy(capsys, before, url) == {"copied": 0, "present": 6, "failed": 0}
    assert copy(capsys, url, after) == {"copied": 6, "present": 0, "failed": 0}

    with closing(DiskStore(cache_folder(after, UPSTREAM))) as store:
        assert into_memory(store.get(KEYS[0])) == recording(KEYS[0], b"newer", stored_at=99.0)
        assert into_memory(store.get(KEYS[5])) == recording(KEYS[5], KEYS[5].encode() * 100, stored_at=5.0)
        assert [entry.key for entry in store.entries() if entry.pinned] == [KEYS[2]]


@pytest.mark.real
def test_the_commands_on_recordings_work_on_a_store_in_redis(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(open_store(StoreAddress.parse(url), UPSTREAM)) as shared:
        for key in KEYS[:3]:
            shared.put(recording(key, key.encode() * 100))
    where = ["--upstream", UPSTREAM, "--store", url]

    def run(*words: str) -> str:
        assert main([*words, *where]) == 0
        return capsys.readouterr().out

    assert [one["key"] for one in json.loads(run("ls", "--json"))] == KEYS[2::-1]
    assert json.loads(run("stats", "--json"))
    run("pin", KEYS[0][:8])
    run("rm", KEYS[1][:8])
    assert json.loads(run("verify", "--json"))["sound"]
    run("prune", "--max-size", "1")
    assert [one["key"] for one in json.loads(run("ls", "--json"))] == KEYS[:1]


def test_a_place_is_named_in_errors_without_its_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = "redis://:hunter2@127.0.0.1:1/0?bodies=file:///x"

    assert main(["copy", "--from", url, "--to", url]) == 2
    assert "same place" in capsys.readouterr().err
    assert main(["copy", "--from", url[:-20], "--to", str(tmp_path)]) == 2
    assert main(["copy", "--from", url, "--to", str(tmp_path)]) == 1
    assert "hunter2" not in capsys.readouterr().err
