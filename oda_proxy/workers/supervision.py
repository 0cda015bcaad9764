"""Decides which workers to start, which one leads, and when to give up.

    worker   event                           decision
    any      it has ended                    start it again: at once, or after a pause if it had just been started
             it ended too often in a row     give up: end the others, too
             it has not reported for a while kill it: its event loop hangs
    leader   it has ended                    the first worker that is ready leads
    first    it is ready                     start the others

The parent process alone decides who leads, and only once the leader before has ended: there are never two. Nothing is
started, killed or waited for here (`supervisor`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEARTBEAT: Final = 5.0
"""Seconds between two reports of a worker that it is alive."""
MAX_MISSED: Final = 12
"""Reports in a row that may be missing."""
SHORT_LIFE: Final = 10.0
"""Seconds below which the life of a worker counts as short."""
MAX_SHORT_LIVES: Final = 5
"""Short lives in a row after which workers are no longer started."""


@dataclass(slots=True)
class _Worker:
    start_at: float | None = None
    """When it is to be started; None while it runs, or waits for the first worker."""
    started_at: float | None = None
    """When it was started; None while it does not run."""
    is_ready: bool = False
    short_lives: int = 0
    missed: int = 0


class Supervision:
    """The workers of one server, by number from 0; times are in s of one monotonic clock."""

    def __init__(self, count: int) -> None:
        self._workers = [_Worker() for _ in range(count)]
        self._workers[0].start_at = float("-inf")
        self.leader: int | None = None
        """The worker that leads."""
        self.was_complete = False
        """Whether all workers have been ready at the same time."""
        self.has_given_up = False
        """Whether a worker has ended too often in a row."""

    @property
    def ready(self) -> tuple[int, ...]:
        """The workers that are ready."""
        return tuple(number for number, worker in enumerate(self._workers) if worker.is_ready)

    def due(self, now: float) -> list[int]:
        """Return the workers that are to be started now."""
        if self.has_given_up:
            return []
        return [n for n, worker in enumerate(self._workers) if worker.start_at is not None and worker.start_at <= now]

    def next_start(self) -> float | None:
        """Return when the next worker is to be started; None where none is."""
        return min((worker.start_at for worker in self._workers if worker.start_at is not None), default=None)

    def note_start(self, number: int, now: float) -> None:
        """Note that a worker was started."""
        worker = self._workers[number]
        worker.start_at, worker.started_at, worker.missed = None, now, 0

    def note_ready(self, number: int, now: float) -> None:
        """Note that a worker accepts connections."""
        worker = self._workers[number]
        worker.is_ready, worker.missed = True, 0
        for other in self._workers:
            if other.started_at is None and other.start_at is None:
                other.start_at = now
        self.was_complete |= all(other.is_ready for other in self._workers)
        self._elect()

    def note_heartbeat(self, number: int) -> None:
        """Note that a worker reports that it is alive."""
        self._workers[number].missed = 0

    def note_end(self, number: int, now: float) -> float:
        """Note that a worker has ended; return in how many s it is to be started again."""
        worker = self._workers[number]
        is_short = worker.started_at is None or now - worker.started_at < SHORT_LIFE
        worker.short_lives = worker.short_lives + 1 if is_short else 0
        worker.started_at, worker.is_ready = None, False
        if self.leader == number:
            self.leader = None
            self._elect()
        self.has_given_up |= worker.short_lives >= MAX_SHORT_LIVES
        pause = 2.0 ** (worker.short_lives - 2) if worker.short_lives > 1 else 0.0
        worker.start_at = now + pause
        return pause

    def hanging(self) -> list[int]:
        """Return the workers that have not reported for too long; to be called every HEARTBEAT s.

        Calls are counted and not seconds: after the machine was suspended, no worker has reported for a long time. A
        worker that is not ready may still be reading a large index.
        """
        found = []
        for number, worker in enumerate(self._workers):
            if worker.is_ready:
                worker.missed += 1
                if worker.missed > MAX_MISSED:
                    found.append(number)
        return found

    def _elect(self) -> None:
        if self.leader is None and (ready := self.ready):
            self.leader = ready[0]
