"""The error of an offline miss names the nearest public recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import NoRecordingError, StoreUnusableError
from oda_proxy.http.scope import AsOf
from oda_proxy.query.cache_key import PUBLIC, key_of, keys_of
from oda_proxy.query.query import Envelope, Query, Token, parse_fields, split_query
from oda_proxy.query.resolved import ResolvedQuery
from oda_proxy.query.schema import Schema, read_schema
from oda_proxy.store import near_misses
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.near_misses import MAX_MISSES, Miss, NearMissHandler
from tests.support.recordings import recording
from tests.support.sample_descriptions import IMAGE_ARGUMENTS, SCHEMA, meta_data

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.store.base import Entry

NOW = 1.8e9
DAY = 1795132800.0  # 2026-11-20
ANONYMOUS = Envelope()
WITH_TOKEN = Envelope(token=Token("a.b.c"))


def query(parameters: str = "RA=83.5", of: str = IMAGE_ARGUMENTS) -> Query:
    return split_query(parse_fields(f"{of}&{parameters}"))[0]


def resolved(parameters: str = "RA=83.5", *schemas: Schema, audience: str = PUBLIC) -> ResolvedQuery:
    schemas = schemas or (SCHEMA,)
    return ResolvedQuery(query(parameters), schemas, keys_of(query(parameters), schemas, audience=audience))


def store_with(*queries: Query, private: bool = False, schema: Schema = SCHEMA) -> MemoryStore:
    store = MemoryStore()
    for one in queries:
        store.put(recording(key_of(one, schema), query=one, stored_at=DAY, private=private))
    return store


def handler_for(store: MemoryStore) -> NearMissHandler:
    return NearMissHandler(store, clock=lambda: NOW, stopwatch=lambda: 0.0)


async def message_of(handler: NearMissHandler, query: ResolvedQuery, envelope: Envelope = ANONYMOUS) -> str:
    with pytest.raises(NoRecordingError) as raised:
        await handler.answer(query, envelope)
    return str(raised.value)


async def test_the_nearest_is_named_with_its_date_and_what_differs() -> None:
    recorded = query("RA=83.5&T2=2017-03-06T15:02:27.000")
    handler = handler_for(store_with(recorded, query("RA=5&DEC=5")))

    assert await message_of(handler, resolved("RA=84")) == (
        "offline: there is no recording of isgri isgri_image as requested; "
        f"the nearest is {key_of(recorded, SCHEMA)[:12]} "
        "(of 2026-11-20): in your query RA is 0.5 deg greater; "
        "T2 is 30.0 min later (it was not given: that is its default)"
    )


async def test_without_a_recording_of_the_product_the_recorded_products_are_named() -> None:
    other = IMAGE_ARGUMENTS.replace("isgri_image", "isgri_lc")

    assert await message_of(handler_for(store_with(query(of=other))), resolved()) == (
        "offline: there is no recording of isgri isgri_image: there are recordings of isgri isgri_lc"
    )
    assert await message_of(handler_for(MemoryStore()), resolved()) == (
        "offline: there is no recording of isgri isgri_image: there are no public recordings at all"
    )


async def test_recordings_of_capsules_that_are_served_are_named() -> None:
    recorded = query("RA=83.5")
    handler = NearMissHandler(MemoryStore(), others=lambda: [store_with(recorded)], clock=lambda: NOW)
    name = key_of(recorded, SCHEMA)[:12]

    assert f"the nearest is {name} (of 2026-11-20): in your query RA is 0.5 deg greater" in await message_of(
        handler, resolved("RA=84")
    )
    with pytest.raises(NoRecordingError, match="as requested: it was recorded later, on 2026-11-20"):
        await handler.answer(resolved(), ANONYMOUS, AsOf.parse("2026-11-19"))


async def test_where_nothing_of_a_product_was_recorded_by_then_its_later_recordings_are_not_listed() -> None:
    handler = handler_for(store_with(query("RA=5&DEC=5")))

    with pytest.raises(NoRecordingError, match="isgri isgri_image: there was no public recording of this product then"):
        await handler.answer(resolved(), ANONYMOUS, AsOf.parse("2026-11-19"))


async def test_the_list_of_products_is_limited() -> None:
    many = [query(of=IMAGE_ARGUMENTS.replace("isgri_image", f"product_{number:02}")) for number in range(40)]

    text = await message_of(handler_for(store_with(*many)), resolved())

    assert text.endswith("isgri product_19, and of others")


@pytest.mark.parametrize("envelope", [ANONYMOUS, WITH_TOKEN])
async def test_a_private_recording_is_never_named(envelope: Envelope) -> None:
    store = store_with(query("RA=83.4"), query(of=IMAGE_ARGUMENTS.replace("isgri_image", "secret")), private=True)

    assert await message_of(handler_for(store), resolved(audience="somebody"), envelope) == (
        "offline: there is no recording of isgri isgri_image: there are no public recordings at all"
    )


async def test_a_token_counts_as_a_difference() -> None:
    handler = handler_for(store_with(query("RA=83.5")))

    text = await message_of(handler, resolved("RA=83.50", audience="somebody"), WITH_TOKEN)

    assert text.endswith(" (of 2026-11-20): in your query a token is given")


async def test_a_recording_is_compared_under_the_description_of_its_time() -> None:
    """The radius is omitted; its default was 12 deg then, and is 15 deg today."""
    then = read_schema(meta_data().replace("15.0", "12.0"))
    handler = handler_for(store_with(query("RA=83.5"), schema=then))

    text = await message_of(handler, resolved("RA=83.5", SCHEMA, then))

    assert text.endswith("in your query radius is 3 deg greater (it was not given: that is its default)")


async def test_the_same_parameters_under_another_key_are_reported_as_such() -> None:
    store = MemoryStore()
    store.put(recording(query=query("RA=83.5"), stored_at=DAY))

    text = await message_of(handler_for(store), resolved("RA=83.5"))

    assert text.endswith("its parameters are the same, but may have meant something else then")


async def test_a_recording_without_a_query_is_skipped() -> None:
    store = MemoryStore()
    store.put(recording(query=None))

    assert (await message_of(handler_for(store), resolved())).endswith("there are no public recordings at all")


async def test_the_search_has_a_time_limit() -> None:
    store = store_with(*(query(f"RA={number}") for number in range(10)))
    times = iter([0.0, *(near_misses.SEARCH_TIME * number / 3 for number in range(20))])
    handler = NearMissHandler(store, stopwatch=lambda: next(times))

    text = await message_of(handler, resolved("RA=9"))

    assert "(of 2026-11-20) (only 4 recordings were searched): in your query RA is 6 deg greater" in text


async def test_a_failing_store_is_reported_without_its_path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(MemoryStore):
        def entries(self) -> Iterator[Entry]:
            raise StoreUnusableError(tmp_path, "Input/output error")

    assert await message_of(handler_for(Failing()), resolved()) == (
        "offline: there is no recording of isgri isgri_image as requested, "
        "and the store cannot be read to find the nearest"
    )
    assert "Input/output error" in caplog.text


async def test_the_last_misses_are_listed_newest_first() -> None:
    handler = handler_for(MemoryStore())
    for _ in range(MAX_MISSES + 1):
        await message_of(handler, resolved())
    curve = query(of=IMAGE_ARGUMENTS.replace("isgri_image", "isgri_lc"))
    last = await message_of(handler, ResolvedQuery(curve, (SCHEMA,), keys_of(curve, (SCHEMA,))))

    assert len(handler.misses) == MAX_MISSES
    assert handler.misses[0] == Miss(NOW, "isgri", "isgri_lc", last)


async def test_misses_of_requests_with_a_token_are_not_listed() -> None:
    handler = handler_for(MemoryStore())

    await message_of(handler, resolved(audience="somebody"), WITH_TOKEN)

    assert handler.misses == ()
