"""The drawing process seen from the server: started when it is first needed, killed and replaced when it fails."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import OdaProxyError
from oda_proxy.store import rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from oda_proxy.drawing.tasks import Task
    from oda_proxy.recordings.recording import Recording

_log = logging.getLogger(__name__)

TIMEOUT: Final = 30.0
"""Seconds for one task."""
START_TIMEOUT: Final = 60.0
"""Seconds for the imports of the program."""
MEMORY: Final = 2 * 1024**3
"""Bytes of address space of the process."""
LARGEST_FILE: Final = 1024**3
"""Bytes of a file that a task may write."""
LARGEST_RECORDING: Final = 512 * 1024**2
"""Bytes of the head of a recording of which anything is made."""
MAX_TASKS: Final = 500
"""Tasks after which a process is replaced: libraries keep memory."""

PROGRAM: Final = (sys.executable, "-P", "-m", "oda_proxy.drawing.worker")
"""The program, which imports nothing from the folder in which the server was started (`-P`)."""

_FROM_OUTSIDE: Final = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM})
"""Signals that an administrator or the system sends; others come from a fault of the program."""
_ENVIRONMENT: Final = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "MPLCONFIGDIR",
    "PATH",
    "PYTHONPATH",
    "SYSTEMROOT",
    "TMPDIR",
)
"""Variables that the process gets: not those with tokens."""
_LIBRARIES: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}


class DrawingFailedError(OdaProxyError):
    """Nothing can be made of a product; the message says why."""

    http_status = 422


class NotThereError(DrawingFailedError):
    """The recording has no such product, or not in that form."""

    http_status = 404


class NotInstalledError(DrawingFailedError):
    """A package is missing."""

    http_status = 501


class UnavailableError(OdaProxyError):
    """The drawing process cannot work now."""

    http_status = 503


class KilledError(UnavailableError):
    """The drawing process was killed from outside: by an administrator, or by the system when memory was short."""


_ERRORS: Final[Mapping[int, type[OdaProxyError]]] = {
    error.http_status: error for error in (NotThereError, NotInstalledError, UnavailableError)
}


class DrawingProcess:
    """Performs tasks one after the other in a process of its own. Blocks: call it in a thread.

    `program` is that of the process; it gets its limits as arguments. `font_folder` is where matplotlib stores what it
    knows of fonts, unless `MPLCONFIGDIR` is set.
    """

    def __init__(
        self,
        *,
        timeout: float = TIMEOUT,
        memory: int = MEMORY,
        font_folder: Path | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._timeout = timeout
        self._memory = memory
        self._font_folder = font_folder
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._held: str | None = None
        self._tasks = 0
        self._closed = False

    @property
    def process_id(self) -> int | None:
        """The id of the process; None where none runs."""
        return self._process.pid if self._process else None

    def perform(self, task: Task, recording: Recording, output: Path) -> None:
        """Perform a task on a recording, and write its result to a file.

        Raises DrawingFailedError, UnavailableError while the server stops or the disk is full, and KilledError.
        """
        if recording.head.size > LARGEST_RECORDING:
            size = recording.head.size // 2**20
            raise DrawingFailedError(f"the recording is too large for that: {size} MiB")
        if self._tasks >= MAX_TASKS:
            self.stop()
        self._tasks += 1
        process = self._process or self._start()
        response = self._exchange(process, task, recording, output)
        if "log" in response:
            _log.error("a product of %s cannot be drawn: %s", recording.key, response["log"])
        if "error" in response:
            raise _ERRORS.get(response["status"], DrawingFailedError)(response["error"])

    def stop(self) -> None:
        """End the process; the next task starts another one."""
        process, self._process, self._held, self._tasks = self._process, None, None, 0
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def close(self) -> None:
        """End the process for good, also from another thread while it works."""
        self._closed = True
        if (process := self._process) is not None:
            process.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise UnavailableError("the server stops")
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | _LIBRARIES
        if self._font_folder is not None:
            environment.setdefault("MPLCONFIGDIR", str(self._font_folder))
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [*self._program, str(self._memory), str(LARGEST_FILE)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # signals of a terminal are for the server
            )
        except OSError as error:
            raise UnavailableError(f"the drawing process cannot be started: {error.strerror or error}") from error
        self._process = process
        with _deadline(process, START_TIMEOUT):
            response = _read(process)
        if response is None:
            self.stop()
            raise UnavailableError(
                f"the drawing process did not start within {START_TIMEOUT:g} s, or ended with {process.returncode}"
            )
        return process

    def _exchange(
        self, process: subprocess.Popen[bytes], task: Task, recording: Recording, output: Path
    ) -> dict[str, Any]:
        """Send a request and return the response; the head is sent unless the process holds it."""
        head = recording.head
        row = rows.dumps(recording, rows.HeadFile(head.digest, head.size, head.digest, head.size))
        is_held = self._held == row
        request = {
            "task": task.as_json(),
            "name": row,
            "key": recording.key,
            "row": row,
            "size": None if is_held else head.size,
            "output": str(output),
        }
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        with _deadline(process, self._timeout) as expired:
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                if not is_held:
                    for piece in head.pieces():
                        process.stdin.write(piece)
                process.stdin.flush()
            except BrokenPipeError:
                pass  # the end of its output says why
            except BaseException:  # a head that cannot be read: the process waits for the rest
                self.stop()
                raise
            response = _read(process)
        if response is None:
            self.stop()
            raise self._failure(process.returncode, has_expired=expired.is_set())
        self._held = row if response.get("held") else None
        return response

    def _failure(self, status: int, *, has_expired: bool) -> OdaProxyError:
        """Return the error of a process that ended while it worked."""
        if self._closed:
            return UnavailableError("the server stops")
        if has_expired:
            return DrawingFailedError(f"it takes more than {self._timeout:g} s, and was given up")
        if -status in _FROM_OUTSIDE:
            name = signal.Signals(-status).name
            return KilledError(f"the drawing process was killed ({name}), perhaps because memory was short")
        return DrawingFailedError(f"the drawing process ended with status {status}")


def _read(process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """Read a response; None where the process has ended."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    line = process.stdout.readline()
    return json.loads(line) if line.endswith(b"\n") else None


@contextmanager
def _deadline(process: subprocess.Popen[bytes], seconds: float) -> Iterator[threading.Event]:
    """Kill a process where the block takes longer, and set the event."""
    expired = threading.Event()

    def kill() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()
