"""What several tests share: real clients, a real dispatcher, and servers that stop by themselves."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside the tests: environments, servers

from environments import EnvironmentNotBuiltError, python_of

if TYPE_CHECKING:
    from collections.abc import Callable


def environment(name: str) -> Path:
    """Give the Python of an environment; skip the test where it cannot be built, except in CI."""
    try:
        return python_of(name)
    except EnvironmentNotBuiltError as error:
        if os.environ.get("ODA_PROXY_REQUIRE_REAL"):
            pytest.fail(f"CI must test with real components: {error}")
        pytest.skip(f"needs a package index: {error}")


@pytest.fixture(scope="session")
def client_python() -> Callable[[str], Path]:
    """Give the Python of an environment with that version of `oda_api`."""
    return lambda version: environment(f"oda_api-{version}")
