"""Limits on the memory that all answers of a process take together."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

T = TypeVar("T")


@dataclass(slots=True)
class _Held:
    """Bytes that are reserved until the end of a block."""

    budget: ProcessingBudget
    task: asyncio.Task[Any] | None
    size: int = 0


_held: ContextVar[_Held | None] = ContextVar("_held", default=None)
"""What the task holds; tasks that it starts have the same context, and hold nothing."""

MAX_PROCESSED = 64 * 1024 * 1024
"""Bytes that the answers that are being parsed, repaired or redacted take together; a larger one is processed alone."""
COPIES = 2
"""Bytes in memory for each byte of an answer that is processed: as JSON, which shrinks while the recording grows."""


LARGE = 8 * 1024 * 1024
"""Bytes from which answers are processed in one thread."""


class ProcessingBudget:
    """Admits answers to processing, first come, first served, while they fit in memory together.

    Large ones are processed in one thread: an allocator that has memory for each thread would keep it for each.
    """

    def __init__(self, limit: int = MAX_PROCESSED) -> None:
        self._limit = limit
        self._large = ThreadPoolExecutor(1, thread_name_prefix="large-answers")
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Reserve the memory that processing an answer of `size` bytes takes; waits until there is room.

        Within `hold`, the first reservation is for all steps.
        """
        needed = COPIES * size
        held = _held.get()
        if held is not None and held.budget is self and held.task is asyncio.current_task():
            if not held.size:
                await self._acquire(needed)
                held.size = needed
            yield
            return
        await self._acquire(needed)
        try:
            yield
        finally:
            self._release(needed)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Keep what is reserved for an answer until the end of the block: once parsed, it is in memory until then."""
        held = _Held(self, asyncio.current_task())
        token = _held.set(held)
        try:
            yield
        finally:
            _held.reset(token)
            if held.size:
                self._release(held.size)

    async def run(self, size: int, function: Callable[[], T]) -> T:
        """Call a function that processes an answer of `size` bytes in a thread, when there is room."""
        async with self.reserve(size):
            return await self.in_thread(size, function)

    async def in_thread(self, size: int, function: Callable[[], T]) -> T:
        """Call a function that processes an answer of `size` bytes, for which room is reserved, in a thread."""
        executor = self._large if size > LARGE else None
        return await asyncio.get_running_loop().run_in_executor(executor, function)

    async def _acquire(self, needed: int) -> None:
        if not self._waiting and self._fits(needed):
            self._used += needed
            return
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (needed, admitted)
        self._waiting.append(entry)
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                self._release(needed)
            else:
                self._waiting.remove(entry)
                self._admit()
            raise

    def _release(self, needed: int) -> None:
        self._used -= needed
        self._admit()

    def _admit(self) -> None:
        """Admit those that wait, in order, while there is room."""
        while self._waiting and self._fits(self._waiting[0][0]):
            needed, admitted = self._waiting.popleft()
            self._used += needed
            admitted.set_result(None)

    def _fits(self, needed: int) -> bool:
        return self._used == 0 or self._used + needed <= self._limit


class Total:
    """Bytes that several threads hold together, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Add bytes if they fit; return whether they do."""
        with self._lock:
            if self.used + size > self.limit:
                return False
            self.used += size
            return True

    def give_back(self, size: int) -> None:
        """Subtract bytes."""
        with self._lock:
            self.used -= size
