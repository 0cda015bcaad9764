"""Reads recordings in threads: those that are requested at the same time with one hand-over.

A hand-over to a thread and back costs about as much as reading a small recording, and each call that leaves the
interpreter waits for the event loop if that is busy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from oda_proxy.recordings.head import MemoryHead
from oda_proxy.recordings.loaded import LoadedHead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording

    Waiting = asyncio.Future[Recording | None]

THREADS: Final = 4
"""Threads that read: a large recording, or a disk that does not answer, must not hold up all others."""
MAX_BATCH: Final = 16
"""Recordings that one thread reads in a row."""
MAX_HELD: Final = 0.002
"""Seconds for which a recording that was read waits for the rest of its batch; longer and longer for a slow disk."""

_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="recordings")


class BatchReader:
    """Reads recordings with a function that blocks."""

    def __init__(self, read: Callable[[Key], Recording | None]) -> None:
        self._read = read
        self._requested: dict[Key, list[Waiting]] = {}

    async def read(self, key: Key) -> Recording | None:
        """Return the recording of a key, or None; raises what the function raises.

        Those who request one in memory at the same time receive the same.
        """
        loop = asyncio.get_running_loop()
        if not self._requested:
            loop.call_soon(self._submit, loop)
        waiting: Waiting = loop.create_future()
        self._requested.setdefault(key, []).append(waiting)
        return await waiting

    def _submit(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a thread read what was requested since the last call."""
        requested, self._requested = list(self._requested.items()), {}
        for at in range(0, len(requested), MAX_BATCH):
            batch = _Batch(loop, requested[at : at + MAX_BATCH])
            loop.run_in_executor(_threads, batch.run, self._read).add_done_callback(batch.end)


class _Batch:
    """Recordings that a thread reads; the event loop passes them on when all are read, or one takes long."""

    def __init__(self, loop: asyncio.AbstractEventLoop, requested: Iterable[tuple[Key, list[Waiting]]]) -> None:
        self._loop = loop
        self._requested = requested
        self._results: deque[_Result] = deque()
        self._held = MAX_HELD
        self._timer = loop.call_later(self._held, self._deliver_some)

    def run(self, read: Callable[[Key], Recording | None]) -> None:
        """Read the recordings, in a thread."""
        for key, waiting in self._requested:
            left = waiting
            while left:
                result = _Result(left)
                try:
                    result.recording = read(key)
                except Exception as error:  # noqa: BLE001 - it is raised where the recording is awaited
                    result.error = error
                left = result.others()
                self._results.append(result)

    def end(self, _: asyncio.Future[None]) -> None:
        """Pass on what is left, after all were read."""
        self._timer.cancel()
        self._deliver()

    def _deliver_some(self) -> None:
        self._deliver()
        self._held *= 2
        self._timer = self._loop.call_later(self._held, self._deliver_some)

    def _deliver(self) -> None:
        while self._results:
            self._results.popleft().deliver()


class _Result:
    """What was read, and who waits for it."""

    def __init__(self, waiting: list[Waiting]) -> None:
        self.waiting = waiting
        self.recording: Recording | None = None
        self.error: Exception | None = None

    def others(self) -> list[Waiting]:
        """Leave a recording whose file is open to the first who waits, and return the others."""
        if self.recording is None or isinstance(self.recording.head, MemoryHead | LoadedHead):
            return []
        self.waiting, others = self.waiting[:1], self.waiting[1:]
        return others

    def deliver(self) -> None:
        """Pass the recording on; one that nobody waits for any longer is closed."""
        is_taken = False
        for waiting in self.waiting:
            if waiting.done():  # the client has disconnected
                continue
            if self.error is not None:
                waiting.set_exception(self.error)
            else:
                waiting.set_result(self.recording)
                is_taken = True
        if self.recording is not None and not is_taken:
            self.recording.head.close()
