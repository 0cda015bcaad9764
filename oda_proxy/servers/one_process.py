"""The proxy as a server in one process."""

from __future__ import annotations

import gc
import os
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from oda_proxy.errors import UsageError
from oda_proxy.servers.background import running_in_background
from oda_proxy.servers.checks import check_parts
from oda_proxy.servers.parts import (
    SHUTDOWN_TIMEOUT,
    Parts,
    build_parts,
    close_all,
    drain,
    one_app,
    register_for_reloads,
    resume,
    start_mock,
)
from oda_proxy.servers.routes import own_routes
from oda_proxy.servers.start_messages import TO_PASTE, hosts_of, log_start, print_line
from oda_proxy.web.log_thread import reopen_log
from oda_proxy.web.server import address_of_socket, listening, listening_on
from oda_proxy.web.signals import stop_event
from oda_proxy.web.systemd import notify, passed_sockets

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import AsyncIterator, Callable, Sequence

    from aiohttp import web

    from oda_proxy.config.settings import ServeOptions
    from oda_proxy.web.guarding import SharedAccess
    from oda_proxy.web.reloading import Reloads


async def serve(options: ServeOptions, read_options: Callable[[], ServeOptions]) -> None:
    """Run the proxy until a signal stops it; SIGHUP has the options read again."""
    from oda_proxy.web.reloading import Reloads

    reloads = Reloads(options, read_options)

    def on_hangup() -> None:
        reopen_log()
        reloads.reload()

    stop = stop_event(on_hangup)
    async with proxy_listening(options, sockets=passed_sockets(os.environ), reloads=reloads, stop=stop) as url:
        gc.collect()
        gc.freeze()  # what is there now stays: no later collection, which holds up requests, looks at it again
        print_line(f"listening on {url}")
        notify("READY=1", os.environ)
        if options.mock:
            print_line(TO_PASTE.format(url=url))
        await stop.wait()


@asynccontextmanager
async def proxy_listening(
    options: ServeOptions,
    *,
    shutdown_timeout: float = SHUTDOWN_TIMEOUT,
    sockets: Sequence[socket.socket] = (),
    reloads: Reloads | None = None,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[str]:
    """Serve the proxy in this process and yield its address; `shutdown_timeout` is as for `listening`.

    `sockets` that listen take the place of the host and the port in the options. With `reloads`, the proxy takes over
    new options. With `stop`, the event of signals, it drains at the end of the block.
    Raises UsageError, UpstreamUnreachableError where the store is empty, too, StoreUnusableError and ListenError.
    """
    from oda_proxy.web.guarding import shared_access
    from oda_proxy.web.tls import context_of

    tls = context_of(options, reloads)
    async with AsyncExitStack() as stack:
        shared = shared_access(options)
        each = [
            await proxy_app(
                one, stack, shutdown_timeout=shutdown_timeout, of_server=options, shared=shared, reloads=reloads
            )
            for one in options.each_upstream
        ]
        stack.push_async_callback(close_all, [parts for _, parts in each], shutdown_timeout)
        app = await one_app(options, each, shared, stack, reloads)
        if sockets:
            await stack.enter_async_context(listening_on(app, sockets, shutdown_timeout=shutdown_timeout, tls=tls))
            url = address_of_socket(sockets[0], is_tls=tls is not None)
        else:
            url = await stack.enter_async_context(
                listening(app, options.host, options.port, shutdown_timeout=shutdown_timeout, tls=tls)
            )
        for _, parts in each:
            if parts.upstream:
                await stack.enter_async_context(running_in_background(parts.proxy.estimate()))
        log_start(options, [parts for _, parts in each], hosts_of(options, sockets))
        yield url
        if stop is not None:
            await drain(options.drain, [parts.server for _, parts in each], stop)


async def proxy_app(
    options: ServeOptions,
    stack: AsyncExitStack,
    *,
    shutdown_timeout: float = SHUTDOWN_TIMEOUT,
    of_server: ServeOptions | None = None,
    shared: SharedAccess | None = None,
    reloads: Reloads | None = None,
) -> tuple[web.Application, Parts]:
    """Return the application of a proxy in this process, with its parts, which are closed with the stack.

    One of several upstreams has the options of the whole server, `of_server`, and what is `shared` by all.

    Raises UsageError, UpstreamUnreachableError where the store is empty, too, and StoreUnusableError.
    """
    from oda_proxy.config.options import PRODUCTION
    from oda_proxy.pages.problem_pages import problem_pages
    from oda_proxy.web.app import make_app
    from oda_proxy.web.guarding import guard_of, shared_access
    from oda_proxy.web.pages import status_of
    from oda_proxy.web.several_upstreams import addresses_of, place_of, status_at

    if options.workers > 1:
        raise UsageError(
            f"{options.workers} workers need processes of their own: run oda-proxy serve --workers {options.workers}"
        )
    if options.mock and options.former_url:
        raise UsageError("--mock asks a mock dispatcher, which has no --former-url: say one of them")
    if options.mock and options.upstream != PRODUCTION:
        raise UsageError(
            f"--mock asks a mock dispatcher, and --upstream {options.upstream} another one: say one of them"
        )
    shared = shared or shared_access(options)
    address = await start_mock(options, stack, shutdown_timeout) if options.mock else options.upstream
    parts = await build_parts(options, stack, shutdown_timeout, address=address)
    await check_parts(parts)
    await resume(parts, stack)
    place = place_of(of_server or options, options)
    status = status_at(place, partial(status_of, parts.proxy, parts.server))
    guard = guard_of(options, shared, parts.proxy.persons)
    register_for_reloads(reloads, parts, guard)
    app = make_app(
        parts.proxy,
        parts.near_misses,
        guard=guard,
        routes=own_routes(parts, status),
        page_middlewares=[problem_pages],
        status=status,
        server=parts.server,
        addresses=addresses_of(options),
        place=place,
    )
    return app, parts
