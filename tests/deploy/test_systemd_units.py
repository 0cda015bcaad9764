"""The units of systemd are valid, and the service is hardened."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import CHECKOUT
from tests.support.servers import PATIENCE

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


def test_each_worker_has_a_socket_of_its_own() -> None:
    options = tomllib.loads((CHECKOUT / "deploy/oda-proxy.toml").read_text())
    listeners = re.findall(r"(?m)^ListenStream=(.*)$", (UNITS / "oda-proxy.socket").read_text())

    assert listeners == [f"{options['host']}:{options['port']}"] * options["workers"]
