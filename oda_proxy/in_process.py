"""Servers in a thread of this process: each is there, at the address that its block is given, until the block ends.

They work in scripts, in notebooks, where a loop may already run in the main thread, and beside each other. The thread
does not survive a fork: begin a block after it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from aiohttp import web

from oda_proxy import config
from oda_proxy.errors import UsageError
from oda_proxy.servers import mock_app, proxy_listening
from oda_proxy.web.server import listening

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from typing import Literal

    from oda_proxy.config import Option

_log = logging.getLogger(__name__)

HOST = "127.0.0.1"
SHUTDOWN = 0.2
"""Seconds that answers under way may take when a block ends: whoever asked in it is likely to have an answer."""

_UPSTREAM, _TIME_SCALE = config.RECORD[0], config.REPLAY[0]
_BAD_REQUEST = 400
_LARGEST_REFUSAL = 2**16

Folder: TypeAlias = str | PathLike[str]
T = TypeVar("T")


@contextmanager
def serving(upstream: str | None = None, *, mock: bool = False, **options: Any) -> Iterator[str]:
    """Serve the caching proxy, as `oda-proxy serve` does, and give its address.

    Parameters
    ----------
    upstream
        The dispatcher to ask; the production one if left out.
    mock
        Ask a mock dispatcher started beside the proxy instead.
    options
        Those of the command, with underscores: `cache_dir="recordings"`, `offline=True`, ... (docs/configuration.md).
        Neither the environment nor a configuration file is read, and the port is a free one.

    Raises
    ------
    UsageError
        An option makes no sense.
    UpstreamUnreachableError
        The dispatcher is not there, and nothing was recorded from it.
    StoreUnusableError, ListenError
        There is no place for recordings, or no such port.
    """
    given = {"upstream": upstream, "mock": mock, "port": 0, **options}
    serve_options = config.ServeOptions(**_values(config.SERVE, given))
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
    time_scale: float = 0.0,
    secret_key: str | None = None,
    generation: Literal["today", "2019"] = "today",
    seed: int = 0,
    port: int = 0,
    on_refusal: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """Serve a mock dispatcher like that of `oda-proxy mock`, and give its address (docs/mock.md).

    As the pytest fixture `oda_dispatcher_url`, and unlike the command, it makes up data unless it is given fixtures.

    Parameters
    ----------
    fixtures
        Folders of fixtures; the shipped ones if left out.
    scenario, scenarios
        The name of what is to go wrong; files with scenarios of one's own.
    faults
        What is to go wrong besides, each as a table of such a file: `{"do": "status", "status": 503, "on": [2]}`.
    synthetic
        Make up data for every other valid query; done where it is left out, unless fixtures are given.
    time_scale
        How long jobs take: 1 as recorded, 0 no time.
    secret_key
        Key with which tokens are signed; without it signatures are not verified.
    generation
        Which dispatcher to imitate.
    seed
        Of all that is random or made up.
    on_refusal
        Is told, in the thread of the server, why a request was refused or a job failed.

    Raises
    ------
    UsageError, FixtureError
        What is asked for makes no sense, or cannot be read.
    ListenError
        There is no such port.
    """
    folders = _folders(fixtures)
    app = mock_app(
        fixtures=folders,
        scenario=scenario,
        scenario_files=_folders(scenarios),
        faults=(faults,) if isinstance(faults, Mapping) else tuple(faults),
        synthetic=not folders if synthetic is None else synthetic,
        time_scale=time_scale,
        secret_key=secret_key,
        generation=generation,
        seed=seed,
    )
    if on_refusal:
        app.on_response_prepare.append(_telling(on_refusal))
    with in_thread(listening(app, HOST, port, shutdown_timeout=SHUTDOWN)) as url:
        yield url


@contextmanager
def recording(
    folder: Folder, *, upstream: str | None = None, include_private: bool = False, replace: bool = False
) -> Iterator[str]:
    """Record what is asked at the address that the block is given as a capsule in `folder` (docs/reproducing.md).

    Parameters
    ----------
    folder
        Not there yet, empty, or, with `replace`, one with a capsule, which is removed.
    upstream
        The dispatcher to ask; the production one if left out.
    include_private
        Keep what is asked for with a token, too.

    Raises
    ------
    UsageError, CapsuleError
        The folder cannot be used for a capsule, or written to.
    ListenError
        There is no port to be had.
    """
    from oda_proxy.run.listeners import own_door
    from oda_proxy.run.recorder import recording as recorder_of

    asked = config.value_of(_UPSTREAM, upstream, "upstream") if upstream else None
    wanted = recorder_of(Path(folder), upstream=asked, include_private=include_private, replace=replace, doors=own_door)
    with in_thread(wanted) as recorder:
        try:
            yield recorder.doors.url
        except Exception:
            recorder.exit_status = 1
            raise
        recorder.exit_status = 0
    for what in recorder.tally.not_kept:
        _log.warning("not recorded: %s", what)
    if recorder.tally.private:
        _log.warning("not recorded: %d answers asked for with a token (include_private)", recorder.tally.private)


@contextmanager
def replaying(folder: Folder, *, time_scale: float = 0.0) -> Iterator[str]:
    """Answer what is asked at the address that the block is given from the capsule in `folder`, and ask nobody.

    `time_scale` is how long jobs take: 1 as they did, 0 no time. Raises UsageError, CapsuleError, which names the
    file, and ListenError.
    """
    from oda_proxy.run.listeners import own_door
    from oda_proxy.run.replayer import replaying as replayer_of

    scale = config.value_of(_TIME_SCALE, time_scale, "time_scale")
    with in_thread(replayer_of(Path(folder), time_scale=scale, doors=own_door)) as replayer:
        yield replayer.doors.url


@contextmanager
def in_thread(server: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Run a server in a thread with a loop of its own until the block ends, and give what it gives.

    What it raises at its start or, unless the block does, at its end is raised here.
    """
    begun: Future[T] = Future()
    told_to_stop: Future[None] = Future()
    ended: Future[None] = Future()

    async def serve() -> None:
        stop = asyncio.wrap_future(told_to_stop)
        async with server as given:
            begun.set_result(given)
            await stop

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for it
            (ended if begun.done() else begun).set_exception(error)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=run, name="oda-proxy", daemon=True)
    thread.start()
    try:
        yield begun.result()
    finally:
        told_to_stop.set_result(None)
        thread.join()
    ended.result()


