"""Writing of the log in a thread, so that no request waits for a terminal, a pipe or a disk."""

from __future__ import annotations

import logging
import queue
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.web.log_formats import EVENT, MEMBERS, JsonFormatter, TextFormatter, request_text
from oda_proxy.web.log_output import FileOutput, StreamOutput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from oda_proxy.web.log_formats import LineFormatter, RequestRecord
    from oda_proxy.web.log_output import LogOutput

_log = logging.getLogger(__name__)

_NOT_REOPENED: Final = "cannot open the log again (%s: %s): lines still go to the file that was open"
MAX_WAITING: Final = 10_000
"""Records that wait to be written; later ones are dropped and counted until there is room."""
AT_ONCE: Final = 200
"""Records that are written in one go."""
PAUSE: Final = 0.05
"""Seconds for which records are collected before they are written; a warning ends it."""
CLOSE_TIMEOUT: Final = 2.0
"""Seconds that the last records may take to be written: a pipe that nobody reads must not keep a server from ending."""


class ThreadedHandler(logging.Handler):
    """Writes records in a thread of its own, in order; `close` waits until all are written."""

    def __init__(
        self, output: LogOutput, formatter: LineFormatter | None = None, *, max_waiting: int = MAX_WAITING
    ) -> None:
        super().__init__()
        self._formatter = formatter or TextFormatter()
        self._output = output
        self._is_reopening = False
        self._is_closing = False
        self._max_waiting = max_waiting
        self._waiting: queue.SimpleQueue[logging.LogRecord | RequestRecord | None] = queue.SimpleQueue()
        """What is to be written; None has the thread look whether it is to open the file again, or to end."""
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

    def queue_request(self, record: RequestRecord) -> None:
        """Queue what is logged of a request, or drop it where too many wait."""
        if self._has_room():
            self._waiting.put(record)

    def reopen(self) -> None:
        """Have the file opened again by the thread, also where no line follows: it may be gone, and fill its disk."""
        self._is_reopening = True
        self._waiting.put(None)
        self._urgent.set()

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
        self._is_closing = True
        self._waiting.put(None)
        self._urgent.set()
        self._thread.join(CLOSE_TIMEOUT)
        if not self._thread.is_alive():
            self._output.close()
        super().close()

    def _run(self) -> None:
        while not self._is_closing:
            waiting = [self._waiting.get()]
            self._urgent.wait(PAUSE)
            self._urgent.clear()
            while waiting:
                self._write(waiting)
                waiting = self._take()

    def _take(self) -> list[logging.LogRecord | RequestRecord | None]:
        """Return some of what waits."""
        taken: list[logging.LogRecord | RequestRecord | None] = []
        with suppress(queue.Empty):
            while len(taken) < AT_ONCE:
                taken.append(self._waiting.get_nowait())
        return taken

    def _write(self, messages: Sequence[logging.LogRecord | RequestRecord | None]) -> None:
        with self._counting:
            dropped, self._dropped = self._dropped, 0
        text = "".join(map(self._line, messages))
        if dropped:
            missing = "%d lines are missing here: they came too fast, or the disk was full"
            text += self._line(logging.LogRecord(__name__, logging.WARNING, "", 0, missing, (dropped,), None))
        if self._is_reopening:
            self._is_reopening = False
            text = self._reopen_output() + text
        try:
            written = self._output.write(text)
        except (OSError, ValueError):  # a full disk, or a pipe that nobody reads any longer
            written = 0
        if unwritten := text.count("\n") - written:
            lost = unwritten - bool(dropped)  # the line about those that were dropped is the last one
            with self._counting:
                self._dropped += dropped + lost
                self.dropped_total += lost

    def _reopen_output(self) -> str:
        """Open the file again; return a line where that fails, for the file that is open."""
        try:
            self._output.reopen()
        except OSError as error:
            arguments = (error.filename, error.strerror)
            return self._line(logging.LogRecord(__name__, logging.WARNING, "", 0, _NOT_REOPENED, arguments, None))
        return ""

    def _line(self, message: logging.LogRecord | RequestRecord | None) -> str:
        if message is None:
            return ""
        if isinstance(message, logging.LogRecord):
            return f"{self._formatter.format(message)}\n"
        return f"{self._formatter.request_line(message)}\n"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where a server logs, and in which form; by default as text to standard error."""

    file: Path | None = None
    is_json: bool = False
    log_people: bool = False
    """Whether people are named by the subject of their token, and not by a hash."""
    person_key: bytes = field(default_factory=partial(token_bytes, 32), repr=False)
    """The key of that hash, which is another one in each run of a server."""

    def formatter(self) -> TextFormatter | JsonFormatter:
        """Return what formats lines."""
        return JsonFormatter(self.person_key, log_people=self.log_people) if self.is_json else TextFormatter()

    def output(self) -> LogOutput:
        """Return where lines go. Raises OSError where the file cannot be opened."""
        return FileOutput(self.file) if self.file else StreamOutput(sys.stderr)


@contextmanager
def log_in_thread(settings: LogSettings, output: LogOutput | None = None) -> Iterator[None]:
    """Have all records of this program, from INFO, written in a thread until the block ends; `output` is for tests.

    Raises OSError where the file cannot be opened.
    """
    global _only_handler  # noqa: PLW0603 - there is one root logger
    if _plain_handler is not None:  # in a worker: the file of its parent process may be renamed, and removed
        _plain_handler.output.close()
    root, handler = logging.getLogger(), ThreadedHandler(output or settings.output(), settings.formatter())
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


@contextmanager
def log_at_once(settings: LogSettings) -> Iterator[None]:
    """Have all records of this program, from INFO, written before the call returns, until the block ends.

    For a process that logs little and has no threads, because it forks. Raises OSError as `log_in_thread`.
    """
    global _plain_handler  # noqa: PLW0603 - as below
    root, handler = logging.getLogger(), _PlainHandler(settings.output(), settings.formatter())
    previous, level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    _plain_handler = handler
    try:
        yield
    finally:
        _plain_handler = None
        root.handlers[:] = previous
        root.setLevel(level)
        handler.output.close()


class _PlainHandler(logging.Handler):
    """Writes records at once."""

    def __init__(self, output: LogOutput, formatter: LineFormatter) -> None:
        super().__init__()
        self.output = output
        self._formatter = formatter

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or lose it where nothing can be written."""
        with suppress(OSError, ValueError):
            self.output.write(f"{self._formatter.format(record)}\n")


_plain_handler: _PlainHandler | None = None
_only_handler: ThreadedHandler | None = None
"""The only handler of all loggers, where a thread writes the log."""


def dropped_lines() -> int:
    """Return how many lines of the log were lost since the start."""
    return _only_handler.dropped_total if _only_handler else 0


def reopen_log() -> None:
    """Have the file of the log opened again, if there is one."""
    if _only_handler:
        _only_handler.reopen()
    elif _plain_handler:
        try:
            _plain_handler.output.reopen()
        except OSError as error:
            _log.warning(_NOT_REOPENED, error.filename, error.strerror)


def log_request(logger: logging.Logger, record: RequestRecord) -> None:
    """Log a request; where a thread writes the log, at a fraction of the cost of `logger.info`."""
    if _only_handler is None:
        logger.info("%s", request_text(record))
    elif logger.isEnabledFor(logging.INFO):
        _only_handler.queue_request(record)


def log_event(logger: logging.Logger, event: str, text: str, *, level: int = logging.INFO, **members: Any) -> None:
    """Log an event: its text for people, and its name and members for programs."""
    logger.log(level, "%s", text, extra={EVENT: event, MEMBERS: members})
