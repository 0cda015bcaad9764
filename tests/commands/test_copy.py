"""Recordings are copied from a folder to a store in Redis, and back."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oda_proxy.cli import main
from oda_proxy.config.folders import cache_folder
from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.collection_index import CollectionIndex
from oda_proxy.store.collections import ADDRESS, CLIENT, FAILURE, RECORDING, Member
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.opening import open_collections, open_store
from oda_proxy.store.redis.store import RedisStore
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry, ManagedStore
    from oda_proxy.store.collections import Collections

UPSTREAM = "https://example.org/dispatcher"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with running_redis(tmp_path / "redis", fsync="no") as server:
        yield f"{server.url}?bodies=file://{tmp_path}/heads"


def fill(folder: Path, count: int = len(KEYS)) -> None:
    with closing(DiskStore(cache_folder(folder, UPSTREAM))) as store:
        for number, key in enumerate(KEYS[:count]):
            store.put(recording(key, key.encode() * 100, stored_at=float(number)))


def copy(capsys: pytest.CaptureFixture[str], source: Path | str, target: Path | str) -> dict[str, int]:
    status = main(["copy", "--upstream", UPSTREAM, "--from", str(source), "--to", str(target), "--json"])
    counts: dict[str, int] = json.loads(capsys.readouterr().out)
    assert status == (1 if counts["failed"] else 0)
    return counts


def counts(**some: int) -> dict[str, int]:
    return dict.fromkeys(("copied", "present", "removed", "failed", "versions", "collections"), 0) | some


@pytest.mark.real
def test_a_store_moves_to_redis_and_back(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    fill(before)
    with closing(DiskStore(cache_folder(before, UPSTREAM))) as store:
        store.pin(KEYS[2], pinned=True)
    with closing(open_store(StoreAddress.parse(url), UPSTREAM)) as shared:
        shared.put(recording(KEYS[0], b"newer", stored_at=99.0))  # as a copy that was interrupted left it

    assert copy(capsys, before, url) == counts(copied=5, present=1)
    assert copy(capsys, before, url) == counts(present=6)
    assert main(["copy", "--upstream", "https://other.org", "--from", url, "--to", str(after)]) == 1
    assert "there are no recordings of https://other.org in redis://" in capsys.readouterr().err
    assert not after.exists()
    assert copy(capsys, url, after) == counts(copied=6)

    with closing(DiskStore(cache_folder(after, UPSTREAM))) as store:
        assert into_memory(store.get(KEYS[0])) == recording(KEYS[0], b"newer", stored_at=99.0)
        assert into_memory(store.get(KEYS[5])) == recording(KEYS[5], KEYS[5].encode() * 100, stored_at=5.0)
        assert [entry.key for entry in store.entries() if entry.pinned] == [KEYS[2]]


def contents(store: ManagedStore) -> dict[Key, list[tuple[object, ...]]]:
    """Return all versions of each recording with their times, pins and heads."""
    keys = sorted({*store.keys(), *store.version_keys_beginning("")})
    return {
        key: [
            (one.valid_from, one.valid_until, one.stored_at, one.pinned, into_memory(store.get_version(one)))
            for one in store.versions(key)
        ]
        for key in keys
    }


def noted(index: Collections) -> list[tuple[object, ...]]:
    """Return all that collections have."""
    return [
        (
            (one.name, one.owner, one.created, one.changed, one.recordings, one.failures),
            index.members(one),
            [index.facts(one, kind) for kind in (ADDRESS, CLIENT)],
            index.descriptions(one),
        )
        for one in index.list()
    ]


@pytest.mark.real
def test_versions_pins_and_collections_move_to_redis_and_back(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    folder = cache_folder(before, UPSTREAM)
    index = CollectionIndex(folder, lambda: 100.0)
    with closing(DiskStore(folder)) as store:
        for text, at in ((b"one", 0.0), (b"two", 1.0), (b"three", 2.0)):
            store.put(recording(KEYS[0], text, stored_at=at))
        store.put(recording(KEYS[0], b"THREE", stored_at=9.0), same_as=store.entry(KEYS[0]))
        for at in (1.0, 2.0):
            store.put(recording(KEYS[1], b"%d" % at, stored_at=at))
        store.remove(KEYS[1])
        store.pin(KEYS[0], pinned=True)
        for kind, key, content in ((RECORDING, KEYS[0], None), (FAILURE, KEYS[2], b"{}")):
            index.note(
                "paper", "", Member(kind, key, 1, 0.0, was_pinned=False, content=content), 9, [(ADDRESS, "http")]
            )
        index.note_description("paper", "isgri.json", 1.0, b"{}")
        expected = contents(store), noted(index)

    assert copy(capsys, before, url) == counts(copied=1, versions=3, collections=1)
    assert copy(capsys, before, url) == counts(present=1, collections=1)
    assert main(["copy", "--upstream", UPSTREAM, "--from", url, "--to", str(after)]) == 0
    line = "1 recording copied, 0 present already, 0 failed; also 3 earlier versions and 1 collection copied\n"
    assert capsys.readouterr().out == line

    with closing(open_store(StoreAddress.parse(url), UPSTREAM)) as shared:
        shared_index = open_collections(StoreAddress.parse(url), UPSTREAM, lambda: 100.0)
        assert (contents(shared), noted(shared_index)) == expected
        assert list(shared.verify(fix=False)) == []
    folder = cache_folder(after, UPSTREAM)
    with closing(DiskStore(folder)) as store:
        assert (contents(store), noted(CollectionIndex(folder, lambda: 100.0))) == expected
        assert list(store.verify(fix=False)) == []


@pytest.mark.real
def test_collections_that_were_noted_beside_a_store_in_redis_are_copied_to_it(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A release that had recordings in Redis, and collections in the folder of each machine."""
    index = CollectionIndex(cache_folder(tmp_path, UPSTREAM), lambda: 100.0)
    index.note("paper", "", Member(RECORDING, KEYS[0], 1, 0.0, was_pinned=False, content=None), 9, [])
    with closing(open_store(StoreAddress.parse(url), UPSTREAM)) as shared:
        shared.put(recording())

    assert copy(capsys, tmp_path, url)["collections"] == 1

    (found,) = open_collections(StoreAddress.parse(url), UPSTREAM, lambda: 100.0).list()
    assert (found.name, found.recordings) == ("paper", 1)


