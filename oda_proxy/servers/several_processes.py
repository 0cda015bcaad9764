"""The proxy as a server in several processes that share a port."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from oda_proxy.errors import OdaProxyError, UsageError
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
)
from oda_proxy.servers.routes import own_routes
from oda_proxy.servers.start_messages import hosts_of, log_start, print_line
from oda_proxy.web.event_loop import run_server
from oda_proxy.web.log_thread import reopen_log
from oda_proxy.web.server import address_of, address_of_socket, listening_on
from oda_proxy.web.signals import stop_event
from oda_proxy.web.systemd import notify, passed_sockets

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from aiohttp import web

    from oda_proxy.config.settings import ServeOptions
    from oda_proxy.web.guarding import SharedAccess
    from oda_proxy.web.log_thread import LogSettings
    from oda_proxy.web.reloading import Reloads
    from oda_proxy.workers.membership import Membership


def serve_with_workers(options: ServeOptions, read_options: Callable[[], ServeOptions], log: LogSettings) -> None:
    """Run the proxy in several processes until a signal stops it; SIGHUP has the options read again.

    Raises UsageError, ListenError, and WorkersEndError or WorkerFailedError where they cannot run.
    """
    from oda_proxy.web.guarding import shared_access
    from oda_proxy.web.reloading import Reloads
    from oda_proxy.web.tls import context_of
    from oda_proxy.workers.shared_port import distribute, share_port
    from oda_proxy.workers.socket_folder import private_folder
    from oda_proxy.workers.supervisor import Supervisor

    if options.mock:
        raise UsageError(
            "--mock runs in one process: leave out --workers, or run `oda-proxy mock` beside the proxy and name it "
            "with --upstream"
        )
    shared, reloads = shared_access(options), Reloads(options, read_options)
    _import_all()
    tls = context_of(options, reloads)
    started_at, owner = time.time(), secrets.token_hex(8)
    passed = passed_sockets(os.environ)
    if passed:
        url = address_of_socket(passed[0], is_tls=tls is not None)
        port = distribute(passed, options.workers)
    else:
        port = share_port(options.host, options.port, options.workers)
        url = address_of(options.host, port.port, is_tls=tls is not None)

    def report_ready() -> None:
        print_line(f"listening on {url}")
        notify("READY=1", os.environ)

    with closing(port), private_folder() as folder:
        for number in range(len(options.upstreams)):
            (folder / str(number)).mkdir(mode=0o700)

        def work(number: int, channel: socket.socket, is_first: bool) -> int:
            port.close_others(number)
            current = Reloads(reloads.options, read_options, is_logged=False)
            worker = _Worker(
                number,
                channel,
                port.sockets[number],
                folder,
                tls,
                started_at,
                owner,
                replace(shared, tokens=reloads.tokens),
                current,
                is_first=is_first,
            )
            return run_server(_serve_as_worker(_for_one_worker(current.options), worker), log)

        def on_hangup() -> None:
            reopen_log()
            reloads.reload()

        Supervisor(options.workers, work, report_ready, on_hangup, patience=options.drain + 4 * SHUTDOWN_TIMEOUT).run()


@dataclass(frozen=True, slots=True)
class _Worker:
    """What one worker gets from the parent process."""

    number: int
    channel: socket.socket
    sockets: Sequence[socket.socket]
    folder: Path
    """The folder of the listeners for other workers."""
    tls: ssl.SSLContext | None
    server_started_at: float
    """In s since 1970 (UTC)."""
    owner: str
    """The name of the server for its replicas."""
    shared: SharedAccess
    reloads: Reloads
    is_first: bool
    """Whether it is the first of all to start: it checks that the server can work."""


def _for_one_worker(options: ServeOptions) -> ServeOptions:
    """Return the options with the part of the memory that one of the workers has."""
    upstreams = tuple(replace(one, memory=one.memory // options.workers) for one in options.upstreams)
    return replace(options, memory=options.memory // options.workers, upstreams=upstreams)


def _import_all() -> None:
    """Import what workers need before they are forked: they share its memory, and start at once."""
    import oda_proxy.proxy
    import oda_proxy.store.disk
    import oda_proxy.upstream.dispatcher
    import oda_proxy.web.app
    import oda_proxy.workers.routing  # noqa: F401


async def _worker_app(
    options: ServeOptions, index: int, worker: _Worker, membership: Membership, stack: AsyncExitStack
) -> tuple[web.Application, Parts]:
    """Return what a worker serves for the upstream with an index, with its parts; other workers can use it, too."""
    from oda_proxy.pages.problem_pages import problem_pages
    from oda_proxy.web.app import make_app
    from oda_proxy.web.guarding import guard_of
    from oda_proxy.web.metrics_page import snapshot_of
    from oda_proxy.web.several_upstreams import addresses_of, place_of, status_at
    from oda_proxy.workers.forwarding import ForwardedAddresses, Forwarder, UpstreamOfLeader
    from oda_proxy.workers.routing import ClientRouting, Others, WorkerRouting
    from oda_proxy.workers.saved_metrics import SavedMetrics
    from oda_proxy.workers.socket_folder import socket_of

    one = options.each_upstream[index]
    folder = worker.folder / str(index) if options.upstreams else worker.folder
    forwarder = await stack.enter_async_context(Forwarder(folder, membership))
    others = Others(membership, forwarder)
    parts = await build_parts(
        one,
        stack,
        SHUTDOWN_TIMEOUT,
        address=one.upstream,
        describing=partial(UpstreamOfLeader, forwarder=forwarder, membership=membership),
        others=others,
        started_at=worker.server_started_at,
        owner=worker.owner,
    )
    await check_parts(parts, contacts_upstream=worker.is_first)
    read = partial(snapshot_of, parts.proxy, parts.server)
    saved = SavedMetrics(folder, worker.number, options.workers, read)
    await stack.enter_async_context(running_in_background(saved.keep_saving()))
    place = place_of(options, one)
    status = status_at(place, partial(others.status, parts.proxy, parts.server))
    metrics = partial(others.metrics, saved)
    guard = guard_of(one, worker.shared, parts.proxy.persons)
    register_for_reloads(worker.reloads, parts, guard)
    make = partial(
        make_app,
        parts.proxy,
        parts.near_misses,
        routes=own_routes(parts, status, metrics),
        guard=guard,
        status=status,
        metrics=metrics,
        server=parts.server,
        place=place,
    )
    between = WorkerRouting(parts.proxy, membership, parts.server, saved)
    internal = make(
        answer=between.answer,
        page_middlewares=[problem_pages, between.pages],
        is_logged=False,
        addresses=ForwardedAddresses(),
    )
    await stack.enter_async_context(listening_on(internal, [socket_of(folder, worker.number)]))
    public = ClientRouting(parts.proxy, membership, forwarder)
    app = make(answer=public.answer, page_middlewares=[problem_pages, public.pages], addresses=addresses_of(one))
    return app, parts


async def _serve_as_worker(options: ServeOptions, worker: _Worker) -> int:
    """Run one of several processes until a signal, or the end of the parent process, stops it; return its status."""
    from oda_proxy.web.tls import read_with
    from oda_proxy.workers.channel import Report, encode
    from oda_proxy.workers.membership import Membership, connected
    from oda_proxy.workers.socket_folder import remove

    def on_hangup() -> None:
        reopen_log()
        worker.reloads.reload()

    read_with(worker.reloads, worker.tls, options, is_logged=False)
    stop = stop_event(on_hangup, is_logged=False)  # the parent process logs it once
    membership = Membership(worker.number)
    try:
        async with AsyncExitStack() as stack:
            each = [
                await _worker_app(options, number, worker, membership, stack)
                for number in range(len(options.each_upstream))
            ]
            every_part = [parts for _, parts in each]

            async def lead() -> None:
                for parts in every_part:
                    await resume(parts, stack)
                for parts in every_part:
                    if parts.upstream:
                        await stack.enter_async_context(running_in_background(parts.proxy.estimate()))

            stack.push_async_callback(close_all, every_part, SHUTDOWN_TIMEOUT)
            app = await one_app(options, each, worker.shared, stack, worker.reloads)
            async with listening_on(app, worker.sockets, tls=worker.tls):
                await stack.enter_async_context(connected(worker.channel, membership, lead=lead, on_end=stop.set))
                if worker.is_first:
                    log_start(options, every_part, hosts_of(options, worker.sockets))
                await stop.wait()
                seconds = 0.0 if membership.is_orphan else options.drain
                await drain(seconds, (parts.server for parts in every_part), stop)
                membership.closing = True
            if membership.leads and not membership.is_orphan:  # it answers the last requests of the others
                with suppress(TimeoutError):
                    await asyncio.wait_for(membership.others_ended.wait(), 2 * SHUTDOWN_TIMEOUT)
    except OdaProxyError as error:
        with suppress(OSError):  # the parent process has ended
            worker.channel.sendall(encode(Report("failed", str(error))))
        return error.exit_status
    if membership.is_orphan:
        remove(worker.folder)
    return 0
