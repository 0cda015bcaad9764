"""The doors that stand beside a command while it runs: whatever it asks, by whichever, goes to one who is behind them.

A program that can be told an address asks at `url`. One that names a dispatcher, or no address at all, is made to ask
through a forward proxy by its environment, and believes that it talks to the server that it named.
"""

from __future__ import annotations

import os
import re
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

from aiohttp import web

from oda_proxy.errors import BadQueryError
from oda_proxy.http import headers, routes
from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.routes import Kind
from oda_proxy.query.query import replace_fields
from oda_proxy.run.authority import certifying
from oda_proxy.run.forward_proxy import environment, forwarding, is_loopback
from oda_proxy.upstream.any_server import AnyServer
from oda_proxy.web.messages import MAX_FORM, read, send
from oda_proxy.web.server import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from oda_proxy.http.message import Request
    from oda_proxy.run.forward_proxy import ForwardedRequest

    Opening: TypeAlias = Callable[["CommandHandler"], AbstractAsyncContextManager["Listeners"]]

HOST = "127.0.0.1"
VARIABLE = "ODA_PROXY_URL"
"""What tells a program the address of our own door."""

SHUTDOWN = 1.0
"""Seconds that answers under way may take when the command has ended."""


class DispatcherHandler(Protocol):
    """Answers what is asked of dispatchers."""

    async def dispatcher(self, address: str | None, request: Request, *, origin: str) -> Answer:
        """Answer a request to the dispatcher at an address; to the one that our own door is for where that is None.

        The path of `ask` is the whole path at `origin`, where the program believes to be.
        """


class CommandHandler(DispatcherHandler, Protocol):
    """Answers whatever a command asks; an OdaProxyError that it raises is told in plain text."""

    async def elsewhere(self, asked: ForwardedRequest) -> Answer:
        """Answer a request to a server that is no dispatcher, and not on this machine."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where a command may ask: `environment` are the variables to set; None takes one away."""

    url: str
    environment: Mapping[str, str | None]
    python_path: Path | None = None
    """A folder of modules that Python programs are to find before any other."""

    def within(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Give an environment in which programs ask at these doors."""
        told = {**environ, **self.environment}
        if self.python_path:
            told["PYTHONPATH"] = os.pathsep.join(filter(None, [str(self.python_path), environ.get("PYTHONPATH")]))
        return {name: value for name, value in told.items() if value is not None}


@asynccontextmanager
async def own_door(behind: DispatcherHandler) -> AsyncIterator[Listeners]:
    """Open the one door to `behind` for programs that can be told its address, until the block ends.

    Raises ListenError.
    """
    async with listening(_own_door(behind), HOST, 0, shutdown_timeout=SHUTDOWN) as url:
        yield Listeners(url, {VARIABLE: url})


@asynccontextmanager
async def doors(behind: CommandHandler) -> AsyncIterator[Listeners]:
    """Open the doors to `behind` until the block ends. Raises ListenError.

    Requests to servers on this machine that are no dispatchers are passed through as they are.
    """
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(own_door(behind))
        here = await stack.enter_async_context(AnyServer(use_env_proxies=False))
        authority = stack.enter_context(certifying())

        async def answer(asked: ForwardedRequest) -> Answer:
            origin = str(asked.origin)
            if origin == own.url:
                return await behind.dispatcher(None, asked.request, origin=origin)
            if (prefix := dispatcher_prefix(asked.request)) is not None:
                return await behind.dispatcher(f"{origin}{prefix}", asked.request, origin=origin)
            if not is_loopback(asked.origin.host):
                return await behind.elsewhere(asked)
            return await passed_on(here, asked)

        forward = await stack.enter_async_context(
            forwarding(
                answer,
                authority,
                is_passed_through=lambda host, _: is_loopback(host),
                host=HOST,
                shutdown_timeout=SHUTDOWN,
            )
        )
        told = {**environment(forward, authority.bundle), **own.environment}
        yield Listeners(own.url, told, authority.python_path)


async def passed_on(servers: AnyServer, asked: ForwardedRequest) -> Answer:
    """Ask the server that a program named, and give its answer as it comes. Raises ServerUnreachableError."""
    reply = await servers.send(str(asked.origin), asked.request)
    status = CacheStatus(forwarded="bypass", status=reply.status)
    return Answer(reply.status, headers.end_to_end(reply.headers), reply.body, status)


def dispatcher_prefix(request: Request) -> str | None:
    """Say below which path the dispatcher stands that a request is for; None where it is for no dispatcher.

    Its routes are known by their names. Some of these are common words: outside of a mount, only requests that clients
    make of them count.
    """
    try:
        route = routes.find(request.path, open_routes=frozenset(routes.CLOSED_ROUTES))
    except BadQueryError:
        return None
    is_mounted = f"/{routes.MOUNT}/" in f"{route.prefix}/"
    if is_mounted or route.kind is Kind.ANALYSIS:
        return route.prefix
    if route.kind in _DESCRIBING and "instrument=" in request.query_string:
        return route.prefix
    return None


def is_description(request: Request) -> bool:
    """Tell whether a request is for what describes instruments and products."""
    try:
        return routes.find(request.path, open_routes=frozenset(routes.CLOSED_ROUTES)).kind in _DESCRIBING
    except BadQueryError:
        return False


_DESCRIBING = frozenset({Kind.DESCRIPTION, Kind.INSTRUMENTS})


def public_description(request: Request) -> Request | None:
    """Give a request for a description without its token; None for what is none, or has no token."""
    if not _TOKEN.search(request.query_string) or not is_description(request):
        return None
    return replace(request, query_string=replace_fields(request.query_string, token=""))


_TOKEN = re.compile("(?:^|&)token=")


def _own_door(behind: DispatcherHandler) -> web.Application:
    """Make the application for those who are told our address."""

    async def answer(incoming: web.Request) -> web.StreamResponse:
        request = await read(incoming, incoming.raw_path)
        return await send(
            await behind.dispatcher(None, request, origin=f"{incoming.scheme}://{incoming.host}"), incoming
        )

    app = web.Application(client_max_size=MAX_FORM)
    app.router.add_route("*", "/{path:.*}", answer)
    return app
