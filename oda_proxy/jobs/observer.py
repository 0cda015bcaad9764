"""The interface of what observes the outcome of each query, to store it elsewhere, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording


class QueryObserver(Protocol):
    """Called with the outcome of each query before the client receives it; raises nothing."""

    async def stored(self, recording: Recording) -> None:
        """Observe a recording that was just stored; its products can be read."""

    async def served(self, recording: Recording) -> None:
        """Observe a recording that is sent to a client, which reads and closes its products."""

    async def failed(self, resolved: ResolvedQuery, failure: Failure | None) -> None:
        """Observe a job that failed; the failure is None where its text names the client."""

    async def missed(self, resolved: ResolvedQuery, message: str) -> None:
        """Observe a query that was not recorded, where there is no upstream."""


class NullObserver:
    """Does nothing."""

    async def stored(self, recording: Recording) -> None:
        """Do nothing."""

    async def served(self, recording: Recording) -> None:
        """Do nothing."""

    async def failed(self, resolved: ResolvedQuery, failure: Failure | None) -> None:
        """Do nothing."""

    async def missed(self, resolved: ResolvedQuery, message: str) -> None:
        """Do nothing."""
