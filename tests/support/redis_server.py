"""A Redis of a test's own, which survives `kill -9` with its append-only file."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PROGRAM = shutil.which("redis-server")
"""The program of Debian's package redis-server; None where it is not installed."""

_PATIENCE = 30.0


class RedisServer:
    """A Redis that listens on 127.0.0.1, and writes each change to its append-only file before it acknowledges it."""

    def __init__(self, folder: Path, *, fsync: str = "always", options: Mapping[str, object] | None = None) -> None:
        """Take the folder of its files, and further options of its configuration."""
        self.folder = folder
        self._options = options or {}
        self.port = free_port()
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The beginning of the URL of a store."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def process_id(self) -> int:
        """Its process, which runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it responds."""
        assert PROGRAM is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self.folder, "save": "", "appendonly": "yes"}
        options |= {"appendfsync": self._fsync, "daemonize": "no", **self._options}
        words = [word for name, value in options.items() for word in (f"--{name}", *str(value).split(" "))]
        # SIGXFSZ stays ignored, as Python has it: a file that may not grow is an error, as on a full disk.
        self._process = subprocess.Popen([PROGRAM, *words], stdout=subprocess.DEVNULL, restore_signals=False)
        deadline = time.monotonic() + _PATIENCE
        while not self._responds():
            assert time.monotonic() < deadline, "Redis does not start"
            assert self._process.poll() is None, "Redis has ended"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Stop its process: connections stay, and nothing responds."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue its process."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def _responds(self) -> bool:
        try:
            with closing(socket.create_connection(("127.0.0.1", self.port), 1)) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        number: int = listener.getsockname()[1]
        return number


def require_redis() -> None:
    """Skip the test where the program is not installed."""
    if PROGRAM is None:
        if os.environ.get("ODA_PROXY_REQUIRE_REAL"):
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")


@contextmanager
def running_redis(
    folder: Path, *, fsync: str = "always", options: Mapping[str, object] | None = None
) -> Iterator[RedisServer]:
    """Run a Redis until the block ends; skip the test where the program is not installed."""
    require_redis()
    server = RedisServer(folder, fsync=fsync, options=options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
