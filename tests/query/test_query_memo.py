"""The memo of queries: it separates requests as `split_query` does, and holds no token."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.errors import BadQueryError
from oda_proxy.query import query_memo
from oda_proxy.query.query import ENVELOPE, parse_fields, split_query
from oda_proxy.query.query_memo import MAX_TEXT, QueryMemo
from tests.support.examples import examples
from tests.support.sample_descriptions import IMAGE_ARGUMENTS

if TYPE_CHECKING:
    from oda_proxy.query.query import Envelope, Query

ENCODED = ["%73ession_id", "to%6ben", "a+b"]
NAMES = [*sorted(ENVELOPE), "RA", "scw_list", "verbose", "dry_run", "api", "instrument", *ENCODED]
VALUES = ["", "1", "False", "True", "x/y", "%00", "a+b", "%E4", "\u00e4", "new", "=", "%26", ";", "x" * 101]

parts = st.one_of(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)).map("=".join),
    st.sampled_from(["", "=", "token", "verbose", "=x", "instrument=isgri&product_type=isgri_image&query_type=Real"]),
    st.text("&=%+aA0;", max_size=6),
)
texts = st.lists(parts, max_size=8).map("&".join)
query_strings = st.tuples(st.sampled_from(["", IMAGE_ARGUMENTS]), texts).map("&".join)


def plain(query_string: str, form: bytes) -> tuple[Query, Envelope] | str:
    try:
        return split_query(parse_fields(query_string, form))
    except BadQueryError as error:
        return str(error)


def memoised(memo: QueryMemo, query_string: str, form: bytes) -> tuple[Query, Envelope] | str:
    try:
        return memo.read(query_string, form)
    except BadQueryError as error:
        return str(error)


@settings(max_examples=examples(500), deadline=None)
@given(st.lists(st.tuples(query_strings, texts.map(str.encode) | st.binary(max_size=8) | st.just(b"")), max_size=6))
def test_the_memo_agrees_with_the_plain_way(requests: list[tuple[str, bytes]]) -> None:
    memo = QueryMemo()

    for query_string, form in requests + requests:
        assert memoised(memo, query_string, form) == plain(query_string, form)


@settings(max_examples=examples(200), deadline=None)
@given(texts, st.lists(texts, min_size=2, max_size=4))
def test_the_memo_agrees_for_clients_that_send_one_query(query: str, envelopes: list[str]) -> None:
    memo = QueryMemo()

    for envelope in envelopes:
        query_string = f"{IMAGE_ARGUMENTS}&{query}&{envelope}"
        assert memoised(memo, query_string, b"") == plain(query_string, b"")


def test_the_fields_of_a_query_are_parsed_once_for_all_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    memo = QueryMemo()
    first, _ = memo.read(f"{IMAGE_ARGUMENTS}&RA=83.6&session_id=FIRST&token=a")
    monkeypatch.setattr(query_memo, "parse_fields", None)  # cannot be called

    second, envelope = memo.read(f"session_id=SECOND&{IMAGE_ARGUMENTS}&RA=83.6&job_id=x&client-name=a+b")

    assert second is first
    assert (envelope.session_id, envelope.job_id, envelope.token) == ("SECOND", "x", None)
    assert envelope.others == {"client-name": "a b"}


@pytest.mark.parametrize("name", ["to%6ben", "access_token", "Token", "%74oken"])
def test_a_query_that_may_hold_a_token_is_not_memoised(name: str) -> None:
    memo = QueryMemo()

    memo.read(f"{IMAGE_ARGUMENTS}&{name}=SECRET")

    assert len(memo) == 0


def test_the_memo_holds_no_token() -> None:
    memo = QueryMemo()

    memo.read(f"{IMAGE_ARGUMENTS}&token=SECRET&session_id=CANARY")

    assert len(memo) == 1
    held = str([*memo._memo, *map(astuple, memo._memo.values())])
    assert "isgri_image" in held
    assert "SECRET" not in held
    assert "CANARY" not in held


def test_long_queries_are_not_memoised() -> None:
    memo = QueryMemo()

    memo.read(f"{IMAGE_ARGUMENTS}&{urlencode({'selected_catalog': 'x' * MAX_TEXT})}")

    assert len(memo) == 0


def test_the_memo_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_memo, "MAX_QUERIES", 10)
    memo = QueryMemo()

    for number in range(100):
        memo.read(f"{IMAGE_ARGUMENTS}&RA={number}")

    assert len(memo) == 10
