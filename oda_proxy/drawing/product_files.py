"""Pictures and files of recordings for a server: made in the drawing process, one task after the other."""

from __future__ import annotations

import asyncio
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from cachetools import TTLCache

from oda_proxy.drawing.picture_store import FONTS, VERSION, PictureStore
from oda_proxy.drawing.process import (
    DrawingFailedError,
    DrawingProcess,
    KilledError,
    NotThereError,
    UnavailableError,
)
from oda_proxy.drawing.tasks import CONTENT_TYPES, Kind, Task
from oda_proxy.files.temporary import TemporaryFolder
from oda_proxy.store.layout import PICTURES
from oda_proxy.web.visible_recordings import visible_entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oda_proxy.access.visitor import Visitor
    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Entry, Store

MAX_WAITING: Final = 200
"""Tasks that wait for the process: a page has a picture for each product, and the largest known has 93."""
_FAILURE_TTL: Final = 600.0
"""Seconds for which a product that cannot be drawn is not tried again: each try may take half a minute."""
_MAX_FAILURES: Final = 1000
MAX_KILLS: Final = 3
"""Times in a row that the process may be killed at the same product until that counts as the product's failure."""
_STORED: Final = frozenset({Kind.PICTURE, Kind.SUMMARIES})
IDLE: Final = 600.0
"""Seconds without a task after which the process ends: it takes 150 MB."""


@dataclass(frozen=True)
class ProductFile:
    """A file without a name: its content is read once, and it is gone when it is closed."""

    content: IO[bytes] = field(repr=False)
    size: int
    content_type: str


@asynccontextmanager
async def open_product_files(store: Store, folder: Path | None, *, upstream: str) -> AsyncIterator[ProductFiles]:
    """Yield what makes pictures and files of the recordings in a store.

    `folder` is that of the store; None for one in memory. `upstream` is the address of the dispatcher.
    """
    with ExitStack() as stack:
        pictures = Path(stack.enter_context(TemporaryFolder("pictures"))) if folder is None else folder / PICTURES
        process = DrawingProcess(font_folder=pictures / FONTS)
        files = ProductFiles(store, process, PictureStore(pictures), upstream=upstream)
        try:
            yield files
        finally:
            await files.close()


