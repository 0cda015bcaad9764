"""Errors of the proxy's own routes as pages, for browsers."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from oda_proxy.pages import rendering
from oda_proxy.web.own_routes import PREFIX, prefers_html
from oda_proxy.web.problems import CONTENT_TYPE

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

_KEPT: Final = ("Allow", "Retry-After", "WWW-Authenticate")
"""Headers of an error that its page has as well."""
_TITLES: Final = {
    HTTPStatus.UNAUTHORIZED: "This needs a token",
    HTTPStatus.FORBIDDEN: "Not allowed",
    HTTPStatus.NOT_FOUND: "Not found",
}


@web.middleware
async def problem_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Replace an error of an own route by a page, where the client prefers `text/html`."""
    response = await handler(request)
    if (
        not request.path.startswith(PREFIX)
        or not isinstance(response, web.Response)
        or response.prepared
        or response.content_type != CONTENT_TYPE
        or not prefers_html(request)
    ):
        return response
    problem = json.loads(response.text or "{}")
    status = HTTPStatus(response.status)
    text = rendering.render(
        "problem.html",
        rendering.root_of(request.rel_url.raw_path),
        current="",
        **rendering.header_of(request),
        title=_TITLES.get(status, status.phrase),
        detail=problem.get("detail", ""),
    )
    kept = {name: response.headers[name] for name in _KEPT if name in response.headers}
    return rendering.page(text, response.status, kept)
