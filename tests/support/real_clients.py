"""Environments of real clients and dispatchers, for tests: skipped where they cannot be built, except in CI."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.environments import EnvironmentNotBuiltError, is_built, python_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

allowed = False
"""Whether the test that runs is marked `real`."""


def environment(name: str) -> Path:
    """Return the Python of an environment; skip the test where it cannot be built, except in CI."""
    assert allowed, f"a test that uses the environment {name} must be marked `real`"
    if is_built(name):
        return python_of(name)
    try:
        with _without_time_limit():
            return python_of(name)
    except EnvironmentNotBuiltError as error:
        if os.environ.get("ODA_PROXY_REQUIRE_REAL"):
            pytest.fail(f"CI must test with real components: {error}")
        pytest.skip(f"needs a package index: {error}")


@contextmanager
def _without_time_limit() -> Iterator[None]:
    """Stop the timer of pytest-timeout: what a test must wait for here is a download, and not a hang of its own."""
    seconds, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, seconds, interval)
