"""Answers are stored as recordings, and recordings are looked up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import pytest

from oda_proxy.compat.pipeline import UNSAFE
from oda_proxy.errors import StoreUnusableError
from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.spool import SpooledBody
from oda_proxy.jobs.job import Job
from oda_proxy.query.cache_key import Key, key_of
from oda_proxy.query.query import Envelope, Query, Token
from oda_proxy.query.resolved import QueryResolver, ResolvedQuery
from oda_proxy.query.schema import read_schema
from oda_proxy.recordings.head import MemoryHead, SpooledHead
from oda_proxy.store.faults import StoreFaults
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.recording_cache import ENCODED, RecordingCache
from tests.support.dispatcher_responses import JOB, SESSION, answer, json_bytes
from tests.support.recordings import recording
from tests.support.sample_descriptions import meta_data
from tests.support.scripted import token

if TYPE_CHECKING:
    from oda_proxy.query.descriptions import Descriptions
    from oda_proxy.query.schema import Schema
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry

NOW: Final = 1_700_000_000.0
CLIENT: Final = Envelope(session_id=SESSION, job_id=JOB)
QUERY: Final = Query("isgri", "isgri_image", "Real", (("RA", ("83.0",)),), api=True)
TIMELINE: Final = (("submitted", 1.0), ("done", 9.0))
JOB_OF_9_S: Final = Job(NOW - 10, timeline=TIMELINE)


class TrackedHead(MemoryHead):
    """A head that records whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Failing(MemoryStore):
    """A store whose disk is full and cannot be read."""

    def get(self, key: Key) -> Recording | None:
        raise StoreUnusableError(Path("/nowhere"), "disk I/O error")

    def put(self, recording: Recording, *, same_as: Entry | None = None) -> None:
        raise StoreUnusableError(Path("/nowhere"), "No space left on device")


class FakeDescriptions:
    """Descriptions, of today and of earlier times."""

    def __init__(self, *texts: str) -> None:
        self._schemas = tuple(read_schema(text) for text in texts)
        self.invalidated: list[str] = []

    async def schemas(self, instrument: str, *, may_request: bool = True) -> tuple[Schema, ...]:
        return self._schemas

    def invalidate(self, instrument: str) -> None:
        self.invalidated.append(instrument)


def cache(store: MemoryStore, *, described: FakeDescriptions | None = None, memory: int = 1_000_000) -> RecordingCache:
    resolver = QueryResolver(cast("Descriptions", described) if described else None)
    return RecordingCache(store, StoreFaults(lambda: NOW), resolver, lambda: NOW, memory=memory)


def resolve(query: Query = QUERY, *texts: str) -> ResolvedQuery:
    schemas = tuple(read_schema(text) for text in texts)
    keys = tuple(dict.fromkeys(key_of(query, schema) for schema in (*schemas, None)))
    return ResolvedQuery(query, schemas, keys)


def answered(value: Any = None, **changes: Any) -> Answer:
    """Return an answer of the dispatcher whose body was read."""
    body = SpooledBody()
    body.add(json_bytes(answer() if value is None else value))
    made = Answer(200, (("Content-Type", "application/json"),), cast("Any", body), CacheStatus())
    return replace(made, **changes)


async def test_a_complete_answer_is_stored_with_its_query_and_cost() -> None:
    result = await cache(store := MemoryStore()).store(answered(), resolve(), CLIENT, JOB_OF_9_S)

    found = store.get(resolve().key)
    assert result.stored
    assert found == result.recording
    assert found
    assert (found.query, found.cost, found.timeline, found.stored_at) == (QUERY, 10.0, TIMELINE, NOW)


async def test_a_clock_that_was_set_back_makes_no_negative_cost() -> None:
    result = await cache(MemoryStore()).store(answered(), resolve(), CLIENT, Job(NOW + 5))

    assert result.recording
    assert result.recording.cost == 0.0


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"status": 500}, ""),
        ({"headers": (("Content-Encoding", "br"),)}, ENCODED),
        ({"cache_status": CacheStatus(detail=UNSAFE)}, UNSAFE),
        ({"body": (b"{}",)}, "too-large"),
    ],
    ids=["a failure", "compressed", "unsafe", "not read to its end"],
)
async def test_an_answer_that_cannot_be_parsed_is_neither_stored_nor_shared(
    changes: dict[str, Any], detail: str
) -> None:
    result = await cache(store := MemoryStore()).store(answered(**changes), resolve(), CLIENT, JOB_OF_9_S)

    assert (result.recording, result.stored, result.detail) == (None, False, detail)
    assert list(store.keys()) == []


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (answer(query_status="progress"), "not-done"),
        (answer(exit_status={"status": 1}), "not-done"),
        ({**answer(), "products": {}}, "no-products"),
        ([], "not-an-answer"),
        (answer(products={"text_product_list": [{"text": f"for {SESSION}"}]}), "names-a-session"),
    ],
)
async def test_an_answer_that_must_not_be_stored_names_the_reason(value: Any, detail: str) -> None:
    result = await cache(store := MemoryStore()).store(answered(value), resolve(), CLIENT, JOB_OF_9_S)

    assert (result.recording, result.stored, result.detail) == (None, False, detail)
    assert list(store.keys()) == []


