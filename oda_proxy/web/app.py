"""The aiohttp application: a request becomes an Ask, an Answer becomes a response, and nothing is decided here."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from aiohttp import web

from oda_proxy.cache_status import CacheStatus
from oda_proxy.errors import OdaProxyError
from oda_proxy.headers import media_type
from oda_proxy.multipart import MULTIPART
from oda_proxy.proxy import FORM, Proxy
from oda_proxy.upstream.base import Ask
from oda_proxy.web import pages

if TYPE_CHECKING:
    from oda_proxy.answer import Answer

_log = logging.getLogger(__name__)

MAX_FORM = 64 * 1024 * 1024
"""Bytes of a form that is read: catalogues and long lists of science windows."""

PROXY = web.AppKey("proxy", Proxy)


def make_app(proxy: Proxy) -> web.Application:
    """Make the application that lets clients reach `proxy`."""
    app = web.Application(client_max_size=MAX_FORM)
    app[PROXY] = proxy
    app.on_response_prepare.append(_name_ourselves)
    pages.add_to(app, proxy)
    app.router.add_route("*", "/{path:.*}", _dispatch)
    return app


async def _name_ourselves(_: web.Request, response: web.StreamResponse) -> None:
    """Say in every answer whose it is, also in those that aiohttp makes by itself."""
    response.headers.setdefault("Cache-Status", str(CacheStatus()))


async def _dispatch(request: web.Request) -> web.StreamResponse:
    """Answer whatever is not a page of our own."""
    began = time.monotonic()
    path, _, query_string = request.raw_path.partition("?")
    ask = Ask(request.method, path, query_string, tuple(request.headers.items()))
    if request.can_read_body:
        body = await request.read() if _is_form(request, ask) else request.content.iter_chunked(64 * 1024)
        ask = Ask(ask.method, ask.path, ask.query_string, ask.headers, body)
    answer = await request.app[PROXY].answer(ask, origin=f"{request.scheme}://{request.host}")
    response = await _send(answer, request)
    # The path only: a query may hold a token.
    took = time.monotonic() - began
    _log.info("%s %s %d %s %.3f s", request.method, path, answer.status, answer.cache_status, took)
    return response


def _is_form(request: web.Request, ask: Ask) -> bool:
    """Tell whether a body is a form that has to be read; large files that are uploaded pass through as they come."""
    if media_type(ask.headers) == MULTIPART and ask.path.endswith("/run_analysis"):
        return request.content_length is not None and request.content_length <= MAX_FORM
    return media_type(ask.headers) == FORM


async def _send(answer: Answer, request: web.Request) -> web.StreamResponse:
    """Send an answer, piece by piece."""
    response = web.StreamResponse(status=answer.status)
    for name, value in answer.headers:
        response.headers.add(name, value)
    response.headers.add("Cache-Status", str(answer.cache_status))
    try:
        await response.prepare(request)
        if request.method != "HEAD":
            if isinstance(answer.body, tuple):
                for piece in answer.body:
                    await response.write(piece)
            else:
                async for piece in answer.body:
                    await response.write(piece)
        await response.write_eof()
    except OdaProxyError as error:
        # Too late for another status: a connection that breaks is how HTTP says that a body is not whole.
        _log.warning("%s", error)
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        _log.debug("a client went away before it had its whole answer")
    finally:
        await answer.dismiss()
    return response
