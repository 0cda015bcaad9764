"""Writing of the log in a thread, so that no request waits for a terminal, a pipe or a disk."""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"
MAX_WAITING: Final = 10_000
"""Records that wait to be written; later ones are dropped and counted until there is room."""
AT_ONCE: Final = 200
"""Records that are written in one go."""
PAUSE: Final = 0.05
"""Seconds for which records are collected before they are written; a warning ends it."""
PIPE_BUF: Final[int] = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe takes at once; Windows does not say."""
CLOSE_TIMEOUT: Final = 2.0
"""Seconds that the last records may take to be written: a pipe that nobody reads must not keep a server from ending."""


class LogFormatter(logging.Formatter):
    """Formats lines with their time, level and message; the time of a second is formatted once."""

    _second = -1
    _text = ""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - its name
        """Return the local time of a record, with milliseconds."""
        return super().formatTime(record, datefmt) if datefmt else self._time(record.created)

    def line(self, created: float, message: str) -> str:
        """Return the line of an INFO message that was created at a time, in s since 1970 (UTC)."""
        return f"{self._time(created)} INFO {message}\n"

    def _time(self, created: float) -> str:
        second = int(created)
        if second != self._second:
            self._text, self._second = time.strftime(self.default_time_format, time.localtime(second)), second
        return f"{self._text},{int((created - second) * 1000):03d}"


_Message = tuple[float, str, tuple[str | float, ...]]
"""An INFO message: when it was created, its template, and the arguments of that."""


class ThreadedHandler(logging.Handler):
    """Writes records to a stream in a thread of its own, in order; `close` waits until all are written."""

    def __init__(self, stream: TextIO, *, max_waiting: int = MAX_WAITING) -> None:
        super().__init__()
        self.formatter: LogFormatter = LogFormatter()
        self._stream = stream
        self._max_waiting = max_waiting
        self._waiting: queue.SimpleQueue[logging.LogRecord | _Message | None] = queue.SimpleQueue()
        self._dropped = 0
        self.dropped_total = 0
        """How many records were dropped since the start."""
        self._counting = threading.Lock()
        self._urgent = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it where too many wait."""
        if self._has_room():
            try:
                record.msg, record.args = record.getMessage(), None  # its arguments may change
            except Exception:  # noqa: BLE001 - as every handler of logging does
                self.handleError(record)
                return
            self._waiting.put(record)
            if record.levelno >= logging.WARNING:
                self._urgent.set()

    def queue_message(self, template: str, arguments: tuple[str | float, ...]) -> None:
        """Queue an INFO message, or drop it where too many wait."""
        if self._has_room():
            self._waiting.put((time.time(), template, arguments))

    def _has_room(self) -> bool:
        """Return whether another message may be queued, or count it as dropped."""
        if self._waiting.qsize() < self._max_waiting:
            return True
        with self._counting:
            self._dropped += 1
            self.dropped_total += 1
        return False

    def close(self) -> None:
        """Write all records that wait, and end the thread."""
        self._waiting.put(None)
        self._urgent.set()
        self._thread.join(CLOSE_TIMEOUT)
        super().close()

    def _run(self) -> None:
        is_open = True
        while is_open:
            waiting = [self._waiting.get()]
            self._urgent.wait(PAUSE)
            self._urgent.clear()
            while waiting:
                is_open = is_open and None not in waiting
                self._write(waiting)
                waiting = self._take()

    def _take(self) -> list[logging.LogRecord | _Message | None]:
        """Return some of what waits."""
        taken: list[logging.LogRecord | _Message | None] = []
        with suppress(queue.Empty):
            while len(taken) < AT_ONCE:
                taken.append(self._waiting.get_nowait())
        return taken

    def _write(self, messages: Sequence[logging.LogRecord | _Message | None]) -> None:
        with self._counting:
            dropped, self._dropped = self._dropped, 0
        text = "".join(map(self._line, messages))
        if dropped:
            missing = "%d lines are missing here: they came faster than they could be written"
            text += self._line(logging.LogRecord(__name__, logging.WARNING, "", 0, missing, (dropped,), None))
        try:
            self._write_text(text)
        except (OSError, ValueError):  # a full disk, or a pipe that nobody reads any longer
            with self._counting:
                lost = sum(message is not None for message in messages)
                self._dropped += dropped + lost
                self.dropped_total += lost

    def _line(self, message: logging.LogRecord | _Message | None) -> str:
        if isinstance(message, logging.LogRecord):
            return f"{self.format(message)}\n"
        if message is None:
            return ""
        created, template, arguments = message
        return self.formatter.line(created, template % arguments)

    def _write_text(self, text: str) -> None:
        """Write to the file descriptor where there is one: a thread must not hold the stream when the program ends.

        Whole lines are written at once, and no more than a pipe takes at once: workers share it.
        """
        try:
            number = self._stream.fileno()
        except OSError:
            self._stream.write(text)
            self._stream.flush()
            return
        encoded, at = text.encode(self._stream.encoding or "utf-8", "backslashreplace"), 0
        while at < len(encoded):
            end = encoded.rfind(b"\n", at, at + PIPE_BUF) + 1 or at + PIPE_BUF
            at += os.write(number, encoded[at:end])


@contextmanager
def log_in_thread(stream: TextIO) -> Iterator[None]:
    """Have all records of this program, from INFO, written to a stream in a thread until the block ends."""
    global _only_handler  # noqa: PLW0603 - there is one root logger
    root, handler = logging.getLogger(), ThreadedHandler(stream)
    previous, level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    _only_handler = handler
    try:
        yield
    finally:
        _only_handler = None
        root.handlers[:] = previous
        root.setLevel(level)
        handler.close()


_only_handler: ThreadedHandler | None = None
"""The only handler of all loggers, where a thread writes the log."""


def dropped_lines() -> int:
    """Return how many lines of the log were lost since the start."""
    return _only_handler.dropped_total if _only_handler else 0


def log_info(logger: logging.Logger, template: str, *arguments: str | float) -> None:
    """Log as `logger.info` does; where a thread writes the log, at a fraction of the cost: requests need that."""
    if _only_handler is None:
        logger.info(template, *arguments)
    elif logger.isEnabledFor(logging.INFO):
        _only_handler.queue_message(template, arguments)
