"""Which requests a worker answers itself, and which it forwards to the leader."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from oda_proxy.errors import InternalError, OdaProxyError
from oda_proxy.http.answer import text_error
from oda_proxy.web.app import respond
from oda_proxy.web.pages import status_of
from oda_proxy.workers.forwarding import NOT_LEADER
from oda_proxy.workers.totals import add_up

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request
    from oda_proxy.proxy import Proxy
    from oda_proxy.workers.forwarding import Forwarder
    from oda_proxy.workers.membership import Membership

_log = logging.getLogger(__name__)

ALIVE: Final = frozenset({"/-/livez", "/-/readyz"})
"""Pages that are about the worker that receives the request."""
SELF: Final = "/-/worker"
"""The page of a worker about itself, on its listener for other workers only."""
_OWN_PAGES: Final = "/-/"
_MISDIRECTED: Final = 421


def for_clients(proxy: Proxy, membership: Membership, forwarder: Forwarder) -> Middleware:
    """Return the middleware for requests of clients: those without a recording are forwarded, unless this one leads."""

    async def answer_to(request: Request, *, origin: str) -> Answer:
        try:
            recorded = await proxy.answer_recorded(request, origin=origin)
            return recorded or await forwarder.send(request)
        except OdaProxyError as error:
            return proxy.cors.apply(text_error(error), request.headers)
        except Exception as error:  # noqa: BLE001 - as in `Proxy.answer`
            _log.error("%s", (internal := InternalError(error)).log_line)
            return proxy.cors.apply(text_error(internal), request.headers)

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        if membership.leading.is_set() or request.path in ALIVE:
            return await handler(request)
        return await respond(request, answer_to, is_logged=not request.path.startswith(_OWN_PAGES))

    return handle


def for_workers(proxy: Proxy, membership: Membership) -> Middleware:
    """Return the middleware for requests that other workers forward: they are refused unless this one leads."""

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == SELF:
            served = proxy.has_served(request.query.get("session", ""))
            return web.json_response({"pid": os.getpid(), "status": await status_of(proxy), "served": served})
        if not membership.leads:
            return web.Response(status=_MISDIRECTED, headers={NOT_LEADER: "yes"})
        await membership.leading.wait()
        return await handler(request)

    return handle


class Others:
    """What the other workers know, as the leader needs it."""

    def __init__(self, membership: Membership, forwarder: Forwarder) -> None:
        self._membership = membership
        self._forwarder = forwarder

    async def have_served(self, session_id: str) -> bool:
        """Return whether another worker has served a recording to a session."""
        return any(page["served"] for _, page in await self._pages(f"{SELF}?session={session_id}"))

    async def status(self, proxy: Proxy) -> dict[str, Any]:
        """Return the members of `/-/status` for all workers together."""
        own = (self._membership.number, {"pid": os.getpid(), "status": await status_of(proxy)})
        return add_up([own, *await self._pages(SELF)])

    async def _pages(self, path: str) -> list[tuple[int, dict[str, Any]]]:
        numbers = self._membership.others
        pages = await asyncio.gather(*(self._forwarder.page(number, path) for number in numbers))
        return [(number, page) for number, page in zip(numbers, pages, strict=True) if page is not None]
