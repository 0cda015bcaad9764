"""The listeners for a command while it runs: all its requests go to one handler.

A program that takes the address of a dispatcher sends its requests to `url`. All other programs are led by their
environment to a forward proxy, which appears to them as the server that they name.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from aiohttp import web

from oda_proxy.http import headers
from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.loopback import is_loopback
from oda_proxy.run.authority import temporary_authority
from oda_proxy.run.dispatcher_requests import dispatcher_prefix
from oda_proxy.run.environment import proxy_environment, wget_configuration
from oda_proxy.run.forward_proxy import forward_proxy
from oda_proxy.run.loopback import bring_up
from oda_proxy.run.monitor import RunMonitor
from oda_proxy.upstream.any_server import AnyServer
from oda_proxy.web.messages import MAX_FORM, read, send
from oda_proxy.web.server import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from oda_proxy.http.message import Request
    from oda_proxy.run.forwarded_request import ForwardedRequest, Origin

    OpenListeners: TypeAlias = Callable[["CommandHandler"], AbstractAsyncContextManager["Listeners"]]

HOST = "127.0.0.1"
VARIABLE = "ODA_PROXY_URL"
"""The variable with the address of the listener for dispatcher requests."""

SHUTDOWN = 1.0
"""Seconds that pending answers may take after the end of the command."""


class DispatcherHandler(Protocol):
    """Answers requests to dispatchers."""

    async def answer_dispatcher(self, address: str | None, request: Request, *, origin: str) -> Answer:
        """Answer a request to the dispatcher at an address; None is the default one of `url`.

        The path of `request` is the whole path at `origin`, the server as the program knows it.
        """


class CommandHandler(DispatcherHandler, Protocol):
    """Answers all requests of a command; an OdaProxyError that it raises is sent as plain text."""

    async def answer_other(self, forwarded: ForwardedRequest) -> Answer:
        """Answer a request to a server that is neither a dispatcher nor on this machine."""

    async def observe_local(self, request: Request) -> None:
        """Observe a request to a server on this machine, which is relayed."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Open listeners; `environment` has the variables to set, None removes one."""

    url: str
    environment: Mapping[str, str | None]
    python_path: Path | None = None
    """A folder of modules that Python programs import before any other."""
    monitor: RunMonitor | None = None
    """Observes the programs that use the listeners."""

    def program_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return an environment in which programs use these listeners."""
        variables = {**environ, **self.environment, **(self.monitor.variables if self.monitor else {})}
        if self.python_path:
            paths = [str(self.python_path), environ.get("PYTHONPATH")]
            variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        return {name: value for name, value in variables.items() if value is not None}


@asynccontextmanager
async def dispatcher_listener(handler: DispatcherHandler) -> AsyncIterator[Listeners]:
    """Open the one listener for programs that take the address of a dispatcher, until the block ends.

    Raises ListenError, and LoopbackDownError where no program could reach it.
    """
    bring_up()
    async with listening(_application(handler), HOST, 0, shutdown_timeout=SHUTDOWN) as url:
        yield Listeners(url, {VARIABLE: url})


@asynccontextmanager
async def command_listeners(
    handler: CommandHandler, *, trusted: bytes = b"", is_untrusted: Callable[[Origin], Awaitable[bool]] | None = None
) -> AsyncIterator[Listeners]:
    """Open all listeners until the block ends. Raises ListenError.

    Requests to servers on this machine that are not dispatchers are relayed unchanged. Programs trust the authority of
    this run and the certificates in `trusted` (PEM). A server whose certificate `is_untrusted` has one here that nobody
    trusts.
    """
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(dispatcher_listener(handler))
        local_servers = await stack.enter_async_context(AnyServer(use_env_proxies=False))
        authority = stack.enter_context(temporary_authority(trusted=trusted))

        async def answer(forwarded: ForwardedRequest) -> Answer:
            origin = str(forwarded.origin)
            if origin == own.url:
                return await handler.answer_dispatcher(None, forwarded.request, origin=origin)
            if (prefix := dispatcher_prefix(forwarded.request)) is not None:
                return await handler.answer_dispatcher(f"{origin}{prefix}", forwarded.request, origin=origin)
            if not is_loopback(forwarded.origin.host):
                return await handler.answer_other(forwarded)
            await handler.observe_local(forwarded.request)
            return await relay(local_servers, forwarded)

        proxy_url = await stack.enter_async_context(
            forward_proxy(
                answer,
                authority,
                is_passed_through=lambda host, _: is_loopback(host),
                is_untrusted=is_untrusted,
                host=HOST,
                shutdown_timeout=SHUTDOWN,
            )
        )
        wgetrc = authority.bundle.with_name("wgetrc")
        wgetrc.write_text(wget_configuration(os.environ, authority.bundle), encoding="utf-8", errors="surrogateescape")
        environment = {**proxy_environment(proxy_url, authority.bundle, wgetrc), **own.environment}
        yield Listeners(own.url, environment, authority.python_path, RunMonitor(authority.python_path))


async def relay(servers: AnyServer, forwarded: ForwardedRequest) -> Answer:
    """Send a request to the server that the program named, and return its answer. Raises ServerUnreachableError."""
    reply = await servers.send(str(forwarded.origin), forwarded.request)
    status = CacheStatus(forwarded="bypass", status=reply.status)
    return Answer(reply.status, headers.end_to_end(reply.headers), reply.body, status)


def _application(handler: DispatcherHandler) -> web.Application:
    """Make the application of the listener for dispatcher requests."""

    async def answer(incoming: web.Request) -> web.StreamResponse:
        request = await read(incoming, incoming.raw_path)
        origin = f"{incoming.scheme}://{incoming.host}"
        return await send(await handler.answer_dispatcher(None, request, origin=origin), incoming)

    app = web.Application(client_max_size=MAX_FORM)
    app.router.add_route("*", "/{path:.*}", answer)
    return app
