"""What a deployment configures of jobs."""

from __future__ import annotations

from dataclasses import dataclass, field

from oda_proxy.jobs.job import Limits


@dataclass(frozen=True, slots=True)
class JobPolicy:
    """How many jobs run at once, for how long, and how long requests are held."""

    max_jobs: int = 32
    """Jobs that the dispatcher works on at once."""
    client_jobs: int | None = None
    """Jobs that may run at once for one client; None for no limit."""
    limits: Limits = field(default_factory=Limits)
    long_poll: float = 20.0
    """Seconds for which a request is held while there is nothing new: clients give up after 120."""
    time_scale: float = 0.0
    """How long replayed jobs take, where there is no upstream: 1 as recorded, 0 no time."""
