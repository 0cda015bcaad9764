"""Strict JSON is read and written; anything else is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.codec import json_text
from oda_proxy.errors import CodecError

TEXTS = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXTS, inner)),
)


@given(JSON)
def test_what_is_written_is_read(value: Any) -> None:
    assert json_text.loads(json_text.dumps(value)) == value
    assert json_text.loads(json_text.dumps(value).encode()) == value


def test_the_text_is_for_people() -> None:
    assert json_text.dumps({"b": [1], "a": "é"}) == '{\n  "b": [\n    1\n  ],\n  "a": "é"\n}\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "the name 'a' is repeated"),
        ('{"a": {"b": 1, "b": 1}}', "the name 'b' is repeated"),
        ("[NaN]", "NaN"),
        ("-Infinity", "Infinity"),
        ("1e999", "beyond the range"),
        ('"\\ud800"', "not UTF-8"),
        ('"\\uDC00x"', "not UTF-8"),
        (b"\xff", "not UTF-8"),
        (b"\xed\xa0\x80", "not UTF-8"),
        ("", "not strict JSON"),
        ("{} {}", "not strict JSON"),
        ("{'a': 1}", "not strict JSON"),
        ("\ufeff{}", "not strict JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "not strict JSON"),
    ],
)
def test_what_is_not_strict_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        json_text.loads(text)


def test_a_whole_pair_of_surrogates_is_one_character() -> None:
    assert json_text.loads('"\\ud83d\\ude00"') == "😀"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, "\ud800", b"bytes"])
def test_a_value_that_json_cannot_express_is_not_written(value: Any) -> None:
    with pytest.raises(CodecError):
        json_text.dumps(value)


@pytest.mark.parametrize(
    ("take", "members"),
    [
        ("text", {"a": 1}),
        ("text", {}),
        ("text_or_none", {"a": 1}),
        ("count", {"a": -1}),
        ("count", {"a": True}),
        ("count", {"a": 1.0}),
        ("items", {"a": {}}),
        ("mapping", {"a": []}),
        ("objects", {"a": [1]}),
    ],
)
def test_a_member_of_another_kind_is_refused(take: str, members: dict[str, Any]) -> None:
    with pytest.raises(CodecError):
        getattr(json_text.JsonObject(members), take)("a")


@pytest.mark.parametrize("value", [None, 1, "{}", []])
def test_only_an_object_is_a_json_object(value: Any) -> None:
    with pytest.raises(CodecError, match="expected an object"):
        json_text.JsonObject.of(value)
