"""Failures of capsules, which answer where the dispatcher cannot: offline, and while it cannot be reached."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.memento import http_date
from oda_proxy.recordings import failures

if TYPE_CHECKING:
    from oda_proxy.handlers.capsule_recordings import CapsuleRecordings
    from oda_proxy.http.message import Headers
    from oda_proxy.http.scope import AsOf
    from oda_proxy.query.query import Envelope, Query
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.store.near_misses import MissHandler

FAILED: Final = CacheStatus(hit=True, detail="failed")
"""The cache status of an answer from a recorded failure."""


def failed_answer(failure: Failure, envelope: Envelope, *, address: str, as_of: AsOf | None = None) -> Answer:
    """Return the answer of a recorded failure for a client; `address` is that of its dispatcher."""
    body = failures.render(failure, envelope, now=time.time(), address=address)
    headers: Headers = (("Content-Type", failure.content_type), ("Content-Length", str(len(body))))
    if as_of is not None:  # RFC 7089, section 4.5.5
        headers = (*headers, ("Memento-Datetime", http_date(failure.failed_at)))
    return Answer(failure.status, headers, (body,), FAILED)


class CapsuleFailures:
    """Answers a query without a recording with its failure in a capsule, else as another handler does."""

    def __init__(self, capsules: CapsuleRecordings, otherwise: MissHandler) -> None:
        self._capsules = capsules
        self._otherwise = otherwise

    async def find(self, query: Query, envelope: Envelope, as_of: AsOf | None = None) -> Answer | None:
        """Return the answer of the failure of a query, if a capsule has one, recorded by then."""
        if (found := await self._capsules.find_failure(query)) is None:
            return None
        failure, address = found
        is_later = as_of is not None and failure.failed_at > as_of.time
        return None if is_later else failed_answer(failure, envelope, address=address, as_of=as_of)

    async def answer(self, resolved: ResolvedQuery, envelope: Envelope, as_of: AsOf | None = None) -> Answer:
        """Answer a query; raises NoRecordingError, with the nearest recording, where there is no failure either."""
        found = await self.find(resolved.query, envelope, as_of)
        return found or await self._otherwise.answer(resolved, envelope, as_of)
