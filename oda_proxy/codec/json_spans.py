"""Parse a JSON object or list with the positions of its parts in the text, so that unchanged parts keep their bytes."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from oda_proxy.codec.json_steps import decode, skip_space

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Decode = Callable[[str, int], tuple[Any, int]]
    """A function that parses the value at a position, and returns it with its end, like `json_steps.decode`."""


class JsonMember(NamedTuple):
    """A member of an object, with the start and end of its value in the text."""

    name: str
    value: Any
    begin: int
    end: int


class JsonItem(NamedTuple):
    """An element of a list, with its start and end in the text."""

    value: Any
    begin: int
    end: int


def decode_members(
    text: str, at: int = 0, decoders: Mapping[str, Decode] = MappingProxyType({})
) -> tuple[list[JsonMember], int]:
    """Return the members of the JSON object that begins at `at`, and its end.

    `decoders` parse the values of some members. Raises ValueError where there is no object, or where a name comes
    twice: clients do not agree on which value counts. Raises RecursionError where it is nested too deeply.
    """
    members: list[JsonMember] = []
    seen: set[str] = set()
    at = _expect(text, at, "{")
    if text[at] == "}":
        return members, at + 1
    while True:
        name, at = decode(text, at)
        if not isinstance(name, str) or name in seen:
            raise ValueError(name)
        seen.add(name)
        begin = _expect(text, at, ":")
        value, end = decoders.get(name, decode)(text, begin)
        members.append(JsonMember(name, value, begin, end))
        at = skip_space(text, end)
        if text[at : at + 1] == "}":
            return members, at + 1
        at = _expect(text, at, ",")


def decode_items(text: str, at: int) -> tuple[list[JsonItem], int]:
    """Return the elements of the JSON list that begins at `at`, and its end; raises as `decode_members`."""
    items: list[JsonItem] = []
    at = _expect(text, at, "[")
    if text[at] == "]":
        return items, at + 1
    while True:
        value, end = decode(text, at)
        items.append(JsonItem(value, at, end))
        at = skip_space(text, end)
        if text[at : at + 1] == "]":
            return items, at + 1
        at = _expect(text, at, ",")


def _expect(text: str, at: int, character: str) -> int:
    """Return the position after `character`, which must come next, and after spaces. Raises ValueError otherwise."""
    at = skip_space(text, at)
    if text[at : at + 1] != character:
        raise ValueError(f"no {character} at {at}")
    at = skip_space(text, at + 1)
    if at == len(text):
        raise ValueError("the text ends too early")
    return at
