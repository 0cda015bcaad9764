"""The pages of collections: what each visitor finds there, and what they say about what a capsule lacks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
import pytest

from oda_proxy.query.audience import Claims, Sharing
from oda_proxy.recordings import failures
from oda_proxy.store.collections import FAILURE, LEFT_OUT, RECORDING, Member, owner_of
from tests.support import capsules
from tests.support.access_servers import ADMIN, READ, AccessServer, access_server, bearer, person

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.collections import Collections

A = owner_of(Claims("a@example.org", ("general",), None).audience(Sharing.SUBJECT))
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[AccessServer]:
    async with access_server(tmp_path) as running:
        note(running, "paper", running.public)
        note(running, "mine", running.private, owner=A)
        yield running


def index_of(server: AccessServer) -> Collections:
    assert server.collections is not None
    return server.collections


def key_of(server: AccessServer, beginning: str) -> Key:
    (whole,) = server.store.keys_beginning(beginning)
    return whole


def note(server: AccessServer, name: str, beginning: str, *, owner: str = "") -> None:
    """Note a recording in a collection, as a request at its address does."""
    member = Member(RECORDING, key_of(server, beginning), 1, 0.0, was_pinned=False, content=None)
    server.store.pin(member.key, pinned=True)
    index_of(server).note(name, owner, member, 10, [])


async def page(server: AccessServer, path: str, token: str = ADMIN, method: str = "GET") -> tuple[int, str]:
    return await server.send(method, f"/-/{path}", bearer(token) | {"Accept": "text/html"})


@pytest.mark.parametrize(
    ("token", "names"),
    [(ADMIN, {"paper", "mine"}), (READ, {"paper"}), (person("a"), {"paper", "mine"}), (person("b"), {"paper"})],
    ids=["admin", "reader", "a", "b"],
)
async def test_a_visitor_finds_their_own_collections(server: AccessServer, token: str, names: set[str]) -> None:
    _, text = await page(server, "collections", token)

    assert {name for name in ("paper", "mine") if f">{name}<" in text} == names
    assert (await page(server, "collections/mine", token))[0] == (200 if "mine" in names else 404)
    assert (A[:12] in text) == ("mine" in names)


async def test_a_recording_names_the_collections_that_the_visitor_may_see(server: AccessServer) -> None:
    note(server, "secret-plan", server.public, owner=A)
    for token, names in ((ADMIN, ["paper", "secret-plan"]), (READ, ["paper"]), (person("a"), ["paper", "secret-plan"])):
        _, text = await page(server, f"recordings/{key_of(server, server.public)}", token)
        assert [name for name in ("paper", "secret-plan") if f'collections/{name}">' in text] == names


async def test_a_collection_is_removed_by_its_page(server: AccessServer) -> None:
    _, text = await page(server, "collections/paper")
    assert 'href="../collections/paper/remove"' in text
    assert 'href="../collections/paper/capsule.zip"' in text
    assert "Remove" not in (await page(server, "collections/paper", READ))[1]
    _, text = await page(server, "collections/paper/remove")
    assert '<form method="post" action="remove">' in text

    status, _ = await page(server, "collections/paper/remove", READ, "POST")
    assert status == 403
    async with server.client.post(
        f"{server.url}/-/collections/paper/remove", headers=bearer(ADMIN), allow_redirects=True
    ) as response:
        assert response.status == 200
        assert "The collection was removed" in await response.text()

    assert [one.name for one in index_of(server).list()] == ["mine"]
    entry = server.store.entry(key_of(server, server.public))
    assert entry is not None
    assert not entry.pinned


async def test_a_collection_of_somebody_is_removed_with_its_owner_named(server: AccessServer) -> None:
    note(server, "mine", server.public)
    _, text = await page(server, f"collections/mine/remove?owner={A[:12]}")
    assert f'action="remove?owner={A[:12]}"' in text
    async with server.client.post(
        f"{server.url}/-/collections/mine/remove?owner={A[:12]}", headers=bearer(ADMIN), allow_redirects=False
    ) as response:
        assert response.status == 303
    assert [(one.name, one.owner) for one in index_of(server).list()] == [("mine", ""), ("paper", "")]


async def test_what_a_capsule_will_lack_is_named(server: AccessServer) -> None:
    failure = capsules.failed("bad_RA.400", capsules.query(RA="a"))
    assert failure.query is not None
    hostile = replace(failure, query=replace(failure.query, product_type=HOSTILE))
    members = (
        Member(RECORDING, key_of(server, server.public), 1, 0.0, was_pinned=False, content=None),
        Member(FAILURE, failure.key, 1, 0.0, was_pinned=False, content=failures.serialise(hostile).encode()),
        Member(LEFT_OUT, key_of(server, server.private), 1, 0.0, was_pinned=False, content=b"too-large"),
    )
    for member in members:
        index_of(server).note("all", "", member, 10, [])
    server.store.remove(key_of(server, server.public))

    _, text = await page(server, "collections/all", READ)

    assert "removed from the store: missing in a capsule" in text
    assert "its answer was not stored (too-large): missing in a capsule" in text
    assert "&lt;script&gt;" in text
    assert HOSTILE not in text
    assert ">failed</span>" in text


async def test_nothing_of_a_recording_that_a_visitor_may_not_see_is_shown(server: AccessServer) -> None:
    note(server, "shared", server.private)
    private = server.store.entry(key_of(server, server.private))
    assert private is not None
    assert private.query is not None

    for token, is_shown in ((READ, False), (person("b"), False), (ADMIN, True)):
        _, text = await page(server, "collections/shared", token)
        assert (f">{private.query.product_type}<" in text) == is_shown


async def test_unpin_names_the_collections_that_relied_on_the_pin(server: AccessServer) -> None:
    path = f"/-/api/recordings/{key_of(server, server.public)}/unpin"
    status, text = await server.send("POST", path, bearer(ADMIN))
    assert status == 200
    assert json.loads(text)["collections"] == ["paper"]

    index_of(server).remove(index_of(server).find("paper"))
    assert json.loads((await server.send("POST", path, bearer(ADMIN)))[1])["collections"] == []


async def test_a_name_that_is_none_has_no_page(server: AccessServer) -> None:
    for name in ("a.b", "x" * 65, "%C3%A4", "no-such"):
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                f"{server.url}/-/collections/{name}", headers=bearer(ADMIN) | {"Accept": "text/html"}
            ) as response,
        ):
            assert response.status == 404
