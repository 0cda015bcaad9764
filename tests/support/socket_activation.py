"""A socket that stays open while servers that listen on it come and go, as with a socket unit of systemd."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.support.servers import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import Server

_START: Final = """
import os, sys
count, first = int(sys.argv[1]), 3
held = [os.dup(int(argument)) for argument in sys.argv[2:2 + count]]
for number, one in enumerate(held):
    os.dup2(one, first + number)
    os.set_inheritable(first + number, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
os.execv(sys.executable, [sys.executable, "-m", "oda_proxy.cli", *sys.argv[2 + count:]])
"""


@contextmanager
def listening_sockets(count: int = 1) -> Iterator[list[socket.socket]]:
    """Listen with some sockets on one free port of 127.0.0.1 until the block ends."""
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            one = socket.socket()
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(("127.0.0.1", sockets[0].getsockname()[1] if len(sockets) > 1 else 0))
            one.listen(1024)
        yield sockets
    finally:
        for one in sockets:
            one.close()


@contextmanager
def running_on(sockets: list[socket.socket], log: Path, *arguments: str) -> Iterator[Server]:
    """Run `oda-proxy` on sockets that are passed to it, with these arguments, until the block ends."""
    descriptors = [one.fileno() for one in sockets]
    program = ["-c", _START, str(len(sockets)), *map(str, descriptors)]
    with running(log, *arguments, program=program, pass_fds=descriptors) as server:
        yield server
