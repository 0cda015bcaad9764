"""Recordings for tests, made without a response, so that programs that only store them start fast."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oda_proxy.query.cache_key import Key
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.recordings.recording import Recording

if TYPE_CHECKING:
    from oda_proxy.query.query import Query

KEYS = [Key(digit * 64) for digit in "abcdef"]


def recording(
    key: Key = KEYS[0],
    text: bytes = b'"catalog":{}',
    *,
    stored_at: float = 12.5,
    cost: float = 0.0,
    query: Query | None = None,
    **changes: Any,
) -> Recording:
    """Return a recording with this text as its head."""
    original = Recording(
        key=key,
        stored_at=stored_at,
        head=MemoryHead(text),
        exit_status={"status": 0, "message": ""},
        parameters={"analysis_parameters": {"RA": 83.0, "instrument": "isgri"}},
        echoed=("session_id",),
        query=query,
        cost=cost,
        client_members={"api_code": "disp.get_product()"},
        other_members={"something_new": 5},
        product_ids=("session_id",),
    )
    return replace(original, **changes)


def into_memory(found: Recording | None) -> Recording | None:
    """Return a recording with its head in memory, and close the file that it was read from."""
    if found is None:
        return None
    with closing(found.head) as head:
        return replace(found, head=MemoryHead(b"".join(head.pieces())))
