"""Pictures and files for a server: made once for all who wait, limited, and given up for a while where they fail."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from oda_proxy.access.roles import Role
from oda_proxy.access.visitor import Visitor
from oda_proxy.drawing import product_files
from oda_proxy.drawing.picture_store import PictureStore
from oda_proxy.drawing.process import (
    DrawingFailedError,
    DrawingProcess,
    KilledError,
    NotThereError,
    UnavailableError,
)
from oda_proxy.drawing.product_files import MAX_KILLS, ProductFiles
from oda_proxy.drawing.tasks import Kind, Task
from oda_proxy.store.memory import MemoryStore
from oda_proxy.web.visible_recordings import RecordingNotFoundError
from tests.support import capsules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry

READER = Visitor(roles=frozenset({Role.READER}))


class Process(DrawingProcess):
    """A process that writes the name of the task, once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[str] = []
        self.kills = 0
        self.may_work = threading.Event()
        self.may_work.set()
        self.works = threading.Event()
        self.has_stopped = threading.Event()

    def perform(self, task: Task, recording: Recording, output: Path) -> None:
        self.tasks.append(task.name)
        self.works.set()
        self.may_work.wait()
        if task.number == 9:
            raise DrawingFailedError("it is too odd")
        if len(self.tasks) <= self.kills:
            raise KilledError("it was killed")
        output.write_text(f"{task.name} {recording.head.size}")

    def stop(self) -> None:
        self.has_stopped.set()


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.put(capsules.with_arrays())
    return store


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
async def files(store: MemoryStore, process: Process, tmp_path: Path) -> AsyncIterator[ProductFiles]:
    files = ProductFiles(store, process, PictureStore(tmp_path / "pictures"), upstream="https://dispatcher.example")
    yield files
    process.may_work.set()
    await files.close()


@pytest.fixture
def entry(store: MemoryStore) -> Entry:
    (entry,) = store.entries()
    return entry


async def test_a_picture_is_drawn_once_for_all_and_stored(
    files: ProductFiles, process: Process, entry: Entry, store: MemoryStore
) -> None:
    pictures = await asyncio.gather(*(files.picture(entry, 1) for _ in range(10)))

    assert {picture.decode() for picture in pictures} == {f"picture-1-0 {entry.size}"}
    assert await files.picture(entry, 1) == pictures[0]
    assert process.tasks == ["picture-1-0"]
    before = await files.tag(entry, Task(Kind.PICTURE, 1))
    store.put(capsules.with_arrays())
    assert await files.tag(entry, Task(Kind.PICTURE, 1)) != before, "it was replaced"


async def test_who_leaves_does_not_end_the_drawing_for_others(
    files: ProductFiles, process: Process, entry: Entry
) -> None:
    process.may_work.clear()
    leaving, waiting = (asyncio.create_task(files.picture(entry, 0)) for _ in range(2))
    await asyncio.to_thread(process.works.wait)

    leaving.cancel()
    process.may_work.set()

    assert (await waiting).startswith(b"picture-0-0")
    assert process.tasks == ["picture-0-0"]


async def test_what_fails_is_not_tried_again_for_a_while(files: ProductFiles, process: Process, entry: Entry) -> None:
    for _ in range(3):
        with pytest.raises(DrawingFailedError, match="it is too odd"):
            await files.picture(entry, 9)
        with pytest.raises(DrawingFailedError, match="it is too odd"):
            await files.file(entry, Kind.FITS, 9)

    assert process.tasks == ["picture-9-0", "fits-9-0"]


async def test_what_is_killed_is_tried_again_at_once(files: ProductFiles, process: Process, entry: Entry) -> None:
    process.kills = MAX_KILLS - 1
    for _ in range(process.kills):
        with pytest.raises(KilledError):
            await files.picture(entry, 1)
    assert await files.picture(entry, 1)


async def test_what_is_killed_each_time_is_given_up_for_a_while(
    files: ProductFiles, process: Process, entry: Entry
) -> None:
    """A product that needs more memory than there is would have the process started for each client."""
    process.kills = 100
    for _ in range(MAX_KILLS - 1):
        with pytest.raises(KilledError):
            await files.file(entry, Kind.FITS, 1)
    for _ in range(2):
        with pytest.raises(DrawingFailedError, match="3 times in a row"):
            await files.file(entry, Kind.FITS, 1)
    assert len(process.tasks) == MAX_KILLS


async def test_too_many_tasks_are_refused(
    files: ProductFiles, process: Process, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product_files, "MAX_WAITING", 2)
    process.may_work.clear()
    waiting = [asyncio.create_task(files.picture(entry, number)) for number in range(2)]
    await asyncio.to_thread(process.works.wait)

    with pytest.raises(UnavailableError, match="2 pictures and files are being made"):
        await files.picture(entry, 5)

    process.may_work.set()
    assert len(await asyncio.gather(*waiting)) == 2


async def test_a_file_has_no_name_and_is_read_from_its_begin(
    files: ProductFiles, entry: Entry, process: Process
) -> None:
    first, second = await files.file(entry, Kind.FITS, 0), await files.file(entry, Kind.HEADER, 0, 3)

    with first.content, second.content:
        assert (first.content.read(), first.size) == (b"fits-0-0 %d" % entry.size, len(f"fits-0-0 {entry.size}"))
        assert second.content.read().startswith(b"header-0-3")
    assert process.tasks == ["fits-0-0", "header-0-3"]


async def test_a_recording_that_is_removed_meanwhile_leaves_no_picture(
    files: ProductFiles, process: Process, entry: Entry, store: MemoryStore, tmp_path: Path
) -> None:
    process.may_work.clear()
    drawing = asyncio.create_task(files.picture(entry, 0))
    await asyncio.to_thread(process.works.wait)

    store.remove(entry.key)
    process.may_work.set()
    await drawing

    assert [path for path in (tmp_path / "pictures").rglob("*") if path.is_file()] == []
    with pytest.raises(NotThereError, match="removed meanwhile"):
        await files.picture(entry, 0)
    with pytest.raises(RecordingNotFoundError, match=f"no recording has the key {entry.key}: it may have been removed"):
        await files.entry(READER, entry.key)


async def test_a_process_without_work_ends(
    files: ProductFiles, process: Process, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product_files, "IDLE", 0.0)

    await files.picture(entry, 0)
    await asyncio.to_thread(process.has_stopped.wait)

    await files.picture(entry, 1)


async def test_tasks_that_wait_when_the_server_stops_are_refused(
    store: MemoryStore, entry: Entry, tmp_path: Path
) -> None:
    files = ProductFiles(store, Process(), PictureStore(tmp_path), upstream="")
    await files.close()

    with pytest.raises(UnavailableError, match="the server stops"):
        await files.picture(entry, 0)


async def test_what_was_made_without_matplotlib_is_made_again_once_that_is_installed(
    files: ProductFiles, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(Kind.SUMMARIES)
    with monkeypatch.context() as patch:
        patch.setattr("oda_proxy.drawing.product_files.find_spec", lambda _: None)
        before = await files.tag(entry, task)

    assert await files.tag(entry, task) != before
