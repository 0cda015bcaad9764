"""Pages as HTML: the templates, and the headers of responses with them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from oda_proxy._version import __version__
from oda_proxy.web.front_end import public_url
from oda_proxy.web.own_routes import VISITOR
from oda_proxy.web.place import PLACE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",  # without one, browsers send no Origin with a form
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of each page: nothing is fetched from elsewhere, and no text of a recording becomes a program."""

STATIC: Final[Mapping[str, str]] = {
    "pages.css": "text/css",
    "pages.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""The files that pages use, by name, with their types."""


_CONTROLS: Final = {number: "\N{REPLACEMENT CHARACTER}" for number in range(32) if chr(number) not in "\n\t"}
"""Characters of queries that no page can have."""


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # not before the first page is requested

    environment = Environment(
        loader=PackageLoader("oda_proxy.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = static_path
    return environment


def render(template: str, root: str, **values: Any) -> str:
    """Return a page; `root` is the relative path to `/-/`, which stays right below any prefix."""
    text = _environment().get_template(template).render(root=root, version=__version__, **values)
    return text.translate(_CONTROLS).encode("utf-8", "replace").decode()


def page(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return the response with a page."""
    return web.Response(
        status=status, text=text, content_type="text/html", charset="utf-8", headers={**HEADERS, **(headers or {})}
    )


@cache
def static_file(name: str) -> bytes:
    """Return the content of a file in `STATIC`."""
    return (files("oda_proxy.pages") / "static" / name).read_bytes()


@cache
def static_path(name: str) -> str:
    """Return the path of a file in `STATIC`, relative to `/-/`: another one for other content, which browsers store."""
    return f"static/{name}?v={hashlib.sha256(static_file(name)).hexdigest()[:12]}"


def root_of(path: str) -> str:
    """Return the relative path from a page below `/-/` to `/-/`; `path` is encoded, and may begin with a prefix."""
    return "../" * path.partition("/-/")[2].count("/")


def header_of(request: web.Request) -> dict[str, Any]:
    """Return what the header of each page shows: whether the visitor has signed in, and the upstreams of the server."""
    place = request.app.get(PLACE)
    links = place.links(public_url(request)) if place else []
    here = request.rel_url.raw_path_qs.partition("/-/")[2]
    return {
        "here": here,
        "account": account_of(request),
        "upstreams": links,
        "upstream_name": place.own.name if place else "",
    }


def account_of(request: web.Request) -> str:
    """Return whether the visitor has signed in with a browser; an empty text for one that sends a token by itself."""
    visitor = request.get(VISITOR)
    if visitor is None or (visitor.has_credentials and not visitor.has_session):
        return ""
    return "signed in" if visitor.has_session else "signed out"
