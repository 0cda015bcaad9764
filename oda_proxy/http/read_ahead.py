"""A body that is read in a thread, a bounded number of bytes ahead of its client."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from concurrent.futures import Future

AHEAD = 512 * 1024
"""Bytes that are read before the client takes them."""
THREADS = 4
"""Threads that read all bodies: a disk that does not answer must not hold up everything else."""

_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="read-ahead")


class ReadAheadBody:
    """A body whose chunks are read in a thread, so that the event loop does not wait for a disk.

    The thread reads on while the client takes what was read, and is free for other bodies while a slow client does not.
    """

    def __init__(self, chunks: Iterable[bytes], close: Callable[[], None]) -> None:
        """Take the chunks, which are read in a thread, and a function that closes their source."""
        self._chunks = iter(chunks)
        self._close = close
        self._lock = threading.Lock()
        self._ready: deque[bytes] = deque()
        self._size = 0
        self._is_ended = False
        self._error: Exception | None = None
        self._reader: Future[None] | None = None
        self._wake: Callable[[], object] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._next():
                yield chunk
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the source of the chunks, once it is not read from."""
        with self._lock:
            self._is_ended = True
            reader = self._reader
        if reader is None:
            self._end()
        else:
            reader.add_done_callback(lambda _: self._end())

    def _end(self) -> None:
        if isinstance(self._chunks, Generator):
            self._chunks.close()
        self._close()

    async def _next(self) -> bytes:
        """Return the next chunk, or an empty one at the end; raises what reading raised."""
        while True:
            with self._lock:
                chunk = self._ready.popleft() if self._ready else b""
                self._size -= len(chunk)
                if self._reader is None and not self._is_ended and self._size <= AHEAD // 2:
                    self._reader = _threads.submit(self._read)
                if chunk or self._is_ended:
                    break
                loop = asyncio.get_running_loop()
                waiter = loop.create_future()
                self._wake = partial(loop.call_soon_threadsafe, _wake, waiter)
            await waiter
        if not chunk and self._error is not None:
            raise self._error
        return chunk

    def _read(self) -> None:
        """Read chunks until there are enough of them."""
        while True:
            chunk: bytes | None = None
            error = None
            try:
                chunk = next(self._chunks, None)
            except Exception as raised:  # noqa: BLE001 - it is raised where the chunks are consumed
                error = raised
            with self._lock:
                if chunk is None:
                    self._is_ended, self._error = True, error
                elif chunk:
                    self._ready.append(chunk)
                    self._size += len(chunk)
                is_enough = self._is_ended or self._size >= AHEAD
                if is_enough:
                    self._reader = None
                wake, self._wake = self._wake, None
            if wake is not None:
                wake()
            if is_enough:
                return


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
