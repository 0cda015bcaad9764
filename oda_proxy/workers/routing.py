"""Which requests a worker answers itself, and which it forwards to the leader."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from aiohttp import web

from oda_proxy.errors import InternalError, OdaProxyError
from oda_proxy.http.answer import Answer, text_error
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.metrics.snapshot import from_json, to_json, total
from oda_proxy.web.app import respond
from oda_proxy.web.front_end import ADDRESSES
from oda_proxy.web.pages import durations_of, status_of
from oda_proxy.web.request_log import REQUEST_IDS
from oda_proxy.workers.forwarding import NOT_LEADER, received
from oda_proxy.workers.totals import add_up

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from oda_proxy.http.message import Request
    from oda_proxy.metrics.snapshot import Snapshot
    from oda_proxy.proxy import Proxy
    from oda_proxy.web.server_state import ServerState
    from oda_proxy.workers.forwarding import Forwarder
    from oda_proxy.workers.membership import Membership
    from oda_proxy.workers.saved_metrics import SavedMetrics

_log = logging.getLogger(__name__)

ALIVE: Final = frozenset({"/-/livez", "/-/readyz"})
"""Pages that are about the worker that receives the request."""
SELF_METRICS: Final = "/-/worker/metrics"
"""The values of all metrics of a worker as JSON, on the same listener."""
SELF: Final = "/-/worker"
"""The page of a worker about itself, on its listener for other workers only; POST expires its descriptions."""
_PAGES: Final = "/-/"
_MISDIRECTED: Final = 421


class ClientRouting:
    """The way of requests of clients: what this worker cannot answer alone is forwarded, unless it leads."""

    def __init__(self, proxy: Proxy, membership: Membership, forwarder: Forwarder) -> None:
        self._proxy = proxy
        self._membership = membership
        self._forwarder = forwarder

    async def answer(self, request: Request, *, origin: str) -> Answer:
        """Answer a request, as `Proxy.answer` does."""
        if self._membership.leading.is_set():
            return await self._proxy.answer(request, origin=origin)
        try:
            answer = await self._proxy.answer_alone(request, origin=origin)
            return answer or await self._forwarder.send(request, base_url=origin)
        except OdaProxyError as error:
            return self._proxy.cors.apply(text_error(error), request.headers)
        except Exception as error:  # noqa: BLE001 - as in `Proxy.answer`
            _log.error("%s", (internal := InternalError(error)).log_line)
            return self._proxy.cors.apply(text_error(internal), request.headers)

    @property
    def pages(self) -> Middleware:
        """The middleware of the proxy's own pages: they are the leader's."""

        @web.middleware
        async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
            is_own = self._membership.leading.is_set() or request.path in ALIVE
            if is_own or not request.path.startswith(_PAGES):
                return await handler(request)
            addresses, ids = request.app[ADDRESSES], request.app[REQUEST_IDS]
            return await respond(request, self.answer, self._proxy.cors, ids=ids, addresses=addresses)

        return handle


class WorkerRouting:
    """The way of requests that other workers forward: they are refused unless this one leads."""

    def __init__(self, proxy: Proxy, membership: Membership, server: ServerState, metrics: SavedMetrics) -> None:
        self._proxy = proxy
        self._membership = membership
        self._server = server
        self._metrics = metrics

    async def answer(self, request: Request, *, origin: str) -> Answer:
        """Answer a request, as `Proxy.answer` does; a leader that was just chosen resumes the jobs first."""
        if not self._membership.leads:
            return Answer(_MISDIRECTED, ((NOT_LEADER, "yes"), ("Content-Length", "0")), (), CacheStatus())
        await self._membership.leading.wait()
        return await self._proxy.answer(received(request), origin=origin)

    @property
    def pages(self) -> Middleware:
        """The middleware of the proxy's own pages, and of the page of this worker about itself."""

        @web.middleware
        async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path == SELF:
                if request.method == "POST":
                    self._proxy.expire_descriptions()
                served = self._proxy.has_served(request.query.get("session", ""))
                return web.json_response({**await _page_of(self._proxy, self._server), "served": served})
            if request.path == SELF_METRICS:
                return web.json_response(to_json(await self._metrics.snapshot(with_store=False)))
            if not request.path.startswith(_PAGES):
                return await handler(request)
            if not self._membership.leads:
                return web.Response(status=_MISDIRECTED, headers={NOT_LEADER: "yes"})
            await self._membership.leading.wait()
            return await handler(request)

        return handle


async def _page_of(proxy: Proxy, server: ServerState) -> dict[str, Any]:
    """Return what a worker reports of itself to the others."""
    return {"pid": os.getpid(), "status": await status_of(proxy, server), "durations": durations_of(proxy)}


class Others:
    """The other workers, as the leader needs them."""

    def __init__(self, membership: Membership, forwarder: Forwarder) -> None:
        self._membership = membership
        self._forwarder = forwarder

    async def metrics(self, own: SavedMetrics) -> Snapshot:
        """Return the values of all metrics for all workers together.

        Of a worker that does not answer, or has ended, the counters are as it has last saved them.
        """
        snapshots = [await own.snapshot()]
        live = dict(await self._pages(SELF_METRICS))
        for number in own.others:
            try:
                snapshots.append(from_json(live[number]))
            except (KeyError, ValueError, TypeError, AttributeError):
                snapshots.append(await asyncio.to_thread(own.saved, number))
        return total(snapshots)

    async def have_served(self, session_id: str) -> bool:
        """Return whether another worker has served a recording to a session."""
        return any(page["served"] for _, page in await self._pages(f"{SELF}?session={quote(session_id, safe='')}"))

    async def expire_descriptions(self) -> None:
        """Have all of them fetch descriptions again."""
        await self._pages(SELF, method="POST")

    async def status(self, proxy: Proxy, server: ServerState) -> dict[str, Any]:
        """Return the members of `/-/status` for all workers together."""
        own = (self._membership.number, await _page_of(proxy, server))
        return add_up([own, *await self._pages(SELF)])

    async def _pages(self, path: str, *, method: str = "GET") -> list[tuple[int, dict[str, Any]]]:
        numbers = self._membership.others
        pages = await asyncio.gather(*(self._forwarder.page(number, path, method=method) for number in numbers))
        return [(number, page) for number, page in zip(numbers, pages, strict=True) if page is not None]
