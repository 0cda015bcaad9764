"""The table of the proxy's own routes, below `/-/`, and the middleware that guards them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Handler

from oda_proxy.access.authentication import CHALLENGE, NotAllowedError, NotAuthenticatedError
from oda_proxy.access.visitor import Visitor
from oda_proxy.errors import OdaProxyError
from oda_proxy.web.front_end import client_address
from oda_proxy.web.problems import problem, problem_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.typedefs import Middleware

    from oda_proxy.access.authentication import Authentication
    from oda_proxy.access.roles import Action

PREFIX: Final = "/-/"

Respond: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

VISITOR = web.RequestKey("visitor", Visitor)
"""The visitor, in each request for an own route."""


@dataclass(frozen=True, slots=True)
class OwnRoute:
    """One route of the proxy itself.

    `path` begins with `/-/`, in the notation of aiohttp (`/-/recordings/{key}`). Visitors who may not do `action` are
    refused. An OdaProxyError that `handler` raises becomes a problem with its `http_status`. `summary` says in the
    documentation what the route does. Of two routes with the same method and path, `is_html` marks the page for
    browsers, which prefer `text/html`.
    """

    method: str
    path: str
    action: Action
    handler: Respond
    summary: str
    is_html: bool = False


OWN_ROUTES = web.AppKey("own routes", tuple)
"""All `OwnRoute`s of an application."""


def add_own_routes(app: web.Application, routes: Sequence[OwnRoute]) -> None:
    """Add the proxy's own routes to an application: all of them, in one call. Raises ValueError for a duplicate."""
    app[OWN_ROUTES] = tuple(routes)
    table: defaultdict[str, defaultdict[str, list[OwnRoute]]] = defaultdict(lambda: defaultdict(list))
    for route in routes:
        same = table[route.path][route.method]
        if not route.path.startswith(PREFIX) or any(other.is_html == route.is_html for other in same):
            raise ValueError(f"{route.method} {route.path} is not below {PREFIX}, or comes twice")
        same.append(route)
    app[_VARIANTS] = {}
    for path, methods in table.items():
        resource = app.router.add_resource(path)
        for method, same in methods.items():
            variants = _Variants.of(same)
            handler = variants.respond
            app[_VARIANTS][handler] = variants
            for one in ("GET", "HEAD") if method == "GET" else (method,):
                resource.add_route(one, handler)
        resource.add_route("*", partial(_wrong_method, allowed=", ".join(methods)))
    app.router.add_route("*", f"{PREFIX}{{page:.*}}", _not_found)


@dataclass(frozen=True, slots=True)
class _Variants:
    """The routes of a path for one method: a page for browsers, another response, or both."""

    html: OwnRoute | None
    plain: OwnRoute | None

    @classmethod
    def of(cls, routes: Sequence[OwnRoute]) -> _Variants:
        """Return the variants among routes of one path and method."""
        return cls(
            next((route for route in routes if route.is_html), None),
            next((route for route in routes if not route.is_html), None),
        )

    def chosen(self, request: web.Request) -> OwnRoute:
        """Return the route that answers a request: the page for clients that prefer `text/html`."""
        if self.html is not None and (self.plain is None or prefers_html(request)):
            return self.html
        assert self.plain is not None  # noqa: S101 - for the type checker
        return self.plain

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Respond to a request with the handler of the chosen route."""
        response = await self.chosen(request).handler(request)
        if self.html is not None and self.plain is not None and not response.prepared:
            response.headers.add("Vary", "Accept")
        return response


_VARIANTS = web.AppKey[dict[Handler, _Variants]]("variants of own routes")
"""What the guard needs of a route, by the handler of aiohttp."""


def prefers_html(request: web.Request) -> bool:
    """Return whether a client prefers a page, as browsers do: `text/html` is in its `Accept`."""
    return "text/html" in request.headers.get("Accept", "")


def guard(authentication: Authentication) -> Middleware:
    """Return the middleware that refuses visitors who may not do the action of a route."""

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        own = request.app[_VARIANTS].get(request.match_info.handler)
        if own is None:
            return await handler(request)
        try:
            visitor = await authentication.visitor(client_address(request), request.headers)
            require(visitor, own.chosen(request).action)
            request[VISITOR] = visitor
            return await handler(request)
        except OdaProxyError as error:
            return _refusal(error)

    return handle


def require(visitor: Visitor, action: Action) -> None:
    """Raise NotAuthenticatedError or NotAllowedError unless a visitor may do an action."""
    if visitor.may(action):
        return
    if visitor.roles:
        raise NotAllowedError(f"with this token one may not {action}")
    raise NotAuthenticatedError(f"to {action}, send a token: Authorization: {CHALLENGE} TOKEN")


def _refusal(error: OdaProxyError) -> web.Response:
    response = problem_of(error)
    if isinstance(error, NotAuthenticatedError):
        response.headers["WWW-Authenticate"] = CHALLENGE
    return response


async def _wrong_method(request: web.Request, *, allowed: str) -> web.Response:
    detail = f"{request.path} takes {allowed}, not {request.method}"
    return problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, {"Allow": allowed})


async def _not_found(request: web.Request) -> web.Response:
    pages = dict.fromkeys(route.path for route in request.app[OWN_ROUTES] if "{" not in route.path)
    return problem(HTTPStatus.NOT_FOUND, f"there is no page {request.path}; there are {', '.join(pages)}")
