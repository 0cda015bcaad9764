"""Nothing that was acknowledged is lost to `kill -9` or to another program, and nothing wrong is served."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT

pytestmark = pytest.mark.slow  # 20 CPU seconds

KILLS = "tests.soak.kills"
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder in memory, in which the program makes one of its own
SHARING = "tests.soak.sharing"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL, and no fork")
def test_writers_that_are_killed_300_times_lose_nothing() -> None:
    command = [sys.executable, "-m", KILLS, "--kills", "300"]
    if MEMORY.is_dir():  # a kill takes nothing from a disk that memory would keep, and many more steps are made
        command += ["--place", str(MEMORY)]

    told = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("300 kills of 2 writers")
    assert "none lost, none wrong" in told.stdout


def test_two_programs_on_one_store_lose_nothing() -> None:
    told = subprocess.run(
        [sys.executable, "-m", SHARING, "--seconds", "5"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )

    assert told.returncode == 0, told.stderr
    assert "no error, none lost" in told.stdout
