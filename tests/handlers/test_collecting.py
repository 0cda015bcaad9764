"""What is requested through the address of a collection is noted in it, and stays."""

from __future__ import annotations

import json
from contextlib import closing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from oda_proxy.capsule.capsule import open_capsule, verify
from oda_proxy.handlers.collection_export import export_collection
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.store import eviction
from oda_proxy.store.collection_index import FAILURE, LEFT_OUT, RECORDING, CollectionIndex
from oda_proxy.store.memory import MemoryStore
from tests.support.dispatcher_responses import answer
from tests.support.sample_descriptions import meta_data
from tests.support.scripted_upstream import JSON, ORIGIN, QUERY, Clock, Script, at_once, request, told

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.store.collection_index import Collection, Member

IN = "/in/my-paper/run_analysis"
KEY = "a key of a dispatcher that is long enough for HS256"


def token_of(subject: str, key: str = KEY) -> str:
    return jwt.encode({"sub": subject, "roles": "general", "exp": Clock.now + 3600}, key, "HS256")


class Team:
    """A proxy with collections, and a dispatcher that plays a script."""

    def __init__(self, folder: Path, *, max_size: int | None = None) -> None:
        self.clock = Clock()
        self.upstream = Script()
        self.store = MemoryStore()
        self.index = CollectionIndex(folder, self.clock, max_size=max_size)
        tokens = TokenVerifier(Sharing.SUBJECT, secret_key=KEY, trust=300.0, clock=self.clock)
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
