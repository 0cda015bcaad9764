"""Conversion between the messages of aiohttp and those of the proxy."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web

from oda_proxy.errors import OdaProxyError
from oda_proxy.http.headers import media_type
from oda_proxy.http.message import Request
from oda_proxy.query.multipart import MULTIPART
from oda_proxy.query.query import FORM

if TYPE_CHECKING:
    from oda_proxy.http.answer import Answer

_log = logging.getLogger(__name__)

MAX_FORM = 64 * 1024 * 1024
"""Bytes of a form that is read: catalogues and long lists of science windows."""


async def read(incoming: web.BaseRequest, target: str) -> Request:
    """Return a request for `target`, an encoded path with its query string; the body is read if it is a form."""
    path, _, query_string = target.partition("?")
    request = Request(incoming.method, path, query_string, tuple(incoming.headers.items()))
    if not incoming.can_read_body:
        return request
    body = await incoming.read() if _is_form(incoming, request) else incoming.content.iter_chunked(64 * 1024)
    return Request(request.method, request.path, request.query_string, request.headers, body)


def _is_form(incoming: web.BaseRequest, request: Request) -> bool:
    """Return whether a body is a form that has to be read; large uploads are streamed."""
    if media_type(request.headers) == MULTIPART and request.path.endswith("/run_analysis"):
        return incoming.content_length is not None and incoming.content_length <= MAX_FORM
    return media_type(request.headers) == FORM


async def send(answer: Answer, incoming: web.BaseRequest) -> web.StreamResponse:
    """Send an answer piece by piece."""
    response = web.StreamResponse(status=answer.status)
    for name, value in answer.headers:
        response.headers.add(name, value)
    response.headers.add("Cache-Status", str(answer.cache_status))
    try:
        await response.prepare(incoming)
        if incoming.method != "HEAD":
            if isinstance(answer.body, tuple):
                for piece in answer.body:
                    await response.write(piece)
            else:
                async for piece in answer.body:
                    await response.write(piece)
        await response.write_eof()
    except OdaProxyError as error:
        # The status is sent already: in HTTP, an aborted connection tells the client that the body is incomplete.
        _log.warning("%s", error)
        if incoming.transport is not None:
            incoming.transport.abort()
    except ConnectionError:
        _log.debug("a client disconnected before it had its whole answer")
    finally:
        await answer.close()
    return response
