"""Seeing what becomes of the queries that a proxy answers, to keep it elsewhere too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording


class QueryObserver(Protocol):
    """Is told what became of each query, before the asker is; it raises nothing."""

    async def kept(self, recording: Recording) -> None:
        """See a complete answer that was just kept: what was asked, its timeline and its products can be read."""

    async def given(self, recording: Recording) -> None:
        """See a recording that is given to an asker, who reads its products: they are not ours to read or close."""

    async def failed(self, resolved: ResolvedQuery, failure: Failure | None) -> None:
        """See how the dispatcher said that a job failed; None where its words name who asked."""

    async def missed(self, resolved: ResolvedQuery, message: str) -> None:
        """See a query that was not recorded, where there is nobody to ask."""


class NullObserver:
    """Looks away."""

    async def kept(self, recording: Recording) -> None:
        """Look away."""

    async def given(self, recording: Recording) -> None:
        """Look away."""

    async def failed(self, resolved: ResolvedQuery, failure: Failure | None) -> None:
        """Look away."""

    async def missed(self, resolved: ResolvedQuery, message: str) -> None:
        """Look away."""