class ProductFiles:
    """Makes pictures and files of recordings. `upstream` is the address of their dispatcher."""

    def __init__(self, store: Store, process: DrawingProcess, pictures: PictureStore, *, upstream: str) -> None:
        self._store = store
        self._process = process
        self._pictures = pictures
        self._upstream = upstream
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="drawing")
        self._folder: TemporaryFolder | None = None
        self._running: dict[str, asyncio.Task[bytes]] = {}
        self._waiting = 0
        self._failures: TTLCache[str, DrawingFailedError] = TTLCache(_MAX_FAILURES, _FAILURE_TTL)
        self._kills: TTLCache[str, int] = TTLCache(_MAX_FAILURES, _FAILURE_TTL)
        self._idle: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """End the process; tasks that wait fail."""
        if self._idle is not None:
            self._idle.cancel()
        self._process.close()
        self._thread.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._thread.shutdown, wait=True)
        await asyncio.to_thread(self._process.stop)
        if self._folder is not None:
            self._folder.cleanup()

    async def entry(self, visitor: Visitor, key: str) -> Entry:
        """Return the metadata of the recording whose key begins with a text. Raises RecordingNotFoundError."""
        return await asyncio.to_thread(visible_entry, self._store, visitor, key)

    async def tag(self, entry: Entry, task: Task) -> str:
        """Return a text that is another one for other content; raises NotThereError where the recording is gone."""
        fingerprint = await asyncio.to_thread(self._store.fingerprint, entry.key)
        if fingerprint is None:
            raise NotThereError("the recording was removed meanwhile")
        can_draw = find_spec("matplotlib") is not None  # the summaries say so, until it is installed
        words = f"{VERSION} {task.name} {entry.key} {fingerprint}{'' if can_draw else ' without matplotlib'}"
        return hashlib.sha256(words.encode()).hexdigest()[:32]

    async def picture(self, entry: Entry, number: int) -> bytes:
        """Return the picture of a product as PNG. Raises DrawingFailedError and UnavailableError."""
        return await self._stored(entry, Task(Kind.PICTURE, number))

    async def summaries(self, entry: Entry) -> list[dict[str, Any]]:
        """Return the summaries of all products (`drawing.summaries`). Raises as `picture`."""
        found: list[dict[str, Any]] = json.loads(await self._stored(entry, Task(Kind.SUMMARIES)))
        return found

    async def file(self, entry: Entry, kind: Kind, number: int = 0, unit: int = 0) -> ProductFile:
        """Return a file of a recording. Raises as `picture`."""
        task = Task(kind, number, unit, self._upstream)
        failure_name = await self.tag(entry, task)
        if failure := self._failures.get(failure_name):
            raise copy(failure)
        content: IO[bytes] = await self._tried(failure_name, partial(self._make, entry.key, task))
        size = await asyncio.to_thread(content.seek, 0, 2)
        content.seek(0)
        return ProductFile(content, size, CONTENT_TYPES[kind])

    async def _stored(self, entry: Entry, task: Task) -> bytes:
        """Return what a task makes: stored, or made once for all who wait for it."""
        name = await self.tag(entry, task)
        if (content := await asyncio.to_thread(self._pictures.get, entry.head_name, name)) is not None:
            return content
        if failure := self._failures.get(name):
            raise copy(failure)
        if (running := self._running.get(name)) is None:
            running = asyncio.create_task(self._make_stored(entry, task, name))
            self._running[name] = running
            running.add_done_callback(lambda _: self._running.pop(name, None))
        return await asyncio.shield(running)

    async def _make_stored(self, entry: Entry, task: Task, name: str) -> bytes:
        content: bytes = await self._tried(name, partial(self._make_and_store, entry, task, name))
        return content

    async def _tried(self, name: str, work: partial[Any]) -> Any:
        """Run a function in the thread of the process, and note under a name that it fails."""
        try:
            result = await self._in_process(work)
        except DrawingFailedError as error:
            self._failures[name] = error
            raise
        except KilledError as error:
            self._kills[name] = self._kills.get(name, 0) + 1
            if self._kills[name] < MAX_KILLS:
                raise
            del self._kills[name]
            failure = self._failures[name] = DrawingFailedError(f"{error}: {MAX_KILLS} times in a row")
            raise failure from error
        self._kills.pop(name, None)
        return result

    def _make_and_store(self, entry: Entry, task: Task, name: str) -> bytes:
        """Make and store a file; blocks."""
        with self._make(entry.key, task) as file:
            content = file.read()
        self._pictures.put(entry.head_name, name, content)
        if self._store.entry(entry.key) is None:  # removed meanwhile, perhaps before the picture was stored
            self._pictures.remove(entry.head_name)
        return content

    def _make(self, key: Key, task: Task) -> IO[bytes]:
        """Perform a task, and return its file, which has no name any more; blocks."""
        recording = self._store.get(key)
        if recording is None:
            raise NotThereError("the recording was removed meanwhile")
        with closing(recording.head):
            if self._folder is None:
                self._folder = TemporaryFolder("drawing")
            output = Path(self._folder.name) / "output"
            try:
                self._process.perform(task, recording, output)
                return output.open("rb")
            finally:
                with suppress(OSError):
                    output.unlink()

    async def _in_process(self, work: partial[Any]) -> Any:
        """Run a function in the thread of the process, after those that came before."""
        if self._waiting >= MAX_WAITING:
            raise UnavailableError(f"{self._waiting} pictures and files are being made: try again later")
        self._waiting += 1
        if self._idle is not None:
            self._idle.cancel()
        loop = asyncio.get_running_loop()
        try:
            try:
                future = loop.run_in_executor(self._thread, work)
            except RuntimeError as error:  # the thread takes nothing any more
                raise UnavailableError("the server stops") from error
            return await future
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._idle = loop.call_later(IDLE, self._stop_idle)

    def _stop_idle(self) -> None:
        with suppress(RuntimeError):
            self._thread.submit(self._process.stop)
