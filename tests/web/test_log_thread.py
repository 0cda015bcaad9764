"""The log is written in a thread: in order, to its end, and with a word about what was dropped."""

from __future__ import annotations

import io
import logging
import os
import threading
from select import PIPE_BUF
from typing import TYPE_CHECKING

import pytest

from oda_proxy.web import log_thread
from oda_proxy.web.log_thread import LogFormatter, ThreadedHandler, log_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = "%(levelname)s %(message)s"


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """Return a logger without any handler."""
    logger = logging.getLogger(__name__)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.handlers.clear()


def handle(log: logging.Logger, stream: io.TextIOBase, **settings: int) -> ThreadedHandler:
    """Have a logger write to a stream in a thread."""
    handler = ThreadedHandler(stream, **settings)  # type: ignore[arg-type]
    handler.setFormatter(logging.Formatter(FORMAT))
    log.addHandler(handler)
    return handler


class Blocked(io.StringIO):
    """A stream that takes nothing until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.is_reached, self.is_released = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.is_reached.set()
        self.is_released.wait(60)
        return super().write(text)


def test_all_lines_are_written_in_order(log: logging.Logger) -> None:
    stream = io.StringIO()
    handler = handle(log, stream)

    for number in range(1000):
        log.log(logging.WARNING if number % 7 == 0 else logging.INFO, "line %d", number)
    handler.close()

    assert [line.rpartition(" ")[2] for line in stream.getvalue().splitlines()] == [str(n) for n in range(1000)]


def test_a_line_shows_its_arguments_as_they_were(log: logging.Logger) -> None:
    stream, names = Blocked(), ["one"]
    handler = handle(log, stream)

    log.warning("first")
    assert stream.is_reached.wait(60)
    log.info("%s", names)
    names.append("two")
    stream.is_released.set()
    handler.close()

    assert stream.getvalue() == "WARNING first\nINFO ['one']\n"


def test_lines_that_come_too_fast_are_counted(log: logging.Logger) -> None:
    stream = Blocked()
    handler = handle(log, stream, max_waiting=3)
    log.warning("first")
    assert stream.is_reached.wait(60)

    for number in range(10):
        log.info("line %d", number)
    stream.is_released.set()
    handler.close()

    assert stream.getvalue().splitlines() == [
        "WARNING first",
        *(f"INFO line {number}" for number in range(3)),
        "WARNING 7 lines are missing here: they came faster than they could be written",
    ]


def test_a_pipe_that_nobody_reads_does_not_keep_the_program_from_ending(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_thread, "CLOSE_TIMEOUT", 0.01)
    stream = Blocked()
    handler = handle(log, stream)
    log.warning("first")
    assert stream.is_reached.wait(60)

    handler.close()

    assert not stream.is_released.is_set()
    stream.is_released.set()


def test_a_stream_that_cannot_be_written_stops_nothing(log: logging.Logger) -> None:
    class Full(io.StringIO):
        is_full = True

        def write(self, text: str) -> int:
            if self.is_full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Full()
    handler = handle(log, stream)
    for _ in range(3):
        log.warning("lost")
    handler.close()

    assert stream.getvalue() == ""
    assert handler._dropped == 3


def test_lines_of_several_processes_are_not_mixed_in_a_pipe(
    log: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe takes PIPE_BUF bytes at once (POSIX, `write`), and the rest after what others write."""
    written: list[bytes] = []
    write = os.write

    def observed(number: int, data: bytes) -> int:
        written.append(data)
        return write(number, data)

    monkeypatch.setattr(os, "write", observed)
    path = tmp_path / "log"
    with path.open("w") as stream:
        handler = handle(log, stream)
        for number in range(500):
            log.info("%d %s", number, "x" * (number % 100))
        handler.close()

    assert max(map(len, written)) <= PIPE_BUF
    assert all(data.endswith(b"\n") for data in written)
    assert path.read_bytes() == b"".join(written)


def test_text_that_the_file_cannot_encode_is_escaped(log: logging.Logger, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as stream:
        handler = handle(log, stream)
        log.info("%s", "\u03b3 \udcff")
        handler.close()

    assert (tmp_path / "log").read_text() == f"INFO \\u03b3 \\udcff{os.linesep}"


def test_a_malformed_message_is_reported_as_usual(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    handler = handle(log, io.StringIO())

    for argument in ("no number", ["no number"]):
        handler.handle(logging.makeLogRecord({"msg": "%d", "args": (argument,), "levelno": logging.INFO}))
    handler.close()

    assert capsys.readouterr().err.count("Logging error") == 2


def test_the_time_is_formatted_as_usual() -> None:
    ours, usual = LogFormatter("%(asctime)s %(message)s"), logging.Formatter("%(asctime)s %(message)s")

    for created in (0.0, 0.5, 0.9999, 1700000000.123, 1700000000.7, 1700000001.0):
        record = logging.makeLogRecord({"msg": "x", "created": created, "msecs": created % 1 * 1000})
        assert ours.format(record) == usual.format(record)


def test_handlers_of_the_root_logger_write_in_threads_until_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    root, stream, other = logging.getLogger(), io.StringIO(), logging.NullHandler()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(FORMAT))
    monkeypatch.setattr(root, "handlers", [handler, other])
    for name in ("logThreads", "logProcesses", "logMultiprocessing"):
        monkeypatch.setattr(logging, name, True)

    with log_in_thread():
        logging.getLogger("oda_proxy.test").warning("within")
        assert [type(one) for one in root.handlers] == [logging.NullHandler, ThreadedHandler]
    root.warning("after")

    assert stream.getvalue() == "WARNING within\nWARNING after\n"
    assert set(root.handlers) == {handler, other}
