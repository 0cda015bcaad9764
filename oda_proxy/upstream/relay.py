"""Passing a request on to the upstream, and its answer back, faithfully."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from oda_proxy.errors import NoRecordingError
from oda_proxy.http import headers
from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.redirects import rewrite_location
from oda_proxy.http.routes import has_effects

if TYPE_CHECKING:
    from oda_proxy.http.cache_status import Forwarded
    from oda_proxy.http.message import Headers, Reply, Request, Upstream

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_SENT_ON = ("host", "expect")
"""Ours to set: `Host` names the upstream, and `Expect` was answered already."""


@dataclass(frozen=True, slots=True)
class Relay:
    """Asks the upstream; where there is none, everything is a miss."""

    upstream: Upstream | None

    async def send(self, request: Request, here: str, forwarded: Forwarded, *, detail: str = "") -> Answer:
        """Ask, and give the answer as it comes; redirects point at `here`, our own address with the client's prefix.

        What a route changes is changed once: such requests are never sent a second time, unless they say otherwise.

        Raises UpstreamUnreachableError where nobody answers, NoRecordingError where there is nobody to ask.
        """
        if self.upstream is None:
            raise NoRecordingError("offline: there is no recording of this, and no dispatcher to ask")
        without = (*_NOT_SENT_ON, "content-length") if isinstance(request.body, bytes) else _NOT_SENT_ON
        onward = headers.end_to_end(request.headers, without=without)
        at_most_once = has_effects(request.path) if request.at_most_once is None else request.at_most_once
        reply = await self.upstream.send(replace(request, headers=onward, at_most_once=at_most_once))
        status = CacheStatus(forwarded=forwarded, status=reply.status, detail=detail)
        return Answer(reply.status, _back(reply, self.upstream.url, here), reply.body, status)

    async def send_instrument_list(
        self, request: Request, here: str, forwarded: Forwarded, *, detail: str = ""
    ) -> Answer:
        """Ask for the list of instruments where it really is.

        Since 1.3.6 dispatchers redirect it, to the public site as they know it: a client that followed would leave us.
        """
        answer = await self.send(request, here, forwarded, detail=detail)
        if answer.status not in _REDIRECTS:
            return answer
        await answer.close()
        return await self.send(replace(request, path="/instr-list"), here, forwarded, detail=detail)


def _back(reply: Reply, upstream: str, here: str) -> Headers:
    """Give the headers of a reply as our client is to see them."""
    return tuple(
        (name, rewrite_location(value, upstream=upstream, base_url=here) if name.casefold() == "location" else value)
        for name, value in headers.end_to_end(reply.headers)
    )
