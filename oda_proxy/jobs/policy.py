"""What houses decide differently, and what is counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from oda_proxy.jobs.job import Limits
from oda_proxy.store.freshness import Freshness


@dataclass(frozen=True, slots=True)
class Policy:
    """What houses decide differently; a description is remembered for `description_ttl` s."""

    opened: frozenset[str] = frozenset()
    """Closed routes that are open."""
    description_ttl: float = 300.0
    freshness: Freshness = field(default_factory=Freshness)
    patience: float = 20.0
    """Seconds for which a request is held where there is nothing new to tell: clients give up after 120."""
    max_jobs: int = 32
    """Jobs that the dispatcher works on at once."""
    limits: Limits = field(default_factory=Limits)
    time_scale: float = 0.0
    """How long recorded jobs take where nobody is asked: 1 as recorded, 0 no time."""


@dataclass(slots=True)
class Counts:
    """What became of the requests for `run_analysis` since the start."""

    hits: int = 0
    asked: int = 0
    failed: int = 0
    kept: int = 0
    jobs: int = 0
    """Jobs that were begun."""
    joined: int = 0
    """Those who joined a job that somebody else had begun."""
    echo_differs: int = 0
    """Answers that were not to the question, by what the dispatcher said of it."""
    job_ids_shared: int = 0
    """Times that one id of the dispatcher stood for another query than before."""
    unsafe: dict[str, int] = field(default_factory=dict)
    """Answers that would have a client load what is not on the allow-list, by its name."""
