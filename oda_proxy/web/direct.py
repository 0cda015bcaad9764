"""The way of a request to its handler: past the router of the application, or through it and without a prefix."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web
from yarl import URL

from oda_proxy.http.cache_status import CacheStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from aiohttp.typedefs import Handler

    from oda_proxy.errors import OdaProxyError
    from oda_proxy.web.front_end import Addresses
    from oda_proxy.web.server import DirectHandler


def direct_handler(handler: Handler, addresses: Addresses) -> DirectHandler:
    """Return what answers requests with `handler`; the application answers those that need more of it."""
    return partial(_handle, handler, addresses)


def _handle(
    handler: Handler, addresses: Addresses, application: Handler, incoming: web.Request
) -> Awaitable[web.StreamResponse]:
    """Answer a request with `handler`; the application answers those for its pages, and those that need more of it.

    Pages are requested without the prefix of the deployment.
    """
    if error := addresses.error(incoming):
        return _refuse(error)
    path = addresses.target(incoming)
    is_own = path[:1] != "/" or path[1:2] in {"-", "%"}  # or may be, once it is decoded
    if is_own and path != incoming.raw_path:
        return _answer(application, incoming.clone(rel_url=URL(path, encoded=True)))
    if is_own or incoming.body_exists or "Expect" in incoming.headers:
        return application(incoming)
    return handler(incoming)


async def _answer(application: Handler, request: web.Request) -> web.StreamResponse:
    """Answer a request for another path than was received, and send the response.

    aiohttp would send it for the request that was received, which the application has not seen: its headers would be
    missing.
    """
    response: web.StreamResponse
    try:
        response = await application(request)
    except web.HTTPException as error:
        response = error
    await response.prepare(request)
    await response.write_eof()
    return response


async def _refuse(error: OdaProxyError) -> web.Response:
    """Answer a request that cannot be attributed to a client."""
    return web.Response(status=error.http_status, text=f"{error}\n", headers={"Cache-Status": str(CacheStatus())})
