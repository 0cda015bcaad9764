"""HTTP responses with the bytes of the dispatcher's web framework: JSON, HTML pages, redirects."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from mock_server import responses
from mock_server.error_pages import NOT_ALLOWED, SERVER_ERROR

if TYPE_CHECKING:
    from collections.abc import Mapping

_JSON: Final = "application/json"


def respond_without_arguments(request: web.Request, methods: tuple[str, ...]) -> web.Response | None:
    """Return the response to a request whose arguments the dispatcher does not read, or None."""
    allowed = {"Allow": ", ".join(methods)}
    if request.method == "OPTIONS":
        return web.Response(content_type="text/html", charset="utf-8", headers=allowed)
    if request.method not in methods:
        return html_page(NOT_ALLOWED, 405, allowed)
    if request.content_type == _JSON:  # the dispatcher does not read JSON bodies, and fails on them
        return html_page(SERVER_ERROR, 500)
    return None


def json_response(value: Any, status: int = 200) -> web.Response:
    """Return a value as compact JSON with a newline."""
    return web.Response(status=status, body=responses.compact(value) + b"\n", content_type=_JSON)


def html_page(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a text as an HTML page."""
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def redirect(location: str, query_string: str = "") -> web.Response:
    """Return a redirect (302), with the query string if there is one."""
    location = f"{location}?{query_string}" if query_string else location
    shown = html.escape(location)
    text = (
        "<!doctype html>\n<html lang=en>\n<title>Redirecting...</title>\n<h1>Redirecting...</h1>\n"
        f'<p>You should be redirected automatically to the target URL: <a href="{shown}">{shown}</a>. '
        "If not, click the link.\n"
    )
    return web.Response(status=302, text=text, content_type="text/html", headers={"Location": location})
