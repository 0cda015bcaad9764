"""How soon replicas notice what happens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """How soon replicas notice what happens; in s."""

    heartbeat: float = 5.0
    """Between two extensions of a lease."""
    lease: float = 8.0
    """For how long a lease is held without one: less than two heartbeats."""
    look: float = 1.0
    """Between two looks at a job that another replica leads: a lost message costs no more."""
    outage: float = 60.0
    """For how long a job is followed while Redis is away, before it is led here."""
    settle: float = 0.1
    """Between two publications of a state."""
