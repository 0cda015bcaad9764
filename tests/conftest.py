"""Set up a run of the tests: network guard, signals, markers, numbers of examples, and fixtures that folders share."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.support import real_clients
from tests.support.client_forks import client_environment, run_forked
from tests.support.environments import GUARD
from tests.support.examples import examples
from tests.support.network_guard import loopback_only
from tests.support.paths import CLIENT_SCRIPTS
from tests.support.real_clients import environment
from tests.support.redis_server import running_redis
from tests.support.servers import PATIENCE, real_dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.redis_server import RedisServer

REAL_TIMEOUT = 600
"""Seconds that a test of real clients may take: some wait for jobs of many clients on a machine that is busy."""

# Neither the tests nor the programs that they start reach another machine. Only the installer of environments does.
loopback_only.install()
os.environ["PYTHONPATH"] = os.pathsep.join([GUARD, *filter(None, [os.environ.get("PYTHONPATH")])])
# Tests start hundreds of processes of a few programs: compiling these each time takes as long as the tests themselves.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A deadline would fail tests on a machine that is busy.
settings.register_profile("oda-proxy", max_examples=examples(100), deadline=None)
settings.load_profile("oda-proxy")


def pytest_configure(config: pytest.Config) -> None:
    """Start programs with the default handlers of signals, also where this run ignores them."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        for name in ("SIGHUP", "SIGINT", "SIGQUIT"):  # SIGHUP with `nohup`, the others in the background of a script
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_IGN:
                # Still ignored in this process; but a program that is started does not inherit a handler.
                signal.signal(number, lambda _number, _frame: None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of real clients more time, and put the tests of a group together again after the shuffle."""
    groups: dict[str, int] = {}
    order: list[int] = []
    for number, item in enumerate(items):
        if item.get_closest_marker("real") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(REAL_TIMEOUT))
        group = item.get_closest_marker("xdist_group")
        order.append(groups.setdefault(group.args[0], number) if group else number)
    items[:] = [item for _, item in sorted(zip(order, items, strict=True), key=itemgetter(0))]


def pytest_collection_finish() -> None:
    """Exclude what collecting made from garbage collection: it lives until the end, and is looked through often."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let only tests that are marked `real` use other environments, so that `-m "not real"` needs none."""
    real_clients.allowed = item.get_closest_marker("real") is not None


@pytest.fixture(scope="session")
def client_python() -> Callable[[str], Path]:
    """Return the function that names the Python of an environment with a version of `oda_api`."""
    return lambda version: environment(f"oda_api-{version}")


@pytest.fixture(scope="session")
def reader_python() -> Path:
    """Return the Python of the environment with a reader of OGIP files."""
    return environment("pyspextools-0.7.1")


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run a Redis that the tests of one module share."""
    with running_redis(tmp_path_factory.mktemp("redis"), fsync="no") as server:
        yield server


@pytest.fixture(scope="session")
def dispatcher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the real dispatcher works."""
    return tmp_path_factory.mktemp("dispatcher")


@pytest.fixture(scope="session")
def dispatcher_url(dispatcher_folder: Path) -> Iterator[str]:
    """Run the real dispatcher, with its dummy plugin, until the tests of this worker end; return its address."""
    python = environment("dispatcher-1.3.3")
    with real_dispatcher(python, dispatcher_folder) as url:
        yield url


@pytest.fixture(scope="module")
def own_dispatcher_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a real dispatcher for one module: jobs keep their state there, whichever test began them."""
    with real_dispatcher(environment("dispatcher-1.3.3"), tmp_path_factory.mktemp("dispatcher")) as url:
        yield url


@pytest.fixture
def run_client(run_client_in: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Return the function that runs a script of `tests/clients/scripts` with an unmodified client in `tmp_path`."""

    def run(version: str, script: str, *arguments: str, expect: int = 0) -> Any:
        return run_client_in(tmp_path, version, script, *arguments, expect=expect)

    return run


@pytest.fixture(scope="session")
def run_client_in(client_python: Callable[[str], Path]) -> Callable[..., Any]:
    """Return the function that runs a script of `tests/clients/scripts` in a folder, and its last line as JSON."""

    def run(folder: Path, version: str, script: str, *arguments: str, expect: int = 0) -> Any:
        env = {**client_environment(), "HOME": str(folder), "MPLBACKEND": "agg"}
        words = [str(CLIENT_SCRIPTS / script), *arguments]
        result = run_forked(client_python(version), words, folder, env, PATIENCE * 2)
        assert result.returncode == expect, result.stdout + result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    return run