def _values(options: tuple[Option, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """Give every option its value. Raises UsageError."""
    known = {option.name.replace("-", "_"): option for option in options}
    if unknown := sorted(set(given) - set(known)):
        raise UsageError(f"there is no option {unknown[0]!r}: choose from {', '.join(sorted(known))}")
    return {
        name: option.default if given.get(name) is None else config.value_of(option, given[name], name)
        for name, option in known.items()
    }


def _telling(told: Callable[[str], None]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Make what looks at each answer of a mock, and tells why something failed."""

    async def look(_: web.Request, response: web.StreamResponse) -> None:
        body = response.body if isinstance(response, web.Response) else None
        if response.content_type != "application/json" or not isinstance(body, bytes) or len(body) > _LARGEST_REFUSAL:
            return
        try:
            answer = json.loads(body)
            status = answer.get("exit_status", {})
            if response.status >= _BAD_REQUEST or status.get("status") == 1:
                told(
                    str(status.get("message") or answer.get("error_message") or answer.get("error") or response.status)
                )
        except (ValueError, AttributeError):  # a fault, or no answer of that form
            return

    return look


def _folders(given: Folder | Sequence[Folder]) -> tuple[Path, ...]:
    return (Path(given),) if isinstance(given, str | PathLike) else tuple(map(Path, given))
