"""Query -> Key: the name under which its recording is kept.

The dispatcher's own job_id is no such name: it hashes the sorted characters of each value, so that RA=83 and RA=38
are one id. Ours is SHA-256 over a canonical JSON text of everything that was asked. What it does not know to be the
same is different.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from oda_proxy.query import Query

KEY_VERSION = 1
"""Counted up whenever the same query gets another key."""

Key = NewType("Key", str)
"""64 hexadecimal digits."""


def key_of(query: Query) -> Key:
    """Give the key of a query that anyone may ask."""
    asked = {
        "key_version": KEY_VERSION,
        "instrument": query.instrument,
        "product_type": query.product_type,
        "query_type": query.query_type,
        "api": query.api,
        "parameters": query.parameters,
    }
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return Key(hashlib.sha256(text.encode("ascii")).hexdigest())
