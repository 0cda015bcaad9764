"""Large JSON is parsed and formatted in steps, with the results of `json`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.codec import json_steps

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=6)
)


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make small values large ones."""
    monkeypatch.setattr(json_steps, "STEP", 8)
    monkeypatch.setattr(json_steps, "_WINDOW", 8)


def outcome(parse: Any, content: bytes) -> Any:
    try:
        return repr(parse(content))
    except (ValueError, RecursionError):
        return "refused"


@given(value=VALUES, indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_what_json_writes_is_parsed_alike(value: Any, indent: int | None, *, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)

    assert repr(json_steps.loads(text.encode())) == repr(json.loads(text))


BROKEN = st.sampled_from([*',:"[]{} 0', "\n", "\\", ""])


@given(value=VALUES, put=BROKEN, data=st.data())
def test_damaged_text_is_parsed_or_refused_alike(value: Any, put: str, data: st.DataObject) -> None:
    text = json.dumps(value)
    at = data.draw(st.integers(0, len(text)))
    damaged = f"{text[:at]}{put}{text[at + 1 :]}".encode()

    assert outcome(json_steps.loads, damaged) == outcome(json.loads, damaged)


@pytest.mark.parametrize("wrong", [",1", "1,,1", "1,", "1 1", "[1", "1]", "1,]", "01", "-", "1.", "NaN", "nul"])
def test_a_damaged_list_of_numbers_is_parsed_or_refused_alike(wrong: str) -> None:
    for before, after in (("", ""), ("1, 2, 3, 4, 5, 6, ", ", 7, 8, 9"), ('"a", ', ', {"b": [1]}')):
        damaged = f"[{before}{wrong}{after}]".encode()
        assert outcome(json_steps.loads, damaged) == outcome(json.loads, damaged)


@given(value=VALUES)
def test_values_are_formatted_alike(value: Any) -> None:
    assert json_steps.compact(value) == json.dumps(value, separators=(",", ":"))


@pytest.mark.parametrize("text", ["x" * 100, '"' * 100, "\\" * 100, "\x7f" * 100, "\n" * 100, "\u00e9" * 100])
def test_long_texts_are_formatted_and_parsed_alike(text: str) -> None:
    written = json.dumps([text, {"a": text}], separators=(",", ":"))

    assert json_steps.compact([text, {"a": text}]) == written
    assert json_steps.loads(written.encode()) == [text, {"a": text}]


def test_deep_nesting_is_refused_and_no_crash() -> None:
    with pytest.raises(RecursionError):
        json_steps.loads(b"[" * 200_000)


def test_no_step_takes_more_than_its_part_of_a_large_text(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, sizes = json_steps._DECODER, []

    class Noting:
        def raw_decode(self, text: str, at: int = 0) -> tuple[Any, int]:
            value, end = decoder.raw_decode(text, at)
            sizes.append(end - at)
            return value, end

        def decode(self, text: str) -> Any:
            sizes.append(len(text))
            return decoder.decode(text)

    monkeypatch.setattr(json_steps, "_DECODER", Noting())
    monkeypatch.setattr(json_steps, "STEP", 100)
    monkeypatch.setattr(json_steps, "_WINDOW", 50)
    value = {"list": [{"binarys": "x" * 3000, "header": {"A": 1}}] * 20, "numbers": list(range(2000))}

    assert json_steps.loads(json.dumps(value).encode()) == value
    assert max(sizes) <= 100
