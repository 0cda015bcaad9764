"""Stopping jobs: which ones a person may stop, and the server that runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from oda_proxy.jobs.ending import stop_error

if TYPE_CHECKING:
    from oda_proxy.jobs.registry import JobRegistry
    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.jobs.services import JobServices
    from oda_proxy.query.cache_key import Key


@dataclass(frozen=True, slots=True)
class StoppableJob:
    """A job that a person may stop; `running` is None where no client of this server waits for it."""

    key: Key
    running: RunningJob | None


class JobStopper:
    """Stops jobs of this server and of its replicas."""

    def __init__(self, registry: JobRegistry, services: JobServices) -> None:
        self._registry = registry
        self._journal = services.journal
        self._replicas = services.replicas

    async def find(self, beginning: str, session_id: str | None) -> list[StoppableJob]:
        """Return the jobs whose keys begin with a text and that a session may stop: it is their only client.

        The administrator, who has no session (None), may stop all.
        """
        here = [running for running in self._registry if running.resolved.key.startswith(beginning)]
        keys = {running.resolved.key for running in here}
        elsewhere = [key for key in await self._replicas.jobs() if key.startswith(beginning) and key not in keys]
        if session_id is not None:
            here = [running for running in here if await self._is_owned_alone(running, session_id)]
            elsewhere = [key for key in elsewhere if await self._replicas.is_alone(key, {session_id})]
        return [
            *(StoppableJob(running.resolved.key, running) for running in here),
            *(StoppableJob(key, None) for key in elsewhere),
        ]

    async def _is_owned_alone(self, running: RunningJob, session_id: str) -> bool:
        if not running.is_owned_alone_by(session_id):
            return False
        return not running.is_shared or await self._replicas.is_alone(running.resolved.key, running.owner_sessions)

    async def stop(self, job: StoppableJob, stopped_by: str) -> None:
        """Give a job up; its clients, at all servers, receive a failure that says who stopped it.

        Raises StopNotConfirmedError where the server that runs it does not confirm that.
        """
        running = job.running
        if running is None or (running.is_elsewhere and running.is_shared):
            await self._replicas.stop(job.key, stopped_by)
        if running is not None:
            await self._registry.stop(running, stop_error(stopped_by))
            if running.is_shared:
                await self._journal.remove(job.key)
