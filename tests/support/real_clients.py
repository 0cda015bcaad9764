"""Environments of real clients and dispatchers, for tests: skipped where they cannot be built, except in CI."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.environments import EnvironmentNotBuiltError, python_of

if TYPE_CHECKING:
    from pathlib import Path


def environment(name: str) -> Path:
    """Give the Python of an environment; skip the test where it cannot be built, except in CI."""
    try:
        return python_of(name)
    except EnvironmentNotBuiltError as error:
        if os.environ.get("ODA_PROXY_REQUIRE_REAL"):
            pytest.fail(f"CI must test with real components: {error}")
        pytest.skip(f"needs a package index: {error}")
