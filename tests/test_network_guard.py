"""No test reaches another machine, and neither does a program that tests start."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.network_guard.loopback_only import MESSAGE
from tests.support.servers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ELSEWHERE = ("192.0.2.1", 9)
"""An address that belongs to nobody (RFC 5737)."""


def finished(command: list[Any], **told: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **told)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org", "127.example.org"])
def test_a_connection_to_another_machine_is_refused(host: str) -> None:
    with pytest.raises(OSError, match=f"{MESSAGE}: {host}"):
        socket.create_connection((host, 9), timeout=1)


def test_every_way_out_is_refused() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, socket.socket() as stream:
        for way in (
            lambda: stream.connect(ELSEWHERE),
            lambda: stream.connect_ex(ELSEWHERE),
            lambda: datagrams.sendto(b"", ELSEWHERE),
            lambda: datagrams.sendmsg([b""], [], 0, ELSEWHERE),
            lambda: socket.gethostbyname("example.org"),
            lambda: asyncio.run(asyncio.open_connection(*ELSEWHERE)),
        ):
            with pytest.raises(OSError, match=MESSAGE):
                way()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3", "0.0.0.0"])  # noqa: S104 - a connection
def test_a_server_on_this_machine_is_reached(host: str) -> None:
    with socket.create_server(("", 0)) as server, socket.create_connection((host, server.getsockname()[1])) as client:
        assert client.getpeername()[1] == server.getsockname()[1]


def test_a_program_that_tests_start_is_refused() -> None:
    result = finished([sys.executable, "-c", f"import socket; socket.create_connection({ELSEWHERE})"])

    assert f"RefusedError: {MESSAGE}: 192.0.2.1" in result.stderr


def test_a_server_of_ours_is_refused(tmp_path: Path) -> None:
    upstream = ["--upstream", "http://192.0.2.1", "--cache-dir", str(tmp_path)]
    result = finished([sys.executable, "-m", "oda_proxy.cli", "serve", *upstream], cwd=tmp_path)

    assert MESSAGE in result.stderr


@pytest.mark.real
def test_a_client_that_is_not_told_an_address_is_refused(client_python: Callable[[str], Path], tmp_path: Path) -> None:
    """From 1.1.46 on a client without an address asks the internet for a list of sites."""
    script = "from oda_api.api import DispatcherAPI; DispatcherAPI(instrument='mock')"
    result = finished([client_python("1.3.5"), "-c", script], cwd=tmp_path)

    assert f"{MESSAGE}: odahub.io" in result.stderr


@pytest.mark.real
def test_the_client_of_2019_that_is_not_told_an_address_is_refused(
    client_python: Callable[[str], Path], tmp_path: Path
) -> None:
    """It connects when it is asked for something, and says no more than that something failed."""
    script = "from oda_api.api import DispatcherAPI; DispatcherAPI(instrument='mock').get_instruments_list()"
    result = finished([client_python("1.0"), "-c", script], cwd=tmp_path)

    assert f"{MESSAGE}: www.astro.unige.ch" in result.stderr


def test_another_customization_of_the_interpreter_is_still_run(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('customized')\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(tmp_path)])}
    result = finished([sys.executable, "-c", "import sys; print(sys._loopback_only)"], env=env)

    assert result.stdout.split() == ["customized", "True"]
