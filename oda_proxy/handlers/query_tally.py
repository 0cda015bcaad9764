"""Counting of requests for `run_analysis` by what became of them, wherever they are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from oda_proxy.handlers.counts import Outcomes
from oda_proxy.handlers.sessions import ServedSessions
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.metrics.outcomes import outcome_of
from oda_proxy.metrics.query_counts import OTHER, QueryCounts

if TYPE_CHECKING:
    from oda_proxy.query.query import Envelope, Query
    from oda_proxy.query.resolved import QueryResolver, ResolvedQuery
    from oda_proxy.recordings.recording import Recording

HOT: Final = CacheStatus(hit=True, from_memory=True)
"""A hit from memory."""
COLD: Final = CacheStatus(hit=True)
"""A hit from the store."""


class QueryTally:
    """The outcomes of requests, the queries among them by instrument, and the sessions that were served."""

    def __init__(self, resolver: QueryResolver) -> None:
        self.outcomes = Outcomes()
        self.queries = QueryCounts()
        self.sessions = ServedSessions()
        self._resolver = resolver

    def count(self, query: Query | None, envelope: Envelope, status: CacheStatus) -> None:
        """Count a request that was answered."""
        if status.hit or status.collapsed:
            self.sessions.add(envelope.session_id)
        self.outcomes.add(status)
        if envelope.query_status == "new":
            self._count_query(query, status)

    def count_failure(self, query: Query | None, envelope: Envelope, status: CacheStatus) -> None:
        """Count a request that was answered with an error of the proxy."""
        self.outcomes.failed += 1
        if envelope.query_status == "new":
            self._count_query(query, status)

    def count_repeated(
        self, resolved: ResolvedQuery, recording: Recording, session_id: str, status: CacheStatus
    ) -> None:
        """Count a hit that was repeated for a session."""
        self.count_saved(recording)
        self.sessions.add(session_id)
        self.outcomes.hits += 1
        self._count_query(resolved.query, status)

    def count_saved(self, recording: Recording) -> None:
        """Count the time that a recording saves the dispatcher."""
        self.queries.add_saved(recording.query.instrument if recording.query else OTHER, recording.cost)

    def _count_query(self, query: Query | None, status: CacheStatus) -> None:
        """Count a query that was submitted, by its instrument if that exists."""
        instrument = query.instrument if query else OTHER
        if not self.queries.has(instrument) and self._resolver.is_described(instrument):
            self.queries.add_instrument(instrument)
        self.queries.add(instrument, outcome_of(status))
