"""What several tests share: real clients, a real dispatcher, and servers that stop by themselves."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.environments import GUARD
from tests.support.network_guard import loopback_only
from tests.support.paths import CLIENT_SCRIPTS
from tests.support.real_clients import environment
from tests.support.servers import PATIENCE, real_dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Nothing that tests do leaves this machine: neither here nor in the programs that they start. Only pip does.
loopback_only.install()
os.environ["PYTHONPATH"] = os.pathsep.join([GUARD, *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(scope="session")
def client_python() -> Callable[[str], Path]:
    """Give the Python of an environment with that version of `oda_api`."""
    return lambda version: environment(f"oda_api-{version}")


@pytest.fixture(scope="session")
def reader_python() -> Path:
    """Give the Python of the environment with a reader of OGIP files."""
    return environment("pyspextools-0.7.1")


@pytest.fixture(scope="session")
def dispatcher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Name the folder in which the real dispatcher works."""
    return tmp_path_factory.mktemp("dispatcher")


@pytest.fixture(scope="session")
def dispatcher_url(dispatcher_folder: Path) -> Iterator[str]:
    """Run the real dispatcher, with its dummy plugin, for the whole run."""
    python = environment("dispatcher-1.3.3")
    with real_dispatcher(python, dispatcher_folder) as url:
        yield url


@pytest.fixture(scope="module")
def own_dispatcher_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a real dispatcher for one module: the state of a job is the job's, whoever asked for it before."""
    with real_dispatcher(environment("dispatcher-1.3.3"), tmp_path_factory.mktemp("dispatcher")) as url:
        yield url


@pytest.fixture
def run_client(run_client_in: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Run a script of `tests/clients/scripts` with an unmodified client in this test's folder."""

    def run(version: str, script: str, *arguments: str, expect: int = 0) -> Any:
        return run_client_in(tmp_path, version, script, *arguments, expect=expect)

    return run


@pytest.fixture(scope="session")
def run_client_in(client_python: Callable[[str], Path]) -> Callable[..., Any]:
    """Run a script of `CLIENT_SCRIPTS` with an unmodified client in a folder; it prints one JSON value at its end."""

    def run(folder: Path, version: str, script: str, *arguments: str, expect: int = 0) -> Any:
        # Nothing of this run may change what the client does: no token, no address, no configuration.
        env = {name: value for name, value in os.environ.items() if not name.startswith(("ODA_", "DISP_"))}
        result = subprocess.run(
            [client_python(version), CLIENT_SCRIPTS / script, *arguments],
            cwd=folder,
            env={**env, "HOME": str(folder), "MPLBACKEND": "agg"},
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
        )
        assert result.returncode == expect, result.stdout + result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    return run
