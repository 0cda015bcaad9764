"""The aiohttp application: converts requests and answers, and logs them."""

from __future__ import annotations

import logging
import time
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from oda_proxy.access.authentication import Authentication
from oda_proxy.access.hosts import HostPolicy, WrongHostError
from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.message import RequestNotes
from oda_proxy.metrics.outcomes import outcome_of
from oda_proxy.web import job_pages, metrics_page, pages, sign_in
from oda_proxy.web.connection import Connection
from oda_proxy.web.direct import direct_handler
from oda_proxy.web.front_end import ADDRESSES, DIRECT
from oda_proxy.web.limited_answering import LimitedAnswering
from oda_proxy.web.log_formats import RequestRecord
from oda_proxy.web.messages import MAX_FORM, read, send
from oda_proxy.web.own_routes import GUARD, Guard, add_own_routes
from oda_proxy.web.place import PLACE
from oda_proxy.web.problems import problem_of
from oda_proxy.web.repeated_requests import Account
from oda_proxy.web.request_log import HEADER, REQUEST_ID, REQUEST_IDS, RequestIds, RequestLog
from oda_proxy.web.server import DIRECT_HANDLER
from oda_proxy.web.server_state import ServerState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.typedefs import Middleware

    from oda_proxy.http.cors import CorsPolicy
    from oda_proxy.http.message import Request
    from oda_proxy.proxy import Proxy
    from oda_proxy.store.near_misses import NearMissHandler
    from oda_proxy.web.front_end import Addresses
    from oda_proxy.web.metrics_page import GetSnapshot
    from oda_proxy.web.own_routes import OwnRoute, Respond
    from oda_proxy.web.pages import Status
    from oda_proxy.web.place import Place

_log = logging.getLogger(__name__)


class Answering(Protocol):
    """Answers requests, as `Proxy.answer` does."""

    async def __call__(self, request: Request, *, origin: str) -> Answer:
        """Answer a request; `origin` is the URL of the proxy as the client sees it."""


def make_app(
    proxy: Proxy,
    near_misses: NearMissHandler | None = None,
    *,
    guard: Guard | None = None,
    routes: Sequence[OwnRoute] = (),
    answer: Answering | None = None,
    page_middlewares: Sequence[Middleware] = (),
    status: Status | None = None,
    metrics: GetSnapshot | None = None,
    server: ServerState | None = None,
    is_logged: bool = True,
    addresses: Addresses = DIRECT,
    place: Place | None = None,
) -> web.Application:
    """Return the application that serves `proxy`, with the pages about it and its near misses.

    `guard` tells who may use the proxy's own routes, of which `routes` are further ones.

    A process among several has its own `answer`, in place of `proxy.answer`, `page_middlewares` for requests for its
    pages, and `status` and `metrics`, which return what `/-/status` and `/-/metrics` show. Requests are logged and
    counted if `is_logged`. `addresses` says where requests were sent to, and where from, `place` which of several
    upstreams the application serves.
    """
    guard = guard or Guard(Authentication(), HostPolicy())
    middlewares = [*page_middlewares, guard.middleware]
    app = web.Application(client_max_size=MAX_FORM, middlewares=middlewares)
    app[ADDRESSES] = addresses
    app[GUARD] = guard
    if place is not None:
        app[PLACE] = place
    app.on_response_prepare.append(_add_headers)
    server = server or ServerState()
    own_pages = pages.routes(proxy, near_misses, status or partial(pages.status_of, proxy, server), server)
    figures = metrics_page.routes(metrics or partial(metrics_page.snapshot_of, proxy, server))
    sign_in_pages = sign_in.routes(guard.authentication)
    add_own_routes(app, [*own_pages, *job_pages.routes(proxy), *figures, *sign_in_pages, *routes])

    async def release_waiters(_: web.Application) -> None:
        """Answer clients that wait for a job before the server stops."""
        server.is_draining = True
        proxy.jobs.release_waiters()

    app.on_shutdown.append(release_waiters)

    app[REQUEST_IDS] = ids = RequestIds()
    log = RequestLog(proxy.request_counts) if is_logged else None

    answer_to: Answering = answer or proxy.answer
    if guard.limiter and is_logged:
        answer_to = LimitedAnswering(answer_to, guard.limiter, proxy.limits)

    async def answer_client(incoming: web.Request) -> web.StreamResponse:
        return await respond(incoming, answer_to, proxy.cors, ids=ids, log=log, addresses=addresses)

    handle = _for_own_names(answer_client, guard.hosts) if guard.hosts.is_for_all else answer_client
    app.router.add_route("*", "/{path:.*}", handle)
    app[DIRECT_HANDLER] = direct_handler(handle, addresses)
    return app


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that every answer has to those without them: pages, and errors of aiohttp."""
    response.headers.setdefault("Cache-Status", str(CacheStatus()))
    if HEADER not in response.headers:
        response.headers[HEADER] = request.get(REQUEST_ID) or request.app[REQUEST_IDS].new()


def _for_own_names(handler: Respond, hosts: HostPolicy) -> Respond:
    """Return a handler that refuses requests for another `Host`."""

    async def handle(incoming: web.Request) -> web.StreamResponse:
        try:
            hosts.check(incoming.headers.get("Host"))
        except WrongHostError as error:
            return problem_of(error)
        return await handler(incoming)

    return handle


async def respond(
    incoming: web.Request,
    answer_to: Answering,
    cors: CorsPolicy,
    *,
    ids: RequestIds,
    log: RequestLog | None = None,
    addresses: Addresses = DIRECT,
) -> web.StreamResponse:
    """Answer a request with what `answer_to` returns for it; `cors` is for one that cannot be read.

    A request that no front end has given an id gets one of `ids`. It is counted and logged with `log`.
    """
    start, request_id = time.monotonic(), addresses.request_id(incoming) or ids.new()
    try:
        request = await read(incoming, addresses.target(incoming), addresses, RequestNotes(request_id))
    except ConnectionError:
        _log.debug("a client disconnected before it had sent its whole form")
        return web.Response(status=HTTPStatus.BAD_REQUEST)
    except web.HTTPException as error:
        refused = Answer(error.status, (), (), CacheStatus())
        error.headers.extend(cors.apply(refused, tuple(incoming.headers.items())).headers)
        raise
    answer = await answer_to(request, origin=addresses.public_url(incoming))
    response = await send(answer, incoming, request_id)
    if log is not None:
        record = RequestRecord(
            time.time(),
            request_id,
            request.method,
            addresses.mount + request.path,
            answer.status,
            str(answer.cache_status),
            outcome_of(answer.cache_status),
            max(response.body_length, 0),
            time.monotonic() - start,
            request.client_address,
            request.notes,
        )
        log.note(record, received=_size(incoming, request))
        if answer.repeatable is not None and isinstance(incoming.protocol, Connection):
            incoming.protocol.note(incoming, answer, response, Account(record, log, ids))
    return response


def _size(incoming: web.Request, request: Request) -> int:
    """Return the bytes of the body of a request; 0 where it is streamed without a length."""
    if request.body is None:
        return 0
    return len(request.body) if isinstance(request.body, bytes) else incoming.content_length or 0
