"""Equal long texts of JSON values become one object, and those that came more than once are known."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.codec.json_reader import JsonReader
from oda_proxy.codec.shared_texts import SharedTexts, text_key

LONG = 20_000


def long_text(seed: str) -> str:
    """Return a text that is another object with each call."""
    return "".join((seed, "x" * LONG))


def test_equal_long_texts_become_one_object_at_any_depth() -> None:
    texts = SharedTexts()

    first = texts.share({"a": [long_text("1")], "b": long_text("2")})
    second = texts.share([{"c": {"d": long_text("1")}}, long_text("3")])

    assert second[0]["c"]["d"] is first["a"][0]
    assert (first, second) == (
        {"a": [long_text("1")], "b": long_text("2")},
        [{"c": {"d": long_text("1")}}, long_text("3")],
    )
    assert texts.take_repeated() == {text_key(long_text("1"))}


def test_texts_that_have_the_same_key_are_told_apart() -> None:
    one, other = ("x" * LONG + "y" * at + "z" + "y" * (LONG - at) for at in (100, 200))
    assert text_key(one) == text_key(other)
    assert one != other
    texts = SharedTexts()

    assert texts.share([one, other]) == [one, other]
    assert texts.take_repeated() == set()


def test_short_texts_and_long_lists_of_numbers_are_left_alone() -> None:
    texts = SharedTexts()
    value = [["ab", "ab"], [*range(10_000)]]

    assert texts.share(value) is value
    assert value == [["ab", "ab"], [*range(10_000)]]
    assert texts.take_repeated() == set()


@given(
    value=st.recursive(
        st.none() | st.floats(allow_nan=False) | st.text() | st.sampled_from("12").map(long_text),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_a_value_is_unchanged(value: Any) -> None:
    text = json.dumps(value)

    shared = SharedTexts().share(json.loads(text))

    assert json.dumps(shared) == text


def test_elements_of_a_list_share_their_texts() -> None:
    text = json.dumps([{"binarys": long_text("1")}, {"binarys": long_text("2")}, {"binarys": long_text("1")}])
    reader = JsonReader([text.encode()])

    items, _ = reader.items()

    assert items[2].value["binarys"] is items[0].value["binarys"]
    assert [item.value for item in items] == json.loads(text)
    assert reader.texts.take_repeated() == {text_key(long_text("1"))}
