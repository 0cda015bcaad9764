"""Scripts of real clients in forks of one process for each release, which has imported the client once.

The code of the client is unmodified, and each script has a process, folder and environment of its own. Only what is
read when a client is imported is the same for all: the configuration of matplotlib, from an empty home.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import selectors
import signal
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from tests.support.paths import CLIENT_SCRIPTS
from tests.support.servers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FORK_SERVER: Final = CLIENT_SCRIPTS / "fork_server.py"


class ForkServer:
    """One process with the client of an environment."""

    def __init__(self, python: Path) -> None:
        self._requests, theirs = socket.socketpair()
        self._one_at_a_time = threading.Lock()
        self._home = tempfile.TemporaryDirectory(prefix="oda-proxy-clients-")
        with theirs:
            self._process = subprocess.Popen(
                [python, FORK_SERVER, str(theirs.fileno())],
                env={**client_environment(), "HOME": self._home.name, "MPLBACKEND": "agg"},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self, arguments: Sequence[str], folder: Path, environ: Mapping[str, str], standard: Sequence[int]
    ) -> ForkedScript:
        """Start a script in a folder, with these descriptors of standard input, output and error."""
        reading, writing = os.pipe()
        text = json.dumps({"arguments": arguments, "folder": str(folder), "environ": dict(environ)}).encode()
        try:
            with self._one_at_a_time:
                socket.send_fds(self._requests, [b"%8d" % len(text)], [writing, *standard])
                self._requests.sendall(text)
        finally:
            os.close(writing)
        return ForkedScript(reading)

    def close(self) -> None:
        """End the process; scripts that still run are not affected."""
        self._requests.close()
        self._process.wait()
        self._home.cleanup()


class ForkedScript:
    """A script that was started; `reading` is the descriptor of the pipe with its result."""

    def __init__(self, reading: int) -> None:
        self._result = open(reading, "rb", buffering=0)  # noqa: SIM115 - a descriptor; closed at the end
        self._lines: list[bytes] = []

    def wait(self, timeout: float) -> int:
        """Return the exit status of the script, negative for a signal; kill it after `timeout` s, and raise."""
        try:
            self._read(2, timeout)
        except BaseException:
            with suppress(OSError):
                self.kill()
            raise
        return int(self._lines[1])

    def kill(self) -> None:
        """Kill the script if it runs, and wait until it has ended."""
        self._read(1, PATIENCE)
        if len(self._lines) == 1:
            with suppress(ProcessLookupError):
                os.kill(int(self._lines[0]), signal.SIGKILL)
        self._read(2, PATIENCE)

    def _read(self, number: int, timeout: float) -> None:
        """Read this number of lines in all: the id of the process, and its exit status."""
        with selectors.DefaultSelector() as selector:
            while len(self._lines) < number:
                selector.register(self._result, selectors.EVENT_READ)
                if not selector.select(timeout):
                    message = f"the script has not ended after {timeout} s"
                    raise TimeoutError(message)
                selector.unregister(self._result)
                if not (line := self._result.readline()):
                    message = "the process that forks has ended"
                    raise ChildProcessError(message)
                self._lines.append(line)
        if len(self._lines) > 1:
            self._result.close()


@dataclass(frozen=True)
class PipedScript:
    """A script with pipes to its standard input and from its standard output."""

    process: ForkedScript
    stdin: IO[str]
    stdout: IO[str]

    def close(self) -> None:
        """Kill the script if it runs, and close the pipes."""
        self.process.kill()
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.close()


def client_environment() -> dict[str, str]:
    """Return the environment without what changes clients: a token, an address, a configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("ODA_", "DISP_"))}


def start_forked(python: Path, arguments: Sequence[str], folder: Path, environ: Mapping[str, str]) -> PipedScript:
    """Start a script as `subprocess.Popen` does with pipes, in a fork of the process that has imported the client."""
    (stdin, writing), (reading, stdout) = os.pipe(), os.pipe()
    try:
        process = fork_server(python).start(arguments, folder, environ, (stdin, stdout, 2))
    finally:
        os.close(stdin)
        os.close(stdout)
    return PipedScript(process, open(writing, "w"), open(reading))  # noqa: PTH123 - descriptors; see `close`


@functools.cache
def fork_server(python: Path) -> ForkServer:
    """Return the process of an environment, which is started once and lives until the tests end."""
    server = ForkServer(python)
    atexit.register(server.close)
    return server


def run_forked(
    python: Path, arguments: Sequence[str], folder: Path, environ: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a script as `subprocess.run` does, in a fork of the process that has imported the client."""
    with (
        open(os.devnull, "rb") as nothing,  # noqa: PTH123 - no path of a file
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        standard = [nothing.fileno(), out.fileno(), err.fileno()]
        status = fork_server(python).start(arguments, folder, environ, standard).wait(timeout)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([str(python), *arguments], status, out.read(), err.read())
