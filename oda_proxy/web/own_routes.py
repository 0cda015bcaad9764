"""The table of the proxy's own routes, below `/-/`, and the middleware that guards them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Handler

from oda_proxy.access.authentication import CHALLENGE, NotAllowedError, NotAuthenticatedError, TokenNeededError
from oda_proxy.access.roles import Action
from oda_proxy.access.visitor import Visitor
from oda_proxy.errors import OdaProxyError
from oda_proxy.http.cross_site import CrossSiteError, check_site, host_of, origin_of
from oda_proxy.query.client_name import address_name
from oda_proxy.web.change_log import log_change, log_refusal
from oda_proxy.web.front_end import client_address, public_url
from oda_proxy.web.problems import problem, problem_of
from oda_proxy.web.sign_in_form import sign_in_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.typedefs import Middleware

    from oda_proxy.access.authentication import Authentication
    from oda_proxy.access.client_limits import ClientLimiter
    from oda_proxy.access.hosts import HostPolicy

PREFIX: Final = "/-/"
COOKIE: Final = "oda-proxy-session"
"""The cookie with the session of a browser."""
SIGN_IN: Final = "/-/sign-in"
"""Where a browser signs in."""
_CHANGES: Final = frozenset({Action.CHANGE, Action.STOP_OWN_JOB, Action.STOP_JOB})
_SAFE: Final = frozenset({"GET", "HEAD"})

Respond: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

VISITOR = web.RequestKey("visitor", Visitor)
"""The visitor, in each request for an own route."""


@dataclass(frozen=True, slots=True)
class OwnRoute:
    """One route of the proxy itself.

    `path` begins with `/-/`, in the notation of aiohttp (`/-/recordings/{key}`). Visitors who may not do `action` are
    refused. An OdaProxyError that `handler` raises becomes a problem with its `http_status`. `summary` is what the
    route does, for the documentation. Of two routes with the same method and path, `is_html` marks the page for
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
    app.router.add_get(PREFIX.rstrip("/"), _to_own_pages)
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


@dataclass(frozen=True, slots=True)
class Guard:
    """Refuses visitors who may not do the action of a route, and requests that a browser sends for another site.

    The origin of its own pages is in the `Host` of a request, and in the public URL of a server behind a front end.
    """

    authentication: Authentication
    hosts: HostPolicy
    limiter: ClientLimiter | None = None
    """The limits of clients, which hold for all requests."""

    @property
    def middleware(self) -> Middleware:
        """The middleware, which puts the Visitor into each request for an own route."""

        @web.middleware
        async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
            own = request.app[_VARIANTS].get(request.match_info.handler)
            if own is None:
                return await handler(request)
            route = own.chosen(request)
            try:
                if self.limiter is None or route.action is Action.ALIVE:
                    return await self._checked(request, route, handler)
                return await self._limited(request, route, self.limiter, handler)
            except OdaProxyError as error:
                if route.action in _CHANGES and request.method not in _SAFE:
                    log_refusal(request, route.summary, error)
                return _refusal(error, request)

        return handle

    async def _limited(
        self, request: web.Request, route: OwnRoute, limiter: ClientLimiter, handler: Handler
    ) -> web.StreamResponse:
        """Check a request, and respond to it within the limits of the client's address."""
        client = address_name(client_address(request))
        if refusal := limiter.admit(client):
            seconds = max(math.ceil(refusal.retry_after), 1)
            detail = f"{refusal.reason}; send the request again in {seconds} s"
            return problem(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(seconds)})
        response = await self._checked(request, route, handler)
        limiter.charge(client, max(response.body_length, 0) or (response.content_length or 0))
        return response

    async def _checked(self, request: web.Request, route: OwnRoute, handler: Handler) -> web.StreamResponse:
        """Respond to a request of a visitor who may do the action of its route, and log a change."""
        await self._check(request, route)
        response = await handler(request)
        if route.action in _CHANGES and request.method not in _SAFE:
            log_change(request, route.summary, request[VISITOR], response.status)
        return response

    async def _check(self, request: web.Request, route: OwnRoute) -> None:
        """Check a request, and note its visitor. Raises an OdaProxyError where it is refused."""
        headers, address = request.headers, client_address(request)
        if route.action is Action.ALIVE:
            request[VISITOR] = Visitor(address)
            return
        url = public_url(request)
        self.hosts.check(headers.get("Host"))
        self.hosts.check(host_of(url))
        check_site(request.method, headers, {origin_of(url)})
        visitor = await self.authentication.visitor(address, headers, request.cookies.get(COOKIE))
        if visitor.has_session and request.method not in _SAFE and not {"Origin", "Sec-Fetch-Site"} & headers.keys():
            raise CrossSiteError("a browser that does not name it")
        require(visitor, route.action)
        request[VISITOR] = visitor


GUARD = web.AppKey("guard", Guard)
"""The guard of an application; the tokens of its `authentication` can be replaced while the server runs."""


def require(visitor: Visitor, action: Action) -> None:
    """Raise NotAuthenticatedError or NotAllowedError unless a visitor may do an action."""
    if visitor.may(action):
        return
    if visitor.has_credentials:
        raise NotAllowedError(f"with this token one may not {action}")
    raise TokenNeededError(action)


def _refusal(error: OdaProxyError, request: web.Request) -> web.Response:
    """Return the response to a request that is refused; browsers get a form to sign in where a token is missing."""
    if not isinstance(error, NotAuthenticatedError):
        return problem_of(error)
    headers = {"WWW-Authenticate": CHALLENGE}
    if request.method not in _SAFE or not prefers_html(request):
        return problem(error.http_status, str(error), headers)
    up = "../" * (request.rel_url.raw_path.count("/") - PREFIX.count("/"))
    target = request.rel_url.raw_path_qs.removeprefix(PREFIX)
    action = f"{up}{SIGN_IN.removeprefix(PREFIX)}"
    text = f"To {error.action}, sign in." if isinstance(error, TokenNeededError) else str(error)
    return sign_in_page(error.http_status, text, action=action, target=target, headers=headers)


async def _wrong_method(request: web.Request, *, allowed: str) -> web.Response:
    detail = f"{request.path} takes {allowed}, not {request.method}"
    return problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, {"Allow": allowed})


async def _to_own_pages(_: web.Request) -> web.Response:
    """Redirect from `/-`, as a person types it; the way is relative, so that it leads on behind any prefix."""
    return web.Response(status=HTTPStatus.PERMANENT_REDIRECT, headers={"Location": f".{PREFIX}"})


async def _not_found(request: web.Request) -> web.Response:
    pages = dict.fromkeys(route.path for route in request.app[OWN_ROUTES] if "{" not in route.path)
    return problem(HTTPStatus.NOT_FOUND, f"there is no page {request.path}; there are {', '.join(pages)}")
