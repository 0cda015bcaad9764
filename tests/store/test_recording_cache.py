"""What becomes of an answer on its way into the store, and of a recording on its way out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

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
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.store.faults import StoreFaults
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.recording_cache import RecordingCache
from tests.support.answers import JOB, SESSION, answer, written
from tests.support.described import meta_data
from tests.support.recordings import recording
from tests.support.scripted import token

if TYPE_CHECKING:
    from oda_proxy.query.descriptions import Descriptions
    from oda_proxy.query.schema import Schema
    from oda_proxy.recordings.recording import Recording

NOW: Final = 1_700_000_000.0
ASKER: Final = Envelope(session_id=SESSION, job_id=JOB)
QUERY: Final = Query("isgri", "isgri_image", "Real", (("RA", ("83.0",)),), api=True)
TIMELINE: Final = (("submitted", 1.0), ("done", 9.0))
JOB_OF_9_S: Final = Job(NOW - 10, timeline=TIMELINE)


class Watched(MemoryHead):
    """A head that knows whether it was let go of."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Failing(MemoryStore):
    """A store whose medium is full, and cannot be read."""

    def get(self, key: Key) -> Recording | None:
        raise StoreUnusableError(Path("/nowhere"), "disk I/O error")

    def put(self, recording: Recording) -> None:
        raise StoreUnusableError(Path("/nowhere"), "No space left on device")


class Described:
    """Descriptions, as they are now and were before."""

    def __init__(self, *texts: str) -> None:
        self._schemas = tuple(read_schema(text) for text in texts)
        self.invalidated: list[str] = []

    async def schemas(self, instrument: str) -> tuple[Schema, ...]:
        return self._schemas

    def invalidate(self, instrument: str) -> None:
        self.invalidated.append(instrument)


def cache(store: MemoryStore, *, described: Described | None = None) -> RecordingCache:
    resolver = QueryResolver(cast("Descriptions", described) if described else None)
    return RecordingCache(store, StoreFaults(lambda: NOW), resolver, lambda: NOW)


def question(query: Query = QUERY, *texts: str) -> ResolvedQuery:
    schemas = tuple(read_schema(text) for text in texts)
    keys = tuple(dict.fromkeys(key_of(query, schema) for schema in (*schemas, None)))
    return ResolvedQuery(query, schemas, keys)


def answered(value: Any = None, **changes: Any) -> Answer:
    """Give an answer that was read, as it comes from the dispatcher."""
    body = SpooledBody()
    body.add(written(answer() if value is None else value))
    made = Answer(200, (("Content-Type", "application/json"),), cast("Any", body), CacheStatus())
    return replace(made, **changes)


async def test_a_complete_answer_is_kept_with_what_was_asked_and_how_long_it_took() -> None:
    kept = await cache(store := MemoryStore()).store(answered(), question(), ASKER, JOB_OF_9_S)

    found = store.get(question().key)
    assert kept.stored
    assert found == kept.recording
    assert found
    assert (found.query, found.cost, found.timeline, found.stored_at) == (QUERY, 10.0, TIMELINE, NOW)


async def test_a_clock_that_was_set_back_makes_no_negative_cost() -> None:
    kept = await cache(MemoryStore()).store(answered(), question(), ASKER, Job(NOW + 5))

    assert kept.recording
    assert kept.recording.cost == 0.0


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"status": 500}, ""),
        ({"headers": (("Content-Encoding", "gzip"),)}, ""),
        ({"cache_status": CacheStatus(detail=UNSAFE)}, UNSAFE),
        ({"body": (b"{}",)}, "too-large"),
    ],
    ids=["a failure", "compressed", "unsafe", "not read to its end"],
)
async def test_what_cannot_be_looked_into_is_not_kept_and_shared_with_nobody(
    changes: dict[str, Any], detail: str
) -> None:
    kept = await cache(store := MemoryStore()).store(answered(**changes), question(), ASKER, JOB_OF_9_S)

    assert (kept.recording, kept.stored, kept.detail) == (None, False, detail)
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
async def test_what_is_not_for_everybody_is_not_kept_and_says_why(value: Any, detail: str) -> None:
    kept = await cache(store := MemoryStore()).store(answered(value), question(), ASKER, JOB_OF_9_S)

    assert (kept.recording, kept.stored, kept.detail) == (None, False, detail)
    assert list(store.keys()) == []


