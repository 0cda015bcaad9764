"""The protocols of what jobs need from other replicas: servers on other hosts that share a store."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Collection
    from contextlib import AbstractAsyncContextManager

    from oda_proxy.jobs.outcome import Outcome
    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.query.cache_key import Key


class Lead(Protocol):
    """Runs a job in this process."""

    def __call__(self, running: RunningJob, *, was_elsewhere: bool) -> Awaitable[Outcome]:
        """Run a job, or continue it where another process may have begun it."""


class Replicas(Protocol):
    """One job for each query, and limits on jobs, over all replicas."""

    async def run(self, running: RunningJob, lead: Lead) -> Outcome:
        """Return the outcome of a job, which `lead` runs here unless another replica leads it."""

    async def has_job(self, key: Key) -> bool:
        """Return whether another replica leads a job, or did until lately; no error is raised."""

    async def jobs(self) -> list[Key]:
        """Return the keys of the jobs that any replica leads; no error is raised."""

    async def is_alone(self, key: Key, sessions: Collection[str]) -> bool:
        """Return whether no other sessions than some have joined a job at any replica; no error is raised."""

    async def stop(self, key: Key, stopped_by: str) -> None:
        """Have the replica that leads a job stop it, and wait for that. Raises StopNotConfirmedError."""

    def place(self, running: RunningJob) -> AbstractAsyncContextManager[None]:
        """Hold a place for a job at the dispatcher, of those of all replicas together; waits for it."""


class StopNotConfirmedError(OdaProxyError):
    """The server that runs a job has not confirmed that it has stopped it."""

    http_status = 503
    detail = "stop-not-confirmed"


class NoReplicas:
    """A server that shares its store with no replica."""

    async def run(self, running: RunningJob, lead: Lead) -> Outcome:
        """Run a job here."""
        return await lead(running, was_elsewhere=False)

    async def has_job(self, key: Key) -> bool:  # noqa: ARG002 - as in the protocol
        """Return False."""
        return False

    async def jobs(self) -> list[Key]:
        """Return nothing."""
        return []

    async def is_alone(self, key: Key, sessions: Collection[str]) -> bool:  # noqa: ARG002 - as in the protocol
        """Return True."""
        return True

    async def stop(self, key: Key, stopped_by: str) -> None:
        """Do nothing."""

    @asynccontextmanager
    async def place(self, running: RunningJob) -> AsyncIterator[None]:  # noqa: ARG002 - as in the protocol
        """Do nothing."""
        yield
