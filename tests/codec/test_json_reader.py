"""A JSON text is parsed piece by piece, with the positions of its parts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.codec import json_reader
from oda_proxy.codec.json_reader import JsonItem, JsonReader

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = ' {"a" : [1, {"\u00e9":2} ], "c":"x" } rest'
BODY = TEXT.encode()


@pytest.fixture(autouse=True)
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode hardly more than is parsed."""
    monkeypatch.setattr(json_reader, "_AHEAD", 1)


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


def test_an_empty_piece_is_not_taken_for_the_end() -> None:
    members = JsonReader(iter([b"", *pieces(BODY[:20], 10), b"", BODY[20:]])).members()

    assert [member.name for member in members] == ["a", "c"]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_the_parts_of_a_text_are_found_with_their_values(size: int) -> None:
    reader = JsonReader(pieces(BODY, size))
    items: list[JsonItem] = []
    after = ""

    def read_list() -> None:
        nonlocal items, after
        items, after = reader.items()

    members = reader.members({"a": read_list})

    assert [(member.name, member.value, BODY[member.begin : member.end].decode()) for member in members] == [
        ("a", None, '[1, {"\u00e9":2} ]'),
        ("c", "x", '"x"'),
    ]
    assert [(item.value, BODY[item.begin : item.end].decode(), item.before) for item in items] == [
        (1, "1", "["),
        ({"\u00e9": 2}, '{"\u00e9":2}', ", "),
    ]
    assert after == " ]"
    assert reader.next_character() == "r"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=6),
)


@given(
    value=st.dictionaries(st.text(max_size=5), VALUES, max_size=5),
    size=st.integers(1, 50),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_what_json_writes_is_parsed_alike(
    value: dict[str, Any], size: int, indent: int | None, *, ascii_only: bool
) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    expected = json.loads(body)

    members = JsonReader(pieces(body, size)).members()

    assert {member.name: member.value for member in members} == expected
    assert {member.name: json.loads(body[member.begin : member.end]) for member in members} == expected


@given(value=st.lists(VALUES, max_size=5), size=st.integers(1, 50), indent=st.sampled_from([None, 1]))
def test_a_list_is_its_elements_and_the_texts_between_them(value: list[Any], size: int, indent: int | None) -> None:
    body = json.dumps(value, indent=indent).encode()

    items, after = JsonReader(pieces(body, size)).items()

    assert [item.value for item in items] == value
    assert b"".join(item.before.encode() + body[item.begin : item.end] for item in items) + after.encode() == body


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "text", [b"", b"[", b'{"a":1,"a":2}', b'{"a"}', b'{"a":1', b'{"a":1,}', b"{1:2}", b'{"a":}', b'{"a":"\xff"}']
)
def test_what_is_no_object_is_refused(text: bytes, size: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json has a message for each
        JsonReader(pieces(text, size)).members()


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("text", [b"", b"{}", b"[1", b"[1,]", b"[1 2]", b"[,]", b"[}"])
def test_what_is_no_list_is_refused(text: bytes, size: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json has a message for each
        JsonReader(pieces(text, size)).items()


@pytest.mark.parametrize("padding", [0, 300_000])
@pytest.mark.parametrize(
    "value", ['{"b":1,"b":2}', '[[{"b":1,"b":2}]]', '{"c":{"b":1,"\\u0062":2}}', '[?,{"c":[{"b":1,"d":?,"b":2}]}]']
)
def test_a_name_that_comes_twice_is_refused_at_any_depth(value: str, padding: int) -> None:
    text = value.replace("?", f'"{"x" * padding}"').encode()

    with pytest.raises(ValueError, match="twice"):
        JsonReader([b'{"a":', text, b"}"]).members()
    with pytest.raises(ValueError, match="twice"):
        JsonReader([b"[", text, b"]"]).items()


def test_a_name_may_come_once_in_each_object() -> None:
    member, *_ = JsonReader([b'{"a":[{"a":{"a":1}},{"a":2}]}']).members()

    assert member.value == [{"a": {"a": 1}}, {"a": 2}]


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(RecursionError):
        JsonReader([b'{"a":' + b"[" * 200_000]).members()
