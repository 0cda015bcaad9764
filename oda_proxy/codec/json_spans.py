"""Find the members of a JSON object with their positions in the text, so that unchanged members keep their bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_DECODER = json.JSONDecoder()
_SPACE = " \t\n\r"


class JsonMember(NamedTuple):
    """A member of an object, with the start and end of its value in the text."""

    name: str
    value: Any
    begin: int
    end: int


def json_members(text: str, at: int = 0) -> Iterator[JsonMember]:
    """Yield the members of the JSON object that begins at `at`.

    Raises ValueError where there is no object, or where a name comes twice: clients do not agree on which value counts.
    Raises RecursionError where it is nested too deeply.
    """
    seen: set[str] = set()
    at = _expect(text, at, "{")
    if text[at] == "}":
        return
    while True:
        name, at = _DECODER.raw_decode(text, at)
        if not isinstance(name, str) or name in seen:
            raise ValueError(name)
        seen.add(name)
        begin = _expect(text, at, ":")
        value, end = _DECODER.raw_decode(text, begin)
        yield JsonMember(name, value, begin, end)
        at = _after_space(text, end)
        if text[at : at + 1] == "}":
            return
        at = _expect(text, at, ",")


def compact(value: Any) -> str:
    """Return compact JSON, as the dispatcher writes it."""
    return json.dumps(value, separators=(",", ":"))


def _expect(text: str, at: int, character: str) -> int:
    """Return the position after `character`, which must come next, and after spaces. Raises ValueError otherwise."""
    at = _after_space(text, at)
    if text[at : at + 1] != character:
        raise ValueError(f"no {character} at {at}")
    at = _after_space(text, at + 1)
    if at == len(text):
        raise ValueError("the text ends too early")
    return at


def _after_space(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at
