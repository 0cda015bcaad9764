"""Strict JSON, which every parser reads alike: no NaN, no repeated names, and members of checked types."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Iterable

_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def loads(text: str | bytes) -> Any:
    """Parse strict JSON.

    Raises
    ------
    CodecError
        Not JSON or not UTF-8; a repeated name in an object; NaN, an infinity or a number beyond the range of a
        float; half of a surrogate pair; nested deeper, or a number longer, than Python parses.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        value = json.loads(
            text, object_pairs_hook=_object_without_repeats, parse_constant=_refuse_constant, parse_float=_finite
        )
        if _ESCAPED_SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # half a pair cannot be encoded again
    except UnicodeError as error:
        raise CodecError(
            f"not UTF-8 text: {error.reason if isinstance(error, UnicodeDecodeError) else error}"
        ) from None
    except ValueError as error:
        raise CodecError(f"not strict JSON: {error}") from None
    except RecursionError:
        raise CodecError("not strict JSON: nested too deeply") from None
    return value


def dumps(value: Any) -> str:
    """Return strict JSON for people: UTF-8, indented by two blanks, a newline at the end.

    Raises
    ------
    CodecError
        The value contains NaN, an infinity or a type that JSON does not have.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n"
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CodecError(f"cannot be written as strict JSON: {error}") from None
    return text


@dataclass(frozen=True)
class JsonObject:
    """A JSON object whose accessors check the type of a member; each raises CodecError."""

    members: dict[str, Any]

    @classmethod
    def of(cls, value: Any) -> JsonObject:
        """Wrap a JSON value; raises CodecError if it is not an object."""
        if not isinstance(value, dict):
            raise CodecError(f"expected an object, found {_shown(value)}")
        return cls(value)

    def text(self, name: str) -> str:
        """Return a text."""
        value = self.members.get(name)
        if not isinstance(value, str):
            raise CodecError(f"{name!r} should be text, found {_shown(value)}")
        return value

    def text_or_none(self, name: str) -> str | None:
        """Return a text, or None for null and for a missing member."""
        return None if self.members.get(name) is None else self.text(name)

    def boolean(self, name: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self.members.get(name, default)
        if not isinstance(value, bool):
            raise CodecError(f"{name!r} should be true or false, found {_shown(value)}")
        return value

    def count(self, name: str) -> int:
        """Return a whole number from 0."""
        value = self.members.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise CodecError(f"{name!r} should be a whole number, found {_shown(value)}")
        return value

    def items(self, name: str) -> list[Any]:
        """Return a list."""
        value = self.members.get(name)
        if not isinstance(value, list):
            raise CodecError(f"{name!r} should be a list, found {_shown(value)}")
        return value

    def mapping(self, name: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return an object's members."""
        value = self.members.get(name, default)
        if not isinstance(value, dict):
            raise CodecError(f"{name!r} should be an object, found {_shown(value)}")
        return value

    def objects(self, name: str) -> list[JsonObject]:
        """Return a list of objects."""
        return [JsonObject.of(item) for item in self.items(name)]


def _shown(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "an object"
        case list():
            return "a list"
        case str():
            return repr(value)[:60]
        case _:
            return json.dumps(value)[:60]


def _object_without_repeats(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"the name {name!r} is repeated in an object")
        members[name] = value
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is beyond the range of a float")
    return number
