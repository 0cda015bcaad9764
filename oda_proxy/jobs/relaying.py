"""Queries that are relayed as they are: nobody else joins their jobs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from oda_proxy.http.answer import OK
from oda_proxy.http.spool import spooled
from oda_proxy.jobs.ending import is_failure, redact_failure
from oda_proxy.jobs.exchange import MAX_STORED
from oda_proxy.jobs.job import Job
from oda_proxy.query import analysis_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.cache_status import Forwarded
    from oda_proxy.http.message import Request
    from oda_proxy.jobs.client import Client
    from oda_proxy.jobs.services import JobServices
    from oda_proxy.query.query import Envelope
    from oda_proxy.query.resolved import ResolvedQuery


class QueryRelay:
    """Relays queries; `clock` returns s since 1970 (UTC)."""

    def __init__(self, services: JobServices, clock: Callable[[], float]) -> None:
        self.stored = 0
        """Answers that were stored."""
        self._services = services
        self._clock = clock

    async def send(
        self, request: Request, base_url: str, forwarded: Forwarded, api_client: Envelope | None, *, detail: str
    ) -> Answer:
        """Relay a request whose answer is not stored; the answer is repaired for API clients only."""
        send, pipeline = self._services.relay.send, self._services.pipeline
        if api_client is None or request.method == "HEAD":
            return await send(request, base_url, forwarded, detail=detail)
        reply = await send(analysis_request.uncompressed(request), base_url, forwarded, detail=detail)
        answer = await spooled(reply, MAX_STORED)
        return await pipeline.adapted(await pipeline.repaired(answer, api_client, base_url=base_url), api_client)

    async def send_and_store(self, resolved: ResolvedQuery, client: Client, forwarded: Forwarded) -> Answer:
        """Relay a query, and store its answer if it is complete."""
        services, envelope = self._services, client.envelope
        job = Job(self._clock())
        reply = await services.relay.send(client.request, client.base_url, forwarded)
        answer = await spooled(reply, MAX_STORED)
        if answer.status == OK:
            services.tokens.mark_verified(envelope.token)
        async with services.budget.hold():
            recorder = services.cache.recorder(answer, resolved, envelope)
            answer = await services.pipeline.repaired(answer, envelope, observer=recorder, base_url=client.base_url)
            result = await services.cache.store(answer, resolved, envelope, job, recorder)
        self.stored += result.stored
        if result.stored and result.recording:
            await services.observer.stored(result.recording)
        elif await asyncio.to_thread(is_failure, answer, envelope):
            failed_at = self._clock()
            failure = await asyncio.to_thread(redact_failure, answer, resolved, envelope, failed_at=failed_at)
            await services.observer.failed(resolved, failure)
        status = replace(answer.cache_status, stored=result.stored, detail=result.detail)
        return await services.pipeline.adapted(replace(answer, cache_status=status), envelope)
