"""Servers in a thread of this process: each is there, at the address that its block is given, until the block ends.

They work in scripts, in notebooks, where a loop may already run in the main thread, and beside each other. The thread
does not survive a fork: begin a block after it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from oda_proxy import config
from oda_proxy.errors import UsageError
from oda_proxy.serving import mock_app, proxy_listening
from oda_proxy.web.server import listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager
    from typing import Literal

    from oda_proxy.config import Option

HOST = "127.0.0.1"
SHUTDOWN = 0.2
"""Seconds that answers under way may take when a block ends: whoever asked in it is likely to have an answer."""

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
    with in_thread(proxy_listening(**_values(config.SERVE, given), shutdown_timeout=SHUTDOWN)) as url:
        yield url


@contextmanager
def mocking(
    *,
    fixtures: Folder | Sequence[Folder] = (),
    scenario: str | None = None,
    scenarios: Folder | Sequence[Folder] = (),
    faults: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    synthetic: bool = False,
    time_scale: float = 0.0,
    secret_key: str | None = None,
    generation: Literal["today", "2019"] = "today",
    seed: int = 0,
    port: int = 0,
) -> Iterator[str]:
    """Serve a mock dispatcher, as `oda-proxy mock` does, and give its address (docs/mock.md).

    Parameters
    ----------
    fixtures
        Folders of fixtures; the shipped ones if left out.
    scenario, scenarios
        The name of what is to go wrong; files with scenarios of one's own.
    faults
        What is to go wrong besides, each as a table of such a file: `{"do": "status", "status": 503, "on": [2]}`.
    synthetic
        Make up data for every other valid query.
    time_scale
        How long jobs take: 1 as recorded, 0 no time.
    secret_key
        Key with which tokens are signed; without it signatures are not verified.
    generation
        Which dispatcher to imitate.
    seed
        Of all that is random or made up.

    Raises
    ------
    UsageError, FixtureError
        What is asked for makes no sense, or cannot be read.
    ListenError
        There is no such port.
    """
    app = mock_app(
        fixtures=_folders(fixtures),
        scenario=scenario,
        scenario_files=_folders(scenarios),
        faults=(faults,) if isinstance(faults, Mapping) else tuple(faults),
        synthetic=synthetic,
        time_scale=time_scale,
        secret_key=secret_key,
        generation=generation,
        seed=seed,
    )
    with in_thread(listening(app, HOST, port, shutdown_timeout=SHUTDOWN)) as url:
        yield url


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


def _folders(given: Folder | Sequence[Folder]) -> tuple[Path, ...]:
    return (Path(given),) if isinstance(given, str | PathLike) else tuple(map(Path, given))
