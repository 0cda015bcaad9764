"""Counts of jobs since the start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from oda_proxy.metrics.histogram import JOB_BOUNDS, Histogram

if TYPE_CHECKING:
    from oda_proxy.jobs.outcome import Outcome

RESULTS: Final = ("stored", "not_stored", "failed", "given_up")
"""How jobs end: with an answer that was stored or was not, with a failure, or with an error of the proxy."""


@dataclass(slots=True)
class JobCounts:
    """How many jobs were started, joined and stored."""

    started: int = 0
    joined: int = 0
    """Sessions that joined the job of another one."""
    stored: int = 0
    """Answers that were written to the store."""
    ended: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RESULTS, 0))
    """How many have ended, by result."""
    durations: Histogram = field(default_factory=lambda: Histogram(JOB_BOUNDS))

    def note_end(self, outcome: Outcome | None, duration: float | None) -> None:
        """Count a job that has ended, without an outcome by an error; the duration in s is None if unknown."""
        if outcome is None or outcome.error:
            self.ended["given_up"] += 1
        elif not outcome.is_done:
            self.ended["failed"] += 1
        else:
            self.ended["stored" if outcome.stored else "not_stored"] += 1
        if duration is not None:
            self.durations.add(duration)
