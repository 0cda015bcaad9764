"""Maintenance of a store in the background."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store import eviction, maintenance
from oda_proxy.store.base import FreeSpace, OtherRecordings, Usage
from oda_proxy.store.combined import CombinedStore
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.eviction import EvictionCounts, Limits
from oda_proxy.store.faults import StoreFaults
from oda_proxy.store.history_limits import HistoryLimits
from oda_proxy.store.maintenance import background_maintenance, maintain, prune
from oda_proxy.store.memory import MemoryStore
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.servers import PATIENCE
from tests.support.stores import index_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Entry


def fill(store: MemoryStore | DiskStore) -> None:
    """Put six recordings of 1000 bytes, the later ones stored later."""
    for number, key in enumerate(KEYS):
        store.put(recording(key, key[0].encode() * 1000, stored_at=float(number)))


def test_nothing_is_evicted_below_the_high_watermark() -> None:
    fill(store := MemoryStore())

    maintain(store, Limits(int(6000 / eviction.HIGH_WATERMARK) + 1), remove_orphans=False)

    assert len(list(store.keys())) == 6


def test_above_the_high_watermark_recordings_are_evicted_down_to_the_low_watermark() -> None:
    fill(store := MemoryStore())

    maintain(store, Limits(6000), remove_orphans=False)

    assert list(store.keys()) == KEYS[1:], "5100 bytes are 0.85 of the limit"


def test_prune_returns_what_it_evicted() -> None:
    fill(store := MemoryStore())

    assert [entry.key for entry in prune(store, Limits(2500))] == KEYS[:4]
    assert store.usage().occupied == 2000


def test_on_disk_recently_used_recordings_stay(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path)) as store:
        fill(store)
        into_memory(store.get(KEYS[0]))
        size = store.usage().occupied // 6

        maintain(store, Limits(size * 5), remove_orphans=True)

        assert KEYS[0] in list(store.keys())
        assert KEYS[1] not in list(store.keys())
        assert store.usage().occupied <= size * 5
        assert list(store.verify(fix=False)) == []


class Replaced(MemoryStore):
    """A store in which a recording is replaced between its choice and its removal."""

    def entries(self) -> Iterator[Entry]:
        found = list(super().entries())
        self.put(recording(KEYS[0], b"new", stored_at=99.0))
        yield from found


def test_a_recording_that_is_replaced_meanwhile_stays() -> None:
    fill(store := Replaced())

    assert [entry.key for entry in prune(store, Limits(4000))] == [KEYS[1]]
    assert KEYS[0] in list(store.keys())


class SmallDisk(MemoryStore):
    """A store on a disk that other programs fill as well."""

    others = 0

    def free_space(self) -> FreeSpace:
        return FreeSpace(100_000 - self.usage().occupied - self.others, 100_000)


@pytest.mark.parametrize(
    ("others", "min_free", "left"),
    [(90_000, 4000, 6), (92_000, 4000, 3), (99_000, 4000, 0), (92_000, 0, 6), (92_000, 10**9, 3), (90_000, 10**9, 5)],
)
def test_recordings_are_evicted_to_keep_space_free_on_the_disk(others: int, min_free: int, left: int) -> None:
    """Eviction goes on to 4000 / 0.85 bytes, or, on so small a disk, to 5 % of it."""
    fill(store := SmallDisk())
    store.others = others

    maintain(store, Limits(1_000_000, min_free), remove_orphans=False)

    assert len(list(store.keys())) == left


def test_what_other_releases_stored_does_not_count() -> None:
    class Shared(MemoryStore):
        def usage(self) -> Usage:
            return Usage(9, 21_000)

        def other_recordings(self) -> OtherRecordings:
            return OtherRecordings(3, 15_000)

    fill(store := Shared())

    maintain(store, Limits(6400), remove_orphans=False)
    assert list(store.keys()) == KEYS
    maintain(store, Limits(5000), remove_orphans=False)
    assert list(store.keys()) == KEYS[2:]


class Failing(MemoryStore):
    """A store whose disk is full."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.enough = threading.Event()

    def save_use_times(self) -> None:
        self.runs += 1
        if self.runs == 5:
            self.enough.set()
        raise StoreUnusableError(Path("/nowhere"), "No space left on device")


async def test_in_the_background_a_failure_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "INTERVAL", 0.0)
    store = Failing()
    async with background_maintenance(store, lambda: Limits(1000), StoreFaults(lambda: 0.0), EvictionCounts()):
        await asyncio.to_thread(store.enough.wait, PATIENCE)

    assert [record.levelno for record in caplog.records] == [logging.WARNING]


class Remote(MemoryStore):
    """A store whose servers were away, and which knows whether they are back."""

    def __init__(self, *, is_known: bool) -> None:
        super().__init__()
        self.checks = 0
        self._is_known = is_known

    def check(self) -> bool:
        self.checks += 1
        if self.checks == 1:
            raise StoreUnusableError("s3://recordings", "it cannot be reached")
        return self._is_known and self.checks == 3


