"""Connections that bypass the proxy are reported, and what runs is otherwise as it was."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from oda_proxy.run.child import descendants
from oda_proxy.run.distributions import find_versions
from oda_proxy.run.monitor import RunMonitor, _running_descendants

if TYPE_CHECKING:
    from pathlib import Path

# A program that tries to connect to its arguments, `host:port`, and ignores that it cannot.
CONNECTING = """
import socket, sys
for address in sys.argv[1:]:
    host, _, port = address.rpartition(":")
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as connection:
            try:
                connection.connect((host, int(port)))
            except OSError:
                pass
"""


@pytest.fixture
def monitor(tmp_path: Path) -> RunMonitor:
    (tmp_path / "python").mkdir()
    return RunMonitor(tmp_path / "python")


def run(monitor: RunMonitor, tmp_path: Path, *arguments: str, before: str = "", check: bool = True) -> str:
    path = os.pathsep.join([str(tmp_path / "python"), before, os.environ["PYTHONPATH"]])
    env = {**os.environ, **monitor.variables, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-c", *arguments], env=env, check=check, capture_output=True, text=True
    ).stdout


def test_a_connection_to_another_machine_is_reported_once(monitor: RunMonitor, tmp_path: Path) -> None:
    run(monitor, tmp_path, CONNECTING, "192.0.2.1:443", "192.0.2.1:443", "192.0.2.1:80", "2001:db8::1:443")

    assert monitor.connections == ("192.0.2.1:443", "192.0.2.1:80", "2001:db8::1:443")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_connection_to_this_machine_is_not_reported(monitor: RunMonitor, tmp_path: Path, host: str) -> None:
    run(monitor, tmp_path, CONNECTING, f"{host}:1")

    assert monitor.connections == ()


def test_the_name_that_was_looked_up_is_reported(monitor: RunMonitor, tmp_path: Path) -> None:
    script = """
import socket
try:
    socket.create_connection(("www.example.org", 443))
except OSError:
    pass
socket.getaddrinfo = lambda *_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 443))]
try:
    socket.create_connection(("www.example.org", 443))
except OSError:
    pass
"""
    run(monitor, tmp_path, script)

    assert monitor.connections == ("www.example.org:443",)


def test_the_sitecustomize_that_it_hides_is_run(monitor: RunMonitor, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("print('customised')")

    assert run(monitor, tmp_path, "print('run')", before=str(tmp_path / "own")) == "customised\nrun\n"


def test_a_sitecustomize_that_runs_others_too_runs_once(monitor: RunMonitor, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    script = """
import importlib.util, os, sys
from importlib.machinery import PathFinder
print("customised")
paths = [path for path in sys.path if path != os.path.dirname(__file__)]
spec = PathFinder.find_spec("sitecustomize", paths)
spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""
    (tmp_path / "own" / "sitecustomize.py").write_text(script)

    assert run(monitor, tmp_path, "print('run')", before=str(tmp_path / "own")) == "customised\nrun\n"


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 2)", "os._exit(3)"])
def test_the_packages_that_a_program_imported_are_found_however_it_ended(
    monitor: RunMonitor, tmp_path: Path, end: str
) -> None:
    script = f"import json, os, iniconfig\ntry:\n    import nosuch\nexcept ImportError:\n    {end}"
    run(monitor, tmp_path, script, check=False)

    packages = monitor.find_packages()
    assert packages["iniconfig"] == [version("iniconfig")]
    assert packages["python"] == [platform.python_version()]
    assert "pytest" not in packages


def test_each_program_has_packages_of_its_own_import_path(monitor: RunMonitor, tmp_path: Path) -> None:
    for number in ("1", "2"):
        folder = tmp_path / number
        (folder / "mine-0.dist-info").mkdir(parents=True)
        (folder / "mine-0.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: mine\nVersion: {number}.0\n"
        )
        (folder / "mine-0.dist-info" / "RECORD").write_text("the_module.py,,\n")
        (folder / "the_module.py").write_text("")
        late = f"import sys\nsys.path.insert(0, {str(folder)!r})\nimport the_module"
        run(monitor, tmp_path, late)

    assert monitor.find_packages()["mine"] == ["1.0", "2.0"]


def test_a_module_of_no_distribution_has_no_version() -> None:
    assert find_versions({"nosuch"}, sys.path) == {}


def test_a_process_that_a_program_forks_reports_for_itself(monitor: RunMonitor, tmp_path: Path) -> None:
    script = """
import os, sys
if pid := os.fork():
    os.waitpid(pid, 0)
else:
    import iniconfig
    os._exit(0)
"""
    run(monitor, tmp_path, script)

    assert monitor.find_packages()["iniconfig"] == [version("iniconfig")]


def test_programs_that_do_not_report_their_connections_are_named(monitor: RunMonitor, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(f"#!{sys.executable}\n")
    (tmp_path / "script").chmod(0o755)
    script = f"""
import os, subprocess, sys
subprocess.run(["true"])
subprocess.run([sys.executable, "-c", "import os; os.system('exit')"])
subprocess.run([{str(tmp_path / "script")!r}])
"""
    run(monitor, tmp_path, script)

    assert monitor.sampled_programs == ("sh", "true")


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells")
async def test_a_program_that_runs_for_a_while_is_seen(monitor: RunMonitor) -> None:
    process = await asyncio.create_subprocess_exec("sleep", "60")
    monitor._look()
    assert set(_running_descendants()) == set(descendants())
    process.kill()
    await process.wait()

    assert "sleep" in monitor.sampled_programs  # beside servers that other tests left running


def test_reports_beyond_the_limit_are_not_read(monitor: RunMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oda_proxy.run.monitor.MAX_LOG", 40)
    for number in (1, 2):
        with monitor._log.open("a") as log:
            log.write(f"7\tconnection\t192.0.2.{number}\t192.0.2.{number}\t443\n")

    assert monitor.connections == ("192.0.2.1:443",)
    assert not monitor.is_complete
