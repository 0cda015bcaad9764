"""Writing of the log in a thread, so that no request waits for a terminal, a pipe or a disk."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from contextlib import contextmanager, suppress
from select import PIPE_BUF
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_WAITING: Final = 10_000
"""Records that wait to be written; later ones are dropped and counted until there is room."""
AT_ONCE: Final = 200
"""Records that are written in one go."""
PAUSE: Final = 0.05
"""Seconds for which records are collected before they are written; a warning ends it."""
CLOSE_TIMEOUT: Final = 2.0
"""Seconds that the last records may take to be written: a pipe that nobody reads must not keep a server from ending."""

_IMMUTABLE: Final = frozenset({str, int, float, bool, type(None)})


class LogFormatter(logging.Formatter):
    """Formats records as `logging.Formatter` does; the time of a second is formatted once."""

    _second = -1
    _text = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - its name
        """Return the local time of a record, with milliseconds."""
        if datefmt is not None:
            return super().formatTime(record, datefmt)
        if (second := int(record.created)) != self._second:
            self._text, self._second = time.strftime(self.default_time_format, time.localtime(second)), second
        return f"{self._text},{int(record.msecs):03d}"


class ThreadedHandler(logging.Handler):
    """Writes records to a stream in a thread of its own, in order; `close` waits until all are written."""

    def __init__(self, stream: TextIO, *, max_waiting: int = MAX_WAITING) -> None:
        super().__init__()
        self._stream = stream
        self._max_waiting = max_waiting
        self._records: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        self._dropped = 0
        self._urgent = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it where too many wait."""
        if self._records.qsize() >= self._max_waiting:
            self._dropped += 1
            return
        if not isinstance(record.args, tuple) or not all(type(argument) in _IMMUTABLE for argument in record.args):
            try:
                record.msg, record.args = record.getMessage(), None  # its arguments may change
            except Exception:  # noqa: BLE001 - as every handler of logging does
                self.handleError(record)
                return
        self._records.put(record)
        if record.levelno >= logging.WARNING:
            self._urgent.set()

    def close(self) -> None:
        """Write all records that wait, and end the thread."""
        self._records.put(None)
        self._urgent.set()
        self._thread.join(CLOSE_TIMEOUT)
        super().close()

    def _run(self) -> None:
        is_open = True
        while is_open:
            records = [self._records.get()]
            self._urgent.wait(PAUSE)
            self._urgent.clear()
            while records:
                is_open = is_open and None not in records
                self._write([record for record in records if record is not None])
                records = self._waiting()

    def _waiting(self) -> list[logging.LogRecord | None]:
        """Return some of the records that wait."""
        records: list[logging.LogRecord | None] = []
        with suppress(queue.Empty):
            while len(records) < AT_ONCE:
                records.append(self._records.get_nowait())
        return records

    def _write(self, records: list[logging.LogRecord]) -> None:
        self.acquire()
        dropped, self._dropped = self._dropped, 0
        self.release()
        if dropped:
            text = "%d lines are missing here: they came faster than they could be written"
            records = [*records, logging.LogRecord(__name__, logging.WARNING, "", 0, text, (dropped,), None)]
        try:
            self._write_text("".join(map(self._line, records)))
        except (OSError, ValueError):  # a full disk, or a pipe that nobody reads any longer
            self.acquire()
            self._dropped += len(records) - bool(dropped) + dropped
            self.release()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return f"{self.format(record)}\n"
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)
            return ""

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
def log_in_thread() -> Iterator[None]:
    """Have the handlers of the root logger that write to a stream do so in threads, until the block ends.

    Records have no thread and no process from now on: the log does not show them.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    replaced = [(handler, _threaded(handler)) for handler in root.handlers if type(handler) is logging.StreamHandler]
    for handler, threaded in replaced:
        root.addHandler(threaded)
        root.removeHandler(handler)
    try:
        yield
    finally:
        for handler, threaded in replaced:
            root.addHandler(handler)
            root.removeHandler(threaded)
            threaded.close()


def _threaded(handler: logging.StreamHandler[TextIO]) -> ThreadedHandler:
    """Return a handler that writes in a thread what another one writes at once."""
    threaded = ThreadedHandler(handler.stream)
    threaded.setLevel(handler.level)
    threaded.setFormatter(handler.formatter)
    return threaded