@pytest.mark.real
def test_a_version_of_the_time_of_another_one_is_not_copied(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(DiskStore(cache_folder(tmp_path, UPSTREAM))) as store:
        for at in (10.0, 20.0):
            store.put(recording(text=b"%d" % at, stored_at=at))
    with closing(open_store(StoreAddress.parse(url), UPSTREAM)) as shared:
        shared.put(recording(text=b"other", stored_at=15.0))

    assert main(["copy", "--upstream", UPSTREAM, "--from", str(tmp_path), "--to", url]) == 1

    printed = capsys.readouterr()
    assert "a version of aaaaaaaaaaaa was not copied: the target has another one of the same time" in printed.err
    with closing(open_store(StoreAddress.parse(url), UPSTREAM)) as shared:
        assert [(one.valid_from, one.valid_until) for one in shared.versions(KEYS[0])] == [(15.0, 20.0), (20.0, None)]


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


@pytest.mark.parametrize("signal", [KeyboardInterrupt(), SystemExit(143), StoreUnusableError("here", "full", "free")])
def test_a_copy_that_is_interrupted_tells_how_far_it_came_and_goes_on_later(
    signal: BaseException, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "from")
    command = ["copy", "--upstream", UPSTREAM, "--from", str(tmp_path / "from"), "--to", str(tmp_path / "to")]
    restore = DiskStore.restore

    def restore_four(store: DiskStore, one: Recording, entry: Entry) -> None:
        if store.usage().recordings == 4:
            raise signal
        restore(store, one, entry)

    with monkeypatch.context() as patch:
        patch.setattr(DiskStore, "restore", restore_four)
        if isinstance(signal, SystemExit):
            with pytest.raises(SystemExit):
                main(command)
        else:
            assert main(command) == (130 if isinstance(signal, KeyboardInterrupt) else 1)
    printed = capsys.readouterr()
    assert printed.out == "4 recordings copied, 0 present already, 0 failed\n"
    first, *rest = printed.err.splitlines()
    word = "ended early" if isinstance(signal, StoreUnusableError) else "interrupted"
    assert first == f"oda-proxy: {word}; the same command again copies what is missing"
    assert len(rest) == (1 if isinstance(signal, StoreUnusableError) else 0)

    assert copy(capsys, tmp_path / "from", tmp_path / "to") == counts(copied=2, present=4)


@pytest.mark.real
def test_a_copy_ends_in_a_line_where_redis_ends_and_goes_on_once_it_is_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "from")
    restore = RedisStore.restore
    with running_redis(tmp_path / "redis") as server:
        url = f"{server.url}?bodies=file://{tmp_path}/heads"

        def restore_then_kill(store: RedisStore, one: Recording, entry: Entry) -> None:
            restore(store, one, entry)
            if store.usage().recordings == 3:
                server.kill()

        with monkeypatch.context() as patch:
            patch.setattr(RedisStore, "restore", restore_then_kill)
            assert main(["copy", "--upstream", UPSTREAM, "--from", str(tmp_path / "from"), "--to", url]) == 1
        printed = capsys.readouterr()
        assert printed.out == "3 recordings copied, 0 present already, 0 failed\n"
        assert [line.partition(";")[0] for line in printed.err.splitlines()] == [
            "oda-proxy: ended early",
            f"oda-proxy: cannot use the recordings in {server.url}: Redis cannot be reached",
        ]
        server.start()
        assert copy(capsys, tmp_path / "from", url) == counts(copied=3, present=3)


