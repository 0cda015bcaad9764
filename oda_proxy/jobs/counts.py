"""Counts of jobs since the start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class JobCounts:
    """How many jobs were started, joined and stored."""

    started: int = 0
    joined: int = 0
    """Sessions that joined the job of another one."""
    stored: int = 0
    """Answers that were written to the store."""
