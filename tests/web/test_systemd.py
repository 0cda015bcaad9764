"""Sockets that systemd passes are used, and systemd is told when the server is ready."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from oda_proxy.web.systemd import notify, passed_sockets
from tests.support.servers import PATIENCE


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid())},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
    ],
)
def test_variables_for_another_process_or_without_sockets_are_removed_and_ignored(environ: dict[str, str]) -> None:
    environ = {**environ, "OTHER": "1"}

    assert passed_sockets(environ) == []
    assert environ == {"OTHER": "1"}


TRY = """
import os, socket, sys
from oda_proxy.errors import UsageError
from oda_proxy.web.systemd import passed_sockets
one = socket.socket(socket.AF_UNIX if sys.argv[1] == "unix" else socket.AF_INET)
if sys.argv[1] == "listening":
    one.bind(("127.0.0.1", 0))
    one.listen()
fd = os.dup(one.fileno()) if sys.argv[1] != "file" else os.open(os.devnull, os.O_RDONLY)
os.dup2(fd, 3)
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
try:
    (passed,) = passed_sockets(environ)
except UsageError as error:
    print(error)
else:
    print(passed.getsockname() == one.getsockname(), passed.getblocking(), environ)
"""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("listening", "True False {}"),
        ("bound", "LISTEN_FDS=1: descriptor 3 is no TCP socket that listens"),
        ("unix", "LISTEN_FDS=1: descriptor 3 is no TCP socket that listens"),
        ("file", "LISTEN_FDS=1: descriptor 3 is no socket"),
    ],
)
def test_only_tcp_sockets_that_listen_are_taken(kind: str, expected: str) -> None:
    output = subprocess.run(
        [sys.executable, "-c", TRY, kind], capture_output=True, text=True, timeout=PATIENCE, check=True
    )

    assert output.stdout.startswith(expected)


def test_systemd_is_told_that_the_server_is_ready() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        path = str(Path(folder) / "notify")
        channel.bind(path)
        notify("READY=1", {"NOTIFY_SOCKET": path})
        notify("READY=1", {})

        channel.setblocking(False)
        assert channel.recv(100) == b"READY=1"
        with pytest.raises(BlockingIOError):
            channel.recv(100)
