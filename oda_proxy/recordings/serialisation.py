"""Parse and check the JSON that recordings and failures have in common; the files may come from others.

Each `read_` function raises CodecError for anything else than what was written.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import CodecError
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.codec.json_text import JsonObject

MemberPath = tuple[str | int, ...]
"""The path of a member in a JSON value: names and indices."""

_DIGEST: Final = re.compile("[0-9a-f]{64}")


def read_key(document: JsonObject, name: str) -> Key:
    """Read a cache key."""
    if not _DIGEST.fullmatch(text := document.text(name)):
        raise CodecError(f"{name!r} is not a key")
    return Key(text)


def read_seconds(document: JsonObject, name: str) -> float:
    """Read a number of seconds, 0 or more."""
    value = document.members.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise CodecError(f"{name!r} should be a number of seconds")
    return float(value)


def read_texts(document: JsonObject, name: str) -> tuple[str, ...]:
    """Read a list of texts."""
    if not all(isinstance(item, str) for item in document.items(name)):
        raise CodecError(f"{name!r} should be a list of texts")
    return tuple(document.items(name))


def dump_query(query: Query) -> dict[str, Any]:
    """Return a query as JSON, its values as sent."""
    return asdict(query)


def read_query(document: JsonObject) -> Query:
    """Read a query."""
    return Query(
        instrument=document.text("instrument"),
        product_type=document.text("product_type"),
        query_type=document.text("query_type"),
        parameters=read_parameters(document),
        api=document.boolean("api", default=False),
        files=read_files(document),
    )


def read_parameters(document: JsonObject) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Read the parameters of a query: names, each with its values."""
    read = []
    for item in document.items("parameters"):
        match item:
            case [str() as name, [*values]] if all(isinstance(value, str) for value in values):
                read.append((name, tuple(values)))
            case _:
                raise CodecError("'parameters' should be a list of names, each with a list of texts")
    return tuple(read)


def read_files(document: JsonObject) -> tuple[tuple[str, str], ...]:
    """Read the uploaded files of a query: names of fields, each with a SHA-256."""
    read = []
    for item in document.items("files"):
        match item:
            case [str() as name, str() as digest] if _DIGEST.fullmatch(digest):
                read.append((name, digest))
            case _:
                raise CodecError("'files' should be a list of names, each with a SHA-256")
    return tuple(read)


def read_program(value: Any) -> list[list[str]]:
    """Read a program with gaps, as `api_code.with_gaps` returns it."""
    if not isinstance(value, list) or not all(_is_part(part) for part in value):
        raise CodecError("'api_code' is not a program with gaps")
    return value


def _is_part(part: Any) -> bool:
    if not isinstance(part, list) or not all(isinstance(text, str) for text in part):
        return False
    return len(part) in {1, 3} or (len(part) == 2 and part[0] in {"'", '"'} and part[1] == "url")  # noqa: PLR2004 - as `api_code` has it


def read_path(value: Any, within: Any) -> MemberPath:
    """Read a path, which must lead to a member of an object."""
    if not isinstance(value, list) or not value or not isinstance(value[-1], str):
        raise CodecError(f"{str(value)[:80]!r} is not the path of a member")
    holder = follow(within, value[:-1])
    if not isinstance(holder, dict):
        raise CodecError(f"there is no object at the path {str(value)[:80]!r}")
    return tuple(value)


def follow(value: Any, path: Sequence[Any]) -> Any:
    """Return the part of a JSON value at a path; None where there is none."""
    for step in path:
        match value, step:
            case dict(), str() if step in value:
                value = value[step]
            case list(), int() if not isinstance(step, bool) and 0 <= step < len(value):
                value = value[step]
            case _:
                return None
    return value
