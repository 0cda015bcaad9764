"""Descriptions are fetched when they are no longer fresh, and every version is stored."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.query import descriptions
from oda_proxy.query.descriptions import Descriptions
from tests.support.sample_descriptions import meta_data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from oda_proxy.http.message import Headers, Request

FIRST = meta_data()
SECOND = meta_data().replace("15.0", "12.0")


@dataclass
class Body:
    content: bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content

    async def aclose(self) -> None:
        pass


@dataclass
class Reply:
    body: Body
    status: int = 200
    headers: Headers = ()


@dataclass
class Upstream:
    """An upstream that describes the instrument as it is set, or fails, or waits until it may answer."""

    text: str = FIRST
    status: int = 200
    error: Exception | None = None
    requests: list[Request] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = "http://dispatcher.example"

    def __post_init__(self) -> None:
        self.gate.set()

    async def send(self, ask: Request) -> Reply:
        self.requests.append(ask)
        await self.gate.wait()
        if self.error:
            raise self.error
        return Reply(Body(self.text.encode()), self.status)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(upstream: Upstream, clock: Clock, tmp_path: Path) -> Descriptions:
    return Descriptions(upstream, tmp_path, ttl=300, clock=clock)


async def radii(known: Descriptions) -> list[object]:
    return [schema.products["isgri_image"]["radius"].default for schema in await known.schemas("isgri")]


async def test_a_description_is_fetched_without_a_token_and_cached(
    known: Descriptions, upstream: Upstream, clock: Clock
) -> None:
    first = await known.schemas("isgri")
    clock.now = 299
    again = await known.schemas("isgri")

    assert [schema.instrument for schema in first] == ["isgri"]
    assert again[0] is first[0]
    assert [(ask.path, ask.query_string) for ask in upstream.requests] == [("/api/meta-data", "instrument=isgri")]


async def test_all_are_fetched_again_after_they_have_expired(known: Descriptions, upstream: Upstream) -> None:
    await known.schemas("isgri")
    upstream.text = SECOND
    assert await radii(known) == ["15.0"]

    known.expire()

    assert await radii(known) == ["12.0", "15.0"]


async def test_one_that_changed_becomes_the_newest_and_the_old_one_stays(
    known: Descriptions, upstream: Upstream, clock: Clock
) -> None:
    await known.schemas("isgri")
    upstream.text, clock.now = SECOND, 300

    assert await radii(known) == ["12.0", "15.0"]
    upstream.text, clock.now = FIRST, 600
    assert await radii(known) == ["15.0", "12.0"]


async def test_they_are_found_again_without_an_upstream(
    known: Descriptions, upstream: Upstream, clock: Clock, tmp_path: Path
) -> None:
    await known.schemas("isgri")
    upstream.text, clock.now = SECOND, 300
    await known.schemas("isgri")

    assert await radii(Descriptions(None, tmp_path, ttl=300, clock=clock)) == ["12.0", "15.0"]


@pytest.mark.parametrize(
    "answers",
    [
        (500, FIRST, None),
        (200, "<html>", None),
        (200, meta_data(instrument="jemx"), None),
        (200, " " * (5 * 1024 * 1024), None),
        (200, FIRST, UpstreamUnreachableError("http://dispatcher.example", "Connection refused")),
    ],
)
async def test_where_none_comes_the_cached_one_is_used(
    known: Descriptions, upstream: Upstream, clock: Clock, answers: tuple[int, str, Exception | None]
) -> None:
    await known.schemas("isgri")
    clock.now = 300
    upstream.status, upstream.text, upstream.error = answers

    assert await radii(known) == ["15.0"]
    assert await radii(known) == ["15.0"]
    assert len(upstream.requests) == 2  # not again with each request


async def test_a_name_that_was_never_described_is_not_logged(
    known: Descriptions, upstream: Upstream, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    upstream.status = 400
    await known.schemas("eyJhbGciOiJIUzI1NiJ9.token")

    assert [record.getMessage() for record in caplog.records] == [
        "no description of an instrument that a client names: the dispatcher answers 400"
    ]
    upstream.status = 200
    await known.schemas("isgri")
    clock.now, upstream.status = 301, 400
    await known.schemas("isgri")
    assert caplog.records[-1].getMessage() == "no description of 'isgri': the dispatcher answers 400"


async def test_where_there_is_none_there_is_none(known: Descriptions, upstream: Upstream, clock: Clock) -> None:
    upstream.status = 400

    assert await known.schemas("nosuch") == ()
    assert await Descriptions(None, None, ttl=300, clock=clock).schemas("isgri") == ()


@pytest.mark.parametrize("name", ["a" * 101, "\x00", "a\nb"])
async def test_what_cannot_be_a_name_is_not_fetched(known: Descriptions, upstream: Upstream, name: str) -> None:
    assert await known.schemas(name) == ()
    assert upstream.requests == []


async def test_a_name_cannot_leave_the_folder(known: Descriptions, upstream: Upstream, tmp_path: Path) -> None:
    upstream.text = meta_data(instrument="../../x")

    assert len(await known.schemas("../../x")) == 1
    assert os.listdir(tmp_path / "descriptions") == ["..%2F..%2Fx.json"]  # noqa: PTH208 - a folder of the test


async def test_many_who_want_one_ask_once(known: Descriptions, upstream: Upstream) -> None:
    upstream.gate.clear()
    waiting = [asyncio.create_task(known.schemas("isgri")) for _ in range(5)]
    while not upstream.requests:  # noqa: ASYNC110 - what it waits for is done by the same loop
        await asyncio.sleep(0)
    upstream.gate.set()

    assert [len(schemas) for schemas in await asyncio.gather(*waiting)] == [1] * 5
    assert len(upstream.requests) == 1


async def test_an_upstream_that_hangs_is_not_waited_for(
    known: Descriptions, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptions, "PATIENCE", 0)
    upstream.gate.clear()

    assert [await known.schemas("isgri") for _ in range(2)] == [(), ()]
    assert len(upstream.requests) == 1
    upstream.gate.set()


async def test_an_upstream_that_hangs_is_given_up_after_the_timeout(
    known: Descriptions, upstream: Upstream, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptions, "TIMEOUT", 0)
    upstream.gate.clear()
    assert await known.schemas("isgri") == ()

    monkeypatch.setattr(descriptions, "TIMEOUT", 60)
    upstream.gate.set()
    clock.now = 300

    assert len(await known.schemas("isgri")) == 1


async def test_one_that_was_invalidated_is_fetched_again(known: Descriptions, upstream: Upstream) -> None:
    await known.schemas("isgri")
    upstream.text = SECOND
    known.invalidate("isgri")

    assert await radii(known) == ["12.0", "15.0"]


@pytest.mark.parametrize("text", ["", "{}", '{"format": 1, "meta_data": [5]}', "[]"])
async def test_a_damaged_file_is_fetched_again(
    known: Descriptions, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "descriptions").mkdir()
    (tmp_path / "descriptions" / "isgri.json").write_text(text)

    assert await radii(known) == ["15.0"]
    assert "cannot be read" in caplog.text
    assert json.loads((tmp_path / "descriptions" / "isgri.json").read_text())["meta_data"] == [FIRST]


async def test_a_file_of_another_release_stays(known: Descriptions, tmp_path: Path) -> None:
    (tmp_path / "descriptions").mkdir()
    (file := tmp_path / "descriptions" / "isgri.json").write_text('{"format": 2, "meta_data": []}')

    assert await radii(known) == ["15.0"]
    assert file.read_text() == '{"format": 2, "meta_data": []}'
    assert (tmp_path / "descriptions" / "isgri.format-1.json").is_file()


async def test_a_folder_that_cannot_be_written_fails_no_request(
    upstream: Upstream, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "descriptions").write_text("a file")

    assert len(await Descriptions(upstream, tmp_path, ttl=300, clock=clock).schemas("isgri")) == 1
    assert "cannot store the description" in caplog.text
