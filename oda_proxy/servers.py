"""The servers: builds the proxy or the mock from its options and runs it until a signal stops it.

Each function imports what it needs: the mock starts fast, and uses no module of the proxy but its listener.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from oda_proxy._version import __version__
from oda_proxy.errors import OdaProxyError, StoreUnusableError, UpstreamUnreachableError, UsageError
from oda_proxy.http.message import Request
from oda_proxy.web.event_loop import loop_name, run_server
from oda_proxy.web.exposure import exposure_warning
from oda_proxy.web.log_thread import log_event, reopen_log
from oda_proxy.web.server import address_of, address_of_socket, listening, listening_on
from oda_proxy.web.signals import stop_event
from oda_proxy.web.systemd import notify, passed_sockets

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from pathlib import Path

    from aiohttp import web

    from oda_proxy.config import MockOptions, ServeOptions
    from oda_proxy.drawing.product_files import ProductFiles
    from oda_proxy.handlers.services import OtherProcesses
    from oda_proxy.http.message import Upstream
    from oda_proxy.proxy import Proxy
    from oda_proxy.store.base import Store
    from oda_proxy.store.near_misses import NearMissHandler
    from oda_proxy.web.guarding import SharedAccess
    from oda_proxy.web.log_thread import LogSettings
    from oda_proxy.web.metrics_page import GetSnapshot
    from oda_proxy.web.own_routes import Guard, OwnRoute
    from oda_proxy.web.pages import Status
    from oda_proxy.web.reloading import Reloads
    from oda_proxy.web.server_state import ServerState
    from oda_proxy.workers.membership import Membership

_log = logging.getLogger(__name__)

HOUR = 3600.0
START_TIMEOUT = 5.0
"""Seconds that a dispatcher has to answer the first request of all."""
SHUTDOWN_TIMEOUT = 5.0
"""Seconds that answers under way may take when the server stops."""

_TO_PASTE = """\
paste into Python, where oda_api is installed (version 1.0 wants host= instead of url=):

from oda_api.api import DispatcherAPI
disp = DispatcherAPI(url="{url}")
data = disp.get_product(instrument="isgri", product="isgri_image", product_type="Real", osa_version="OSA10.2", \
T1="2003-03-15T23:27:40.0", T2="2003-03-16T00:03:15.0", E1_keV=20.0, E2_keV=40.0, RA=255.986542, DEC=-37.844167, \
detection_threshold=5.0, radius=15.0)

