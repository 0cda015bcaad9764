"""Find the members of a JSON object with their positions in the text, so that unchanged members keep their bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from oda_proxy.codec.json_steps import decode, skip_space

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        name, at = decode(text, at)
        if not isinstance(name, str) or name in seen:
            raise ValueError(name)
        seen.add(name)
        begin = _expect(text, at, ":")
        value, end = decode(text, begin)
        yield JsonMember(name, value, begin, end)
        at = skip_space(text, end)
        if text[at : at + 1] == "}":
            return
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
