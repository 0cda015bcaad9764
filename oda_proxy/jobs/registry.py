"""The running jobs, at most one for each coalescing key, and those that have just ended."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from cachetools import TTLCache

from oda_proxy.errors import InternalError, OdaProxyError
from oda_proxy.jobs.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from oda_proxy.jobs.running_job import RunningJob

_log = logging.getLogger(__name__)

MAX_ENDED: Final = 1024
ENDED_TTL: Final = 120.0
"""Seconds for which an ended job is remembered: clients poll every second or two."""

CoalescingKey: TypeAlias = tuple[str, ...]
"""The cache key of a query and, where its answer is not shared by all, the token or session that it belongs to."""


@dataclass(slots=True)
class _Entry:
    running: RunningJob
    task: asyncio.Task[None] = field(repr=False)


class JobRegistry:
    """The jobs of a proxy; `clock` returns s since 1970 (UTC)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.completions = 0
        """How many jobs have ended."""
        self._running: dict[CoalescingKey, _Entry] = {}
        self._ended: TTLCache[CoalescingKey, RunningJob] = TTLCache(MAX_ENDED, ttl=ENDED_TTL, timer=clock)
        self._closing = False

    @property
    def is_closing(self) -> bool:
        """Whether the server stops."""
        return self._closing

    def __iter__(self) -> Iterator[RunningJob]:
        """Iterate over the running jobs, the oldest first."""
        return iter([entry.running for entry in self._running.values()])

    def get(self, key: CoalescingKey) -> RunningJob | None:
        """Return the running job of a key."""
        entry = self._running.get(key)
        return entry.running if entry else None

    def get_ended(self, key: CoalescingKey, session_id: str) -> RunningJob | None:
        """Return the job that has just ended, if the session had joined it."""
        running = self._ended.get(key)
        return running if running and running.has_session(session_id) else None

    def ended_since(self, key: CoalescingKey, completions: int) -> RunningJob | None:
        """Return the last job that ended, if `completions` jobs had ended before it or earlier."""
        running = self._ended.get(key)
        return running if running and running.completion > completions else None

    def start(self, key: CoalescingKey, running: RunningJob, run: Callable[[], Awaitable[Outcome]]) -> None:
        """Start a job in a task of its own: it continues when its clients disconnect."""
        running.join(running.client)
        running.closing = self._closing
        self._running[key] = _Entry(running, asyncio.create_task(self._run(key, running, run)))

    async def _run(self, key: CoalescingKey, running: RunningJob, run: Callable[[], Awaitable[Outcome]]) -> None:
        """Run a job to its end and remember it for a while."""
        try:
            running.outcome = await run()
        except OdaProxyError as error:
            running.outcome = Outcome(error=error)
        except asyncio.CancelledError:
            if running.stopped_by is None:
                raise
            running.outcome = Outcome(error=running.stopped_by)
        except Exception as error:  # noqa: BLE001 - whatever it is, clients must not wait for ever
            internal = InternalError(error)
            _log.error("%s", internal.log_line)
            running.outcome = Outcome(error=internal)
        finally:
            del self._running[key]
        self.completions += 1
        running.completion = self.completions
        self._ended[key] = running
        running.notify()
        for _, expired in self._ended.expire():
            await _dismiss(expired)

    async def stop(self, running: RunningJob, error: OdaProxyError) -> None:
        """Cancel a job; its clients receive an error."""
        for key, entry in list(self._running.items()):
            if entry.running is running:
                running.stopped_by = error
                entry.task.cancel()
                await asyncio.gather(entry.task, return_exceptions=True)
                if running.outcome is None:  # the task had not run yet
                    self._running.pop(key, None)
                    running.outcome = Outcome(error=error)
                    running.notify()

    async def close(self, grace: float) -> None:
        """Cancel all jobs: waiting clients receive the current state, and the dispatcher no further request.

        First submissions have `grace` s to be answered, so that the journal has the names of their jobs.
        """
        self.release_waiters()
        if grace and self._running:
            submitting = [asyncio.create_task(entry.running.wait_until_submitted()) for entry in self._running.values()]
            await asyncio.wait(submitting, timeout=grace)
            for submission in submitting:
                submission.cancel()
            await asyncio.gather(*submitting, return_exceptions=True)
        tasks = [entry.task for entry in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()  # a task that never ran has not removed its job
        for running in self._ended.values():
            await _dismiss(running)

    def release_waiters(self) -> None:
        """Answer all waiting clients, and later requests, at once."""
        self._closing = True
        for entry in self._running.values():
            entry.running.closing = True
            entry.running.notify()


async def _dismiss(running: RunningJob) -> None:
    """Close an answer that no client has fetched."""
    if running.outcome and running.outcome.answer:
        await running.outcome.answer.close()
