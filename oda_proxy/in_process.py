"""Context managers that run a server in a thread of this process.

They work in scripts, in notebooks, where an event loop runs in the main thread, and beside each other. The thread does
not survive a fork: enter the context after it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from aiohttp import web

from oda_proxy.config.options import AS_OF, RECORD, REPLAY, SERVE
from oda_proxy.config.settings import ServeOptions
from oda_proxy.config.sources import value_of
from oda_proxy.errors import UsageError
from oda_proxy.run.client_cache import empty_client_cache
from oda_proxy.servers.mock import ineffective_faults, mock_app
from oda_proxy.servers.one_process import proxy_listening
from oda_proxy.web.server import listening

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from typing import Literal

    from oda_proxy.config.options import Option

_log = logging.getLogger(__name__)

HOST = "127.0.0.1"
SHUTDOWN = 0.2
"""Time, in s, that responses in progress may take when the context ends."""

_UPSTREAM, _TIME_SCALE = RECORD[0], REPLAY[0]
_BAD_REQUEST = 400
_LARGEST_REFUSAL = 2**16
"""Size, in bytes, of the largest response that is searched for the reason of a refusal."""

Folder: TypeAlias = str | PathLike[str]
T = TypeVar("T")


@contextmanager
def serving(upstream: str | None = None, *, mock: bool = False, **options: Any) -> Iterator[str]:
    """Run the caching proxy, like `oda-proxy serve`, and return its URL.

    Parameters
    ----------
    upstream
        URL of the dispatcher; the production dispatcher if None.
    mock
        Use a mock dispatcher, started in this process, as upstream.
    options
        Options of the command, with underscores: `cache_dir="recordings"`, `offline=True` (docs/configuration.md).
        Neither the environment nor a configuration file is read; the port defaults to a free one.

    Raises
    ------
    UsageError
        An option is not valid.
    UpstreamUnreachableError
        The dispatcher cannot be reached, and there are no recordings of it.
    StoreUnusableError, ListenError
        The folder of recordings, or the port, cannot be used.
    """
    chosen = {"upstream": upstream, "mock": mock, "port": 0, **options}
    serve_options = ServeOptions(**_values(SERVE, chosen))
    with in_thread(proxy_listening(serve_options, shutdown_timeout=SHUTDOWN)) as url:
        yield url


@contextmanager
def mocking(
    *,
    fixtures: Folder | Sequence[Folder] = (),
    scenario: str | None = None,
    scenarios: Folder | Sequence[Folder] = (),
    faults: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    synthetic: bool | None = None,
    descriptions: Folder | Sequence[Folder] = (),
    public_instruments: bool = False,
    dummy_instruments: bool = False,
    dummy_release: str = "1.3.6",
    pages: Folder | Sequence[Folder] = (),
    time_scale: float = 0.0,
    secret_key: str | None = None,
    generation: Literal["today", "2019"] = "today",
    seed: int = 0,
    port: int = 0,
    on_refusal: Callable[[str], None] | None = None,
    on_start: Callable[[Callable[[], list[str]]], None] | None = None,
) -> Iterator[str]:
    """Run a mock dispatcher, like `oda-proxy mock`, and return its URL (docs/mock.md).

    Unlike the command, it synthesises data for queries without a fixture, unless `fixtures` are passed. The client in
    this process has an empty cache (ODA_CACHE) meanwhile, so that what the mock returns is not in its own one later.

    Parameters
    ----------
    fixtures
        Folders of fixtures; those of the package if empty.
    scenario, scenarios
        Name of a scenario of faults; files with further scenarios.
    faults
        Further faults, each like a table in such a file: `{"do": "status", "status": 503, "on": [2]}`.
    synthetic
        Synthesise data for valid queries without a fixture; None is true unless `fixtures` are passed.
    descriptions
        Folders of descriptions of instruments, one `<instrument>.json` each.
    public_instruments
        Add the instruments that are known by their public descriptions: gw, legacysurvey, magic and others.
    dummy_instruments
        Add the dispatcher's dummy instruments: `empty`, `empty-async`, `empty-semi-async` and others.
    dummy_release
        The release of the dispatcher whose dummy instruments to add: 1.3.3 or 1.3.6.
    pages
        Files with pages of services around the dispatcher, such as `resolve_name`.
    time_scale
        Duration of jobs: 1 as recorded, 0 none.
    secret_key
        Key that signs tokens; signatures are not verified if None.
    generation
        Version of the dispatcher to imitate.
    seed
        Seed of random numbers and synthetic data.
    on_refusal
        Called in the thread of the server with the reason of each refused request and each failed job.
    on_start
        Called once with a function that returns the scenario and the faults that had no effect so far, as text.

    Raises
    ------
    UsageError, FixtureError
        An argument is not valid, or a file cannot be read.
    ListenError
        The port cannot be used.
    """
    folders = _folders(fixtures)
    app = mock_app(
        fixtures=folders,
        scenario=scenario,
        scenario_files=_folders(scenarios),
        faults=(faults,) if isinstance(faults, Mapping) else tuple(faults),
        synthetic=not folders if synthetic is None else synthetic,
        descriptions=_folders(descriptions),
        public_instruments=public_instruments,
        dummy_instruments=dummy_instruments,
        dummy_release=dummy_release,
        pages=_folders(pages),
        time_scale=time_scale,
        secret_key=secret_key,
        generation=generation,
        seed=seed,
    )
    if on_refusal:
        app.on_response_prepare.append(_refusal_hook(on_refusal))
    if on_start:
        on_start(partial(ineffective_faults, app))
    with empty_client_cache(), in_thread(listening(app, HOST, port, shutdown_timeout=SHUTDOWN)) as url:
        yield url


@contextmanager
def recording(
    folder: Folder, *, upstream: str | None = None, include_private: bool = False, replace: bool = False
) -> Iterator[str]:
    """Run a server that records all requests as a capsule in `folder`, and return its URL (docs/reproducing.md).

    The client in this process has an empty cache meanwhile (ODA_CACHE): what it finds in its own one is not requested.

    Parameters
    ----------
    folder
        A folder that does not exist or is empty; with `replace`, one with a capsule, which is removed.
    upstream
        URL of the dispatcher; the production dispatcher if None.
    include_private
        Also record responses to requests with a token.

    Raises
    ------
    UsageError, CapsuleError
        The folder cannot be used for a capsule, or not be written.
    ListenError
        No port is free.
    """
    from oda_proxy.run.listeners import dispatcher_listener
    from oda_proxy.run.recorder import recording as recorder_of

    url = None if upstream is None else value_of(_UPSTREAM, upstream, "upstream")
    server = recorder_of(
        _folder(folder), upstream=url, include_private=include_private, replace=replace, listen=dispatcher_listener
    )
    with _empty_client_cache(), in_thread(server) as recorder:
        try:
            yield recorder.listeners.url
        except Exception:
            recorder.exit_status = 1
            raise
        recorder.exit_status = 0
    for reason in recorder.summary.not_recorded:
        _log.warning("not recorded: %s", reason)
    if recorder.summary.private:
        _log.warning("not recorded: %d responses to requests with a token (include_private)", recorder.summary.private)


@contextmanager
def replaying(folder: Folder, *, time_scale: float = 0.0, as_of: str | None = None) -> Iterator[str]:
    """Run a server that answers from the capsule in `folder` alone, and return its URL.

    The client in this process has an empty cache meanwhile, as in `recording`. Requests without a recording are logged
    at the end. `time_scale` is the duration of jobs: 1 as recorded, 0 none. With `as_of`, a date such as
    2026-03-01, what was recorded later counts as missing.

    Raises UsageError, ListenError, and CapsuleError, which names the file.
    """
    from oda_proxy.run.listeners import dispatcher_listener
    from oda_proxy.run.replayer import replaying as replayer_of

    scale = value_of(_TIME_SCALE, time_scale, "time_scale")
    scope = None if as_of is None else value_of(AS_OF, as_of, "as_of")
    server = replayer_of(_folder(folder), time_scale=scale, as_of=scope, listen=dispatcher_listener)
    with _empty_client_cache(), in_thread(server) as replayer:
        try:
            yield replayer.listeners.url
        finally:
            for missed in tuple(replayer.missed):
                _log.warning("missed: %s", missed)


@contextmanager
def _empty_client_cache() -> Iterator[None]:
    """Set an empty cache for the client until the block ends, and log which one it replaces, if that has files."""
    with empty_client_cache() as replaced:
        yield
    if replaced:
        _log.warning("not used: the cache of oda_api in %s: the block had an empty one (ODA_CACHE)", replaced)


@contextmanager
def in_thread(server: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter an asynchronous context in a thread with its own event loop, and return its value.

    Errors at its start, and at its end unless the `with` block raises one, are raised here.
    """
    started: Future[T] = Future()
    stop_requested: Future[None] = Future()
    ended: Future[None] = Future()

    async def serve() -> None:
        stop = asyncio.wrap_future(stop_requested)
        async with server as value:
            started.set_result(value)
            await stop

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            (ended if started.done() else started).set_exception(error)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=run, name="oda-proxy", daemon=True)
    thread.start()
    try:
        yield started.result()
    finally:
        stop_requested.set_result(None)
        thread.join()
    ended.result()


