"""Putting the parts together to servers, as options say, and running them until they are told to stop.

Each imports its own parts: the mock has to be ready in a blink, and needs no more of the proxy than the door.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from oda_proxy.errors import StoreUnusableError, UpstreamUnreachableError, UsageError
from oda_proxy.http.message import Request
from oda_proxy.web.server import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    from aiohttp import web

    from oda_proxy.http.message import Upstream
    from oda_proxy.proxy import Proxy
    from oda_proxy.store.base import Store
    from oda_proxy.store.freshness import Rule


_log = logging.getLogger(__name__)

HOUR = 3600.0
GREETING = 5.0
"""Seconds that a dispatcher has to show that it is there."""
SHUTDOWN = 5.0
"""Seconds that answers under way may take after the end."""

_TO_PASTE = """\
paste into Python, where oda_api is installed (version 1.0 wants host= instead of url=):

from oda_api.api import DispatcherAPI
disp = DispatcherAPI(url="{url}")
data = disp.get_product(instrument="isgri", product="isgri_image", product_type="Real", osa_version="OSA10.2", \
T1="2003-03-15T23:27:40.0", T2="2003-03-16T00:03:15.0", E1_keV=20.0, E2_keV=40.0, RA=255.986542, DEC=-37.844167, \
detection_threshold=5.0, radius=15.0)

