"""What is requested through the address of a collection is noted in it, and stays."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from oda_proxy.capsule.capsule import open_capsule, verify
from oda_proxy.handlers.collection_export import export_collection
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.http.message import Request
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.run.replayer import replaying
from oda_proxy.store import eviction
from oda_proxy.store.collection_index import CollectionIndex
from oda_proxy.store.collections import FAILURE, LEFT_OUT, RECORDING, Member, remove_collection
from oda_proxy.store.memory import MemoryStore
from tests.support.dispatcher_responses import answer
from tests.support.sample_descriptions import meta_data
from tests.support.scripted_upstream import JSON, ORIGIN, QUERY, Clock, Script, at_once, body_of, request, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.collections import Collection

DAY = 86400.0
IN = "/in/my-paper/run_analysis"
KEY = "a key of a dispatcher that is long enough for HS256"


def token_of(subject: str, key: str = KEY) -> str:
    return jwt.encode({"sub": subject, "roles": "general", "exp": Clock.now + 3600}, key, "HS256")


class Team:
    """A proxy with collections, and a dispatcher that plays a script."""

    def __init__(self, folder: Path, *, max_size: int | None = None, secret_key: str | None = KEY) -> None:
        self.clock = Clock()
        self.upstream = Script()
        self.store = MemoryStore()
        self.index = CollectionIndex(folder, self.clock, max_size=max_size)
        trust = 300.0 if secret_key else 0.0
        tokens = TokenVerifier(Sharing.SUBJECT, secret_key=secret_key, trust=trust, clock=self.clock)
        services = Services(collections=self.index, tokens=tokens)
        runtime = Runtime(clock=self.clock, sleep=at_once)
        self.proxy = Proxy(self.store, self.upstream, Policy(), services=services, runtime=runtime)

    async def get(self, query: str = QUERY, path: str = IN) -> tuple[int, str, Any]:
        """Send a query, and return the status, the cache status and the JSON of the answer."""
        status, cache_status, body = await told(self.proxy, request(query, path=path))
        return status, cache_status, json.loads(body)

    def members(self, name: str = "my-paper") -> list[Member]:
        return [*self.index.members(self.index.find(name))]

    def export(self, collection: Collection, folder: Path, **options: Any) -> Any:
        arguments = {"url": "http://dispatcher", "store_folder": None, "include_private": False, **options}
        return export_collection(self.index, collection, self.store, folder, **arguments)


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path / "store")


async def test_jobs_and_hits_are_noted_and_never_evicted(team: Team) -> None:
    team.upstream.then(answer())
    statuses = [(await team.get())[1] for _ in range(4)]

    assert [("hit" in status) for status in statuses] == [False, True, True, True]
    (one,) = team.members()
    assert (one.kind, one.uses) == (RECORDING, 4)
    assert [entry.pinned for entry in team.store.entries()] == [True]
    assert list(eviction.groups_to_evict(team.store.entries())) == []


async def test_a_hit_of_what_others_requested_is_noted_and_other_hits_are_not(team: Team) -> None:
    team.upstream.then(answer())
    for _ in range(3):
        await team.get(path="/run_analysis")
    assert team.index.list() == []

    assert "hit" in (await team.get())[1]
    assert [one.uses for one in team.members()] == [1]
    await team.get(path="/run_analysis")
    assert [one.uses for one in team.members()] == [1]


async def test_a_client_that_receives_headers_only_notes_nothing(team: Team) -> None:
    team.upstream.then(answer())
    await team.get(path="/run_analysis")
    plain = request(path=IN)
    result = await team.proxy.answer(replace(plain, method="HEAD"), origin=ORIGIN)

    assert result.cache_status.hit
    assert team.index.list() == []


async def test_a_collection_that_was_removed_is_made_again_by_a_repeated_hit(team: Team) -> None:
    team.upstream.then(answer())
    for _ in range(3):
        await team.get()
    team.index.remove(team.index.find("my-paper"))

    await team.get()

    assert [one.uses for one in team.members()] == [1]


async def test_no_answer_of_a_collection_is_repeated_without_being_noted(team: Team) -> None:
    team.upstream.then(answer())
    await team.get()
    inside = await team.proxy.answer(request(path=IN), origin="http://here")
    outside = await team.proxy.answer(request(path="/run_analysis"), origin="http://here")

    assert inside.repeatable is None
    assert outside.repeatable is not None
    assert await team.proxy.answer_alone(request(path=IN), origin="http://here") is None


async def test_a_failure_is_noted_with_its_text(team: Team, tmp_path: Path) -> None:
    failed = answer(query_status="failed", exit_status={**answer()["exit_status"], "status": 1, "message": "failing"})
    team.upstream.then(failed)

    await team.get()

    (one,) = team.members()
    assert one.kind == FAILURE
    exported = team.export(team.index.find("my-paper"), tmp_path / "capsule")
    assert (exported.recordings, exported.failures, exported.missing) == (0, 1, {})
    assert verify(tmp_path / "capsule") == []


async def test_an_answer_that_cannot_be_stored_is_named_by_the_export(team: Team, tmp_path: Path) -> None:
    team.upstream.then(answer(), headers=(*JSON, ("Cache-Control", "no-store")))

    assert (await team.get())[0] == 200

    (one,) = team.members()
    assert one.kind == LEFT_OUT
    exported = team.export(team.index.find("my-paper"), tmp_path / "capsule")
    assert "no-store" in exported.missing[one.key]


async def test_a_recording_that_is_removed_while_it_is_noted_is_an_error(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.upstream.then(answer())
    await team.get(path="/run_analysis")
    note = CollectionIndex.note

    def note_and_remove(index: CollectionIndex, name: str, owner: str, member: Member, *rest: Any) -> bool:
        is_new = note(index, name, owner, member, *rest)
        team.store.remove(member.key)
        return is_new

    monkeypatch.setattr(CollectionIndex, "note", note_and_remove)
    status, _, body = await team.get()

    assert status == HTTPStatus.BAD_REQUEST
    assert "the recording was removed meanwhile, and is not in the collection" in body["exit_status"]["message"]


async def test_a_removed_recording_is_named_by_the_export(team: Team, tmp_path: Path) -> None:
    team.upstream.then(answer())
    await team.get()
    (one,) = team.members()
    team.store.remove(one.key)

    assert "removed" in team.export(team.index.find("my-paper"), tmp_path / "capsule").missing[one.key]


async def test_descriptions_are_noted_as_they_were(team: Team, tmp_path: Path) -> None:
    team.upstream.then(meta_data()).then(answer())
    path = "/in/my-paper/api/meta-data"
    for _ in range(2):
        assert (await told(team.proxy, request("instrument=isgri", path=path)))[0] == 200
    await team.get()

    exported = team.export(team.index.find("my-paper"), tmp_path / "capsule")
    assert (exported.recordings, exported.descriptions) == (1, 1)
    with closing(open_capsule(tmp_path / "capsule")) as opened:
        assert opened.dispatchers[0].addresses == (f"{ORIGIN}/in/my-paper",)
        assert [use.count for use in opened.uses.values()] == [1]


async def test_a_person_has_collections_of_their_own(team: Team, tmp_path: Path) -> None:
    for token in (token_of("one"), token_of("other")):
        team.upstream.then(answer())
        await team.get(f"{QUERY}&token={token}")
    team.upstream.then(answer())
    await team.get()

    found = team.index.list()
    assert [(each.name, each.recordings) for each in found] == [("my-paper", 1)] * 3
    assert len({each.owner for each in found}) == 3
    private = next(each for each in found if each.owner)
    exported = team.export(private, tmp_path / "capsule")
    assert (exported.recordings, exported.private) == (0, 1)
    exported = team.export(private, tmp_path / "another", include_private=True)
    assert (exported.recordings, exported.private) == (1, 0)


async def test_a_token_that_is_not_valid_makes_no_collection(team: Team) -> None:
    forged = jwt.encode(
        {"sub": "one", "roles": "general", "exp": Clock.now + 3600},
        "another key that is long enough for HS256",
        "HS256",
    )
    team.upstream.then({"error": "wrong token"}, status=401)

    await team.get(f"{QUERY}&token={forged}")

    assert team.index.list() == []


async def test_the_answer_to_a_token_that_is_not_trusted_for_a_moment_is_noted(tmp_path: Path) -> None:
    """A token may also cease to be trusted between the answer and its note."""
    team = Team(tmp_path, secret_key=None)
    team.upstream.then(answer())

    _, cache_status, _ = await team.get(f"{QUERY}&token={token_of('one')}")

    assert cache_status == "oda-proxy; fwd=request; fwd-status=200; stored"
    assert [one.kind for one in team.members()] == [RECORDING]


async def test_a_full_server_is_a_failed_job_with_a_clear_message(tmp_path: Path) -> None:
    for size, message in ((0, "makes no collections"), (1, "would take more than 1 bytes")):
        team = Team(tmp_path / str(size), max_size=size)
        team.upstream.then(answer())

        status, _, body = await team.get()

        assert status == 400
        assert message in body["error"]
        assert body["exit_status"]["message"] == body["error"]
        assert team.index.list() == [] or team.members() == []


async def test_a_name_that_is_none_is_a_failed_job(team: Team) -> None:
    for name in ("a.b", "a_b", "x" * 65):
        status, _, body = await team.get(path=f"/in/{name}/run_analysis")
        assert status == 400
        assert "name of a collection" in body["error"]
    for name in ("a%2Fb", ".."):
        _, _, text = await told(team.proxy, request(path=f"/in/{name}/run_analysis"))
        assert b"ambiguous" in text
    assert team.index.list() == []
    assert not team.upstream.asked


async def test_a_proxy_of_a_run_ignores_collections(team: Team) -> None:
    team.proxy.collections.index = None
    team.upstream.then(answer())

    assert (await team.get())[0] == 200


async def test_a_pin_of_somebody_is_remembered(team: Team) -> None:
    team.upstream.then(answer())
    await team.get(path="/run_analysis")
    (entry,) = team.store.entries()
    team.store.pin(entry.key, pinned=True)

    await team.get()

    assert team.index.unpinned_by_removal(team.index.find("my-paper")) == []


# -- as of then -------------------------------------------------------------------------------------


@asynccontextmanager
async def no_listener(_: Any) -> AsyncIterator[Any]:
    yield None


async def with_versions(team: Team, *texts: str) -> None:
    """Have an answer replaced each day since 2023-11-14, and go on to the next day."""
    for text in texts:
        plain = request(path="/run_analysis")
        team.upstream.then(of_text(text))
        sent = Request("GET", plain.path, plain.query_string, (("Cache-Control", "no-cache"),))
        await told(team.proxy, sent)
        team.clock.now += DAY
    team.upstream.asked.clear()


def of_text(text: str) -> Any:
    return answer(products={"text_product_list": [{"name": "t", "value": text, "meta_data": {}}]})


def exported_texts(team: Team, folder: Path, name: str = "my-paper") -> list[str]:
    """Return the texts in the capsule of a collection."""
    exported = team.export(team.index.find(name), folder)
    assert not exported.missing
    with closing(open_capsule(folder)) as capsule:
        recordings = [one for dispatcher in capsule.dispatchers for one in dispatcher.recordings()]
        return [word for one in recordings for word in TEXTS if f'"{word}"'.encode() in b"".join(one.head.pieces())]


TEXTS = ("one", "two", "three", "four")


@pytest.mark.parametrize(
    "prefix", ["/as-of/2023-11-15/in/my-paper", "/in/my-paper/as-of/2023-11-15", "/as-of/2023-11-15/only/in/my-paper"]
)
async def test_a_collection_has_the_version_that_was_served(team: Team, tmp_path: Path, prefix: str) -> None:
    await with_versions(team, "one", "two", "three")

    for uses in (1, 2):
        _, status, body = await team.get(path=f"{prefix}/run_analysis")
        assert status == "oda-proxy; hit; detail=as-of"
        assert body["products"]["text_product_list"][0]["value"] == "two"
        assert [(one.kind, one.uses, one.version) for one in team.members()] == [(RECORDING, uses, 1_700_000_000 + DAY)]
    await with_versions(team, "four")

    assert exported_texts(team, tmp_path / "paper") == ["two"]
    assert all(entry.pinned for entry in team.store.versions(team.members()[0].key)), "none is evicted"
    async with replaying(tmp_path / "paper", listen=no_listener) as replayed:
        for path in (f"{prefix}/run_analysis", "/run_analysis"):
            result = await replayed.answer_dispatcher("http://dispatcher", request(path=path), origin="http://here")
            assert b'"two"' in await body_of(result)
        assert not replayed.missed


async def test_an_equal_answer_that_was_recorded_later_is_the_same_version(team: Team, tmp_path: Path) -> None:
    await with_versions(team, "one", "one", "one")
    await team.get(path="/as-of/2023-11-14/only/in/my-paper/run_analysis")
    assert exported_texts(team, tmp_path / "paper") == ["one"]

    async with replaying(tmp_path / "paper", listen=no_listener) as replayed:
        sent = request(path="/as-of/2023-11-14/only/in/my-paper/run_analysis")
        result = await replayed.answer_dispatcher("http://dispatcher", sent, origin="http://here")
        assert str(result.cache_status) == "oda-proxy; hit; detail=as-of"


async def test_what_was_not_recorded_then_is_noted_as_of_today(team: Team, tmp_path: Path) -> None:
    await with_versions(team, "one", "two")

    assert (await team.get(path="/as-of/2023-11-13/in/my-paper/run_analysis"))[1].endswith("not-recorded-then")

    assert [one.version for one in team.members()] == [None]
    assert exported_texts(team, tmp_path / "paper") == ["two"]


async def test_two_versions_of_an_answer_are_not_in_one_collection(team: Team) -> None:
    await with_versions(team, "one", "two", "three")
    await team.get(path="/as-of/2023-11-14/in/my-paper/run_analysis")

    for path in ("/as-of/2023-11-15/in/my-paper/run_analysis", IN):
        status, _, body = await team.get(path=path)
        assert status == 400
        assert "my-paper has the version of 2023-11-14T22:13:20Z to this query" in body["error"]
    assert (await team.get(path="/as-of/2023-11-15/in/other/run_analysis"))[0] == 200
    for path in ("/as-of/2023-11-16/in/last/run_analysis", "/in/last/run_analysis"):
        assert (await team.get(path=path))[0] == 200, "it is the same version"
    assert [(one.uses, one.version) for one in team.members("last")] == [(2, 1_700_000_000 + 2 * DAY)]
    assert (await team.get(path="/in/third/run_analysis"))[0] == 200
    _, _, body = await team.get(path="/as-of/2023-11-15/in/third/run_analysis")
    assert "third has the answer of today to this query" in body["error"]
    assert [one.uses for one in team.members()] == [1]


async def test_a_version_without_a_recording_of_today_cannot_be_protected(team: Team) -> None:
    await with_versions(team, "one", "two")
    (key,) = team.store.keys()
    team.store.remove(key)

    status, _, body = await team.get(path="/as-of/2023-11-14/in/my-paper/run_analysis")

    assert status == 400
    assert "cannot be protected from eviction" in body["error"]
    assert team.index.list() == []


async def test_a_removed_version_is_named_by_the_export(team: Team, tmp_path: Path) -> None:
    await with_versions(team, "one", "two")
    await team.get(path="/as-of/2023-11-14/in/my-paper/run_analysis")
    (member,) = team.members()
    team.store.remove_versions(team.store.versions(member.key)[:1])

    assert team.export(team.index.find("my-paper"), tmp_path / "paper").missing == {
        member.key: "it was removed from the store"
    }


async def test_descriptions_are_noted_as_of_then(team: Team, tmp_path: Path) -> None:
    for text in ("one", "two"):
        team.upstream.then([text])
        await told(team.proxy, Request("GET", "/api/instr-list"))
        team.clock.now += DAY
    sent = Request("GET", "/as-of/2023-11-14/in/my-paper/api/instr-list", "token=x")
    assert (await told(team.proxy, sent))[2] == b'["one"]\n'
    team.upstream.then(answer())
    await team.get()
    team.export(team.index.find("my-paper"), tmp_path / "paper")

    (file,) = (tmp_path / "paper").rglob("api_instr-list*.json")
    members = json.loads(file.read_bytes())
    assert (json.loads(members["body"]), members["told_at"]) == (["one"], 1_700_000_000)


async def test_a_collection_that_is_removed_while_a_recording_is_noted_leaves_no_pin(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.upstream.then(answer())
    note = CollectionIndex.note

    def note_and_remove(index: CollectionIndex, name: str, *rest: Any) -> bool:
        is_new = note(index, name, *rest)
        remove_collection(index, team.store, index.find(name))
        return is_new

    with monkeypatch.context() as removing:
        removing.setattr(CollectionIndex, "note", note_and_remove)
        assert (await team.get())[0] == HTTPStatus.OK

    assert team.index.list() == []
    assert [entry.pinned for entry in team.store.entries()] == [False]
    await team.get()
    assert [entry.pinned for entry in team.store.entries()] == [True]


async def test_what_is_noted_while_its_collection_is_removed_stays_pinned_in_a_new_one(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.upstream.then(answer())
    await team.get()
    (key,) = team.store.keys()
    collection, unpinned = team.index.find("my-paper"), CollectionIndex.unpinned_by_removal

    def note_meanwhile(index: CollectionIndex, removed: Collection) -> Sequence[Key]:
        keys = unpinned(index, removed)
        index.note("my-paper", "", Member(RECORDING, key, 1, 0.0, was_pinned=False, content=None), 10, [])
        return keys

    monkeypatch.setattr(CollectionIndex, "unpinned_by_removal", note_meanwhile)
    remove_collection(team.index, team.store, collection)

    assert [(one.name, one.recordings) for one in team.index.list()] == [("my-paper", 1)]
    assert [entry.pinned for entry in team.store.entries()] == [True]


async def test_a_collection_that_is_renamed_during_a_job_leaves_its_name_to_a_new_one(team: Team) -> None:
    team.upstream.then(answer()).then(answer())
    await team.get()
    team.index.rename(team.index.find("my-paper"), "final")

    await team.get(f"{QUERY}&E1_keV=30.0")

    assert [(one.name, one.recordings) for one in team.index.list()] == [("final", 1), ("my-paper", 1)]
    assert [entry.pinned for entry in team.store.entries()] == [True, True]


async def test_a_full_disk_while_noting_is_a_failed_job_with_the_reason(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.upstream.then(answer())
    await team.get()
    before = team.members()
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def connect_full(*words: Any, **options: Any) -> sqlite3.Connection:
        """Connect to a database that cannot become larger."""
        rows = connect(*words, **options)
        rows.execute("PRAGMA max_page_count = 1")
        return rows

    message = {"status": 1, "message": "x" * 50_000}
    team.upstream.then(answer(query_status="failed", exit_status={**answer()["exit_status"], **message}))
    with monkeypatch.context() as full:
        full.setattr(sqlite3, "connect", connect_full)
        _, _, body = await team.get(f"{QUERY}&E1_keV=30.0")
        assert body["query_status"] == "failed"
        assert "database or disk is full; free space on its disk" in body["exit_status"]["message"]
        assert (await team.get(path="/run_analysis"))[0] == HTTPStatus.OK
    assert team.members() == before


async def test_two_servers_note_in_one_collection(tmp_path: Path) -> None:
    first, second = Team(tmp_path / "store"), Team(tmp_path / "store")
    for team in (first, second):
        team.upstream.then(answer())
        await team.get()
    for _ in range(4):
        await asyncio.gather(first.get(), second.get())

    assert [(one.kind, one.uses) for one in first.members()] == [(RECORDING, 10)]
    assert first.members() == second.members()
