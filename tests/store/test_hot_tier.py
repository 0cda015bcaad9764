"""Recordings in memory: what is served from there is what the store has, whoever changes it."""

from __future__ import annotations

import asyncio
import errno
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from oda_proxy.cli import main
from oda_proxy.config.folders import cache_folder
from oda_proxy.errors import StoreUnusableError
from oda_proxy.fixture.writing import write_manifest
from oda_proxy.query.resolved import QueryResolver
from oda_proxy.recordings.loaded import LoadedRecording, load
from oda_proxy.store import hot_tier, index_keys, rows
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.faults import StoreFaults
from oda_proxy.store.hot_tier import OVERHEAD, HotTier, size_of
from oda_proxy.store.index import Index
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.recording_cache import RecordingCache
from tests.support.paths import FIXTURES
from tests.support.permissions import folder_for_all, set_modes, unprivileged
from tests.support.recordings import KEYS, recording
from tests.support.stores import index_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording

UPSTREAM = "http://dispatcher.example"
KEY = KEYS[0]
MB = 1_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a store with a recording."""
    with closing(DiskStore(folder := cache_folder(tmp_path, UPSTREAM))) as store:
        store.put(recording(KEY, b'"catalog":{"a":1}'))
    return folder


@pytest.fixture
def store(folder: Path) -> Iterator[DiskStore]:
    with closing(DiskStore(folder)) as store:
        assert store.usage().recordings == 1
        yield store


@pytest.fixture
def other(folder: Path, store: DiskStore) -> Iterator[DiskStore]:
    """Return the store as another process has it open."""
    with closing(DiskStore(folder)) as other:
        assert other.usage().recordings == 1
        yield other


def cache_of(store: DiskStore | MemoryStore, memory: int = 10 * MB) -> RecordingCache:
    faults = StoreFaults(lambda: 0.0)
    return RecordingCache(store, faults, QueryResolver(None), lambda: 0.0, memory=memory)


def text_of(found: Recording | None) -> bytes | None:
    """Return the head of a recording, and close it."""
    if found is None:
        return None
    with closing(found.head) as head:
        return b"".join(head.pieces())


def size_with(text: bytes) -> int:
    """Return what a recording with this head takes in memory."""
    return size_of(load(recording(text=text), (text,)))


async def heat(cache: RecordingCache, *keys: Key) -> None:
    """Request recordings, and check that they are then served from memory, without a thread."""
    for key in keys:
        assert text_of(await cache.get(key))
    for key in keys:
        assert is_hot(cache, key)
    await asyncio.sleep(0)


def is_hot(cache: RecordingCache, key: Key) -> bool:
    """Return whether a recording is served from memory."""
    return cache._hot_tier.find(key) is not None


# -- what a hit from memory does -------------------------------------------------------------------


async def test_a_hit_from_memory_reads_no_row_and_no_head_and_needs_no_thread(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_of(store)
    await heat(cache, KEY)

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(asyncio, "to_thread", refuse)
    monkeypatch.setattr(DiskStore, "get", refuse)
    monkeypatch.setattr(Index, "get", refuse)

    found = await cache.get(KEY)

    assert isinstance(found, LoadedRecording)
    assert text_of(found) == b'"catalog":{"a":1}'


async def test_requests_that_are_answered_in_one_go_look_once_for_changes(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, looks = cache_of(store), 0
    await heat(cache, KEY)
    version = DiskStore.version

    def counted(self: DiskStore) -> object:
        nonlocal looks
        looks += 1
        return version(self)

    monkeypatch.setattr(DiskStore, "version", counted)
    await asyncio.gather(*(cache.get(KEY) for _ in range(16)))
    assert looks == 1

    store.remove(KEY)
    await asyncio.sleep(0)
    assert await cache.get(KEY) is None, "what arrives later sees what happened meanwhile"


async def test_times_of_use_are_counted(folder: Path) -> None:
    now = 1000.0
    with closing(DiskStore(folder, clock=lambda: now)) as store:
        assert store.usage().recordings == 1
        cache = cache_of(store)
        await heat(cache, KEY)
        now = 2000.0
        await cache.get(KEY)
    with closing(DiskStore(folder)) as store:
        entry = store.entry(KEY)
        assert entry
        assert entry.used_at == 2000.0


async def test_a_change_of_another_recording_reads_the_row_again_and_not_the_head(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_of(store)
    await heat(cache, KEY)
    store.put(recording(KEYS[1]))
    monkeypatch.setattr(DiskStore, "get", lambda *_: pytest.fail("the head is read again"))

    assert not is_hot(cache, KEY)
    assert text_of(await cache.get(KEY)) == b'"catalog":{"a":1}'
    await asyncio.sleep(0)
    assert is_hot(cache, KEY)


# -- what was changed ------------------------------------------------------------------------------


def remove(store: DiskStore) -> None:
    assert store.remove(KEY)


def remove_all(store: DiskStore) -> None:
    assert list(store.remove_each([KEY])) == [KEY]


def evict(store: DiskStore) -> None:
    entry = store.entry(KEY)
    assert entry
    assert store.evict(entry)


def evict_all(store: DiskStore) -> None:
    entry = store.entry(KEY)
    assert entry
    assert store.evict_all([entry]) == [entry]


def evict_on_a_full_disk(store: DiskStore) -> None:
    """Evict a recording while the index cannot be changed: its head is removed, and its row stays."""
    entry = store.entry(KEY)
    assert entry
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Index, "writing", _full)
        assert store.evict(entry)
    assert index_of(store).get(KEY), "its row is still there"


def _full(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


REMOVALS = [remove, remove_all, evict, evict_all, evict_on_a_full_disk]


@pytest.mark.parametrize("removal", REMOVALS)
@pytest.mark.parametrize("by_other", [False, True], ids=["here", "by another process"])
async def test_what_was_removed_is_not_served_from_memory(
    store: DiskStore, other: DiskStore, removal: Callable[[DiskStore], None], *, by_other: bool
) -> None:
    cache = cache_of(store)
    await heat(cache, KEY)

    removal(other if by_other else store)

    assert await cache.get(KEY) is None


@pytest.mark.parametrize("by_other", [False, True], ids=["here", "by another process"])
@pytest.mark.parametrize("text", [b'"catalog":{"a":2}', b'"catalog":{"a":1}'], ids=["other products", "the same"])
async def test_what_was_replaced_is_not_served_from_memory(
    store: DiskStore, other: DiskStore, text: bytes, *, by_other: bool
) -> None:
    """So is what a refresh stored, and what an import did."""
    cache = cache_of(store)
    await heat(cache, KEY)

    (other if by_other else store).put(recording(KEY, text, stored_at=99.0))

    found = await cache.get(KEY)
    assert found
    assert (found.stored_at, text_of(found)) == (99.0, text)


async def test_a_pinned_recording_is_served_from_memory_and_not_evicted(store: DiskStore, other: DiskStore) -> None:
    cache = cache_of(store)
    await heat(cache, KEY)

    other.pin(KEY, pinned=True)

    assert text_of(await cache.get(KEY)) == b'"catalog":{"a":1}'
    entry = store.entry(KEY)
    assert entry
    assert not store.evict(entry)

    store.pin(KEY, pinned=False)
    assert store.evict(entry)
    assert await cache.get(KEY) is None


@pytest.mark.parametrize(
    "command",
    [["rm", KEY[:12]], ["rm", "--larger-than", "1", "--yes"], ["prune", "--max-size", "1"], ["verify", "--fix"]],
    ids=lambda command: command[0] if len(command) < 4 else "rm with a filter",
)
async def test_what_a_command_removed_is_not_served_from_memory(
    folder: Path, store: DiskStore, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cache = cache_of(store)
    await heat(cache, KEY)
    if command[0] == "verify":  # it removes what is damaged
        (head,) = (folder / "heads").glob("??/*")
        head.write_bytes(b"damaged")

    await asyncio.to_thread(main, [*command, "--upstream", UPSTREAM, "--cache-dir", str(folder.parent)])

    assert await cache.get(KEY) is None, capsys.readouterr()


async def test_what_a_command_imported_is_served_instead_of_what_is_in_memory(
    folder: Path, store: DiskStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "spi_acs/spi_acs_lc/2003-03-15"
    shutil.copytree(FIXTURES / path, tmp_path / "fixtures" / path)
    write_manifest(tmp_path / "fixtures", {path: {"kind": "synthetic", "source": "a test", "modelled": []}})
    command = ["import", str(tmp_path / "fixtures"), "--upstream", UPSTREAM, "--cache-dir", str(folder.parent)]
    assert await asyncio.to_thread(main, command) == 0, capsys.readouterr()
    (key,) = [key for key in store.keys() if key != KEY]  # noqa: SIM118 - a store is no dictionary
    imported = text_of(store.get(key))
    store.put(recording(key, b'"catalog":{}'))
    cache = cache_of(store)
    await heat(cache, key)

    assert await asyncio.to_thread(main, command) == 0

    assert text_of(await cache.get(key)) == imported


async def test_a_look_does_not_wait_for_a_process_that_writes(folder: Path, store: DiskStore) -> None:
    cache = cache_of(store)
    await heat(cache, KEY)
    database = sqlite3.connect(folder / "index" / "cache.db", isolation_level=None)
    with closing(database):
        database.execute("BEGIN EXCLUSIVE")
        database.execute("DELETE FROM Cache")

        assert is_hot(cache, KEY), "it has not ended its transaction"
        await asyncio.sleep(0)
        database.execute("COMMIT")

        assert await cache.get(KEY) is None


async def test_what_another_program_removed_is_not_served_from_memory(folder: Path, store: DiskStore) -> None:
    cache = cache_of(store)
    await heat(cache, KEY)
    arguments = ["rm", KEY, "--upstream", UPSTREAM, "--cache-dir", str(folder.parent)]

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "oda_proxy.cli", *arguments, stdout=subprocess.DEVNULL
    )
    assert await process.wait() == 0

    assert await cache.get(KEY) is None


async def test_a_row_that_another_release_wrote_is_not_served_from_memory(store: DiskStore) -> None:
    cache = cache_of(store)
    await heat(cache, KEY)
    index = index_of(store)
    index.set(KEY, str(index.get(KEY)).replace(rows.OWN_PREFIX, '{"format":99,'))

    assert await cache.get(KEY) is None


async def test_a_row_beside_that_of_another_release_is_served_from_memory(store: DiskStore) -> None:
    index = index_of(store)
    text = str(index.get(KEY))
    index.set(f"{index_keys._ASIDE_PREFIX}{KEY}", text)
    index.set(KEY, text.replace(rows.OWN_PREFIX, '{"format":99,'))

    await heat(cache_of(store), KEY)


# -- the folder ------------------------------------------------------------------------------------


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


async def test_nothing_is_served_from_memory_after_the_folder_was_emptied(folder: Path, store: DiskStore) -> None:
    cache = cache_of(store)
    await heat(cache, KEY)
    empty(folder)

    assert await cache.get(KEY) is None

    store.put(recording(KEY, b'"catalog":{}'))
    await heat(cache, KEY)


async def test_nothing_is_served_from_memory_after_the_folder_was_replaced(
    folder: Path, store: DiskStore, tmp_path: Path
) -> None:
    with closing(DiskStore(tmp_path / "other")) as other:
        other.put(recording(KEY, b'"catalog":{"a":2}'))
    cache = cache_of(store)
    await heat(cache, KEY)

    shutil.move(folder, tmp_path / "aside")
    shutil.move(tmp_path / "other", folder)

    assert text_of(await cache.get(KEY)) == b'"catalog":{"a":2}'


async def test_nothing_is_served_from_memory_after_the_heads_were_removed(folder: Path, store: DiskStore) -> None:
    cache = cache_of(store)
    await heat(cache, KEY)

    shutil.rmtree(folder / "heads")

    assert await cache.get(KEY) is None


async def test_a_read_only_store_is_served_from_memory_until_its_owner_changes_it() -> None:
    with folder_for_all() as parent:
        with closing(DiskStore(folder := cache_folder(parent, UPSTREAM))) as owner:
            owner.put(recording(KEY, b'"catalog":{"a":1}'))
        set_modes(folder, of_folders=0o555, of_files=0o444)
        with unprivileged(), closing(DiskStore(folder)) as store:
            cache = cache_of(store)
            assert text_of(await cache.get(KEY))  # opens the index
            await heat(cache, KEY)
        set_modes(folder, of_folders=0o755, of_files=0o644)
        with closing(DiskStore(folder)) as owner:
            owner.remove(KEY)
        set_modes(folder, of_folders=0o555, of_files=0o444)
        with unprivileged():
            assert await cache.get(KEY) is None
        store.close()
        set_modes(folder, of_folders=0o755, of_files=0o644)


async def test_nothing_is_served_from_memory_while_the_store_cannot_be_read(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_of(store)
    await heat(cache, KEY)
    monkeypatch.setattr(DiskStore, "version", lambda _: None)
    monkeypatch.setattr(DiskStore, "get", lambda *_: _unusable())

    assert await cache.get(KEY) is None


def _unusable() -> NoReturn:
    raise StoreUnusableError(Path("/nowhere"), "disk I/O error")


# -- how much --------------------------------------------------------------------------------------


async def test_the_least_recently_used_recording_leaves_first(store: DiskStore) -> None:
    for key in KEYS[:5]:
        store.put(recording(key, b'"catalog":"%b"' % (b"x" * 50_000)))
    size = size_with(b"x" * 50_012)
    cache = cache_of(store, 4 * size)
    await heat(cache, *KEYS[:4])
    assert cache._hot_tier.used == 4 * size
    await cache.get(KEYS[0])

    await heat(cache, KEYS[4])

    assert [is_hot(cache, key) for key in KEYS[:5]] == [True, False, True, True, True]
    assert cache._hot_tier.used == 4 * size


@pytest.mark.parametrize("size", [100_000, 3 * MB])
async def test_a_recording_that_takes_more_than_a_quarter_is_not_held(store: DiskStore, size: int) -> None:
    store.put(recording(KEYS[1], b"x" * size))
    cache = cache_of(store, 4 * (size + OVERHEAD) - 4)

    assert text_of(await cache.get(KEYS[1])) == b"x" * size

    assert not is_hot(cache, KEYS[1])
    assert cache._hot_tier.used == 0


async def test_a_recording_whose_tail_takes_more_than_a_quarter_is_not_held(store: DiskStore) -> None:
    store.put(recording(KEYS[1], client_members={"astropy_table_product_ascii_list": ["x" * 500_000]}))
    cache = cache_of(store, 4 * MB)

    assert text_of(await cache.get(KEYS[1]))

    assert not is_hot(cache, KEYS[1])
    assert cache._hot_tier.used == 0


async def test_with_0_bytes_nothing_is_held(store: DiskStore) -> None:
    cache = cache_of(store, 0)

    for _ in range(2):
        assert text_of(await cache.get(KEY)) == b'"catalog":{"a":1}'

    assert not is_hot(cache, KEY)


# -- large recordings ------------------------------------------------------------------------------

LARGE = bytes(range(256)) * 6000


async def test_a_large_recording_is_held_once_it_was_read_to_its_end(store: DiskStore) -> None:
    store.put(recording(KEYS[1], LARGE))
    cache = cache_of(store)
    found = await cache.get(KEYS[1])
    assert found
    pieces = found.head.pieces()
    first = next(pieces)
    assert not is_hot(cache, KEYS[1])
    assert cache._hot_tier.used == len(LARGE)

    assert first + b"".join(pieces) == LARGE
    found.head.close()

    assert is_hot(cache, KEYS[1])
    assert cache._hot_tier.used == size_with(LARGE)
    assert text_of(await cache.get(KEYS[1])) == LARGE


async def test_a_large_recording_whose_client_leaves_is_not_held(store: DiskStore) -> None:
    store.put(recording(KEYS[1], LARGE))
    cache = cache_of(store)
    found = await cache.get(KEYS[1])
    assert found
    pieces = found.head.pieces()
    next(pieces)

    pieces.close()  # type: ignore[attr-defined]  # a generator
    found.head.close()

    assert not is_hot(cache, KEYS[1])
    assert cache._hot_tier.used == 0


async def test_clients_that_read_a_large_recording_at_once_hold_it_once(store: DiskStore) -> None:
    store.put(recording(KEYS[1], LARGE))
    cache = cache_of(store)
    found = [await cache.get(KEYS[1]) for _ in range(3)]
    readers = [one.head.pieces() for one in found if one]
    for reader in readers:
        next(reader)

    assert cache._hot_tier.used == len(LARGE)
    for reader in readers:
        assert sum(map(len, reader)) > 0
    assert cache._hot_tier.used == size_with(LARGE)
    for one in found:
        text_of(one)


async def test_recordings_that_are_being_read_take_no_more_than_the_limit(store: DiskStore) -> None:
    for key in KEYS[:5]:
        store.put(recording(key, LARGE))
    cache = cache_of(store, 4 * size_with(LARGE))
    found = [await cache.get(key) for key in KEYS[:5]]
    readers = [one.head.pieces() for one in found if one]
    for reader in readers:
        next(reader)

    assert cache._hot_tier.used == 4 * len(LARGE)
    assert [sum(map(len, reader)) > 0 for reader in readers] == [True] * 5
    for one in found:
        text_of(one)


async def test_a_large_recording_that_is_replaced_while_it_is_read_is_not_served_afterwards(store: DiskStore) -> None:
    store.put(recording(KEYS[1], LARGE))
    cache = cache_of(store)
    found = await cache.get(KEYS[1])
    assert found
    pieces = found.head.pieces()
    first = next(pieces)
    store.put(recording(KEYS[1], b"newer"))

    assert first + b"".join(pieces) == LARGE, "its client gets what it began to read"
    found.head.close()

    assert text_of(await cache.get(KEYS[1])) == b"newer"


# -- between threads -------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["version", "fingerprint", "get"])
async def test_what_is_replaced_while_it_is_read_is_read_again(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whichever step of reading another process comes between."""
    cache = cache_of(store)
    original, is_replaced = getattr(DiskStore, step), threading.Event()

    def replaced_meanwhile(self: DiskStore, *arguments: Any) -> Any:
        result = original(self, *arguments)
        if not is_replaced.is_set():
            is_replaced.set()
            self.put(recording(KEY, b"newer"))
        return result

    monkeypatch.setattr(DiskStore, step, replaced_meanwhile)
    text_of(await cache.get(KEY))
    await asyncio.sleep(0)

    assert text_of(await cache.get(KEY)) == b"newer"
    await asyncio.sleep(0)
    assert is_hot(cache, KEY)


async def test_a_damaged_head_is_not_held(folder: Path, store: DiskStore) -> None:
    (head,) = (folder / "heads").glob("??/*")
    head.write_bytes(head.read_bytes()[:-1] + b"?")
    cache = cache_of(store)

    assert await cache.get(KEY) is None

    assert cache._hot_tier.used == 0


# -- a store in memory -----------------------------------------------------------------------------


async def test_a_store_in_memory_serves_what_it_holds_now(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    store.put(recording(KEY, b"first"))
    cache = cache_of(store)
    await heat(cache, KEY)

    store.put(recording(KEY, b"second"))
    assert text_of(await cache.get(KEY)) == b"second"
    await asyncio.sleep(0)

    store.remove(KEY)
    assert await cache.get(KEY) is None


def test_a_recording_of_a_store_in_memory_is_not_copied() -> None:
    store, text = MemoryStore(), b"x" * 2 * hot_tier.AT_ONCE
    store.put(recording(KEY, text))

    found = HotTier(store).read(KEY)

    assert isinstance(found, LoadedRecording)
    assert next(found.head.pieces()) is text