then ask again, and see data.show() come at once. Ctrl-C ends it."""


class NoDispatcherError(UpstreamUnreachableError):
    """The dispatcher is not there at the start, and nothing was recorded that could be given."""

    def __init__(self, error: UpstreamUnreachableError, url: str) -> None:
        super().__init__(
            url, f"{error.reason}; start it first, name another with --upstream, or say --mock or --offline"
        )


async def serve(**options: Any) -> None:
    """Run the proxy until it is told to stop; the options are those of `oda_proxy.config.SERVE`."""
    stop = _told_to_stop()
    async with proxy_listening(**options) as url:
        _say(f"listening on {url}")
        if options["mock"]:
            _say(_TO_PASTE.format(url=url))
        await stop.wait()


@asynccontextmanager
async def proxy_listening(
    *,
    upstream: str,
    mock: bool,
    host: str,
    port: int,
    cache_dir: Path | None,
    max_size: int,
    max_requests: int,
    max_jobs: int,
    longest_job: float,
    max_rate: float,
    offline: bool,
    open_route: tuple[str, ...],
    description_ttl: float,
    lifetime: tuple[Rule, ...],
    sharing: str,
    secret_key: str | None,
    token_trust: float,
    fixtures: tuple[Path, ...],
    time_scale: float,
    synthetic: bool,
    shutdown_timeout: float = SHUTDOWN,
) -> AsyncIterator[str]:
    """Serve the proxy and give its address; the options are those of `oda_proxy.config.SERVE`.

    `shutdown_timeout` is as for `listening`. Raises UsageError, UpstreamUnreachableError where nothing was recorded
    either, StoreUnusableError and ListenError.
    """
    from oda_proxy.config import PRODUCTION, cache_folder
    from oda_proxy.jobs.job import Limits
    from oda_proxy.jobs.journal import JobJournal
    from oda_proxy.proxy import Policy, Proxy
    from oda_proxy.query.audience import Sharing, TokenVerifier
    from oda_proxy.query.descriptions import Descriptions
    from oda_proxy.store.freshness import Freshness
    from oda_proxy.store.maintenance import background_maintenance
    from oda_proxy.store.near_misses import NearMissHandler
    from oda_proxy.upstream.description_cache import DescriptionCache
    from oda_proxy.upstream.dispatcher import Dispatcher
    from oda_proxy.upstream.throttling import ThrottledUpstream
    from oda_proxy.web.app import make_app

    if mock and upstream != PRODUCTION:
        raise UsageError(f"--mock asks a mock dispatcher, and --upstream {upstream} another one: say one of them")
    async with AsyncExitStack() as stack:
        if mock:
            # A port of its own, which changes: what the mock answers is kept only where a folder is named for it.
            app = mock_app(fixtures=fixtures, time_scale=time_scale, synthetic=synthetic, secret_key=secret_key)
            address = await stack.enter_async_context(listening(app, "127.0.0.1", 0, shutdown_timeout=shutdown_timeout))
            folder = cache_folder(cache_dir, "http://mock") if cache_dir else None
        else:
            address = upstream
            folder = cache_folder(cache_dir, upstream)
        store = _store(folder, stack) if folder else _no_store()
        asked: Upstream | None = None
        if not offline:
            dispatcher = await stack.enter_async_context(Dispatcher(address))
            asked = ThrottledUpstream(dispatcher, max_concurrent=max_requests, rate=max_rate)
            await _greet(asked, store)
        policy = Policy(
            frozenset(open_route),
            description_ttl,
            Freshness(lifetime),
            max_jobs=max_jobs,
            limits=Limits(longest=longest_job * HOUR),
        )
        tokens = TokenVerifier(Sharing(sharing), secret_key=secret_key, trust=token_trust, clock=time.time)
        instruments = Descriptions(asked, folder, ttl=description_ttl, clock=time.monotonic)
        description_cache = DescriptionCache(description_ttl, time.time, folder)
        missing = NearMissHandler(store)
        proxy = Proxy(
            store,
            asked,
            policy,
            instruments=instruments,
            tokens=tokens,
            description_cache=description_cache,
            missing=missing,
            journal=JobJournal(folder),
        )
        _see(store, proxy)
        stack.push_async_callback(proxy.close)
        await proxy.resume()
        await stack.enter_async_context(background_maintenance(store, max_size, proxy.store_faults))
        app = make_app(proxy, missing)
        url = await stack.enter_async_context(listening(app, host, port, shutdown_timeout=shutdown_timeout))
        if asked:
            await stack.enter_async_context(_meanwhile(proxy.learn()))
        _tell(store, folder, "" if mock else upstream, offline=offline)
        yield url


@asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do something in the background, as far as it comes until the block ends."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def mock(
    *,
    fixtures: tuple[Path, ...],
    host: str,
    port: int,
    scenario: str | None,
    scenarios: tuple[Path, ...],
    time_scale: float,
    synthetic: bool,
    generation: str,
    secret_key: str | None,
) -> None:
    """Run the mock dispatcher; the options are those of `oda_proxy.config.MOCK`."""
    stop = _told_to_stop()
    app = mock_app(
        fixtures=fixtures,
        time_scale=time_scale,
        synthetic=synthetic,
        scenario=scenario,
        scenario_files=scenarios,
        generation=generation,
        secret_key=secret_key,
    )
    async with listening(app, host, port) as url:
        _say(f"listening on {url}")
        await stop.wait()


def mock_app(**settings: Any) -> web.Application:
    """Make a mock dispatcher; the settings are those of `mock_server.settings.MockSettings`."""
    from mock_server.app import make_app
    from mock_server.settings import MockSettings

    return make_app(MockSettings(**settings))


def _store(folder: Path, stack: AsyncExitStack) -> Store:
    from oda_proxy.store.disk import DiskStore

    return stack.enter_context(closing(DiskStore(folder)))


def _no_store() -> Store:
    from oda_proxy.store.memory import MemoryStore

    return MemoryStore()


async def _greet(upstream: Upstream, store: Store) -> None:
    """See whether the dispatcher is there: a proxy that could answer nothing at all had better not start.

    Raises UpstreamUnreachableError where it is not, and nothing was recorded either.
    """
    try:
        reply = await upstream.send(Request("GET", "/api/instr-list", "instrument=mock", timeout=GREETING))
        await reply.body.aclose()
    except UpstreamUnreachableError as error:
        try:
            kept = next(store.keys(), None)
        except StoreUnusableError:
            kept = None
        if kept is None:
            raise NoDispatcherError(error, upstream.url) from error
        _log.warning("%s; answering from recordings until it is back", error)


def _tell(store: Store, folder: Path | None, upstream: str, *, offline: bool) -> None:
    """Tell whom the proxy asks, and where its recordings are; `upstream` is empty where it is our own mock."""
    if offline:
        _log.info("offline: recordings here: %d, in %s", store.usage().recordings, folder or "memory")
        if others := _others(folder):
            _log.info("there are recordings of other dispatchers, named with --upstream: %s", ", ".join(others))
    elif upstream:
        _log.info("asking %s; recordings are in %s", upstream, folder)


def _others(folder: Path | None) -> list[str]:
    """Name the other dispatchers of which something was recorded in the same place."""
    if folder is None or not folder.parent.is_dir():
        return []
    return sorted(
        unquote(other.name)
        for other in folder.parent.iterdir()
        if other != folder and any((other / "heads").glob("*/*"))
    )


def _see(store: Store, proxy: Proxy) -> None:
    """See whether the store can be used: where it cannot, the dispatcher can still be asked.

    Raises StoreUnusableError where nobody can be asked either.
    """
    try:
        store.usage()
    except StoreUnusableError as error:
        if proxy.upstream is None:
            raise
        proxy.store_faults.note_failure("read", error)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what the command was asked for


def _told_to_stop() -> asyncio.Event:
    """Give the event that an interrupt or a request to end sets, from now on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop
