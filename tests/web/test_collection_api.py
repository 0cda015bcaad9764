"""Collections of a running server: each visitor sees their own, and the administrator changes them."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.capsule.capsule import verify
from oda_proxy.errors import StoreUnusableError
from oda_proxy.query.audience import Claims, Sharing
from oda_proxy.store.collections import RECORDING, Member, owner_of
from oda_proxy.web.collection_api import MISSING
from tests.support.access_servers import ADMIN, READ, AccessServer, access_server, bearer, person

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording

A = owner_of(Claims("a@example.org", ("general",), None).audience(Sharing.SUBJECT))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[AccessServer]:
    async with access_server(tmp_path) as running:
        index = running.collections
        assert index is not None
        for owner, key in (("", running.public), (A, running.private), (owner_of("another"), running.private)):
            index.note("paper", owner, member(running, key), 10, [])
        yield running


def member(server: AccessServer, key: str) -> Member:
    whole: Key = next(one for one in server.store.keys() if one.startswith(key))  # noqa: SIM118 - no mapping
    return Member(RECORDING, whole, 1, 0.0, was_pinned=False, content=None)


async def get(server: AccessServer, token: str, path: str = "", method: str = "GET") -> tuple[int, Any]:
    status, text = await server.send(method, f"/-/api/collections{path}", bearer(token))
    return status, json.loads(text)


@pytest.mark.parametrize(
    ("token", "owners"), [(ADMIN, 3), (READ, 1), (person("a"), 2), (person("b"), 1)], ids=["admin", "reader", "a", "b"]
)
async def test_a_visitor_sees_their_own_collections(server: AccessServer, token: str, owners: int) -> None:
    status, found = await get(server, token)

    assert status == 200
    assert [one["name"] for one in found["collections"]] == ["paper"] * owners
    assert (A in {one["owner"] for one in found["collections"]}) == (token in {ADMIN, person("a")} or owners == 2)


async def test_a_person_sees_what_is_in_their_own(server: AccessServer) -> None:
    for token, key in ((person("a"), server.private), (person("b"), server.public)):
        status, shown = await get(server, token, "/paper")
        assert status == 200
        assert [one["key"].startswith(key) for one in shown["members"]] == [True]
    assert (await get(server, person("a"), "/other"))[0] == 404


async def test_an_administrator_renames_and_removes(server: AccessServer) -> None:
    for name in ("-x", "api"):  # no address names them
        assert (await get(server, ADMIN, f"/paper/rename/{name}", "POST"))[0] == 400
    assert (await get(server, ADMIN, f"/paper/rename/new?owner={A[:12]}", "POST")) == (
        200,
        {"renamed": ["paper", "new"]},
    )
    server.store.pin(member(server, server.public).key, pinned=True)

    assert await get(server, ADMIN, "/paper", "DELETE") == (200, {"removed": ["paper"]})

    found = (await get(server, ADMIN))[1]["collections"]
    assert sorted(one["name"] for one in found) == ["new", "paper"]
    entry = server.store.entry(member(server, server.public).key)
    assert entry is not None
    assert not entry.pinned
    assert (await get(server, READ, "/paper", "DELETE"))[0] == 403


async def test_a_capsule_is_downloaded_by_who_may_see_it(server: AccessServer, tmp_path: Path) -> None:
    for name, token in (("a", person("a")), ("b", person("b"))):
        async with server.client.get(
            f"{server.url}/-/collections/paper/capsule.zip", headers=bearer(token)
        ) as response:
            assert response.status == 200
            assert response.headers["Content-Disposition"] == 'attachment; filename="paper.zip"'
            content = await response.read()
        (tmp_path / f"{name}.zip").write_bytes(content)
        assert verify(tmp_path / f"{name}.zip") == []
        assert "capsule.json" in zipfile.ZipFile(io.BytesIO(content)).namelist()


async def test_a_capsule_that_lacks_something_says_so(server: AccessServer) -> None:
    async def download() -> tuple[str, str]:
        address = f"{server.url}/-/collections/paper/capsule.zip"
        async with server.client.get(address, headers=bearer(READ)) as response:
            with zipfile.ZipFile(io.BytesIO(await response.read())) as capsule:
                return response.headers[MISSING], capsule.read("README.md").decode()

    number, readme = await download()
    assert number == "0"
    assert "Not in this capsule" not in readme

    removed = member(server, server.public).key
    server.store.remove(removed)
    number, readme = await download()
    assert number == "1"
    assert f"## Not in this capsule\n\n- {removed[:12]} is not in the capsule: it was removed from the store" in readme


async def test_a_store_that_cannot_be_read_is_an_error_and_no_smaller_capsule(
    server: AccessServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peek(key: Key) -> Recording | None:
        raise StoreUnusableError("the disk", f"Input/output error at {key[:4]}")

    monkeypatch.setattr(server.store, "peek", peek)
    async with server.client.get(f"{server.url}/-/collections/paper/capsule.zip", headers=bearer(READ)) as response:
        assert response.status == 500
        assert "Input/output error" in (await response.json())["detail"]
