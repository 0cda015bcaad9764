"""The parts of a proxy that its server needs, built from the options of one upstream."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oda_proxy.files.temporary import TemporaryFolder
from oda_proxy.servers.background import running_in_background
from oda_proxy.servers.capsules import open_capsules
from oda_proxy.servers.mock import mock_app
from oda_proxy.web.server import listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aiohttp import web

    from oda_proxy.config.settings import ServeOptions
    from oda_proxy.drawing.product_files import ProductFiles
    from oda_proxy.handlers.capsule_recordings import CapsuleRecordings
    from oda_proxy.handlers.services import OtherProcesses
    from oda_proxy.http.message import Upstream
    from oda_proxy.proxy import Proxy
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.servers.replicas import ReplicaParts
    from oda_proxy.store.base import Store
    from oda_proxy.store.collections import Collections
    from oda_proxy.store.near_misses import NearMissHandler
    from oda_proxy.upstream.throttling import ThrottledUpstream
    from oda_proxy.web.guarding import SharedAccess
    from oda_proxy.web.own_routes import Guard
    from oda_proxy.web.reloading import Reloads
    from oda_proxy.web.server_state import ServerState


_log = logging.getLogger(__name__)

HOUR = 3600.0

SHUTDOWN_TIMEOUT = 5.0
"""Seconds that answers under way may take when the server stops."""


def register_for_reloads(reloads: Reloads | None, parts: Parts, guard: Guard) -> None:
    """Have a proxy take over new options."""
    from oda_proxy.web.reloading import ReloadableProxy

    if reloads is not None:
        proxy = ReloadableProxy(parts.options.name, parts.proxy, parts.server, guard)
        reloads.register(proxy.apply)


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
    replicas: ReplicaParts | None = None


async def build_parts(
    options: ServeOptions,
    stack: AsyncExitStack,
    shutdown_timeout: float,
    *,
    address: str,
    describing: Callable[[Upstream], Upstream] = lambda upstream: upstream,
    others: OtherProcesses | None = None,
    started_at: float | None = None,
    owner: str | None = None,
) -> Parts:
    """Build a proxy that asks the dispatcher at an address, with its store and its maintenance.

    `describing` returns the upstream that describes instruments; `others` are the other processes of the server, which
    started at `started_at`, in s since 1970 (UTC), and is named `owner` to its replicas.
    """
    from oda_proxy.config.folders import former_folders
    from oda_proxy.drawing.product_files import open_product_files
    from oda_proxy.store.eviction import Limits
    from oda_proxy.store.maintenance import background_maintenance
    from oda_proxy.store.near_misses import NearMissHandler
    from oda_proxy.web.server_state import ServerState

    folder = _store_folder(options)
    former = former_folders(options.cache_dir, options.upstream, options.former_url)
    store = _open_store(folder, former, options, stack)
    upstream, replicas = (None, None) if options.offline else await _connect(address, options, stack, owner)
    capsules = await open_capsules(options, stack)
    near_misses = NearMissHandler(store, others=lambda: [one.store for one in capsules.capsules])
    proxy = _make_proxy(
        store,
        upstream,
        folder,
        former,
        options,
        miss_handler=near_misses,
        describing=describing(upstream) if upstream else None,
        others=others,
        collections=_collections(options, folder, stack),
        capsules=capsules,
        replicas=replicas,
    )
    if replicas is not None:
        replicas.coordination.places.limit = lambda: proxy.jobs.max_jobs
    stack.push_async_callback(proxy.close, shutdown_timeout)
    limits = Limits(options.max_size, options.min_free)
    server = ServerState(started_at or time.time(), limits, replicas=replicas.status if replicas else None)
    await stack.enter_async_context(
        background_maintenance(store, lambda: server.limits or limits, proxy.store_faults, proxy.evictions)
    )
    product_files = await stack.enter_async_context(open_product_files(store, folder, upstream=address))
    return Parts(options, proxy, upstream, near_misses, store, folder, server, product_files, replicas)


async def resume(parts: Parts, stack: AsyncExitStack) -> None:
    """Resume the jobs of an earlier process, and from now on those of replicas that have ended."""
    await parts.proxy.resume()
    if parts.replicas is not None:
        from oda_proxy.servers.replicas import continue_orphans

        await stack.enter_async_context(running_in_background(continue_orphans(parts.proxy)))


async def close_all(every_part: Sequence[Parts], grace: float) -> None:
    """Close the proxies of all upstreams at the same time; first submissions have `grace` s to be answered."""
    await asyncio.gather(*(parts.proxy.close(grace) for parts in every_part))


async def one_app(
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


async def start_mock(options: ServeOptions, stack: AsyncExitStack, shutdown_timeout: float) -> str:
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
    from oda_proxy.config.folders import cache_folder

    if options.mock:
        return cache_folder(options.cache_dir, "http://mock") if options.cache_dir else None
    return cache_folder(options.cache_dir, options.upstream)


def _open_store(
    folder: Path | None, former_folders: Sequence[Path], options: ServeOptions, stack: AsyncExitStack
) -> Store:
    from oda_proxy.store.history_limits import HistoryLimits

    history = options.history or HistoryLimits()
    if options.store is not None:
        from oda_proxy.store.redis import opening

        upstreams = ["http://mock"] if options.mock else [options.upstream, *options.former_url]
        spool = folder / "waiting" if folder else None
        store = opening.open_stores(options.store, upstreams, follow=True, spool=spool, history=history)
        return stack.enter_context(closing(store))
    if folder is None:
        from oda_proxy.store.memory import MemoryStore

        return MemoryStore(history=history)
    from oda_proxy.store.combined import open_stores

    return stack.enter_context(closing(open_stores(folder, former_folders, history=history)))


def _collections(options: ServeOptions, folder: Path | None, stack: AsyncExitStack) -> Collections:
    """Return the collections of a store; those of a store in memory end with it."""
    from oda_proxy.store.collection_index import CollectionIndex

    if options.store is not None:
        from oda_proxy.store.redis import opening

        upstream = "http://mock" if options.mock else options.upstream
        shared = opening.open_collections(options.store, upstream, time.time, max_size=options.collections)
        if folder is not None:
            _warn_of_local_collections(CollectionIndex(folder, time.time), shared)
        return shared
    if folder is None:
        folder = Path(stack.enter_context(TemporaryFolder("collections")))
    return CollectionIndex(folder, time.time, max_size=options.collections)


def _warn_of_local_collections(local: Collections, shared: Collections) -> None:
    """Say which collections an earlier release noted on this machine, beside a store in Redis, that this has not."""
    present = {(one.owner, one.name) for one in shared.list()}
    if missing := sorted({one.name for one in local.list() if (one.owner, one.name) not in present}):
        _log.warning(
            "collections that were noted on this machine are not in the store: %s; "
            "oda-proxy copy --from CACHE_DIR --to STORE copies them (docs/scale.md)",
            ", ".join(missing),
        )


async def _connect(
    address: str, options: ServeOptions, stack: AsyncExitStack, owner: str | None
) -> tuple[ThrottledUpstream, ReplicaParts | None]:
    """Return the dispatcher at an address, and what connects this server to its replicas, if it may have some."""
    from oda_proxy.upstream.dispatcher import Dispatcher
    from oda_proxy.upstream.throttling import ThrottledUpstream

    dispatcher = await stack.enter_async_context(Dispatcher(address))
    replicas = None
    if options.store is not None:
        from oda_proxy.servers.replicas import connect_replicas

        replicas = await connect_replicas(options, options.store, dispatcher, stack, owner=owner)
    limited = replicas.limits if replicas else dispatcher
    return ThrottledUpstream(limited, max_concurrent=options.max_requests, rate=options.max_rate), replicas


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
    collections: Collections,
    capsules: CapsuleRecordings,
    replicas: ReplicaParts | None,
) -> Proxy:
    from oda_proxy.handlers.policy import Compress, Policy
    from oda_proxy.handlers.services import Services
    from oda_proxy.http.cors import CorsPolicy
    from oda_proxy.http.scope import EVERYTHING
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
        as_of=options.as_of or EVERYTHING,
    )
    described_in = [*former_folders, *(capsule.descriptions for capsule in capsules.capsules)]
    services = Services(
        instruments=Descriptions(
            describing, folder, ttl=options.description_ttl, clock=time.monotonic, former_folders=described_in
        ),
        tokens=TokenVerifier(
            Sharing(options.sharing), secret_key=options.secret_key, trust=options.token_trust, clock=time.time
        ),
        description_cache=DescriptionCache(options.description_ttl, time.time, folder, former_folders=described_in),
        journal=replicas.journal if replicas else JobJournal(folder, former_folders),
        replicas=replicas.coordination if replicas else None,
        miss_handler=miss_handler,
        describing=describing,
        others=others,
        is_same=_is_same_answer,
        collections=collections,
        capsules=capsules,
    )
    return Proxy(store, upstream, policy, services=services)


def _is_same_answer(recorded: Recording, later: Recording) -> bool:
    """Compare as `is_same_answer` does; numpy and astropy are imported when it is first needed, not at the start."""
    from oda_proxy.drift.equality import is_same_answer

    return is_same_answer(recorded, later)


async def drain(seconds: float, states: Iterable[ServerState], stop: asyncio.Event) -> None:
    """Go on for a while, so that load balancers send requests elsewhere: `/-/readyz` says that the server stops.

    `stop` is set; another signal sets it again, and ends the wait.
    """
    if seconds <= 0:
        return
    for state in states:
        state.is_draining = True
    stop.clear()
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