async def test_a_query_that_names_its_session_is_not_stored() -> None:
    own = replace(QUERY, parameters=(*QUERY.parameters, ("src_name", (f"for {SESSION}",))))

    result = await cache(store := MemoryStore()).store(answered(), resolve(own), CLIENT, JOB_OF_9_S)

    assert (result.stored, result.detail) == (False, "names-a-session")
    assert list(store.keys()) == []


async def test_the_answer_to_a_request_with_a_token_is_private() -> None:
    client = replace(CLIENT, token=Token(token("somebody")))

    result = await cache(MemoryStore()).store(answered(), resolve(), client, JOB_OF_9_S)

    assert result.recording
    assert result.recording.private


async def test_a_failing_store_does_not_fail_the_answer() -> None:
    failing = cache(Failing())

    result = await failing.store(answered(), resolve(), CLIENT, JOB_OF_9_S)

    assert (result.stored, result.detail) == (False, "store-failed")
    assert result.recording
    assert await failing.look_up(resolve()) is None


class WithoutHeads(MemoryStore):
    """A store whose bucket is away: rows can be read, heads cannot."""

    def get_version(self, entry: Entry) -> Recording | None:
        raise StoreUnusableError("s3://recordings", "it cannot be reached")


async def test_an_answer_is_stored_although_the_one_that_it_replaces_cannot_be_compared() -> None:
    refreshed = cache(store := WithoutHeads())
    await refreshed.store(answered(), resolve(), CLIENT, JOB_OF_9_S)

    assert (await refreshed.store(answered(), resolve(), CLIENT, JOB_OF_9_S)).stored
    assert len(list(store.keys())) == 1


async def test_a_large_answer_that_is_not_stored_does_not_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of its job read it for two minutes after it has ended."""
    monkeypatch.setattr("oda_proxy.store.recording_cache.MAX_IN_MEMORY", 100)

    result = await cache(Failing()).store(answered(), resolve(), CLIENT, JOB_OF_9_S)
    stored = await cache(MemoryStore()).store(answered(), resolve(), CLIENT, JOB_OF_9_S)

    assert result.recording
    assert stored.recording
    head, expected = result.recording.head, stored.recording.head
    assert isinstance(head, SpooledHead)
    assert (head.size, head.digest) == (expected.size, expected.digest)
    for _ in range(2):
        assert b"".join(head.pieces()) == b"".join(expected.pieces())
        head.close()


async def test_a_large_answer_stays_in_memory_where_no_disk_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("oda_proxy.store.recording_cache.MAX_IN_MEMORY", 100)
    monkeypatch.setattr("os.pwrite", full)

    result = await cache(Failing()).store(answered(), resolve(), CLIENT, JOB_OF_9_S)

    assert result.recording
    assert isinstance(result.recording.head, MemoryHead)


async def test_an_answer_whose_echo_contradicts_the_query_is_not_stored(caplog: pytest.LogCaptureFixture) -> None:
    described = FakeDescriptions(meta_data())
    recording_cache = cache(store := MemoryStore(), described=described)
    other = answer(products={"analysis_parameters": {"instrument": "isgri", "RA": 38.0}})

    result = await recording_cache.store(answered(other), resolve(QUERY, meta_data()), CLIENT, JOB_OF_9_S)

    assert (result.stored, result.detail, recording_cache.echo_differs) == (False, "echo-differs", 1)
    assert described.invalidated == ["isgri"]
    assert list(store.keys()) == []
    assert "contradicts the query in ['RA']" in caplog.text


async def test_a_job_id_that_names_two_queries_is_counted() -> None:
    recording_cache = cache(MemoryStore())
    other = replace(QUERY, parameters=(("RA", ("38.0",)),))

    for asked in (QUERY, QUERY, other, QUERY):
        await recording_cache.store(answered(), resolve(asked), CLIENT, JOB_OF_9_S)

    assert recording_cache.job_ids_shared == 2


# Look-up


def recording_under(key: Key, **echo: Any) -> tuple[Recording, TrackedHead]:
    """Return a recording with an echo under a key, and its head."""
    head = TrackedHead(b'"catalog":{}')
    return replace(recording(key), head=head, parameters={"analysis_parameters": echo}), head


async def test_a_recording_under_the_key_of_today_is_found_without_a_check() -> None:
    query, store = resolve(QUERY, meta_data()), MemoryStore()
    store.put(recording_under(query.key, RA=1.0)[0])
    store.put(recording_under(query.keys[1], RA=83.0)[0])

    found = await cache(store).look_up(query)

    assert found
    assert found.echo == {"RA": 1.0}


@pytest.mark.parametrize(("echo", "is_returned"), [({"RA": 83.0}, True), ({"RA": 38.0}, False), ({}, False)])
async def test_the_echo_of_a_recording_under_an_earlier_key_must_match(
    echo: dict[str, Any], *, is_returned: bool
) -> None:
    query, store = resolve(QUERY, meta_data()), MemoryStore()
    stored, head = recording_under(query.keys[1], **echo)
    store.put(stored)

    found = await cache(store, memory=0).look_up(query)

    assert (found is not None) == is_returned
    assert found is None or found.echo == stored.echo
    assert head.closed != is_returned, "what is not returned is closed"


async def test_an_empty_store_is_a_miss() -> None:
    assert await cache(MemoryStore()).look_up(resolve()) is None
