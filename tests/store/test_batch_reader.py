"""Recordings that are requested at the same time are read with one hand-over to a thread."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.batch_reader import MAX_BATCH, THREADS, BatchReader
from tests.support.recordings import KEYS, recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording


@dataclass
class OpenHead:
    """A head in a file that one reader closes."""

    size: int = 3
    digest: str = ""
    closed: int = 0

    def pieces(self) -> Iterator[bytes]:
        yield b"abc"

    def close(self) -> None:
        self.closed += 1


@dataclass
class Reads:
    """A store that notes what is read, in which thread; keys in `blocked` wait until it is released."""

    keys: list[Key] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    is_large: bool = False
    heads: list[OpenHead] = field(default_factory=list)
    blocked: frozenset[Key] = frozenset()
    began: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def __call__(self, key: Key) -> Recording | None:
        self.keys.append(key)
        self.began.set()
        self.threads.append(threading.get_ident())
        if key in self.blocked:
            self.release.wait(10)
        if key == KEYS[5]:
            return None
        if key == KEYS[4]:
            raise StoreUnusableError(Path("/folder"), "it is gone")
        if not self.is_large:
            return recording(key)
        self.heads.append(OpenHead())
        return recording(key, head=self.heads[-1])


async def test_each_receives_the_recording_that_it_requested() -> None:
    reads = Reads()
    reader = BatchReader(reads)

    found = await asyncio.gather(*map(reader.read, (*KEYS[:4], KEYS[5])))

    assert [one and one.key for one in found] == [*KEYS[:4], None]
    assert len(set(reads.threads)) == 1
    assert reads.threads[0] != threading.get_ident()


async def test_a_small_recording_is_read_once_for_all_that_request_it_together() -> None:
    reads = Reads()
    reader = BatchReader(reads)

    found = await asyncio.gather(*[reader.read(KEYS[0]) for _ in range(50)])

    assert reads.keys == [KEYS[0]]
    assert {id(one) for one in found} == {id(found[0])}
    await reader.read(KEYS[0])
    assert len(reads.keys) == 2


async def test_each_has_an_open_file_of_its_own() -> None:
    reads = Reads(is_large=True)
    reader = BatchReader(reads)

    found = await asyncio.gather(*[reader.read(KEYS[0]) for _ in range(5)])

    assert len({id(one.head) for one in found if one}) == 5
    assert [head.closed for head in reads.heads] == [0] * 5


async def test_a_failure_is_raised_where_the_recording_was_requested() -> None:
    reader = BatchReader(Reads())

    found = await asyncio.gather(*map(reader.read, (KEYS[4], KEYS[0], KEYS[4])), return_exceptions=True)

    assert isinstance(found[0], StoreUnusableError)
    assert not isinstance(found[1], BaseException)
    assert isinstance(found[2], StoreUnusableError)


async def test_the_file_for_a_client_that_has_disconnected_is_closed() -> None:
    reads = Reads(is_large=True, blocked=frozenset({KEYS[0]}))
    reader = BatchReader(reads)
    leaving, staying = (asyncio.create_task(reader.read(key)) for key in KEYS[:2])
    await asyncio.to_thread(reads.began.wait)

    leaving.cancel()
    reads.release.set()

    await staying
    assert [head.closed for head in reads.heads] == [1, 0]


@pytest.mark.parametrize("others", [1, THREADS - 1])
async def test_a_disk_that_does_not_answer_holds_up_only_what_was_requested_with_it(others: int) -> None:
    reads = Reads(blocked=frozenset({KEYS[0]}))
    reader = BatchReader(reads)
    stuck = []
    for _ in range(others):
        stuck.append(asyncio.create_task(reader.read(KEYS[0])))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    found = await reader.read(KEYS[1])

    assert found is not None
    assert not any(one.done() for one in stuck)
    reads.release.set()
    await asyncio.gather(*stuck)


async def test_what_was_read_does_not_wait_for_a_slow_recording_of_the_same_batch() -> None:
    reads = Reads(blocked=frozenset({KEYS[1]}))
    reader = BatchReader(reads)
    first, slow = (asyncio.create_task(reader.read(key)) for key in KEYS[:2])

    assert await first is not None

    assert not slow.done()
    reads.release.set()
    assert await slow is not None


async def test_more_than_a_batch_are_read_in_several_threads() -> None:
    keys = [KEYS[0][:-2] + f"{number:02x}" for number in range(MAX_BATCH * 2)]
    reads = Reads()

    found = await asyncio.gather(*map(BatchReader(reads).read, keys))  # type: ignore[arg-type]  # keys are texts

    assert [one and one.key for one in found] == keys
