"""Objects and lists are parsed with the positions of their parts."""

from __future__ import annotations

import pytest

from oda_proxy.codec.json_spans import decode_items, decode_members

TEXT = ' {"a" : [1, {"b":2} ], "c":"x" } rest'


def test_the_parts_of_a_text_are_found_with_their_values() -> None:
    members, end = decode_members(TEXT)
    items, _ = decode_items(TEXT, members[0].begin)

    assert [(member.name, member.value, TEXT[member.begin : member.end]) for member in members] == [
        ("a", [1, {"b": 2}], '[1, {"b":2} ]'),
        ("c", "x", '"x"'),
    ]
    assert [(item.value, TEXT[item.begin : item.end]) for item in items] == [(1, "1"), ({"b": 2}, '{"b":2}')]
    assert TEXT[end:] == " rest"


def test_members_can_be_parsed_in_another_way() -> None:
    members, end = decode_members('{"a":[1,2],"b":[3]}', 0, {"a": lambda text, at: (text[at : at + 5], at + 5)})
    assert [member.value for member in members] == ["[1,2]", [3]]
    assert end == len('{"a":[1,2],"b":[3]}')


@pytest.mark.parametrize("text", ["", "[", '{"a":1,"a":2}', '{"a"}', '{"a":1', '{"a":1,}', "{1:2}", '{"a":}'])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json has a message for each
        decode_members(text)


@pytest.mark.parametrize("text", ["", "{}", "[1", "[1,]", "[1 2]", "[,]", "[}"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json has a message for each
        decode_items(text, 0)
