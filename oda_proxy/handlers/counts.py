"""What became of requests, in plain integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oda_proxy.compat.pipeline import RepairPipeline
    from oda_proxy.http.cache_status import CacheStatus
    from oda_proxy.jobs.coalescing import Jobs
    from oda_proxy.jobs.relaying import QueryRelay
    from oda_proxy.store.recording_cache import RecordingCache


@dataclass(slots=True)
class Outcomes:
    """How many requests for `run_analysis` had each outcome since the start; each is counted once."""

    hits: int = 0
    """Served from a recording."""
    joined: int = 0
    """Answered by the job of another client, or by that of an earlier request."""
    forwarded: int = 0
    """Sent to the dispatcher."""
    failed: int = 0
    """Answered with an error of the proxy."""

    def add(self, status: CacheStatus) -> None:
        """Count an answer by its cache status."""
        if status.hit:
            self.hits += 1
        elif status.collapsed:
            self.joined += 1
        else:
            self.forwarded += 1


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the requests for `run_analysis` since the start, as `/-/status` shows it."""

    hits: int
    asked: int
    """Requests that went to the dispatcher."""
    failed: int
    kept: int
    """Answers that were stored."""
    jobs: int
    """Jobs that were submitted."""
    joined: int
    """Clients that joined the job of another one."""
    echo_differs: int
    """Answers that were not stored because their echo contradicts the query."""
    job_ids_shared: int
    """Times that one job_id of the dispatcher stood for another query than before."""
    unsafe: dict[str, int]
    """Answers that would have a client load a name off the allow-list, by name."""


def count(outcomes: Outcomes, jobs: Jobs, relay: QueryRelay, cache: RecordingCache, pipeline: RepairPipeline) -> Counts:
    """Return the counts at this moment, from those who count."""
    return Counts(
        hits=outcomes.hits,
        asked=outcomes.forwarded,
        failed=outcomes.failed,
        kept=jobs.counts.stored + relay.stored,
        jobs=jobs.counts.started,
        joined=jobs.counts.joined,
        echo_differs=cache.echo_differs,
        job_ids_shared=cache.job_ids_shared,
        unsafe=pipeline.forbidden,
    )