then ask again, and see data.show() come at once; a browser shows what is stored at {url}/-/. Ctrl-C ends it."""


class NoDispatcherError(UpstreamUnreachableError):
    """The dispatcher does not answer at the start, and the store is empty."""

    def __init__(self, error: UpstreamUnreachableError, url: str) -> None:
        super().__init__(
            url, f"{error.reason}; start it first, name another with --upstream, or say --mock or --offline"
        )


async def serve(options: ServeOptions, read_options: Callable[[], ServeOptions]) -> None:
    """Run the proxy until a signal stops it; SIGHUP has the options read again."""
    from oda_proxy.web.reloading import Reloads

    reloads = Reloads(options, read_options)

    def on_hangup() -> None:
        reopen_log()
        reloads.reload()

    stop = stop_event(on_hangup)
    async with proxy_listening(options, sockets=passed_sockets(os.environ), reloads=reloads) as url:
        gc.collect()
        gc.freeze()  # what is there now stays: no later collection, which holds up requests, looks at it again
        _print(f"listening on {url}")
        notify("READY=1", os.environ)
        if options.mock:
            _print(_TO_PASTE.format(url=url))
        await stop.wait()


async def mock(options: MockOptions) -> None:
    """Run the mock dispatcher until a signal stops it."""
    stop = stop_event()
    app = mock_app(
        fixtures=options.fixtures,
        time_scale=options.time_scale,
        synthetic=options.synthetic,
        scenario=options.scenario,
        scenario_files=options.scenarios,
        generation=options.generation,
        secret_key=options.secret_key,
    )
    async with listening(app, options.host, options.port) as url:
        _print(f"listening on {url}")
        await stop.wait()


@asynccontextmanager
async def proxy_listening(
    options: ServeOptions,
    *,
    shutdown_timeout: float = SHUTDOWN_TIMEOUT,
    sockets: Sequence[socket.socket] = (),
    reloads: Reloads | None = None,
) -> AsyncIterator[str]:
    """Serve the proxy in this process and yield its address; `shutdown_timeout` is as for `listening`.

    `sockets` that listen take the place of the host and the port in the options. With `reloads`, the proxy takes over
    new options.
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
        stack.push_async_callback(_close_all, [parts for _, parts in each], shutdown_timeout)
        app = await _one_app(options, each, shared, stack, reloads)
        if sockets:
            await stack.enter_async_context(listening_on(app, sockets, shutdown_timeout=shutdown_timeout, tls=tls))
            url = address_of_socket(sockets[0], is_tls=tls is not None)
        else:
            url = await stack.enter_async_context(
                listening(app, options.host, options.port, shutdown_timeout=shutdown_timeout, tls=tls)
            )
        for _, parts in each:
            if parts.upstream:
                await stack.enter_async_context(_in_background(parts.proxy.estimate()))
        _log_start(options, [parts for _, parts in each], _hosts(options, sockets))
        yield url


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
    from oda_proxy.config import PRODUCTION
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
    address = await _start_mock(options, stack, shutdown_timeout) if options.mock else options.upstream
    parts = await _build(options, stack, shutdown_timeout, address=address)
    await _check(parts)
    await parts.proxy.resume()
    place = place_of(of_server or options, options)
    status = status_at(place, partial(status_of, parts.proxy, parts.server))
    guard = guard_of(options, shared, parts.proxy.persons)
    _register(reloads, parts, guard)
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


def _register(reloads: Reloads | None, parts: Parts, guard: Guard) -> None:
    """Have a proxy take over new options."""
    from oda_proxy.web.reloading import ReloadableProxy

    if reloads is not None:
        proxy = ReloadableProxy(parts.options.name, parts.proxy, parts.server, guard)
        reloads.register(proxy.apply)


