"""The places for jobs at the dispatcher, shared fairly between clients."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oda_proxy.jobs.running_job import RunningJob


@dataclass(slots=True, eq=False)
class _Waiter:
    owner: str
    running: RunningJob
    granted: asyncio.Future[None] = field(repr=False)


class Places:
    """At most `limit` jobs at once; clients are told apart by a text, the owner of their jobs.

    A free place goes to the owner that has the fewest, and of several to the one whose last turn was the longest ago.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = limit
        self._taken: Counter[str] = Counter()
        self._turns: dict[str, int] = {}
        self._waiting: dict[str, deque[_Waiter]] = {}

    def set_limit(self, limit: int) -> None:
        """Replace the limit; jobs beyond it go on."""
        self._free += limit - self.limit
        self.limit = limit
        self._grant_waiting()

    @property
    def is_full(self) -> bool:
        """Whether the next job has to wait."""
        return self._free <= 0 or bool(self._waiting)

    def waiting(self) -> list[RunningJob]:
        """Return the waiting jobs in the order in which they would get places that become free one by one."""
        queues = {owner: deque(queue) for owner, queue in self._waiting.items()}
        taken, turns, order = Counter(self._taken), dict(self._turns), []
        while queues:
            order.append(_next(queues, taken, turns).running)
        return order

    async def take(self, owner: str, running: RunningJob) -> Place:
        """Wait for a place."""
        if self.is_full:
            waiter = _Waiter(owner, running, asyncio.get_running_loop().create_future())
            self._waiting.setdefault(owner, deque()).append(waiter)
            try:
                await waiter.granted
            except asyncio.CancelledError:
                if waiter.granted.done() and not waiter.granted.cancelled():
                    self._release(owner)
                else:
                    self._remove(owner, waiter)
                raise
        else:
            self._grant(owner)
        return Place(self, owner)

    def _grant(self, owner: str) -> None:
        self._free -= 1
        _count(owner, self._taken, self._turns)

    def _remove(self, owner: str, waiter: _Waiter) -> None:
        queue = self._waiting.get(owner)
        if queue and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._waiting[owner]

    def _release(self, owner: str) -> None:
        self._give_back(owner)
        self._grant_waiting()

    def _grant_waiting(self) -> None:
        while self._free > 0 and self._waiting:
            waiter = _next(self._waiting, self._taken, self._turns)
            self._free -= 1
            if waiter.granted.done():  # it was cancelled, and has not run since
                self._give_back(waiter.owner)
            else:
                waiter.granted.set_result(None)

    def _give_back(self, owner: str) -> None:
        self._free += 1
        self._taken[owner] -= 1
        if not self._taken[owner] and owner not in self._waiting:
            del self._taken[owner], self._turns[owner]


class Place:
    """One place of a job, which may give it up for a while."""

    def __init__(self, places: Places, owner: str) -> None:
        self._places = places
        self._owner = owner
        self._held = True

    def release(self) -> None:
        """Give the place to the next job; a second time does nothing."""
        if self._held:
            self._held = False
            self._places._release(self._owner)  # noqa: SLF001 - the two classes are one mechanism

    def retake(self) -> None:
        """Take a place again without waiting: the dispatcher works on the job already."""
        if not self._held:
            self._held = True
            self._places._grant(self._owner)  # noqa: SLF001 - as above


def _next(waiting: dict[str, deque[_Waiter]], taken: Counter[str], turns: dict[str, int]) -> _Waiter:
    """Remove the next waiter, and count its place."""
    owner = min(waiting, key=lambda one: (taken[one], turns.get(one, 0)))
    waiter = waiting[owner].popleft()
    if not waiting[owner]:
        del waiting[owner]
    _count(owner, taken, turns)
    return waiter


def _count(owner: str, taken: Counter[str], turns: dict[str, int]) -> None:
    """Count a place of an owner, who had the last turn of all."""
    taken[owner] += 1
    turns[owner] = max(turns.values(), default=0) + 1
