"""Where the lines of a log go: to a stream that is open, or to a file that can be opened again."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Final, Protocol, TextIO

if TYPE_CHECKING:
    from pathlib import Path

PIPE_BUF: Final[int] = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe takes at once; Windows does not say."""
MODE: Final = 0o640
"""Mode of a new file: the log has the addresses of clients."""


class LogOutput(Protocol):
    """Takes whole lines."""

    def write(self, text: str) -> None:
        """Write lines. Raises OSError or ValueError."""

    def reopen(self) -> None:
        """Open the file again, if it is one: it was renamed. Raises OSError, and the open one then stays in use."""

    def close(self) -> None:
        """Close what was opened here."""


class StreamOutput:
    """A stream of the program, such as standard error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write to the file descriptor where there is one: a thread must not hold the stream when the program ends."""
        try:
            number = self._stream.fileno()
        except OSError:
            self._stream.write(text)
            self._stream.flush()
            return
        _write_lines(number, text.encode(self._stream.encoding or "utf-8", "backslashreplace"))

    def reopen(self) -> None:
        """Do nothing: whoever opened the stream has it."""

    def close(self) -> None:
        """Do nothing, as above."""


class FileOutput:
    """A file, to which lines are appended; a closed one is opened again for a line. Raises OSError where it cannot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number: int | None = self._open()

    def write(self, text: str) -> None:
        """Append lines."""
        if self._number is None:
            self._number = self._open()
        _write_lines(self._number, text.encode("utf-8", "backslashreplace"))

    def reopen(self) -> None:
        """Open the file of this name, which is another one where the open one was renamed."""
        opened = self._open()
        self.close()
        self._number = opened

    def close(self) -> None:
        """Close the file."""
        if self._number is not None:
            os.close(self._number)
            self._number = None

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, MODE)


def _write_lines(number: int, encoded: bytes) -> None:
    """Write whole lines at once, and no more than a pipe takes at once: workers share it."""
    at = 0
    while at < len(encoded):
        end = encoded.rfind(b"\n", at, at + PIPE_BUF) + 1 or at + PIPE_BUF
        at += os.write(number, encoded[at:end])
