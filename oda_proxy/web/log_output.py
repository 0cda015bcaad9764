"""Where the lines of a log go: to a stream that is open, or to a file that can be opened again."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, TextIO

if TYPE_CHECKING:
    from pathlib import Path

PIPE_BUF: Final[int] = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe takes at once; Windows does not say."""
MODE: Final = 0o640
"""Mode of a new file: the log has the addresses of clients."""


class LogOutput(Protocol):
    """Takes whole lines."""

    def write(self, text: str) -> int:
        """Write lines, and return how many could be written: fewer where the disk becomes full.

        Raises OSError or ValueError where none could.
        """

    def reopen(self) -> None:
        """Open the file again, if it is one: it was renamed. Raises OSError, and the open one then stays in use."""

    def close(self) -> None:
        """Close what was opened here."""


class StreamOutput:
    """A stream of the program, such as standard error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write to the file descriptor where there is one: a thread must not hold the stream when the program ends."""
        try:
            number = self._stream.fileno()
        except OSError:
            self._stream.write(text)
            self._stream.flush()
            return text.count("\n")
        return _write_lines(number, text.encode(self._stream.encoding or "utf-8", "backslashreplace"))

    def reopen(self) -> None:
        """Do nothing: whoever opened the stream has it."""

    def close(self) -> None:
        """Do nothing, as above."""


class FileOutput:
    """A file, to which lines are appended; a closed one is opened again for a line. Raises OSError where it cannot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number: int | None = self._open()

    def write(self, text: str) -> int:
        """Append lines. A line of which only the beginning could be written is removed again."""
        if self._number is None:
            self._number = self._open()
        return _write_lines(self._number, text.encode("utf-8", "backslashreplace"))

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


def _write_lines(number: int, encoded: bytes) -> int:
    """Write whole lines at once, and no more than a pipe takes at once: workers share it. Return how many lines."""
    at = line = 0
    try:
        while at < len(encoded):
            end = encoded.rfind(b"\n", at, at + PIPE_BUF) + 1 or at + PIPE_BUF
            at += os.write(number, encoded[at:end])
            line = encoded.rfind(b"\n", 0, at) + 1
    except OSError:
        if at > line:
            _remove_end(number, at - line)
        if not line:
            raise
    return encoded.count(b"\n", 0, line)


def _remove_end(number: int, size: int) -> None:
    """Remove the bytes that were just written to a file, unless others follow them or it is none."""
    with suppress(OSError):
        end = os.lseek(number, 0, os.SEEK_CUR)  # after writing in the mode for appending, the end of what was written
        if end == os.fstat(number).st_size:
            os.ftruncate(number, end - size)
            os.lseek(number, end - size, os.SEEK_SET)
