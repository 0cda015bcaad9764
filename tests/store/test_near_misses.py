"""Where there is no recording and nobody to ask, the nearest recording that everybody may know of is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import NoRecordingError, StoreUnusableError
from oda_proxy.query.cache_key import PUBLIC, key_of, keys_of
from oda_proxy.query.query import Envelope, Query, Token, parse_fields, split_query
from oda_proxy.query.resolved import ResolvedQuery
from oda_proxy.query.schema import Schema, read_schema
from oda_proxy.store import near_misses
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.near_misses import MOST_MISSES, Miss, NearMissHandler
from tests.support.described import IMAGE_OF, TODAY, meta_data
from tests.support.recordings import recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.store.base import Entry

NOW = 1.8e9
DAY = 1795132800.0  # 2026-11-20
NOBODY = Envelope()
SOMEBODY = Envelope(token=Token("a.b.c"))


def query(words: str = "RA=83.5", of: str = IMAGE_OF) -> Query:
    return split_query(parse_fields(f"{of}&{words}"))[0]


def question(words: str = "RA=83.5", *schemas: Schema, audience: str = PUBLIC) -> ResolvedQuery:
    described = schemas or (TODAY,)
    return ResolvedQuery(query(words), described, keys_of(query(words), described, audience=audience))


def store_with(*queries: Query, private: bool = False, schema: Schema = TODAY) -> MemoryStore:
    store = MemoryStore()
    for one in queries:
        store.put(recording(key_of(one, schema), query=one, stored_at=DAY, private=private))
    return store


def misses_of(store: MemoryStore) -> NearMissHandler:
    return NearMissHandler(store, clock=lambda: NOW, stopwatch=lambda: 0.0)


async def said(misses: NearMissHandler, asked: ResolvedQuery, envelope: Envelope = NOBODY) -> str:
    with pytest.raises(NoRecordingError) as raised:
        await misses.answer(asked, envelope)
    return str(raised.value)


async def test_the_nearest_is_named_with_its_day_and_what_differs() -> None:
    recorded = query("RA=83.5&T2=2017-03-06T15:02:27.000")
    misses = misses_of(store_with(recorded, query("RA=5&DEC=5")))

    assert await said(misses, question("RA=84")) == (
        f"offline: there is no recording of isgri isgri_image as asked; the nearest is {key_of(recorded, TODAY)[:12]} "
        "(of 2026-11-20): in your query RA is 0.5 deg greater; "
        "T2 is 30.0 min later (it was not given: that is its default)"
    )


async def test_without_a_recording_of_the_product_those_are_named_that_have_one() -> None:
    other = IMAGE_OF.replace("isgri_image", "isgri_lc")

    assert await said(misses_of(store_with(query(of=other))), question()) == (
        "offline: there is no recording of isgri isgri_image: there are recordings of isgri isgri_lc"
    )
    assert await said(misses_of(MemoryStore()), question()) == (
        "offline: there is no recording of isgri isgri_image: there are no public recordings at all"
    )


async def test_only_some_of_very_many_products_are_named() -> None:
    many = [query(of=IMAGE_OF.replace("isgri_image", f"product_{number:02}")) for number in range(40)]

    text = await said(misses_of(store_with(*many)), question())

    assert text.endswith("isgri product_19, and of others")


@pytest.mark.parametrize("envelope", [NOBODY, SOMEBODY])
async def test_a_private_recording_is_never_told_of(envelope: Envelope) -> None:
    store = store_with(query("RA=83.4"), query(of=IMAGE_OF.replace("isgri_image", "secret")), private=True)

    assert await said(misses_of(store), question(audience="somebody"), envelope) == (
        "offline: there is no recording of isgri isgri_image: there are no public recordings at all"
    )


async def test_a_token_that_makes_the_difference_is_told() -> None:
    misses = misses_of(store_with(query("RA=83.5")))

    text = await said(misses, question("RA=83.50", audience="somebody"), SOMEBODY)

    assert text.endswith(" (of 2026-11-20): in your query a token is given")


async def test_a_recording_is_compared_as_it_was_understood_on_its_day() -> None:
    """The radius was left out, and its default was 12 deg then; it is 15 deg today."""
    then = read_schema(meta_data().replace("15.0", "12.0"))
    misses = misses_of(store_with(query("RA=83.5"), schema=then))

    text = await said(misses, question("RA=83.5", TODAY, then))

    assert text.endswith("in your query radius is 3 deg greater (it was not given: that is its default)")


async def test_the_same_words_under_another_key_are_told_as_such() -> None:
    store = MemoryStore()
    store.put(recording(query=query("RA=83.5"), stored_at=DAY))

    text = await said(misses_of(store), question("RA=83.5"))

    assert text.endswith("it was asked for in the same words, which may have meant something else then")


async def test_a_recording_of_which_is_not_known_what_was_asked_is_passed_over() -> None:
    store = MemoryStore()
    store.put(recording(query=None))

    assert (await said(misses_of(store), question())).endswith("there are no public recordings at all")


async def test_the_search_ends_when_patience_does() -> None:
    store = store_with(*(query(f"RA={number}") for number in range(10)))
    times = iter([0.0, *(near_misses.PATIENCE * number / 3 for number in range(20))])
    misses = NearMissHandler(store, stopwatch=lambda: next(times))

    text = await said(misses, question("RA=9"))

    assert "(of 2026-11-20) (only 4 recordings were looked at): in your query RA is 6 deg greater" in text


async def test_a_store_that_fails_is_told_without_its_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(MemoryStore):
        def entries(self) -> Iterator[Entry]:
            raise StoreUnusableError(tmp_path, "Input/output error")

    assert await said(misses_of(Failing()), question()) == (
        "offline: there is no recording of isgri isgri_image as asked, "
        "and the store cannot be read to tell which is nearest"
    )
    assert "Input/output error" in caplog.text


async def test_the_last_misses_are_remembered_the_newest_first() -> None:
    misses = misses_of(MemoryStore())
    for _ in range(MOST_MISSES + 1):
        await said(misses, question())
    curve = query(of=IMAGE_OF.replace("isgri_image", "isgri_lc"))
    last = await said(misses, ResolvedQuery(curve, (TODAY,), keys_of(curve, (TODAY,))))

    assert len(misses.misses) == MOST_MISSES
    assert misses.misses[0] == Miss(NOW, "isgri", "isgri_lc", last)


async def test_what_was_asked_with_a_token_is_not_remembered() -> None:
    misses = misses_of(MemoryStore())

    await said(misses, question(audience="somebody"), SOMEBODY)

    assert misses.misses == ()
