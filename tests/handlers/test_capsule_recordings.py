"""Capsules of a server answer before its store, for everyone, and never change."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.capsule.errors import CapsuleError
from oda_proxy.errors import UpstreamUnreachableError, UsageError
from oda_proxy.files.trees import FolderTree
from oda_proxy.files.zip_writing import write_zip_file
from oda_proxy.handlers.capsule_recordings import CapsuleRecordings
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.http.message import Request
from oda_proxy.http.scope import AsOf
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.store.collection_index import CollectionIndex
from oda_proxy.store.collections import RECORDING
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.freshness import FOR_EVER, Freshness, Rule
from oda_proxy.store.memory import MemoryStore
from tests.support import capsules
from tests.support.dispatcher_responses import SESSION, answer
from tests.support.scripted_upstream import QUERY, Clock, Script, at_once, request, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AsyncExitStack
    from pathlib import Path

    from oda_proxy.handlers.capsule_recordings import MakeStore
    from oda_proxy.store.base import Store

RECORDED = "instrument=isgri&product_type=isgri_image&query_type=Real&api=True&RA=83&dry_run=yes"
"""A query of the capsule, as a client sends it."""


def in_memory(size: int, stack: AsyncExitStack) -> Store:
    del size, stack
    return MemoryStore()


class Team:
    """A proxy that serves capsules, with an empty store and a dispatcher that plays a script, or offline."""

    def __init__(
        self, folder: Path, urls: tuple[str, ...] = (f"{capsules.URL}/",), *, is_offline: bool = False
    ) -> None:
        self.upstream, self.store, self.clock = Script(), MemoryStore(), Clock()
        self.capsules = CapsuleRecordings(urls, in_memory)
        self.index = CollectionIndex(folder / "store", self.clock)
        policy = Policy(freshness=Freshness((Rule("*", "*", 0.0),)))
        services = Services(capsules=self.capsules, collections=self.index)
        runtime = Runtime(clock=self.clock, sleep=at_once)
        self.proxy = Proxy(
            self.store, None if is_offline else self.upstream, policy, services=services, runtime=runtime
        )

    async def get(self, query: str = RECORDED, path: str = "/run_analysis", **headers: str) -> tuple[str, Any]:
        sent = Request("GET", path, f"{query}&query_status=new&session_id={SESSION}", tuple(headers.items()))
        _, status, body = await told(self.proxy, sent)
        return status, json.loads(body)


def content(file: Path) -> bytes:
    return file.read_bytes()


def write(file: Path, changed: bytes) -> None:
    file.write_bytes(changed)


@pytest.fixture
def capsule(tmp_path: Path) -> Path:
    capsules.write_capsule(tmp_path / "capsule")
    write_zip_file(FolderTree(tmp_path / "capsule"), tmp_path / "paper.zip")
    return tmp_path / "paper.zip"


@pytest.fixture
async def team(tmp_path: Path) -> AsyncIterator[Team]:
    running = Team(tmp_path)
    yield running
    await running.capsules.close()


async def test_a_capsule_answers_first_and_what_it_lacks_is_requested(team: Team, capsule: Path) -> None:
    before = content(capsule)
    await team.capsules.load([capsule])
    team.upstream.then(answer())

    status, body = await team.get()
    assert status == "oda-proxy; hit; detail=capsule"  # however short recordings last
    assert [one["name"] for one in body["products"]["numpy_data_product_list"]] == ["mask", "half"]
    assert (await team.get(RECORDED.replace("RA=83", "RA=83.0")))[0] == status
    assert (await told(team.proxy, request(QUERY)))[1] != status

    assert len(team.upstream.asked) == 1
    assert len(list(team.store.keys())) == 1
    assert content(capsule) == before


async def test_a_refresh_asks_and_leaves_the_capsule_as_it_is(team: Team, capsule: Path) -> None:
    await team.capsules.load([capsule])
    team.upstream.then(answer())

    status, _ = await team.get(**{"Cache-Control": "no-cache"})

    assert "fwd=request" in status
    assert (await team.get())[0] == "oda-proxy; hit; detail=capsule"
    assert await team.proxy.answer_alone(
        Request("GET", "/run_analysis", f"{RECORDED}&query_status=new&session_id=S"), origin="http://here"
    )


async def test_the_first_of_several_capsules_answers(team: Team, capsule: Path, tmp_path: Path) -> None:
    await team.capsules.load([capsule, tmp_path / "capsule"])

    assert [one.path.name for one in team.capsules.capsules] == ["paper.zip", "capsule"]
    assert [one.recordings for one in team.capsules.capsules] == [2, 2]
    assert (await team.get())[0] == "oda-proxy; hit; detail=capsule"


async def test_what_is_read_again_takes_the_place_of_what_was_there(
    team: Team, capsule: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await team.capsules.load([capsule])
    write(capsule, content(capsule)[:-100])

    team.capsules.reload([capsule])
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))
    assert "the capsules stay as they were" in caplog.text
    assert (await team.get())[0] == "oda-proxy; hit; detail=capsule"

    await team.capsules.load([])
    team.upstream.then(answer())
    assert "hit" not in (await team.get())[0]


async def test_a_capsule_of_another_dispatcher_and_a_damaged_one_are_refused(tmp_path: Path, capsule: Path) -> None:
    team = Team(tmp_path, ("https://another.example",))
    with pytest.raises(UsageError, match=r"paper.zip is not of https://another.example; choose its dispatcher"):
        await team.capsules.load([capsule])
    await team.capsules.load([capsule], requires_match=False)
    assert team.capsules.capsules == ()
    write(capsule, b"no zip file")
    with pytest.raises(CapsuleError, match="this is no zip file"):
        await team.capsules.load([capsule])
    await team.capsules.close()


async def test_no_hit_is_repeated_after_capsules_were_read_that_may_have_another_answer(
    team: Team, capsule: Path
) -> None:
    team.proxy.set_freshness(Freshness((Rule("*", "*", FOR_EVER),)))
    team.upstream.then(answer())
    for _ in range(3):
        response = await team.proxy.answer(request(), origin="http://here")
    assert response.repeatable is not None
    hit = response.repeatable()
    assert hit.repeat("S") is not None

    await team.capsules.load([capsule])

    assert hit.repeat("S") is None


@pytest.mark.parametrize(
    ("date", "status"),
    [("2026-11-29/only", "hit; detail=as-of"), ("1971-01-01/only", "detail=no-recording")],
)
async def test_a_capsule_answers_as_of_what_it_had_recorded_by_then(
    team: Team, capsule: Path, date: str, status: str
) -> None:
    team.clock.now = AsOf.parse("2027-01-01").time
    await team.capsules.load([capsule])

    assert (await team.get(path=f"/as-of/{date}/run_analysis"))[0] == f"oda-proxy; {status}"


async def test_an_answer_of_a_capsule_is_a_memento(team: Team, capsule: Path) -> None:
    team.clock.now = AsOf.parse("2027-01-01").time
    await team.capsules.load([capsule])
    sent = request(RECORDED, path="/as-of/2026-11-30/run_analysis")
    negotiated = replace(request(RECORDED), headers=(("Accept-Datetime", "Fri, 01 Jan 2027 00:00:00 GMT"),))
    for one in (sent, negotiated):
        found = dict((await team.proxy.answer(one, origin="http://here")).headers)

        recorded = found["Memento-Datetime"]
        original, memento = found["Link"].split(", <")
        assert original.startswith("<http://here/run_analysis?")
        assert original.endswith('>; rel="original timegate"')
        assert memento.endswith(f'rel="first last memento"; datetime="{recorded}"')
        assert ("Content-Location" in found) == (one is negotiated)
        again = await team.proxy.answer(
            request(RECORDED, path=f"/{memento.split('/run_analysis')[0].removeprefix('http://here/')}/run_analysis"),
            origin="http://here",
        )
        assert dict(again.headers)["Memento-Datetime"] == recorded


async def test_an_answer_of_a_capsule_from_a_later_time_says_so(team: Team, capsule: Path) -> None:
    await team.capsules.load([capsule])

    status, _ = await team.get(path="/as-of/1971-01-01/run_analysis")

    assert status == "oda-proxy; hit; detail=not-recorded-then"


async def test_a_recording_of_a_capsule_may_belong_to_a_collection(team: Team, capsule: Path) -> None:
    await team.capsules.load([capsule])

    assert (await team.get(path="/in/my-paper/run_analysis"))[0] == "oda-proxy; hit; detail=capsule"

    assert [one.kind for one in team.index.members(team.index.find("my-paper"))] == [RECORDING]
    assert [entry.pinned for entry in team.store.entries()] == [True]


FAILED = "instrument=isgri&product_type=isgri_image&query_type=Real&api=True&RA=a"
"""A query of the capsule that failed."""


async def test_a_recorded_failure_answers_offline_as_it_was(tmp_path: Path, capsule: Path) -> None:
    team = Team(tmp_path, is_offline=True)
    await team.capsules.load([capsule])

    status, body = await team.get(FAILED)
    assert status == "oda-proxy; hit; detail=failed"
    assert "RA" in body["error"]
    assert (await team.get(FAILED.replace("RA=a", "RA=b")))[0] != status
    await team.capsules.close()


async def test_a_recorded_failure_answers_while_the_dispatcher_cannot_be_reached_and_not_otherwise(
    team: Team, capsule: Path
) -> None:
    await team.capsules.load([capsule])
    team.upstream.replies.append(UpstreamUnreachableError("http://h", "refused"))
    assert (await team.get(FAILED))[0] == "oda-proxy; hit; detail=failed"

    team.upstream.then(answer())
    assert "hit" not in (await team.get(FAILED))[0], "what failed then may succeed today"


async def test_a_recorded_failure_is_noted_in_a_collection(tmp_path: Path, capsule: Path) -> None:
    team = Team(tmp_path, is_offline=True)
    await team.capsules.load([capsule])

    await team.get(FAILED, path="/in/paper/run_analysis")

    (one,) = team.index.list()
    assert (one.name, one.recordings, one.failures) == ("paper", 0, 1)
    await team.capsules.close()


async def test_recordings_that_an_earlier_capsule_has_are_counted_at_the_start(
    team: Team, capsule: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        await team.capsules.load([capsule, tmp_path / "capsule"])

    assert f"2 of the recordings of {tmp_path / 'capsule'} are answered from {capsule}" in caplog.text


@pytest.mark.parametrize("end", ["removed", "changed", "replaced by a folder"])
async def test_a_capsule_that_goes_away_is_served_on(team: Team, capsule: Path, tmp_path: Path, end: str) -> None:
    await team.capsules.load([capsule])
    if end == "changed":
        write(capsule, b"PK" + bytes(1000))
    else:
        remove(capsule, is_replaced=end != "removed")

    assert (await team.get())[0] == "oda-proxy; hit; detail=capsule"


@pytest.mark.parametrize("name", ["capsule", "paper.zip"])
async def test_a_large_capsule_that_goes_away_is_served_on(tmp_path: Path, capsule: Path, name: str) -> None:
    del capsule
    team = Team(tmp_path)
    team.capsules = CapsuleRecordings((f"{capsules.URL}/",), on_disk(tmp_path / "unpacked"))
    await team.capsules.load([tmp_path / name])
    (loaded,) = team.capsules.capsules
    remove(tmp_path / name, is_replaced=False)

    for key in loaded.store.keys():  # noqa: SIM118 - no mapping
        recording = loaded.store.peek(key)
        assert recording is not None
        assert b"".join(recording.head.pieces())
        recording.head.close()
    await team.capsules.close()


def remove(path: Path, *, is_replaced: bool) -> None:
    """Remove a capsule, and put an empty folder in its place where it is replaced."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if is_replaced:
        path.mkdir()


def on_disk(folder: Path) -> MakeStore:
    """Return what makes a store as for a large capsule."""

    def make(size: int, stack: AsyncExitStack) -> Store:
        del size
        return stack.enter_context(closing(DiskStore(folder)))

    return make
