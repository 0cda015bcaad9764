"""Memo of queries: the fields that name a client are parsed for each request, all others once."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from cachetools import LRUCache

from oda_proxy.query.query import ENVELOPE, parse_fields, read_envelope, split_query

if TYPE_CHECKING:
    from oda_proxy.query.query import Envelope, Query

MAX_QUERIES: Final = 4096
"""Queries that are memoised."""

MAX_TEXT: Final = 8 * 1024
"""Length of fields up to which they are memoised, in characters: less than `MAX_FIELDS`, which they thus keep to."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A query, and what its fields tell of the client."""

    query: Query
    sends_defaults: bool
    is_verbose: bool


class QueryMemo:
    """Separates requests into query and envelope, as `split_query` does, and memoises the queries.

    The key is a digest of the fields that are not in `ENVELOPE`, as sent. Requests in which another field may hold a
    token are not memoised.
    """

    def __init__(self) -> None:
        self._memo: LRUCache[bytes, _Entry] = LRUCache(MAX_QUERIES)

    def __len__(self) -> int:
        return len(self._memo)

    def read(self, query_string: str, form: bytes = b"") -> tuple[Query, Envelope]:
        """Return the query and the envelope in a query string and a URL-encoded form.

        Raises BadQueryError as `parse_fields` and `split_query` do.
        """
        if len(query_string) + len(form) >= MAX_TEXT:
            return split_query(parse_fields(query_string, form))
        text = f"{query_string}&{form.decode('utf-8', 'surrogateescape')}" if form else query_string
        sent, others = _separate(text)
        key = hashlib.sha256(others.encode("utf-8", "surrogatepass")).digest()
        if entry := self._memo.get(key):
            envelope = read_envelope(sent, sends_defaults=entry.sends_defaults, is_verbose=entry.is_verbose)
            return entry.query, envelope
        query, envelope = split_query(parse_fields(query_string, form))
        if is_memoisable(query) and ENVELOPE.isdisjoint(name for name, _ in parse_fields(others)):
            self._memo[key] = _Entry(query, envelope.sends_defaults, envelope.is_verbose)
        return query, envelope


_ENVELOPE_FIELD: Final = re.compile(f"&({'|'.join(map(re.escape, sorted(ENVELOPE)))})=([^&]*)")


def _separate(text: str) -> tuple[dict[str, list[str]], str]:
    """Return the values of the fields in `ENVELOPE`, decoded, and the other fields as sent.

    A field whose name is encoded, or which has no value, is among the others.
    """
    texts = _ENVELOPE_FIELD.split(f"&{text}")
    sent: dict[str, list[str]] = {}
    for name, value in zip(texts[1::3], texts[2::3], strict=True):
        is_encoded = "%" in value or "+" in value
        sent.setdefault(name, []).append(unquote_plus(value, errors="surrogateescape") if is_encoded else value)
    return sent, "".join(texts[::3])


def is_memoisable(query: Query) -> bool:
    """Return whether a query is short, and no name of a field says that it holds a token."""
    named = (query.instrument, query.product_type, query.query_type)
    size = sum(map(len, named)) + sum(len(name) + sum(map(len, values)) for name, values in query.parameters)
    return size < MAX_TEXT and not any("token" in name.casefold() for name, _ in query.parameters)