def own_routes(parts: Parts, status: Status, metrics: GetSnapshot | None = None) -> Sequence[OwnRoute]:
    """Return the own routes of a proxy, beside those of `web.app.make_app`.

    `status` and `metrics` return what is shown, of all workers where there are several.
    """
    from oda_proxy.drawing import routes as drawing_routes
    from oda_proxy.pages.routes import Pages
    from oda_proxy.web import import_api, recording_api
    from oda_proxy.web.metrics_page import snapshot_of

    limits = parts.server.limits
    dispatcher = parts.upstream.url if parts.upstream else parts.options.upstream
    pages = Pages(
        parts.proxy,
        parts.near_misses,
        status,
        metrics or partial(snapshot_of, parts.proxy, parts.server, with_store=False),
        parts.product_files.summaries,
        dispatcher,
        max_size=limits.max_size if limits and parts.folder else None,
    )
    urls = (dispatcher, *parts.options.former_url)
    return (
        *recording_api.routes(parts.proxy),
        *import_api.routes(parts.store, parts.proxy.instruments, urls),
        *drawing_routes.routes(parts.product_files),
        *pages.routes(),
    )


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
    started_at = time.time()
    passed = passed_sockets(os.environ)
    if passed:
        url = address_of_socket(passed[0], is_tls=tls is not None)
        port = distribute(passed, options.workers)
    else:
        port = share_port(options.host, options.port, options.workers)
        url = address_of(options.host, port.port, is_tls=tls is not None)

    def report_ready() -> None:
        _print(f"listening on {url}")
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
                replace(shared, tokens=reloads.tokens),
                current,
                is_first=is_first,
            )
            return run_server(_serve_as_worker(_for_one_worker(current.options), worker), log)

        def on_hangup() -> None:
            reopen_log()
            reloads.reload()

        Supervisor(options.workers, work, report_ready, on_hangup, patience=4 * SHUTDOWN_TIMEOUT).run()


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
    parts = await _build(
        one,
        stack,
        SHUTDOWN_TIMEOUT,
        address=one.upstream,
        describing=partial(UpstreamOfLeader, forwarder=forwarder, membership=membership),
        others=others,
        started_at=worker.server_started_at,
    )
    await _check(parts, contacts_upstream=worker.is_first)
    read = partial(snapshot_of, parts.proxy, parts.server)
    saved = SavedMetrics(folder, worker.number, options.workers, read)
    await stack.enter_async_context(_in_background(saved.keep_saving()))
    place = place_of(options, one)
    status = status_at(place, partial(others.status, parts.proxy, parts.server))
    metrics = partial(others.metrics, saved)
    guard = guard_of(one, worker.shared, parts.proxy.persons)
    _register(worker.reloads, parts, guard)
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
                    await parts.proxy.resume()
                for parts in every_part:
                    if parts.upstream:
                        await stack.enter_async_context(_in_background(parts.proxy.estimate()))

            stack.push_async_callback(_close_all, every_part, SHUTDOWN_TIMEOUT)
            app = await _one_app(options, each, worker.shared, stack, worker.reloads)
            async with listening_on(app, worker.sockets, tls=worker.tls):
                await stack.enter_async_context(connected(worker.channel, membership, lead=lead, on_end=stop.set))
                if worker.is_first:
                    _log_start(options, every_part, _hosts(options, worker.sockets))
                await stop.wait()
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


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a proxy that its server needs."""

    options: ServeOptions
    proxy: Proxy
    upstream: Upstream | None
    near_misses: NearMissHandler
    store: Store
    folder: Path | None
    server: ServerState
    product_files: ProductFiles


async def _build(
    options: ServeOptions,
    stack: AsyncExitStack,
    shutdown_timeout: float,
    *,
    address: str,
    describing: Callable[[Upstream], Upstream] = lambda upstream: upstream,
    others: OtherProcesses | None = None,
    started_at: float | None = None,
) -> Parts:
    """Build a proxy that asks the dispatcher at an address, with its store and its maintenance.

    `describing` returns the upstream that describes instruments; `others` are the other processes of the server, which
    started at `started_at`, in s since 1970 (UTC).
    """
    from oda_proxy.config import former_folders
    from oda_proxy.drawing.product_files import open_product_files
    from oda_proxy.store.eviction import Limits
    from oda_proxy.store.maintenance import background_maintenance
    from oda_proxy.store.near_misses import NearMissHandler
    from oda_proxy.web.server_state import ServerState

    folder = _store_folder(options)
    former = former_folders(options.cache_dir, options.upstream, options.former_url)
    store = _open_store(folder, former, stack)
    upstream = None if options.offline else await _connect(address, options, stack)
    near_misses = NearMissHandler(store)
    proxy = _make_proxy(
        store,
        upstream,
        folder,
        former,
        options,
        miss_handler=near_misses,
        describing=describing(upstream) if upstream else None,
        others=others,
    )
    stack.push_async_callback(proxy.close, shutdown_timeout)
    limits = Limits(options.max_size, options.min_free)
    server = ServerState(started_at or time.time(), limits)
    await stack.enter_async_context(
        background_maintenance(store, lambda: server.limits or limits, proxy.store_faults, proxy.evictions)
    )
    product_files = await stack.enter_async_context(open_product_files(store, folder, upstream=address))
    return Parts(options, proxy, upstream, near_misses, store, folder, server, product_files)


async def _close_all(every_part: Sequence[Parts], grace: float) -> None:
    """Close the proxies of all upstreams at the same time; first submissions have `grace` s to be answered."""
    await asyncio.gather(*(parts.proxy.close(grace) for parts in every_part))


async def _one_app(
    options: ServeOptions,
    each: Sequence[tuple[web.Application, Parts]],
    shared: SharedAccess,
    stack: AsyncExitStack,
    reloads: Reloads | None,
) -> web.Application:
    """Return the application of the only upstream, or one for those of all."""
    from oda_proxy.web.guarding import guard_of
    from oda_proxy.web.several_upstreams import one_for_all

    guard = guard_of(options, shared, None)
    if reloads is not None:
        reloads.register(lambda _, tokens: setattr(guard.authentication, "tokens", tokens))
    states = [(parts.proxy, parts.server) for _, parts in each]
    return await stack.enter_async_context(one_for_all(options, [app for app, _ in each], states, guard))


async def _start_mock(options: ServeOptions, stack: AsyncExitStack, shutdown_timeout: float) -> str:
    """Start a mock dispatcher beside the proxy and return its address."""
    app = mock_app(
        fixtures=options.fixtures,
        time_scale=options.time_scale,
        synthetic=options.synthetic,
        secret_key=options.secret_key,
    )
    return await stack.enter_async_context(listening(app, "127.0.0.1", 0, shutdown_timeout=shutdown_timeout))


def _store_folder(options: ServeOptions) -> Path | None:
    """Return the folder for recordings; those of a mock, whose port changes, need a folder named for them."""
    from oda_proxy.config import cache_folder

    if options.mock:
        return cache_folder(options.cache_dir, "http://mock") if options.cache_dir else None
    return cache_folder(options.cache_dir, options.upstream)


def _open_store(folder: Path | None, former_folders: Sequence[Path], stack: AsyncExitStack) -> Store:
    if folder is None:
        from oda_proxy.store.memory import MemoryStore

        return MemoryStore()
    from oda_proxy.store.combined import open_stores

    return stack.enter_context(closing(open_stores(folder, former_folders)))


async def _connect(address: str, options: ServeOptions, stack: AsyncExitStack) -> Upstream:
    """Return the dispatcher at an address."""
    from oda_proxy.upstream.dispatcher import Dispatcher
    from oda_proxy.upstream.throttling import ThrottledUpstream

    dispatcher = await stack.enter_async_context(Dispatcher(address))
    return ThrottledUpstream(dispatcher, max_concurrent=options.max_requests, rate=options.max_rate)


def _make_proxy(
    store: Store,
    upstream: Upstream | None,
    folder: Path | None,
    former_folders: Sequence[Path],
    options: ServeOptions,
    *,
    miss_handler: NearMissHandler,
    describing: Upstream | None,
    others: OtherProcesses | None,
) -> Proxy:
    from oda_proxy.handlers.policy import Compress, Policy
    from oda_proxy.handlers.services import Services
    from oda_proxy.http.cors import CorsPolicy
    from oda_proxy.jobs.job import Limits
    from oda_proxy.jobs.journal import JobJournal
    from oda_proxy.jobs.policy import JobPolicy
    from oda_proxy.proxy import Proxy
    from oda_proxy.query.audience import Sharing, TokenVerifier
    from oda_proxy.query.descriptions import Descriptions
    from oda_proxy.store.freshness import Freshness
    from oda_proxy.upstream.description_cache import DescriptionCache

    policy = Policy(
        open_routes=frozenset(options.open_route),
        cors=CorsPolicy(frozenset(options.cors_origins)),
        description_ttl=options.description_ttl,
        freshness=Freshness(options.lifetime),
        jobs=JobPolicy(
            max_jobs=options.max_jobs,
            client_jobs=options.client_jobs,
            limits=Limits(max_duration=options.longest_job * HOUR),
        ),
        memory=options.memory,
        compress=Compress(options.compress),
    )
    services = Services(
        instruments=Descriptions(
            describing, folder, ttl=options.description_ttl, clock=time.monotonic, former_folders=former_folders
        ),
        tokens=TokenVerifier(
            Sharing(options.sharing), secret_key=options.secret_key, trust=options.token_trust, clock=time.time
        ),
        description_cache=DescriptionCache(options.description_ttl, time.time, folder, former_folders=former_folders),
        journal=JobJournal(folder, former_folders),
        miss_handler=miss_handler,
        describing=describing,
        others=others,
    )
    return Proxy(store, upstream, policy, services=services)


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine until it ends or the block does."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def mock_app(**settings: Any) -> web.Application:
    """Return a mock dispatcher; the settings are those of `mock_server.settings.MockSettings`."""
    from mock_server.app import make_app
    from mock_server.settings import MockSettings

    return make_app(MockSettings(**settings))


def ineffective_faults(app: web.Application) -> list[str]:
    """Return the scenario and the faults of a mock dispatcher that had no effect so far, as text."""
    from mock_server.app import DISPATCHER

    return app[DISPATCHER].ineffective()


async def _check_upstream(upstream: Upstream, store: Store, *, is_only: bool) -> None:
    """Check that the dispatcher answers.

    Raises UpstreamUnreachableError where it does not and the store is empty: the proxy could answer nothing at all. One
    of several dispatchers does not keep the others from being served.
    """
    try:
        reply = await upstream.send(Request("GET", "/api/instr-list", "instrument=mock", timeout=START_TIMEOUT))
        await reply.body.aclose()
    except UpstreamUnreachableError as error:
        try:
            key = next(store.keys(), None)
        except StoreUnusableError:
            key = None
        if key is None and is_only:
            raise NoDispatcherError(error, upstream.url) from error
        until = "it is asked again for each request" if key is None else "answering from recordings"
        _log.warning("%s; %s until it is back", error, until)


async def _check(parts: Parts, *, contacts_upstream: bool = True) -> None:
    """Check that the dispatcher answers, and that the store can be used.

    Raises NoDispatcherError and StoreUnusableError where nothing could be answered.
    """
    if contacts_upstream and parts.upstream:
        await _check_upstream(parts.upstream, parts.store, is_only=not parts.options.name)
    _check_store(parts.store, parts.proxy)


def _check_store(store: Store, proxy: Proxy) -> None:
    """Check that the store can be used; raises StoreUnusableError where it cannot, and there is no upstream either."""
    try:
        store.usage()
    except StoreUnusableError as error:
        if proxy.upstream is None:
            raise
        proxy.store_faults.note_failure("read", error)


def _hosts(options: ServeOptions, sockets: Sequence[socket.socket]) -> list[str]:
    """Return the addresses on which the server listens."""
    return [one.getsockname()[0] for one in sockets] or [options.host]


def _log_start(options: ServeOptions, every_part: Sequence[Parts], hosts: Sequence[str]) -> None:
    """Log which dispatchers the server asks, where their recordings are, and which event loop it has."""
    log_event(_log, "start", f"event loop: {loop_name()}", version=__version__, workers=options.workers)
    if warning := exposure_warning(hosts, has_tls=options.tls_cert is not None, public_url=options.public_url):
        _log.warning("%s", warning)
    if options.public_url:
        _log.info("clients use %s", options.public_url)
    for parts in every_part:
        one = parts.options
        what = f"{one.name}, at {one.prefix or '/'}: " if one.name else ""
        if one.offline:
            _log.info("%soffline: %d recordings in %s", what, parts.store.usage().recordings, parts.folder or "memory")
            if others := [] if one.name else _other_dispatchers(parts.folder):
                _log.info("there are recordings of other dispatchers, named with --upstream: %s", ", ".join(others))
        elif not one.mock:
            _log.info("%sdispatcher %s; recordings in %s", what, one.upstream, parts.folder)
        _check_sharing(parts.store, parts.folder, one.sharing)


def _check_sharing(store: Store, folder: Path | None, sharing: str) -> None:
    """Log how many private recordings cannot be found because they were stored with another `--sharing`."""
    from oda_proxy.store import sharing_history

    if folder is None:
        return
    try:
        lost = sharing_history.unreachable(store, folder, sharing, now=time.time())
    except StoreUnusableError as error:
        _log.warning("cannot tell which private recordings were stored with another --sharing: %s", error)
        return
    for other, entries in lost.items():
        _log.warning(
            "private recordings stored with --sharing %s: %d, which are not found with --sharing %s; start with "
            "--sharing %s to use them, or let them be evicted",
            other,
            len(entries),
            sharing,
            other,
        )


def _other_dispatchers(folder: Path | None) -> list[str]:
    """Return the addresses of other dispatchers with recordings in the same place."""
    if folder is None or not folder.parent.is_dir():
        return []
    return sorted(
        unquote(other.name)
        for other in folder.parent.iterdir()
        if other != folder and any((other / "heads").glob("*/*"))
    )


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what the command was asked for