def _values(options: tuple[Option, ...], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every option. Raises UsageError."""
    by_name = {option.name.replace("-", "_"): option for option in options}
    if unknown := sorted(set(chosen) - set(by_name)):
        raise UsageError(f"there is no option {unknown[0]!r}: choose from {', '.join(sorted(by_name))}")
    return {
        name: option.default if chosen.get(name) is None else value_of(option, chosen[name], name)
        for name, option in by_name.items()
    }


def _refusal_hook(
    on_refusal: Callable[[str], None],
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return a signal handler of aiohttp that passes the reason of each refusal to `on_refusal`."""

    async def inspect(_: web.Request, response: web.StreamResponse) -> None:
        body = response.body if isinstance(response, web.Response) else None
        if response.content_type != "application/json" or not isinstance(body, bytes) or len(body) > _LARGEST_REFUSAL:
            return
        try:
            answer = json.loads(body)
            status = answer.get("exit_status", {})
            if response.status >= _BAD_REQUEST or status.get("status") == 1:
                message = status.get("message") or answer.get("error_message") or answer.get("error")
                on_refusal(str(message or response.status))
        except (ValueError, AttributeError):  # an injected fault, or no response of that form
            return

    return inspect


def _folders(folders: Folder | Sequence[Folder]) -> tuple[Path, ...]:
    return (_folder(folders),) if isinstance(folders, str | PathLike) else tuple(map(_folder, folders))


def _folder(folder: Folder) -> Path:
    if not str(folder).strip():
        raise UsageError(f"the path of a file or folder must not be empty, as {str(folder)!r} is")
    return Path(folder)
