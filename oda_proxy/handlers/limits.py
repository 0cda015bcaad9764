"""Requests of clients that are over a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from oda_proxy.errors import OdaProxyError
from oda_proxy.http import routes
from oda_proxy.http.answer import error_answer
from oda_proxy.http.routes import Kind
from oda_proxy.jobs.coalescing import provisional_job_id
from oda_proxy.jobs.limit_answers import limit_answer
from oda_proxy.query import analysis_request
from oda_proxy.query.client_name import client_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.access.client_limits import Refusal
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.cors import CorsPolicy
    from oda_proxy.http.message import Request
    from oda_proxy.query.audience import TokenVerifier
    from oda_proxy.query.query import Envelope, Query
    from oda_proxy.query.query_memo import QueryMemo
    from oda_proxy.query.resolved import QueryResolver


class TooManyRequestsError(OdaProxyError):
    """A client is over a limit (RFC 6585, section 4)."""

    http_status = 429
    detail = "client-limit"


@dataclass(frozen=True, slots=True)
class LimitHandler:
    """Names clients, and answers those that are over a limit; `clock` returns s since 1970 (UTC)."""

    memo: QueryMemo
    resolver: QueryResolver
    tokens: TokenVerifier
    cors: CorsPolicy
    clock: Callable[[], float]

    def client_name(self, request: Request) -> str:
        """Return the name of the client of a request."""
        has_token = "token" in request.query_string or isinstance(request.body, bytes)
        found = self._query(request) if has_token else None
        return client_name(request.client_address, found[1].token if found else None, self.tokens)

    def may_hold(self, request: Request) -> bool:
        """Return whether a request may wait until it is within the limits: clients need descriptions at once."""
        try:
            return routes.find(request.path).kind in {Kind.DESCRIPTION, Kind.INSTRUMENTS}
        except OdaProxyError:
            return False

    async def answer(self, request: Request, refusal: Refusal) -> Answer:
        """Answer a request that is refused: a query of oda_api as a job that waits, anything else as an error."""
        seconds = max(math.ceil(refusal.retry_after), 1)
        found = self._query(request)
        if found is not None and found[0].api:
            query, envelope = found
            audience = self.tokens.audience(envelope.token)
            job_id = ""
            if not envelope.job_id and audience is not None:
                may_request = not routes.find(request.path).scope.only
                resolved = await self.resolver.resolve(query, audience=audience, may_request=may_request)
                job_id = provisional_job_id(resolved)
            answer = limit_answer(envelope, job_id=job_id, reason=refusal.reason, retry_after=seconds, now=self.clock())
        else:
            error = TooManyRequestsError(f"{refusal.reason}; send the request again in {seconds} s")
            text = f"{error}\n".encode()
            answer = error_answer(HTTPStatus.TOO_MANY_REQUESTS, "text/plain; charset=utf-8", text, error)
            answer = replace(answer, headers=(*answer.headers, ("Retry-After", str(seconds))))
        return self.cors.apply(answer, request.headers)

    def _query(self, request: Request) -> tuple[Query, Envelope] | None:
        """Return the query of a request, with its envelope; None where it has none."""
        try:
            if routes.find(request.path).kind is not Kind.ANALYSIS or request.method not in {"GET", "POST"}:
                return None
            return analysis_request.read_query(request, self.memo)
        except OdaProxyError:
            return None
