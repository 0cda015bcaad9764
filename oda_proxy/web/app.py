"""The aiohttp application: a request becomes an Ask, an Answer becomes a response, and nothing is decided here."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from aiohttp import web

from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.proxy import Proxy
from oda_proxy.web import pages
from oda_proxy.web.messages import MAX_FORM, read, send

if TYPE_CHECKING:
    from oda_proxy.store.near_misses import NearMissHandler

_log = logging.getLogger(__name__)

PROXY = web.AppKey("proxy", Proxy)


def make_app(proxy: Proxy, near_misses: NearMissHandler | None = None) -> web.Application:
    """Make the application that lets clients reach `proxy`, and people what it and its near misses tell."""
    app = web.Application(client_max_size=MAX_FORM)
    app[PROXY] = proxy
    app.on_response_prepare.append(_name_ourselves)
    pages.add_to(app, proxy, near_misses)
    app.on_shutdown.append(_let_go)
    app.router.add_route("*", "/{path:.*}", _dispatch)
    return app


async def _name_ourselves(_: web.Request, response: web.StreamResponse) -> None:
    """Say in every answer whose it is, also in those that aiohttp makes by itself."""
    response.headers.setdefault("Cache-Status", str(CacheStatus()))


async def _let_go(app: web.Application) -> None:
    """Answer those who wait for a job before the server ends."""
    app[PROXY].jobs.wake()


async def _dispatch(incoming: web.Request) -> web.StreamResponse:
    """Answer whatever is not a page of our own."""
    began = time.monotonic()
    request = await read(incoming, incoming.raw_path)
    answer = await incoming.app[PROXY].answer(request, origin=f"{incoming.scheme}://{incoming.host}")
    response = await send(answer, incoming)
    # The path only: a query may hold a token.
    took = time.monotonic() - began
    _log.info("%s %s %d %s %.3f s", request.method, request.path, answer.status, answer.cache_status, took)
    return response
