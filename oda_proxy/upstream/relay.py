"""Forwards requests to the upstream, and responses back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from oda_proxy.errors import NoRecordingError
from oda_proxy.http import front_end_headers, headers
from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.redirects import rewrite_location
from oda_proxy.http.routes import has_effects

if TYPE_CHECKING:
    from oda_proxy.http.cache_status import Forwarded
    from oda_proxy.http.message import Headers, Reply, Request, Upstream

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_RETURNED = ("x-request-id",)
"""Headers that the proxy sets itself."""
_NOT_FORWARDED = ("host", "expect", "accept-datetime", *front_end_headers.HEADERS, *front_end_headers.OTHER_HEADERS)
"""`Host` names the upstream, our server has already responded to `Expect`, and front ends address this server alone.

An upstream that is a proxy like this one would answer `Accept-Datetime`, which would be stored as the answer of today.
"""


@dataclass(frozen=True, slots=True)
class Relay:
    """Forwards requests to the upstream; without one, each is a miss."""

    upstream: Upstream | None

    async def send(self, request: Request, base_url: str, forwarded: Forwarded, *, detail: str = "") -> Answer:
        """Forward a request and return the answer, its body unread.

        Redirects are rewritten to `base_url`, the proxy's own address with the prefix of the client. A request to a
        route that has effects is never sent a second time, unless it says otherwise.

        Raises UpstreamUnreachableError where the upstream does not respond, NoRecordingError where there is none,
        or where the request is for what was recorded at a past time only.
        """
        if self.upstream is None:
            raise NoRecordingError("offline: there is no recording of this, and no dispatcher to request it from")
        if request.scope.only and request.scope.as_of is not None:
            raise NoRecordingError(
                f"as of {request.scope.as_of.text}: there is no recording of this; an address without /only requests it"
            )
        without = (*_NOT_FORWARDED, "content-length") if isinstance(request.body, bytes) else _NOT_FORWARDED
        onward = headers.end_to_end(request.headers, without=without)
        at_most_once = has_effects(request.path) if request.at_most_once is None else request.at_most_once
        reply = await self.upstream.send(replace(request, headers=onward, at_most_once=at_most_once))
        status = CacheStatus(forwarded=forwarded, status=reply.status, detail=detail)
        return Answer(reply.status, _client_headers(reply, self.upstream.url, base_url), reply.body, status)

    async def send_instrument_list(
        self, request: Request, base_url: str, forwarded: Forwarded, *, detail: str = ""
    ) -> Answer:
        """Request the list of instruments, following its redirect.

        Since 1.3.6 dispatchers redirect it to their public site: a client that followed would bypass the proxy.
        """
        answer = await self.send(request, base_url, forwarded, detail=detail)
        if answer.status not in _REDIRECTS:
            return answer
        await answer.close()
        return await self.send(replace(request, path="/instr-list"), base_url, forwarded, detail=detail)


def _client_headers(reply: Reply, upstream: str, base_url: str) -> Headers:
    """Return the headers of a reply for the client."""
    return tuple(
        (
            name,
            rewrite_location(value, upstream=upstream, base_url=base_url) if name.casefold() == "location" else value,
        )
        for name, value in headers.end_to_end(reply.headers, without=_NOT_RETURNED)
    )
