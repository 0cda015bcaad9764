"""Two queries that differ in anything have two keys."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oda_proxy.query.cache_key import Key, KeyMemo, key_of, key_of_normalised, keys_of
from oda_proxy.query.explanation import differences
from oda_proxy.query.normalised import normalise
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.query.schema import read_schema
from tests.support.examples import examples
from tests.support.query_pairs import cell, pairs_of_different_queries, window
from tests.support.sample_descriptions import (
    IMAGE,
    IMAGE_ARGUMENTS,
    INSTRUMENT,
    OLD_SCHEMA,
    SCHEMA,
    SOURCE,
    companion,
    item,
    meta_data,
    normalised,
)

if TYPE_CHECKING:
    from random import Random

    from oda_proxy.query.schema import Schema

PAIRS = int(os.environ.get("ODA_PROXY_PAIRS", "2000"))
"""Pairs of different queries that are tried; `make soak` tries more."""

FIELDS = "instrument=isgri&product_type=isgri_image&query_type=Real"


def key(query_string: str) -> Key:
    return key_of(split_query(parse_fields(query_string))[0])


def test_a_key_stays_the_same_from_release_to_release() -> None:
    expected = "053361f9077ec6ca58e37e7e63d8423e3265074ebc10db261b5308a6fe20fcbc"

    assert key(f"{FIELDS}&api=True&RA=83.63&scw_list=010200230010.001&scw_list=010200230020.001") == expected


def test_a_key_under_a_description_stays_the_same_from_release_to_release() -> None:
    words = "RA=05h34m32s&T1=52713.5&T_format=mjd&src_name=Crab&scw_list=a,b&flag=yes&band=2&x=1&image_scale_min="
    catalogue = (
        "selected_catalog=%7B%22cat_frame%22%3A%22fk5%22%2C%22cat_column_list%22%3A%5B%5B1%5D%2C%5B7.50%5D%5D%7D"
    )
    expected = "d1516ac95dc48c25baca68bb799b3b16997fb0d2632483ba0f5d7378711c5b02"

    assert key_of_normalised(normalised(f"{words}&{catalogue}", SCHEMA)) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("RA=83", "RA=38"),  # the dispatcher gives each of these pairs one job_id
        ("RA=265.1", "RA=562.1"),
        ("src_name=ab", "src_name=ba"),
        ("T1=2003-01-12", "T1=2003-01-21"),
        ("scw_list=a&scw_list=b", "scw_list=b&scw_list=a"),
        ("RA=1&DEC=2", "RA=2&DEC=1"),
        ("RA=1", "RA=1&RA=1"),
        ("RA=", ""),
        ("RA=%00", "RA="),
        ("RA=1&api=True", "RA=1"),
        ("RA=1&dry_run=True", "RA=1"),
        ("a=1%22%2C%22b", "a=1&a=b"),  # nobody can write the text of another query
    ],
)
def test_different_queries_have_different_keys(one: str, other: str) -> None:
    assert key(f"{FIELDS}&{one}") != key(f"{FIELDS}&{other}")


@pytest.mark.parametrize(
    "who", ["session_id=S", "job_id=J", "query_status=ready", "token=T", "oda_api_version=1.0", "off_line=False"]
)
def test_who_asks_is_not_in_the_key(who: str) -> None:
    assert key(f"{FIELDS}&{who}") == key(FIELDS)


requests = st.lists(st.tuples(st.sampled_from(["RA", "DEC", "T1", "list"]), st.text("0123456789.ab", max_size=4)))


@given(requests, requests)
def test_keys_are_equal_only_for_equal_queries(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> None:
    first, second = (split_query([*parse_fields(FIELDS), *extra])[0] for extra in (one, other))

    assert (key_of(first) == key_of(second)) == (first == second)


@pytest.mark.parametrize("schema", [SCHEMA, OLD_SCHEMA, None], ids=["today", "old", "none"])
def test_one_day_windows_and_cells_of_the_sky_have_a_key_each(schema: Schema | None) -> None:
    windows = {
        key_of(split_query(parse_fields(f"{IMAGE_ARGUMENTS}&{urlencode(window(n))}"))[0], schema) for n in range(500)
    }
    sky = {
        key_of(split_query(parse_fields(f"{IMAGE_ARGUMENTS}&{urlencode(cell(n // 20, n % 20))}"))[0], schema)
        for n in range(400)
    }

    assert (len(windows), len(sky)) == (500, 400)


@settings(max_examples=examples(PAIRS), deadline=None, suppress_health_check=list(HealthCheck))
@given(pairs_of_different_queries(), st.sampled_from([SCHEMA, OLD_SCHEMA, None]))
def test_no_two_different_queries_share_a_key(pair: tuple[str, str], schema: Schema | None) -> None:
    one, other = (split_query(parse_fields(words))[0] for words in pair)
    schemas = (schema,) if schema else ()

    assert not set(keys_of(one, schemas)) & set(keys_of(other, schemas))


@given(pairs_of_different_queries(), st.randoms(use_true_random=False))
def test_order_and_method_and_client_do_not_change_a_key(pair: tuple[str, str], chance: Random) -> None:
    words = pair[0].split("&")
    chance.shuffle(words)
    at = chance.randrange(len(words) + 1)
    form = "&".join([*words[at:], "session_id=S", "token=T", "off_line=False", "oda_api_version=1.0", "dry_run=False"])

    moved = split_query(parse_fields("&".join(words[:at]), form.encode()))[0]

    assert key_of(moved, SCHEMA) == key_of(split_query(parse_fields(pair[0]))[0], SCHEMA)


def test_a_query_has_a_key_for_every_description_ever_fetched() -> None:
    query = split_query(parse_fields(f"{IMAGE_ARGUMENTS}&RA=83.0"))[0]

    assert keys_of(query, (SCHEMA, OLD_SCHEMA)) == (key_of(query, SCHEMA), key_of(query, OLD_SCHEMA), key_of(query))
    assert keys_of(query, ()) == (key_of(query),)


async def test_keys_are_memoised_for_their_descriptions() -> None:
    query, keys = split_query(parse_fields(f"{IMAGE_ARGUMENTS}&RA=83.0"))[0], KeyMemo()

    assert keys.cached(query, (SCHEMA,)) is None
    assert await keys.keys(query, (SCHEMA,)) == keys.cached(query, (SCHEMA,)) == keys_of(query, (SCHEMA,))
    assert keys.cached(query, ()) is None


def test_each_audience_has_keys_of_its_own() -> None:
    query = split_query(parse_fields(f"{IMAGE_ARGUMENTS}&RA=83.0"))[0]

    keys = {key_of(query, schema, audience=audience) for schema in (SCHEMA, None) for audience in ("", "a", "b")}

    assert len(keys) == 6


def test_a_recording_made_when_verbose_was_in_the_key_is_found_by_who_sends_it() -> None:
    query = split_query(parse_fields(f"{IMAGE_ARGUMENTS}&RA=83.0&verbose=True"))[0]
    plain = split_query(parse_fields(f"{IMAGE_ARGUMENTS}&RA=83.0"))[0]

    keys = keys_of(query, [SCHEMA])
    assert "19fd4a1118cd7bf6ced032662d8881d321a5154862b29ec66ba19eed04675bb9" in keys[1:]
    assert keys[:2] == keys_of(plain, [SCHEMA])
    assert len(keys) == 4


def test_the_hint_that_a_file_of_science_windows_comes_is_missed_where_it_is_absent() -> None:
    files = [("user_scw_list_file", "0" * 64)]
    hinted, bare = (
        split_query(parse_fields(f"{IMAGE_ARGUMENTS}{hint}"), files)[0] for hint in ("&use_scws=user_file", "")
    )

    assert (
        key_of(hinted, SCHEMA) == "5594824b41ffaf12679d6ef5ba8a71157da0c2576194ef02f7f9845eac37b92f"
    )  # as before the hint could be in a key
    assert key_of(hinted, SCHEMA) != key_of(bare, SCHEMA)


def test_a_unit_that_is_not_part_of_the_value_stays_in_the_key() -> None:
    schema = read_schema(
        meta_data(SOURCE, [*INSTRUMENT, item("note", "str", "a", "str"), companion("note_units", "x")], IMAGE)
    )
    sent = [
        split_query(parse_fields(f"{IMAGE_ARGUMENTS}&{words}"))[0]
        for words in ("note=b", "note=b&note_units=y", "band=&band_units=y", "band=")
    ]

    assert len({key_of(query, schema) for query in sent}) == len(sent)


def test_an_uploaded_file_is_identified_by_its_content() -> None:
    pairs = parse_fields(IMAGE_ARGUMENTS)
    one, other = (split_query(pairs, [("user_catalog_file", digest * 64)])[0] for digest in "ab")

    assert len({key_of(one), key_of(other), key_of(split_query(pairs)[0])}) == 3
    assert differences(normalise(one, None), normalise(other, None))[0].startswith(
        "file user_catalog_file: SHA-256 aaa"
    )
