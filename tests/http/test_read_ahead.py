"""A body that is read ahead of its client: in a thread, so far and no further, and closed once nobody reads it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from oda_proxy.http.read_ahead import AHEAD, ReadAheadBody

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 64 * 1024


class Source:
    """Chunks that record what is read of them, and when they are closed."""

    def __init__(self, number: int, *, error: Exception | None = None, gate: threading.Event | None = None) -> None:
        self.number = number
        self.read = 0
        self.threads: set[int] = set()
        self.is_closed = threading.Event()
        self.is_reading = False
        self.closed_while_reading = False
        self.is_paused, self.is_ahead = threading.Event(), threading.Event()
        self._error = error
        self._gate = gate

    def __iter__(self) -> Iterator[bytes]:
        for number in range(self.number):
            self.is_reading = True
            self.threads.add(threading.get_ident())
            if self._gate and number == 1:
                self.is_paused.set()
                assert self._gate.wait(60)
            self.read += 1
            self.is_reading = False
            if self.read * CHUNK >= AHEAD:
                self.is_ahead.set()
            yield bytes([number % 256]) * CHUNK
        if self._error:
            raise self._error

    def close(self) -> None:
        self.closed_while_reading |= self.is_reading
        self.is_closed.set()


async def test_the_chunks_come_in_order_from_a_thread() -> None:
    source = Source(100)

    chunks = [chunk async for chunk in ReadAheadBody(source, source.close)]

    assert chunks == [bytes([number]) * CHUNK for number in range(100)]
    assert threading.get_ident() not in source.threads
    assert await asyncio.to_thread(source.is_closed.wait, 60)


async def test_an_empty_chunk_is_not_taken_for_the_end() -> None:
    body = ReadAheadBody(iter([b"", b"a", b"", b"b", b""]), lambda: None)

    assert [chunk async for chunk in body] == [b"a", b"b"]


async def test_it_is_read_no_further_ahead_than_a_limit_and_leaves_the_thread_to_others() -> None:
    bodies = [(source := Source(1000), aiter(ReadAheadBody(source, source.close))) for _ in range(20)]

    for source, chunks in bodies:  # more than there are threads
        await anext(chunks)
        assert await asyncio.to_thread(source.is_ahead.wait, 60)
    for _ in range(10):
        for _, chunks in bodies:
            await anext(chunks)

    assert max(source.read for source, _ in bodies) * CHUNK <= 11 * CHUNK + AHEAD + CHUNK
    for _, chunks in bodies:
        await chunks.aclose()  # type: ignore[attr-defined]  # an asynchronous generator


async def test_an_error_comes_after_the_chunks_before_it() -> None:
    source, received = Source(3, error=OSError(5, "Input/output error")), []

    async def receive() -> None:
        async for chunk in ReadAheadBody(source, source.close):
            received.append(chunk)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(OSError, match="Input/output error"):
        await receive()

    assert len(received) == 3
    assert source.is_closed.is_set()


async def test_an_empty_body() -> None:
    source = Source(0)

    assert [chunk async for chunk in ReadAheadBody(source, source.close)] == []
    assert source.is_closed.is_set()


async def test_a_body_that_is_not_read_is_closed() -> None:
    source = Source(3)

    await ReadAheadBody(source, source.close).aclose()

    assert (source.read, source.is_closed.is_set()) == (0, True)


@pytest.mark.parametrize("way", ["closed", "cancelled"])
async def test_the_source_is_closed_only_when_the_thread_has_left_it(way: str) -> None:
    gate = threading.Event()
    source = Source(100, gate=gate)
    body = ReadAheadBody(source, source.close)

    async def receive() -> None:
        async for _ in body:
            pass

    client = asyncio.create_task(receive())
    assert await asyncio.to_thread(source.is_paused.wait, 60)
    if way == "cancelled":
        client.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client
    await body.aclose()
    assert not source.is_closed.is_set()

    gate.set()

    assert await asyncio.to_thread(source.is_closed.wait, 60)
    assert not source.closed_while_reading
    assert source.read <= 2, "nobody reads the rest"
    client.cancel()
    await asyncio.gather(client, return_exceptions=True)