def test_recordings_that_are_removed_or_damaged_meanwhile_are_counted_and_the_rest_is_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "from")
    heads = [file for file in (tmp_path / "from").rglob("heads/**/*") if file.is_file()]
    max(heads, key=lambda file: file.stat().st_mtime_ns).write_bytes(b"damaged")
    peek = DiskStore.peek

    def remove_then_peek(store: DiskStore, key: Key) -> Recording | None:
        if key == KEYS[2]:
            store.remove(key)
        return peek(store, key)

    monkeypatch.setattr(DiskStore, "peek", remove_then_peek)
    command = ["copy", "--upstream", UPSTREAM, "--from", str(tmp_path / "from"), "--to", str(tmp_path / "to")]

    assert main(command) == 1
    printed = capsys.readouterr()
    assert printed.out == "4 recordings copied, 0 present already, 1 removed meanwhile, 1 failed\n"
    assert "ffffffff" in printed.err
    assert "cannot be read, and was not copied" in printed.err


@pytest.mark.parametrize(("terminal", "is_shown"), [("xterm", True), ("dumb", False), ("", False)])
def test_a_bar_shows_the_progress_on_a_terminal_that_can_move_its_cursor(
    terminal: str,
    is_shown: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("rich", reason="rich is not installed")
    fill(tmp_path / "from")
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    assert main(["copy", "--upstream", UPSTREAM, "--from", str(tmp_path / "from"), "--to", str(tmp_path / "to")]) == 0
    printed = capsys.readouterr()
    assert printed.out == "6 recordings copied, 0 present already, 0 failed\n"
    assert ("copying" in printed.err) is is_shown
    assert bool(printed.err) is is_shown


def test_nothing_is_created_where_there_is_nothing_to_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "from", 1)
    with closing(DiskStore(cache_folder(tmp_path / "from", UPSTREAM))) as store:
        store.remove(KEYS[0])

    assert main(["copy", "--upstream", UPSTREAM, "--from", str(tmp_path / "from"), "--to", str(tmp_path / "to")]) == 1
    assert f"there are no recordings of {UPSTREAM} in {tmp_path}/from" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_places_that_share_recordings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    bodies = "bodies=s3://bucket/prefix"

    assert main(["copy", "--from", str(tmp_path), "--to", str(tmp_path / "link")]) == 2
    assert "name the same place" in capsys.readouterr().err
    assert main(["copy", "--from", f"redis://a/0?{bodies}", "--to", f"redis://a/1?{bodies}"]) == 2
    assert "both have bodies=s3://bucket/prefix, which belong to one Redis" in capsys.readouterr().err


def test_a_place_is_named_in_errors_without_its_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = "redis://:hunter2@127.0.0.1:1/0?bodies=file:///x"

    assert main(["copy", "--from", url, "--to", url]) == 2
    assert "same place" in capsys.readouterr().err
    assert main(["copy", "--from", url[:-20], "--to", str(tmp_path)]) == 2
    assert main(["copy", "--from", url, "--to", str(tmp_path)]) == 1
    assert "hunter2" not in capsys.readouterr().err
