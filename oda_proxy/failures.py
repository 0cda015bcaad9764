"""A job's final failure without its asker, and back for another.

What failed once in a run fails alike when the run is replayed: with the dispatcher's own words, its HTTP status, and
the names of whoever asks then. The dispatcher's configuration and folders are nobody's business and left out. Where
members stood that name the asker is remembered as paths, and those of the next asker are put in there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from oda_proxy.key import Key
    from oda_proxy.query import Envelope, Query

FORMAT: Final = 1
"""Version of the document."""

MAX_SIZE: Final = 1024 * 1024
"""Bytes of a failure that is kept; a dispatcher's traceback has some thousand."""

Path: TypeAlias = tuple[str | int, ...]
"""Names and numbers that lead to a member of a JSON value."""

_OK: Final = 200
_TRANSIENT: Final = frozenset({401, 407, 408, 425, 429})
_LAST_FINAL: Final = 501
"""Of what comes after, gateways speak for a dispatcher that was not there."""

_NOW: Final = "time_request"
_STATE: Final = "query_status"
_API_CODE: Final = "api_code"
_KEY: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Failure:
    """How a query failed; `failed_at` is in s since 1970 (UTC)."""

    key: Key
    status: int
    content_type: str
    body: Any
    """The JSON of the answer without its asker, or its text; `api_code` is a program with gaps."""
    failed_at: float
    gaps: tuple[Path, ...] = ()
    """Where members that name the asker stood."""
    query: Query | None = None
    """What was asked, for people."""
    private: bool = False
    """Whether it was asked for with a token."""
    is_text: bool = field(default=False)
    """Whether the answer was no JSON."""


def redact(
    body: bytes,
    envelope: Envelope,
    *,
    status: int,
    content_type: str,
    key: Key,
    failed_at: float,
    query: Query | None = None,
) -> Failure:
    """Make a failure of an answer that ended a job; `query` is as `recording.as_kept` gives it.

    Raises NotKeptError for an answer that is no final failure, is larger than `MAX_SIZE`, would have a client load what
    is not on the allow-list, or cannot be freed of its asker.
    """
    raise NotImplementedError


def answered(failure: Failure, envelope: Envelope, *, now: float, address: str) -> bytes:
    """Give the body of a failure for this asker, who reaches us at `address`; `now` is in s since 1970 (UTC)."""
    raise NotImplementedError


def written(failure: Failure) -> str:
    """Write a failure as strict JSON. Raises CodecError where it has no such form."""
    raise NotImplementedError


def read(text: bytes) -> Failure:
    """Read what `written` wrote. Raises CodecError for anything else."""
    raise NotImplementedError
