"""The HTTP API for recordings."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.query.cache_key import Key, key_of
from oda_proxy.query.query import Query, parse_fields, split_query
from oda_proxy.web import recording_api
from tests.support.access_servers import ADMIN, READ, AccessServer, api_server, bearer
from tests.support.dispatcher_responses import answer
from tests.support.recordings import recording
from tests.support.scripted_upstream import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIST = "/-/api/recordings"


@pytest.fixture
async def server() -> AsyncIterator[AccessServer]:
    """Return a server with recordings whose keys begin with a to e."""
    async with api_server() as server:
        for number, letter in enumerate("abcde"):
            fields = f"instrument=jemx&product_type=jemx_lc&query_type=Real&src_name=Source%20{letter.upper()}"
            query = split_query(parse_fields(fields))[0]
            server.store.put(recording(Key(letter * 64), query=query, stored_at=1000.0 + number))
        yield server


async def call(server: AccessServer, method: str, path: str, token: str = ADMIN) -> tuple[int, Any]:
    status, text = await server.send(method, path, bearer(token))
    return status, json.loads(text)


def keys(found: Any) -> str:
    return "".join(one["key"][0] for one in found["recordings"])


async def test_recordings_are_listed_by_the_filters_of_the_command_line(server: AccessServer) -> None:
    status, found = await call(server, "GET", f"{LIST}?instrument=JEMX&source=source%20*", READ)

    assert (status, sorted(keys(found)), found["next"]) == (200, list("abcde"), None)
    assert found["recordings"][0]["query"]["product_type"] == "jemx_lc"
    assert keys((await call(server, "GET", f"{LIST}?source=*b"))[1]) == "b"


async def test_a_list_is_read_page_by_page(server: AccessServer) -> None:
    listed, following = "", "?instrument=jemx&limit=2"
    while following:
        _, found = await call(server, "GET", LIST + following)
        listed += keys(found)
        following = found["next"]

    assert sorted(listed) == list("abcde")


async def test_a_list_of_large_recordings_ends_earlier(server: AccessServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_api, "MAX_PAGE_BYTES", 500)
    pages, following = list[str](), "?instrument=jemx"
    while following:
        _, found = await call(server, "GET", LIST + following)
        pages.append(keys(found))
        following = found["next"]

    assert len(pages) > 1
    assert sorted("".join(pages)) == list("abcde")


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("colour=red", "there is no filter 'colour'"),
        ("used-before=never", "used-before must be a date"),
        ("limit=0", "limit must be a number from 1 to 1000"),
        ("limit=1001", "limit must be"),
        ("offset=-1", "offset must be"),
        ("source=a&source=b", "source is repeated"),
    ],
)
async def test_what_cannot_be_read_is_named(server: AccessServer, query: str, detail: str) -> None:
    status, found = await call(server, "GET", f"{LIST}?{query}")

    assert (status, found["status"], found["title"]) == (400, 400, "Bad Request")
    assert found["detail"].startswith(detail)


async def test_errors_are_problems(server: AccessServer) -> None:
    async with server.client.get(f"{server.url}{LIST}/{'f' * 64}", headers=bearer(ADMIN)) as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")


async def test_a_recording_is_shown_by_the_beginning_of_its_key(server: AccessServer) -> None:
    query, timeline = Query("polar", "polar_lc", "Real", (("RA", ("83.0",)),), api=True), (("submitted", 0.0),)
    server.store.put(recording(Key("f" * 64), query=query, timeline=timeline))

    status, found = await call(server, "GET", f"{LIST}/{'f' * 20}", READ)

    assert (status, found["key"], found["private"]) == (200, "f" * 64, False)
    assert found["query"]["parameters"] == {"RA": ["83.0"]}
    assert found["timeline"] == [["submitted", 0.0]]


async def test_a_beginning_that_is_ambiguous_counts_what_the_visitor_sees(server: AccessServer) -> None:
    server.store.put(recording(Key("ab" * 32), private=True))

    assert (await call(server, "GET", f"{LIST}/a", READ))[1]["key"] == "a" * 64
    status, found = await call(server, "GET", f"{LIST}/a")
    assert (status, found["detail"]) == (404, "2 keys begin with 'a'; /-/api/recordings lists them")


async def test_one_recording_is_removed_pinned_and_unpinned(server: AccessServer) -> None:
    assert await call(server, "POST", f"{LIST}/bbbb/pin") == (200, {"pinned": ["b" * 64]})
    assert server.store.entry(Key("b" * 64)).pinned  # type: ignore[union-attr]
    assert await call(server, "POST", f"{LIST}/bbbb/unpin") == (200, {"unpinned": ["b" * 64], "collections": []})
    assert not server.store.entry(Key("b" * 64)).pinned  # type: ignore[union-attr]
    assert await call(server, "DELETE", f"{LIST}/bbbb") == (200, {"removed": ["b" * 64]})
    assert (await call(server, "DELETE", f"{LIST}/bbbb"))[0] == 404


async def test_filters_pin_and_unpin_what_they_select(server: AccessServer) -> None:
    _, listed = await call(server, "GET", f"{LIST}?source=source*")
    selected = {one["key"] for one in listed["recordings"]}

    status, found = await call(server, "POST", f"{LIST}/pin?source=source*")
    assert (status, set(found["pinned"])) == (200, selected)
    _, listed = await call(server, "GET", f"{LIST}?source=source*")
    assert all(one["pinned"] for one in listed["recordings"])

    assert set((await call(server, "POST", f"{LIST}/unpin?source=source*"))[1]["unpinned"]) == selected
    assert (await call(server, "POST", f"{LIST}/pin"))[0] == 400


async def test_filters_remove_nothing_before_they_are_confirmed(server: AccessServer) -> None:
    status, found = await call(server, "DELETE", f"{LIST}?source=source*")

    assert (status, found["removed"], found["recordings"]) == (200, [], 5)
    assert sorted(key[0] for key in found["would_be_removed"]) == list("abcde")
    assert found["size"] == 5 * len(b'"catalog":{}')
    assert len(list(server.store.entries())) == 5


@pytest.mark.parametrize("confirm", ["yes", "5"])
async def test_filters_remove_what_is_confirmed(server: AccessServer, confirm: str) -> None:
    status, found = await call(server, "DELETE", f"{LIST}?source=source*&confirm={confirm}")

    assert (status, sorted(key[0] for key in found["removed"])) == (200, list("abcde"))
    assert len(list(server.store.entries())) == 0


@pytest.mark.parametrize("confirm", ["4", "no", "05"])
async def test_filters_that_select_other_recordings_than_confirmed_remove_nothing(
    server: AccessServer, confirm: str
) -> None:
    assert (await call(server, "DELETE", f"{LIST}?source=source*&confirm={confirm}"))[0] == 409
    assert len(list(server.store.entries())) == 5


async def test_everything_is_removed_by_a_filter_alone(server: AccessServer) -> None:
    assert (await call(server, "DELETE", f"{LIST}?confirm=yes"))[0] == 400
    assert len((await call(server, "DELETE", f"{LIST}?instrument=*&confirm=yes"))[1]["removed"]) == 5
    assert not list(server.store.entries())


PUBLIC = Query("isgri", "isgri_image", "Real", (("RA", ("83.0",)),), api=True)
RUNNING = {**answer(query_status="submitted"), "products": {}}
FAILED = {"query_status": "failed", "exit_status": {"status": 1, "message": "the disk is full"}, "products": {}}


@pytest.mark.parametrize(
    ("body", "expected"), [(answer(), (200, "done")), (RUNNING, (202, "running"))], ids=["done", "running"]
)
async def test_a_recording_is_computed_again(body: dict[str, Any], expected: tuple[int, str]) -> None:
    async with api_server(Script().then(body)) as server:
        server.store.put(recording(key_of(PUBLIC), query=PUBLIC, stored_at=12.5))

        status, found = await call(server, "POST", f"{LIST}/{key_of(PUBLIC)}/refresh")

        assert (status, found) == (expected[0], {"refreshed": [key_of(PUBLIC)], "state": expected[1]})
        (entry,) = server.store.entries()
        assert (entry.stored_at > 12.5) is (expected[1] == "done")


async def test_a_recording_stays_where_the_dispatcher_fails() -> None:
    async with api_server(Script().then(FAILED)) as server:
        server.store.put(recording(Key("a" * 64), query=PUBLIC))

        status, problem = await call(server, "POST", f"{LIST}/{'a' * 64}/refresh")

        assert (status, problem["detail"]) == (502, "the recording was not computed again: the disk is full")
        assert server.store.entry(Key("a" * 64))


@pytest.mark.parametrize(
    ("query", "private", "reason"),
    [
        (PUBLIC, True, "it is private"),
        (None, False, "its query is not known"),
        (replace(PUBLIC, files=(("user_catalog", "0" * 64),)), False, "it uploads a file"),
    ],
)
async def test_a_recording_that_cannot_be_computed_again_stays(
    query: Query | None, reason: str, *, private: bool
) -> None:
    async with api_server(Script()) as server:
        server.store.put(recording(Key("a" * 64), query=query, private=private))

        status, problem = await call(server, "POST", f"{LIST}/{'a' * 64}/refresh")

        assert (status, reason in problem["detail"]) == (409, True)
        assert server.store.entry(Key("a" * 64))


async def test_offline_nothing_is_computed_again(server: AccessServer) -> None:
    status, problem = await call(server, "POST", f"{LIST}/{'a' * 64}/refresh")

    assert (status, "this server is offline" in problem["detail"]) == (409, True)
