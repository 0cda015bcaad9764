"""The units of systemd are valid, and the service is hardened."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.support.front_end import free_port
from tests.support.paths import CHECKOUT
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from pathlib import Path

UNITS = CHECKOUT / "deploy/systemd"
MAX_EXPOSURE = 2.0
"""The exposure level that `systemd-analyze security` computes: 10 is none of its protections."""


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze, which is not installed")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/oda-proxy/bin/oda-proxy", sys.executable)
        (tmp_path / unit.name).write_text(text)

    result = analyze("verify", "--man=no", *(str(unit) for unit in tmp_path.iterdir()))

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_service_is_hardened() -> None:
    result = analyze("security", "--offline=true", str(UNITS / "oda-proxy.service"))

    (level,) = re.findall(r"Overall exposure level for oda-proxy.service: ([0-9.]+)", result.stdout)
    assert float(level) <= MAX_EXPOSURE


@pytest.mark.slow
def test_a_server_listens_on_the_socket_that_systemd_passes(tmp_path: Path) -> None:
    program = shutil.which("systemd-socket-activate")
    if program is None:
        pytest.skip("needs systemd-socket-activate, which is not installed")
    address = f"127.0.0.1:{free_port()}"
    with running(tmp_path / "mock.log", "mock", "--port", "0") as mock:
        serve = ["serve", "--upstream", mock.url, "--cache-dir", str(tmp_path / "cache")]
        passed = [f"--setenv={name}" for name in os.environ]
        command = [program, "-l", address, *passed, sys.executable, "-m", "oda_proxy.cli", *serve]
        with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                status = first_response(f"http://{address}/-/livez")
            finally:
                process.terminate()
    assert status == 200
    assert process.returncode == 0
    assert f"listening on http://{address}\n" in (tmp_path / "log").read_text()


def first_response(url: str) -> int:
    """Return the status of the first response; until systemd listens, nobody does."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as response:  # noqa: S310 - on this machine
                return int(response.status)
        except urllib.error.URLError:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # the state of another program can only be polled


def test_each_worker_has_a_socket_of_its_own() -> None:
    options = tomllib.loads((CHECKOUT / "deploy/oda-proxy.toml").read_text())
    listeners = re.findall(r"(?m)^ListenStream=(.*)$", (UNITS / "oda-proxy.socket").read_text())

    assert listeners == [f"{options['host']}:{options['port']}"] * options["workers"]
