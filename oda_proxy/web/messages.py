"""Conversion between the messages of aiohttp and those of the proxy."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from oda_proxy.errors import OdaProxyError
from oda_proxy.http.headers import media_type
from oda_proxy.http.message import Request
from oda_proxy.query.multipart import MULTIPART
from oda_proxy.query.query import FORM
from oda_proxy.web.front_end import DIRECT
from oda_proxy.web.whole_response import send_whole

if TYPE_CHECKING:
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import RequestNotes
    from oda_proxy.web.front_end import Addresses

_log = logging.getLogger(__name__)

MAX_FORM = 64 * 1024 * 1024
"""Bytes of a form that is read: catalogues and long lists of science windows."""

_WITHOUT_BODY = frozenset({204, 304})
"""Responses that end with their headers (RFC 9110, section 6.4.1)."""


class IncompleteBodyError(OdaProxyError):
    """A body ended before its `Content-Length`: the client would wait for the rest."""

    def __init__(self, written: int, length: int) -> None:
        super().__init__(f"an answer ended after {written} of {length} bytes; the connection to the client was aborted")


async def read(
    incoming: web.BaseRequest, target: str, addresses: Addresses = DIRECT, notes: RequestNotes | None = None
) -> Request:
    """Return a request for `target`, an encoded path with its query string; the body is read if it is a form.

    `addresses` says where the request comes from.
    """
    path, _, query_string = target.partition("?")
    request = Request(
        incoming.method,
        path,
        query_string,
        tuple(incoming.headers.items()),
        is_remote="Accept-Encoding" in incoming.headers and addresses.is_remote(incoming),
        client_address=addresses.client_address(incoming),
        notes=notes,
    )
    if not incoming.can_read_body:
        return request
    body = await incoming.read() if _is_form(incoming, request) else incoming.content.iter_chunked(64 * 1024)
    return replace(request, body=body)


def _is_form(incoming: web.BaseRequest, request: Request) -> bool:
    """Return whether a body is a form that has to be read; large uploads are streamed."""
    if media_type(request.headers) == MULTIPART and request.path.endswith("/run_analysis"):
        return incoming.content_length is not None and incoming.content_length <= MAX_FORM
    return media_type(request.headers) == FORM


async def send(answer: Answer, incoming: web.BaseRequest, request_id: str = "") -> web.StreamResponse:
    """Send an answer: in one write if it is small and in memory, else piece by piece.

    With a `request_id`, it has a header with that.
    """
    cache_status = str(answer.cache_status)
    try:
        if whole := await send_whole(answer, incoming, cache_status, request_id):
            return whole
    except ConnectionError:
        _log.debug(_DISCONNECTED)
        return web.StreamResponse(status=answer.status)
    response = web.StreamResponse(status=answer.status)
    for name, value in answer.headers:
        response.headers.add(name, value)
    response.headers.add("Cache-Status", cache_status)
    if request_id:
        response.headers.add("X-Request-ID", request_id)
    try:
        await response.prepare(incoming)
        if incoming.method != "HEAD":
            await _write_body(answer, response)
        await response.write_eof()
    except OdaProxyError as error:
        # The status is sent already: in HTTP, an aborted connection tells the client that the body is incomplete.
        _log.warning("%s", error)
        if incoming.transport is not None:
            incoming.transport.abort()
    except ConnectionError:
        _log.debug(_DISCONNECTED)
    finally:
        await answer.close()
    return response


_DISCONNECTED = "a client disconnected before it had its whole answer"


async def _write_body(answer: Answer, response: web.StreamResponse) -> None:
    """Write the chunks of a body; raises IncompleteBodyError if they are fewer bytes than its `Content-Length`."""
    written = 0
    if isinstance(answer.body, tuple):
        for chunk in answer.body:
            await response.write(chunk)
            written += len(chunk)
    else:
        async for chunk in answer.body:
            await response.write(chunk)
            written += len(chunk)
    if response.status not in _WITHOUT_BODY and written < (response.content_length or 0):
        raise IncompleteBodyError(written, response.content_length or 0)
