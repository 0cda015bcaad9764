"""The upstreams of a server that has several: their list in each status, and the pages at a root without upstream."""

from __future__ import annotations

import json
from dataclasses import asdict
from html import escape
from http import HTTPStatus
from string import Template
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from oda_proxy._version import __version__
from oda_proxy.access.roles import Action
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.web.direct import direct_handler
from oda_proxy.web.front_end import ADDRESSES
from oda_proxy.web.own_routes import OwnRoute, add_own_routes
from oda_proxy.web.server import DIRECT_HANDLER
from oda_proxy.web.sign_in_form import HEADERS as PAGE_HEADERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from oda_proxy.web.front_end import Addresses
    from oda_proxy.web.own_routes import Guard
    from oda_proxy.web.pages import Status
    from oda_proxy.web.place import NamedUpstream, Place

_HEADERS = {"Cache-Control": "no-store"}

_PAGE: Final = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Dispatchers - oda-proxy</title>
<link rel="stylesheet" href="..$first/-/static/pages.css">
<link rel="icon" href="..$first/-/static/icon.svg" type="image/svg+xml">
</head>
<body>
<header class="site"><a class="brand" href="./">oda-proxy</a></header>
<main class="narrow">
<h1>Dispatchers</h1>
<p class="summary">This server has recordings of several dispatchers, each below its own address.</p>
<ul>
$items</ul>
</main>
</body>
</html>
""")


def status_with_upstreams(status: Status, place: Place) -> Status:
    """Return a status that also has the name of its upstream, and all upstreams of the server."""

    async def members() -> dict[str, Any]:
        return {**await status(), "name": place.own.name, "upstreams": [asdict(one) for one in place.upstreams]}

    return members


def make_directory(
    upstreams: Sequence[NamedUpstream], guard: Guard, addresses: Addresses, obstacle: Callable[[], Awaitable[str]]
) -> web.Application:
    """Return the application for paths that belong to no upstream.

    `obstacle` returns why no upstream can answer anything, or an empty text.
    """
    app = web.Application(middlewares=[guard.middleware])
    app[ADDRESSES] = addresses
    app.on_response_prepare.append(_add_cache_status)

    async def status(_: web.Request) -> web.Response:
        members = {"version": __version__, "upstreams": [asdict(one) for one in upstreams]}
        return web.Response(text=f"{json.dumps(members)}\n", content_type="application/json", headers=_HEADERS)

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=_page(upstreams), content_type="text/html", headers=PAGE_HEADERS)

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_HEADERS)

    async def ready(_: web.Request) -> web.Response:
        if reason := await obstacle():
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=f"{reason}\n", headers=_HEADERS)
        return web.Response(text="ok\n", headers=_HEADERS)

    async def not_found(_: web.Request) -> web.Response:
        prefixes = ", ".join(one.prefix for one in upstreams)
        text = f"no upstream of this server has this path; use the address of one of them: {prefixes}\n"
        return web.Response(
            status=HTTPStatus.NOT_FOUND, text=text, headers={**_HEADERS, "Cache-Status": str(CacheStatus())}
        )

    add_own_routes(
        app,
        [
            OwnRoute("GET", "/-/", Action.READ_STATUS, page, "the upstreams of the server, as a page", is_html=True),
            OwnRoute("GET", "/-/status", Action.READ_STATUS, status, "the upstreams of the server"),
            OwnRoute("GET", "/-/livez", Action.ALIVE, alive, "whether the process is alive"),
            OwnRoute("GET", "/-/readyz", Action.ALIVE, ready, "whether an upstream can answer requests"),
        ],
    )
    app.router.add_route("*", "/{path:.*}", not_found)
    app[DIRECT_HANDLER] = direct_handler(not_found, addresses)
    return app


def _page(upstreams: Sequence[NamedUpstream]) -> str:
    """Return the page that leads to those of each upstream; its links are relative, so that they work in a prefix."""
    items = "".join(
        f'<li><a href="..{escape(one.prefix)}/-/">{escape(one.name)}</a> <small>{escape(one.url)}</small></li>\n'
        for one in upstreams
    )
    return _PAGE.substitute(first=escape(upstreams[0].prefix), items=items)


async def _add_cache_status(_: web.Request, response: web.StreamResponse) -> None:
    """Add the header by which clients know that a proxy of this project answers."""
    response.headers.setdefault("Cache-Status", str(CacheStatus()))