async def test_what_names_its_asker_in_the_question_is_not_kept() -> None:
    own = replace(QUERY, parameters=(*QUERY.parameters, ("src_name", (f"for {SESSION}",))))

    kept = await cache(store := MemoryStore()).store(answered(), question(own), ASKER, JOB_OF_9_S)

    assert (kept.stored, kept.detail) == (False, "names-a-session")
    assert list(store.keys()) == []


async def test_what_was_asked_with_a_token_is_marked_as_private() -> None:
    client = replace(ASKER, token=Token(token("somebody")))

    kept = await cache(MemoryStore()).store(answered(), question(), client, JOB_OF_9_S)

    assert kept.recording
    assert kept.recording.private


async def test_where_the_store_fails_all_who_wait_have_the_answer_nevertheless() -> None:
    failing = cache(Failing())

    kept = await failing.store(answered(), question(), ASKER, JOB_OF_9_S)

    assert (kept.stored, kept.detail) == (False, "store-failed")
    assert kept.recording
    assert await failing.look_up(question()) is None


async def test_an_answer_to_another_question_is_counted_doubted_and_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    described = Described(meta_data())
    keeper = cache(store := MemoryStore(), described=described)
    other = answer(products={"analysis_parameters": {"instrument": "isgri", "RA": 38.0}})

    kept = await keeper.store(answered(other), question(QUERY, meta_data()), ASKER, JOB_OF_9_S)

    assert (kept.stored, kept.detail, keeper.echo_differs) == (False, "echo-differs", 1)
    assert described.invalidated == ["isgri"]
    assert list(store.keys()) == []
    assert "differs from what was asked in ['RA']" in caplog.text


async def test_one_id_of_the_dispatcher_for_two_questions_is_counted() -> None:
    keeper = cache(MemoryStore())
    other = replace(QUERY, parameters=(("RA", ("38.0",)),))

    for asked in (QUERY, QUERY, other, QUERY):
        await keeper.store(answered(), question(asked), ASKER, JOB_OF_9_S)

    assert keeper.job_ids_shared == 2


# -- out of the store ------------------------------------------------------------------------------


def under(key: Key, **echo: Any) -> tuple[Recording, Watched]:
    """Give a recording with this echo under a key, and its head."""
    head = Watched(b'"catalog":{}')
    return replace(recording(key), head=head, parameters={"analysis_parameters": echo}), head


async def test_what_is_under_the_key_of_today_is_given_as_it_is() -> None:
    asked, store = question(QUERY, meta_data()), MemoryStore()
    store.put(under(asked.key, RA=1.0)[0])
    store.put(under(asked.keys[1], RA=83.0)[0])

    found = await cache(store).look_up(asked)

    assert found
    assert found.echo == {"RA": 1.0}


@pytest.mark.parametrize(("echo", "is_returned"), [({"RA": 83.0}, True), ({"RA": 38.0}, False), ({}, False)])
async def test_what_is_under_an_earlier_key_must_show_that_it_answers_the_question(
    echo: dict[str, Any], *, is_returned: bool
) -> None:
    asked, store = question(QUERY, meta_data()), MemoryStore()
    kept, head = under(asked.keys[1], **echo)
    store.put(kept)

    found = await cache(store).look_up(asked)

    assert (found == kept) == is_returned
    assert head.closed != is_returned, "what is not returned is closed"


async def test_where_nothing_is_kept_nothing_is_found() -> None:
    assert await cache(MemoryStore()).look_up(question()) is None
