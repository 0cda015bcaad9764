"""Strict JSON of what recordings and failures have in common, for files that others write: each part is checked."""

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

Place = tuple[str | int, ...]
"""Names and numbers that lead to a member of a JSON value."""

_DIGEST: Final = re.compile("[0-9a-f]{64}")


def read_key(document: JsonObject, name: str) -> Key:
    """Read a key. Raises CodecError, as do all functions here."""
    if not _DIGEST.fullmatch(text := document.text(name)):
        raise CodecError(f"{name!r} is no key")
    return Key(text)


def read_seconds(document: JsonObject, name: str) -> float:
    """Read a number of seconds from 0."""
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
    """Write a query, its words as they were sent."""
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
    """Read the parameters of a query: names, each with its words."""
    read = []
    for item in document.items("parameters"):
        match item:
            case [str() as name, [*words]] if all(isinstance(word, str) for word in words):
                read.append((name, tuple(words)))
            case _:
                raise CodecError("'parameters' should be a list of names, each with a list of words")
    return tuple(read)


def read_files(document: JsonObject) -> tuple[tuple[str, str], ...]:
    """Read the uploaded files of a query: names of fields, each with a digest."""
    read = []
    for item in document.items("files"):
        match item:
            case [str() as name, str() as digest] if _DIGEST.fullmatch(digest):
                read.append((name, digest))
            case _:
                raise CodecError("'files' should be a list of names, each with a SHA-256")
    return tuple(read)


def read_program(value: Any) -> list[list[str]]:
    """Read a program with gaps, as `api_code` makes it."""
    if not isinstance(value, list) or not all(_is_part(part) for part in value):
        raise CodecError("'api_code' is no program with gaps")
    return value


def _is_part(part: Any) -> bool:
    if not isinstance(part, list) or not all(isinstance(text, str) for text in part):
        return False
    return len(part) in {1, 3} or (len(part) == 2 and part[0] in {"'", '"'} and part[1] == "url")  # noqa: PLR2004 - as `api_code` has it


def read_path(value: Any, within: Any) -> Place:
    """Read a place, which must lead to a name in an object."""
    if not isinstance(value, list) or not value or not isinstance(value[-1], str):
        raise CodecError(f"{str(value)[:80]!r} is no place")
    holder = follow(within, value[:-1])
    if not isinstance(holder, dict):
        raise CodecError(f"the place {str(value)[:80]!r} leads nowhere")
    return tuple(value)


def follow(value: Any, way: Sequence[Any]) -> Any:
    """Follow a way into a JSON value; None where there is none."""
    for step in way:
        match value, step:
            case dict(), str() if step in value:
                value = value[step]
            case list(), int() if not isinstance(step, bool) and 0 <= step < len(value):
                value = value[step]
            case _:
                return None
    return value
