"""Capsules are replayed from folders and archives, also those that are too large for the memory."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.files.trees import FolderTree
from oda_proxy.files.zip_writing import write_zip_file
from oda_proxy.http.message import Request
from oda_proxy.http.scope import AsOf, Scope
from oda_proxy.run import replayer as replayer_module
from oda_proxy.run.forwarded_request import ForwardedRequest, Origin
from oda_proxy.run.replayer import replaying
from tests.support import capsules
from tests.support.dispatcher_responses import SESSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from oda_proxy.http.answer import Answer


@asynccontextmanager
async def no_listener(_: Any) -> AsyncIterator[Any]:
    yield None


async def read(answer: Answer) -> bytes:
    return (
        b"".join(map(bytes, answer.body))
        if isinstance(answer.body, tuple)
        else b"".join([p async for p in answer.body])
    )


async def answers(source: Path) -> list[Any]:
    """Return the answers to a query, for a description and for a page."""
    query = "instrument=isgri&product_type=isgri_image&query_type=Real&api=True&RA=83&dry_run=yes&query_status=new"
    async with replaying(source, listen=no_listener) as replayed:
        sent = Request("GET", "/run_analysis", f"{query}&session_id={SESSION}&token=None")
        run = await read(await replayed.answer_dispatcher(capsules.URL, sent, origin="http://here"))
        described = await replayed.answer_dispatcher(
            capsules.URL, Request("GET", "/api/instr-list"), origin="http://here"
        )
        page = await replayed.answer_other(
            ForwardedRequest(Origin("https", "sites.example", 443), Request("GET", "/list", "name=Crab"))
        )
        assert not replayed.missed
        return [json.loads(run)["products"]["numpy_data_product_list"], await read(described), await read(page)]


@pytest.mark.parametrize("limit", [0, replayer_module.MAX_IN_MEMORY])
async def test_a_zip_file_is_replayed_as_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    capsules.write_capsule(tmp_path / "capsule")
    write_zip_file(FolderTree(tmp_path / "capsule"), tmp_path / "paper.zip")
    expected = await answers(tmp_path / "capsule")

    monkeypatch.setattr(replayer_module, "MAX_IN_MEMORY", limit)

    assert await answers(tmp_path / "paper.zip") == expected


@pytest.mark.parametrize(("date", "status"), [("1971-01-01", 400), ("2026-01-01", 200)])
async def test_what_was_recorded_after_a_date_counts_as_missing(tmp_path: Path, date: str, status: int) -> None:
    capsules.write_capsule(tmp_path / "capsule")
    query = "instrument=isgri&product_type=isgri_image&query_type=Real&api=True&RA=83&dry_run=yes&query_status=new"

    async with replaying(tmp_path / "capsule", as_of=Scope(AsOf.parse(date)), listen=no_listener) as replayed:
        sent = Request("GET", "/run_analysis", f"{query}&session_id={SESSION}")
        answer = await replayed.answer_dispatcher(capsules.URL, sent, origin="http://here")

    assert answer.status == status
    message = f"as of {date}: there is no recording of isgri isgri_image as requested: it was recorded later, on "
    assert (message in (await read(answer)).decode()) == (status == 400)
    assert bool(replayed.missed) == (status == 400)


@pytest.mark.parametrize(("date", "is_replayed"), [("2023-11-13", False), ("2023-11-15", True)])
async def test_a_query_that_failed_by_then_fails_as_it_did(tmp_path: Path, date: str, *, is_replayed: bool) -> None:
    """A notebook runs as it did then: its failures have the dispatcher's words (RFC 7089, section 4.5.5)."""
    capsules.write_capsule(tmp_path / "capsule")
    query = "instrument=isgri&product_type=isgri_image&query_type=Real&api=True&RA=1&query_status=new"

    async with replaying(tmp_path / "capsule", as_of=Scope(AsOf.parse(date)), listen=no_listener) as replayed:
        sent = Request("GET", "/run_analysis", f"{query}&session_id={SESSION}")
        answer = await replayed.answer_dispatcher(capsules.URL, sent, origin="http://here")

    fields, text = dict(answer.headers), (await read(answer)).decode()
    if is_replayed:
        assert (answer.status, str(answer.cache_status)) == (200, "oda-proxy; hit; detail=failed")
        assert json.loads(text)["query_status"] == "failed"
        assert fields["Memento-Datetime"] == "Tue, 14 Nov 2023 22:13:20 GMT"
        assert not replayed.missed
    else:
        assert answer.status == 400
        assert "as of 2023-11-13: there is no recording of isgri isgri_image" in text
        assert "Memento-Datetime" not in fields
