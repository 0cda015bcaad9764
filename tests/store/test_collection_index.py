"""Collections are shared by processes, survive crashes, belong to their owners, and have limits."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import StoreUnusableError
from oda_proxy.query.cache_key import PUBLIC, Key
from oda_proxy.store import collections
from oda_proxy.store.collection_index import FILE, CollectionIndex
from oda_proxy.store.collections import (
    ADDRESS,
    FAILURE,
    RECORDING,
    CollectionError,
    Member,
    NoCollectionError,
    owner_of,
)
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.collections import RedisCollections
from oda_proxy.store.redis.opening import open_collections

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.store.collections import Collections
    from tests.support.redis_server import RedisServer

KINDS = ["file", pytest.param("redis", marks=pytest.mark.real)]
ALICE, BOB = owner_of("alice"), owner_of("bob")


@pytest.fixture
def file_index(tmp_path: Path) -> CollectionIndex:
    return CollectionIndex(tmp_path, lambda: 100.0)


def redis_index(request: pytest.FixtureRequest, path: Path, max_size: int | None = None) -> RedisCollections:
    server: RedisServer = request.getfixturevalue("redis_server")
    address = StoreAddress.parse(f"{server.url}?bodies=file://{path}")
    return open_collections(address, f"http://{path.parent.name}-{path.name}", lambda: 100.0, max_size=max_size)


@pytest.fixture(params=KINDS)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Collections:
    return redis_index(request, tmp_path) if request.param == "redis" else CollectionIndex(tmp_path, lambda: 100.0)


def member(letter: str, kind: str = RECORDING, *, was_pinned: bool = False) -> Member:
    return Member(kind, Key(letter * 64), 1, 0.0, was_pinned, b"{}" if kind == FAILURE else None)


def note(index: Collections, letter: str, name: str = "paper", owner: str = "", size: int = 10) -> bool:
    return index.note(name, owner, member(letter), size, [(ADDRESS, "http://here/in/paper")])


def test_a_collection_is_made_by_its_first_use_and_counts_uses(index: Collections) -> None:
    assert [note(index, "a"), note(index, "a"), note(index, "b")] == [True, False, True]
    index.note("paper", "", member("c", FAILURE), 0, [])

    (found,) = index.list()
    assert (found.name, found.recordings, found.failures, found.size) == ("paper", 2, 1, 20)
    assert [(one.key[0], one.kind, one.uses) for one in index.members(found)] == [
        ("a", RECORDING, 2),
        ("b", RECORDING, 1),
        ("c", FAILURE, 1),
    ]
    assert index.facts(found, ADDRESS) == ["http://here/in/paper"]


def test_nothing_is_written_before_the_first_use(index: Collections, tmp_path: Path) -> None:
    assert index.list() == []
    with pytest.raises(NoCollectionError, match="there is no collection paper; requests to"):
        index.find("paper")
    assert list(tmp_path.iterdir()) == []


def test_a_collection_belongs_to_its_owner(index: Collections) -> None:
    for owner, letter in (("", "a"), (ALICE, "b"), (BOB, "c")):
        note(index, letter, owner=owner)

    assert owner_of(PUBLIC) == owner_of(None) == ""
    assert [index.members(index.find("paper", owner))[0].key[0] for owner in ("", ALICE, BOB)] == ["a", "b", "c"]
    assert index.find("paper", beginning=ALICE[:12]).owner == ALICE
    with pytest.raises(CollectionError, match="several owners"):
        index.find("paper")
    with pytest.raises(NoCollectionError):
        index.find("paper", owner_of("carol"))
    if isinstance(index, CollectionIndex):
        assert "alice" not in index._file.read_bytes().decode("latin-1")


def test_a_recording_stays_pinned_for_another_collection_and_for_who_had_pinned_it(index: Collections) -> None:
    note(index, "a", "one")
    note(index, "b", "one")
    note(index, "a", "two")
    index.note("one", "", member("c", was_pinned=True), 1, [])
    index.note("two", "", member("c"), 1, [])

    assert [key[0] for key in index.unpinned_by_removal(index.find("one"))] == ["b"]
    index.remove(index.find("one"))

    assert [one.name for one in index.list()] == ["two"]
    assert [key[0] for key in index.unpinned_by_removal(index.find("two"))] == ["a"]


def test_renaming_keeps_what_is_in_it_and_replaces_nothing(index: Collections) -> None:
    note(index, "a", "one")
    note(index, "b", "two")
    index.note_description("one", "isgri.json", 1.0, b"{}")

    with pytest.raises(CollectionError, match="there is a collection two already"):
        index.rename(index.find("one"), "two")
    index.rename(index.find("one"), "three")

    assert [one.name for one in index.list()] == ["three", "two"]
    assert index.descriptions(index.find("three")) == [("isgri.json", b"{}")]
    assert index.descriptions(index.find("two")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_and_sizes_are_limited(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(folder: str, max_size: int) -> Collections:
        path = tmp_path / folder
        if kind == "redis":
            return redis_index(request, path, max_size)
        return CollectionIndex(path, lambda: 100.0, max_size=max_size)

    index = opened("on", 25)
    monkeypatch.setattr(collections, "MAX_COLLECTIONS", 2)
    monkeypatch.setattr(collections, "MAX_MEMBERS", 2)
    note(index, "a")
    note(index, "b")
    note(index, "a", "two")  # takes no further space

    with pytest.raises(CollectionError, match="would take more than 25 bytes"):
        note(index, "c", "two")
    with pytest.raises(CollectionError, match="has 2 recordings, which is the limit"):
        note(index, "c", size=0)
    with pytest.raises(CollectionError, match="there are 2 collections, which is the limit"):
        note(index, "a", "three")
    assert note(index, "a", "three", ALICE)
    assert len(index.list("")) == 2
    with pytest.raises(CollectionError, match="makes no collections"):
        note(opened("off", 0), "a")
    with pytest.raises(CollectionError, match="makes no collections"):
        opened("off", 0).note_description("paper", "isgri.json", 1.0, b"{}")


def test_descriptions_without_a_collection_do_not_fill_the_disk(
    index: Collections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collections, "MAX_LONE", 3)
    for number in range(10):
        index.note_description(f"name-{number}", "isgri.json", 1.0, b"{}")
    note(index, "a")
    index.note_description("paper", "isgri.json", 1.0, b"old")
    index.note_description("paper", "isgri.json", 2.0, b"new")

    assert index.descriptions(index.find("paper")) == [("isgri.json", b"new")]
    if isinstance(index, CollectionIndex):
        with sqlite3.connect(index._file) as rows:
            assert rows.execute("SELECT COUNT(*) FROM descriptions").fetchone()[0] <= 4
    elif isinstance(index, RedisCollections):
        assert len(index._client.keys(index._keys.key("descriptions", "*"))) <= 4


def test_threads_and_processes_lose_nothing(file_index: CollectionIndex, tmp_path: Path) -> None:
    index = file_index
    code = (
        "import sys; from pathlib import Path; from tests.store.test_collection_index import *\n"
        "index = CollectionIndex(Path(sys.argv[1]), lambda: 1.0)\n"
        "for number in range(50): index.note('paper', '', member(format(number, '02x')), 1, [])"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as process, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: index.note("paper", "", member(format(number, "02x")), 1, []), range(50)))
    assert process.returncode == 0

    members = index.members(index.find("paper"))
    assert sorted(one.uses for one in members) == [2] * 50


def test_a_process_that_is_killed_leaves_what_it_noted(file_index: CollectionIndex, tmp_path: Path) -> None:
    index = file_index
    code = (
        "import sys, itertools; from pathlib import Path; from tests.store.test_collection_index import *\n"
        "index = CollectionIndex(Path(sys.argv[1]), lambda: 1.0)\n"
        "for number in itertools.count():\n"
        "    index.note('paper', '', member(format(number, '04x')), 1, []); print(number, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        noted = [int(process.stdout.readline()) for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
        noted += [int(line) for line in process.stdout]

    found = index.find("paper")
    assert found.recordings in {len(noted), len(noted) + 1}
    assert note(index, "z")


def test_a_transaction_that_was_cut_by_a_kill_is_rolled_back_by_the_next_reader(
    file_index: CollectionIndex, tmp_path: Path
) -> None:
    index = file_index
    note(index, "a")
    code = (
        "import os, sqlite3, sys; rows = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "rows.execute('PRAGMA cache_size = 1'); rows.execute('BEGIN IMMEDIATE')\n"
        "for number in range(300):\n"
        "    rows.execute('INSERT INTO members VALUES (1, ?, ?, 1, 0, 0, 0, ?)', ('failure', number, b'x' * 3000))\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / FILE)], check=False)
    assert (tmp_path / f"{FILE}-journal").exists()

    assert index.is_member("a" * 64)
    (found,) = index.list()
    assert (found.recordings, found.failures) == (1, 0)


@pytest.mark.real
def test_servers_that_note_in_one_collection_lose_nothing(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    servers = [redis_index(request, tmp_path) for _ in range(2)]

    def work(number: int) -> None:
        servers[number % 2].note(
            "paper", "", member(format(number // 2 % 16, "x")), 1, [(ADDRESS, f"http://{number}/")]
        )

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(96)))

    (found,) = servers[0].list()
    assert [one.uses for one in servers[1].members(found)] == [6] * 16
    assert (found.recordings, found.size) == (16, 16)
    assert len(servers[1].facts(found, ADDRESS)) == 96


@pytest.mark.real
def test_the_size_of_all_collections_falls_when_one_is_removed(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    index = redis_index(request, tmp_path, max_size=25)
    for name, letter in (("one", "a"), ("two", "a"), ("two", "b")):
        note(index, letter, name)

    with pytest.raises(CollectionError, match="would take more than 25 bytes"):
        note(index, "c")
    index.remove(index.find("two"))
    assert note(index, "c")
    index.remove(index.find("one"))
    index.remove(index.find("paper"))
    left = sorted(key.decode().rpartition("}:")[2] for key in index._client.keys(index._keys.key("*")))
    assert left == ["collecting"]
    assert index._client.hget(index._keys.key("collecting"), "size") == b"0"


@pytest.mark.real
def test_collections_of_a_redis_that_is_away_are_an_error(tmp_path: Path) -> None:
    address = StoreAddress.parse(f"redis://user:hunter2@127.0.0.1:1/0?bodies=file://{tmp_path}")
    index = open_collections(address, "http://dispatcher.example", lambda: 100.0)

    for call in (index.list, lambda: note(index, "a"), lambda: index.is_member("a")):
        with pytest.raises(StoreUnusableError, match="Redis cannot be reached") as error:
            call()
        assert "hunter2" not in str(error.value)


def test_a_collection_of_another_store_is_merged_once(index: Collections, tmp_path: Path) -> None:
    other = CollectionIndex(tmp_path / "other", lambda: 50.0)
    for letter, times in (("a", 3), ("b", 1)):
        for _ in range(times):
            note(other, letter)
    other.note("paper", "", member("c", FAILURE), 0, [])
    (copied,) = other.list()
    note(index, "b")
    note(index, "b")

    for _ in range(2):
        index.merge(copied, [(one, 10) for one in other.members(copied)], [(ADDRESS, "http://there/in/paper")])

    (found,) = index.list()
    assert (found.created, found.changed, found.recordings, found.failures) == (50.0, 100.0, 2, 1)
    members = sorted((one.key[0], one.kind, one.uses, one.first, one.content) for one in index.members(found))
    assert members == [
        ("a", RECORDING, 3, 50.0, None),
        ("b", RECORDING, 2, 50.0, None),
        ("c", FAILURE, 1, 50.0, b"{}"),
    ]
    assert set(index.facts(found, ADDRESS)) == {"http://here/in/paper", "http://there/in/paper"}


def test_merging_leaves_the_version_of_a_recording_that_there_is(index: Collections, tmp_path: Path) -> None:
    other = CollectionIndex(tmp_path / "other", lambda: 50.0)
    for letter in "ab":
        other.note("paper", "", replace(member(letter), content=b"5.0"), 10, [])
    note(index, "a")
    (copied,) = other.list()

    index.merge(copied, [(one, 10) for one in other.members(copied)], [])

    versions = {one.key[0]: one.version for one in index.members(index.find("paper"))}
    assert versions == {"a": None, "b": 5.0}
    with pytest.raises(CollectionError, match="has the version of 1970-01-01T00:00:05"):
        note(index, "b")


def test_the_collections_with_a_recording_are_named(index: Collections) -> None:
    assert index.names_with(["a" * 64]) == []
    for letter, name in (("a", "paper"), ("a", "other"), ("b", "third")):
        note(index, letter, name)

    assert index.names_with(["a" * 64, "c" * 64]) == ["other", "paper"]


def test_a_file_of_a_later_release_and_a_damaged_one_are_errors(file_index: CollectionIndex, tmp_path: Path) -> None:
    index = file_index
    note(index, "a")
    with sqlite3.connect(tmp_path / FILE) as rows:
        rows.execute("PRAGMA user_version = 2")
    with pytest.raises(StoreUnusableError, match="of a later release"):
        index.list()
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(StoreUnusableError, match="cannot be read or written"):
        note(index, "a")
