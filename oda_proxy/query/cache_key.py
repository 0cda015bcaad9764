"""Query -> Key: the name under which its recording is kept.

The dispatcher's own job_id is no such name: it hashes the sorted characters of each value, so that RA=83 and RA=38
are one id. Ours is SHA-256 over a canonical JSON text of everything that was asked. What it does not know to be the
same is different.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any, NewType

from cachetools import LRUCache

from oda_proxy.query.normalised import NormalisedQuery, normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.query.normalised import Value
    from oda_proxy.query.query import Query
    from oda_proxy.query.schema import Schema

KEY_VERSION = 2
"""Counted up whenever the same query gets another key."""

REMEMBERED = 4096
"""Questions whose keys are remembered, at some hundred bytes each."""

PUBLIC = ""
"""The audience of what was asked without a token."""

Key = NewType("Key", str)
"""64 hexadecimal digits."""


def key_of(query: Query, schema: Schema | None = None, *, audience: str = PUBLIC) -> Key:
    """Give the key of a query for an audience, under a description of its instrument or without one."""
    return key_of_normalised(normalise(query, schema), audience=audience)


def key_of_normalised(resolved: NormalisedQuery, *, audience: str = PUBLIC) -> Key:
    """Give the key of a question in canonical form, for those whose answer it is."""
    return Key(_digest({"key_version": KEY_VERSION, "audience": audience, **_everything(resolved)}))


def keys_of(query: Query, schemas: Sequence[Schema], *, audience: str = PUBLIC) -> tuple[Key, ...]:
    """Give the keys under which a query may be kept, the one it is kept under now first.

    `schemas` are the descriptions of its instrument, newest first. A recording that was made under an older one, or
    when there was none, stands under one of the other keys. What is found there must be looked at before it is given:
    the same words may have meant something else then.
    """
    return tuple(dict.fromkeys(key_of(query, schema, audience=audience) for schema in (*schemas, None)))


class KeyMemo:
    """Finds the keys of queries, quickly for words that were asked before."""

    def __init__(self) -> None:
        self._descriptions: LRUCache[tuple[str, str, tuple[Schema, ...]], tuple[Key, ...]] = LRUCache(REMEMBERED)

    def cached(self, query: Query, schemas: tuple[Schema, ...], *, audience: str = PUBLIC) -> tuple[Key, ...] | None:
        """Give the keys of words that were asked before, or None."""
        return self._descriptions.get((_words(query), audience, schemas))

    async def keys(self, query: Query, schemas: tuple[Schema, ...], *, audience: str = PUBLIC) -> tuple[Key, ...]:
        """Give the keys as `keys_of` does, and remember them. New words are read in a thread: astropy may be needed."""
        keys = self.cached(query, schemas, audience=audience)
        if keys is None:
            keys = await asyncio.to_thread(keys_of, query, schemas, audience=audience)
            self._descriptions[_words(query), audience, schemas] = keys
        return keys


def explain(resolved: NormalisedQuery) -> str:
    """Say in lines what a question is, for a person: first the key, then what is in it."""
    lines = [f"key {key_of_normalised(resolved)}  (version {KEY_VERSION})"]
    lines += [f"{name} = {value}" for name, value in _lines(resolved).items()]
    return "\n".join(lines)


def differences(one: NormalisedQuery, other: NormalisedQuery) -> list[str]:
    """Say in lines in what two questions differ; nothing where they are the same."""
    ours, theirs = _lines(one), _lines(other)
    names = dict.fromkeys((*ours, *theirs))
    nothing = "nothing"
    return [
        f"{name}: {ours.get(name, nothing)} | {theirs.get(name, nothing)}"
        for name in names
        if _bare(ours.get(name)) != _bare(theirs.get(name))
    ]


_LEFT_OUT = ", left out"


def _lines(resolved: NormalisedQuery) -> dict[str, str]:
    """Give everything that is in a key, as a person reads it."""
    return {
        "instrument": resolved.instrument,
        "product_type": resolved.product_type,
        "query_type": resolved.query_type,
        "api": "present" if resolved.api else "absent",
        **{
            f"parameter {name}": _shown(value) + (_LEFT_OUT if name in resolved.defaulted else "")
            for name, value in resolved.parameters.items()
        },
        **{f"file {name}": f"SHA-256 {digest}" for name, digest in resolved.files},
    }


def _bare(shown: str | None) -> str | None:
    return shown and shown.removesuffix(_LEFT_OUT)


def _shown(value: Value) -> str:
    tag, *texts = value
    if tag == "number":
        return " ".join(texts)
    return f"{' '.join(json.dumps(text) for text in texts)} ({tag})" if texts else tag


def _everything(resolved: NormalisedQuery) -> dict[str, Any]:
    return {
        "instrument": resolved.instrument,
        "product_type": resolved.product_type,
        "query_type": resolved.query_type,
        "api": resolved.api,
        "parameters": resolved.parameters,
        "files": resolved.files,
    }


def _words(query: Query) -> str:
    """Give a digest of the words of a query: they may be long, and what is remembered must not be."""
    return _digest([query.instrument, query.product_type, query.query_type, query.api, query.parameters, query.files])


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