@pytest.mark.parametrize("is_known", [True, False])
async def test_failures_of_a_store_that_is_found_to_work_again_are_cleared_without_a_request(
    monkeypatch: pytest.MonkeyPatch, *, is_known: bool
) -> None:
    monkeypatch.setattr(maintenance, "INTERVAL", 0.0)
    faults = StoreFaults(lambda: 0.0)
    for operation in ("read", "stored"):
        faults.note_failure(operation, StoreUnusableError("redis://redis.example", "Redis cannot be reached"))
    store = Remote(is_known=is_known)
    async with background_maintenance(store, lambda: Limits(1000), faults, EvictionCounts()):
        async with asyncio.timeout(PATIENCE):
            while any(faults) and store.checks < 10:  # noqa: ASYNC110 - of a task that sets no event
                await asyncio.sleep(0)

    assert {fault.operation for fault in faults} == (set() if is_known else {"read", "stored"})
    assert store.checks == 3 if is_known else store.checks >= 10


def test_a_disk_among_several_stores_shows_only_in_use_whether_it_works(tmp_path: Path) -> None:
    with closing(CombinedStore(DiskStore(tmp_path), [])) as store:
        assert not store.check()


def test_eviction_goes_on_where_times_of_use_cannot_be_written() -> None:
    fill(store := Failing())

    with pytest.raises(StoreUnusableError):
        maintain(store, Limits(2500), remove_orphans=False)

    assert list(store.keys()) == KEYS[4:]


async def test_in_the_background_recordings_are_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "INTERVAL", 0.0)

    class Watched(MemoryStore):
        def remove(self, key: Key) -> bool:
            removed = super().remove(key)
            if self.usage().recordings == 2:
                enough.set()
            return removed

    enough = threading.Event()
    fill(store := Watched())
    async with background_maintenance(store, lambda: Limits(2500), StoreFaults(lambda: 0.0), EvictionCounts()):
        await asyncio.to_thread(enough.wait, PATIENCE)

    assert list(store.keys()) == KEYS[4:]


async def test_at_the_end_times_of_use_are_written(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path, clock=lambda: 77.0)) as store:
        store.put(recording())
        async with background_maintenance(store, lambda: Limits(1000), StoreFaults(lambda: 0.0), EvictionCounts()):
            into_memory(store.get(KEYS[0]))
        assert index_of(store).get(f"used:{KEYS[0]}") == "77.0"


class Counting(MemoryStore):
    """A store that counts the runs of its maintenance."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.enough = threading.Event()

    def save_use_times(self) -> None:
        super().save_use_times()
        self.runs += 1
        if self.runs == 5:
            self.enough.set()


EXCESS = (
    "500 bytes over the limits of the store: 3 pinned recordings stay; unpin some (oda-proxy unpin), or raise "
    "--max-size"
)


@pytest.mark.parametrize(("pinned", "limit", "warnings"), [(3, 2500, [EXCESS]), (3, 3000, []), (0, 2500, [])])
async def test_in_the_background_it_is_logged_once_that_pinned_recordings_exceed_a_limit(
    pinned: int, limit: int, warnings: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "INTERVAL", 0.0)
    fill(store := Counting())
    for key in KEYS[:pinned]:
        store.pin(key, pinned=True)

    async with background_maintenance(store, lambda: Limits(limit), StoreFaults(lambda: 0.0), EvictionCounts()):
        await asyncio.to_thread(store.enough.wait, PATIENCE)

    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == warnings


async def test_versions_beyond_a_lower_limit_are_removed_soon_after_a_start_and_counted_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(maintenance, "INTERVAL", 0.0)
    with closing(DiskStore(tmp_path)) as before:
        for number in range(6):
            before.put(recording(KEYS[0], b"%d" % number, stored_at=float(number)))

    class Watched(DiskStore):
        def save_use_times(self) -> None:
            super().save_use_times()
            if len(self.versions(KEYS[0])) == 3:  # in the run after the one that removes versions
                enough.set()

    enough = threading.Event()
    with closing(Watched(tmp_path, history=HistoryLimits(2))) as store:
        with caplog.at_level(logging.INFO, "oda_proxy"):
            faults = StoreFaults(lambda: 0.0)
            async with background_maintenance(store, lambda: Limits(10**9), faults, EvictionCounts()):
                await asyncio.to_thread(enough.wait, PATIENCE)
        assert [one.valid_from for one in store.versions(KEYS[0])] == [3.0, 4.0, 5.0]
    assert "removed 3 earlier versions, which are more or older than --history allows" in caplog.messages


class Unreadable(MemoryStore):
    """A store on a disk that other files fill."""

    def free_space(self) -> FreeSpace:
        return FreeSpace(100, 100_000)


def test_what_other_files_occupy_cannot_be_freed() -> None:
    assert maintain(Unreadable(), Limits(1000, 600), remove_orphans=False) == 500
