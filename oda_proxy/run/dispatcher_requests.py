"""Recognises requests to dispatchers among all requests of a command."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from oda_proxy.errors import BadQueryError, RouteClosedError
from oda_proxy.http import routes
from oda_proxy.http.routes import Kind
from oda_proxy.query.query import replace_fields
from oda_proxy.run.forwarded_request import ForwardedRequest, split_target

if TYPE_CHECKING:
    from oda_proxy.http.message import Request

_DESCRIPTIONS = frozenset({Kind.DESCRIPTION, Kind.INSTRUMENTS})
_TOKEN = re.compile("(?:^|&)token=")


def dispatcher_prefix(request: Request) -> str | None:
    """Return the path of the dispatcher that a request is for, None for a request to another server.

    Routes are recognised by their names. Some names are common words: outside of a mount they count only with the
    parameters that clients send.
    """
    try:
        route = routes.find(request.path, open_routes=frozenset(routes.CLOSED_ROUTES))
    except BadQueryError:
        return None
    is_mounted = f"/{routes.MOUNT}/" in f"{route.prefix}/"
    if is_mounted or route.kind is Kind.ANALYSIS:
        return route.prefix
    if route.kind in _DESCRIPTIONS and "instrument=" in request.query_string:
        return route.prefix
    return None


def is_description(request: Request) -> bool:
    """Return whether a request is for a description of instruments or products."""
    try:
        return routes.find(request.path, open_routes=frozenset(routes.CLOSED_ROUTES)).kind in _DESCRIPTIONS
    except BadQueryError:
        return False


def page_below(request: Request) -> str | None:
    """Return the path of a page below the address of a dispatcher that is not a route of it; None for a route."""
    try:
        route = routes.find(request.path)
    except (BadQueryError, RouteClosedError):
        return None
    return None if route.kind is not Kind.RELAY or routes.is_route(route.path) else route.path


def forwarded_to(address: str, path: str, request: Request) -> ForwardedRequest:
    """Return a request for a path below the address of a dispatcher."""
    origin, prefix = split_target(address.rstrip("/"), None)
    return ForwardedRequest(origin, replace(request, path=f"{prefix.rstrip('/')}{path}"))


def public_description(request: Request) -> Request | None:
    """Return a request for a description without its token; None for other requests, or where there is no token."""
    if not _TOKEN.search(request.query_string) or not is_description(request):
        return None
    return replace(request, query_string=replace_fields(request.query_string, token=""))
