"""Recording answers of servers other than dispatchers: pages, and POST to services that the author names."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from oda_proxy.capsule import exchange
from oda_proxy.capsule.errors import CapsuleError
from oda_proxy.capsule.secrets import credentials_in, may_hold_secret
from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http.answer import buffered
from oda_proxy.recordings.redaction import NotStorableError
from oda_proxy.run.listeners import relay
from oda_proxy.upstream.any_server import ServerUnreachableError

if TYPE_CHECKING:
    from oda_proxy.capsule.writer import CapsuleWriter
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Headers
    from oda_proxy.run.forwarded_request import ForwardedRequest
    from oda_proxy.run.summary import RunSummary
    from oda_proxy.upstream.any_server import AnyServer


@dataclass(frozen=True, slots=True)
class PagePolicy:
    """Which pages are recorded."""

    max_size: int = exchange.MAX_BODY
    """Bytes of a body."""
    post_hosts: frozenset[str] = frozenset()
    """Hosts whose answers to POST are recorded, in lower case. All of their answers to equal requests are recorded, in
    order, as asynchronous services (TAP, UWS) answer the same request differently in time."""


class PageRecorder:
    """Answers requests from their servers, and records the answers that are public."""

    def __init__(self, writer: CapsuleWriter, servers: AnyServer, summary: RunSummary, policy: PagePolicy) -> None:
        self._writer = writer
        self._servers = servers
        self._summary = summary
        self._policy = policy
        self._latest: dict[tuple[str, str, Headers, str | None], exchange.Exchange] = {}
        self._saving = asyncio.Lock()

    async def answer(self, forwarded: ForwardedRequest) -> Answer:
        """Answer a request, and record the answer. Raises ServerUnreachableError."""
        request = forwarded.request
        what = f"{request.method} {without_query(forwarded)}"
        try:
            digest = self._check_request(forwarded)
        except NotStorableError as reason:
            self._summary.note_not_recorded(what, reason)
            return await relay(self._servers, forwarded)
        request = replace(request, headers=exchange.identity_encoding(request.headers))
        try:
            answer = await relay(self._servers, replace(forwarded, request=request))
            exchange.check_answer(answer.status, answer.headers)
            answer = await buffered(answer, self._policy.max_size)
            if not isinstance(answer.body, tuple):
                raise NotStorableError("too-large")  # noqa: TRY301 - handled like the other reasons
            recorded = exchange.exchange_from_answer(
                forwarded.url,
                request.headers,
                answer.status,
                answer.headers,
                b"".join(answer.body),
                when=time.time(),
                method=request.method,
                request_digest=digest,
            )
            await self._save(recorded, is_series=forwarded.origin.host in self._policy.post_hosts)
        except (NotStorableError, CapsuleError) as reason:
            self._summary.note_not_recorded(what, reason)
        except (ServerUnreachableError, UpstreamUnreachableError) as error:
            self._summary.note_not_recorded(what, error.detail)
            raise
        return answer

    def _check_request(self, forwarded: ForwardedRequest) -> str | None:
        """Return the digest of the body of a POST. Raises NotStorableError where an answer may not be recorded."""
        request = forwarded.request
        is_post = request.method == "POST" and forwarded.origin.host in self._policy.post_hosts
        exchange.check_request(request.method, forwarded.url, request.headers, post=is_post)
        if not is_post:
            return None
        if not isinstance(request.body, bytes | None):
            raise NotStorableError("upload-too-large")
        if credentials_in(request):
            raise NotStorableError("credentials")
        return exchange.request_digest(request.headers, request.body or b"")

    async def _save(self, recorded: exchange.Exchange, *, is_series: bool) -> None:
        """Save an exchange; of equal requests the first, or in a series each answer that differs from the one before.

        Raises CapsuleError.
        """
        async with self._saving:
            if latest := self._latest.get(recorded.request):
                is_new = (latest.status, latest.headers, latest.body) != (
                    recorded.status,
                    recorded.headers,
                    recorded.body,
                )
                if is_series and is_new and latest.occurrence < exchange.MAX_OCCURRENCES:
                    recorded = replace(recorded, occurrence=latest.occurrence + 1)
                else:
                    recorded = latest
            await asyncio.to_thread(self._writer.save_exchange, recorded)
            self._latest[recorded.request] = recorded
        self._writer.count_exchange_use(recorded.name)
        self._summary.exchanges.add(recorded.name)


def without_query(forwarded: ForwardedRequest) -> str:
    """Return a URL without its query, and without its path where that may hold a secret."""
    address = forwarded.url.partition("?")[0]
    return str(forwarded.origin) if may_hold_secret(address) else address
