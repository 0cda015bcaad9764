"""The log is written in a thread: in order, to its end, and with a word about what was dropped."""

from __future__ import annotations

import io
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oda_proxy.metrics.outcomes import Outcome
from oda_proxy.web import log_thread
from oda_proxy.web.log_formats import FORMAT, RequestRecord, TextFormatter, request_text
from oda_proxy.web.log_output import PIPE_BUF, FileOutput, StreamOutput
from oda_proxy.web.log_thread import LogSettings, ThreadedHandler, log_at_once, log_in_thread, log_request, reopen_log
from tests.support.crowds import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


def lines(text: str) -> list[str]:
    """Return the lines of a log without their times."""
    return [line.split(" ", 2)[2] for line in text.splitlines()]


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
    handler = ThreadedHandler(StreamOutput(stream), **settings)  # type: ignore[arg-type]
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

    assert lines(stream.getvalue()) == ["WARNING first", "INFO ['one']"]


def test_lines_that_come_too_fast_are_counted(log: logging.Logger) -> None:
    stream = Blocked()
    handler = handle(log, stream, max_waiting=3)
    log.warning("first")
    assert stream.is_reached.wait(60)

    for number in range(10):
        log.info("line %d", number)
    stream.is_released.set()
    handler.close()

    assert lines(stream.getvalue()) == [
        "WARNING first",
        *(f"INFO line {number}" for number in range(3)),
        "WARNING 7 lines are missing here: they came too fast, or the disk was full",
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


def test_text_that_the_file_cannot_encode_is_escaped(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as stream:
        handler = ThreadedHandler(StreamOutput(stream))
        # not through a logger: what pytest captures of it cannot be sent to another process
        handler.handle(logging.makeLogRecord({"msg": "\u03b3 \udcff", "levelname": "INFO", "levelno": logging.INFO}))
        handler.close()

    assert lines((tmp_path / "log").read_text()) == ["INFO \\u03b3 \\udcff"]


def test_a_malformed_message_is_reported_as_usual(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    handler = handle(log, io.StringIO())

    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",), "levelno": logging.INFO}))
    handler.close()

    assert "Logging error" in capsys.readouterr().err


def request(path: str = "/run_analysis", created: float = 0.0) -> RequestRecord:
    return RequestRecord(
        created, "ab-1", "GET", path, 200, "oda-proxy; hit", Outcome.HIT_HOT, 7, 0.5, "192.0.2.1", None
    )


def test_lines_are_formatted_as_usual() -> None:
    ours, usual = TextFormatter(), logging.Formatter(FORMAT)

    for created in (0.0, 0.5, 0.9999, 1700000000.123, 1700000000.7, 1700000001.0):
        text = request_text(request())
        members = {"msg": text, "levelname": "INFO", "created": created, "msecs": created % 1 * 1000}
        record = logging.makeLogRecord(members)
        assert ours.format(record) == usual.format(record) == ours.request_line(request(created=created))


def test_a_request_is_logged_as_by_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    log_request(logging.getLogger("oda_proxy.test"), request())

    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("oda_proxy.test", "GET /run_analysis 200 oda-proxy; hit 0.500 s ab-1")
    ]


def test_the_log_is_written_in_a_thread_until_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    root, before, stream = logging.getLogger(), io.StringIO(), io.StringIO()
    handlers = [logging.StreamHandler(before)]
    monkeypatch.setattr(root, "handlers", handlers[:])
    logger = logging.getLogger("oda_proxy.test")

    with log_in_thread(LogSettings(), StreamOutput(stream)):
        log_request(logger, request("/one"))
        logger.warning("two")
        log_request(logger, request("/three"))
        monkeypatch.setattr(logger, "disabled", True)
        log_request(logger, request("/not-wanted"))
    root.warning("after")

    assert [line.split(" 200")[0] for line in lines(stream.getvalue())] == [
        "INFO GET /one",
        "WARNING two",
        "INFO GET /three",
    ]
    assert before.getvalue() == "after\n"
    assert root.handlers == handlers


@pytest.mark.parametrize("write", [log_in_thread, log_at_once])
def test_after_a_rotation_lines_go_to_the_new_file(
    write: Callable[[LogSettings], AbstractContextManager[None]], tmp_path: Path
) -> None:
    file, logger = tmp_path / "log", logging.getLogger("oda_proxy.test")

    with write(LogSettings(file)):
        logger.warning("one")
        wait_until(lambda: "one" in file.read_text())
        file.rename(tmp_path / "log.1")
        logger.warning("two")
        wait_until(lambda: "two" in (tmp_path / "log.1").read_text())
        reopen_log()
        logger.warning("three")

    assert lines((tmp_path / "log.1").read_text()) == ["WARNING one", "WARNING two"]
    assert lines(file.read_text()) == ["WARNING three"]
    assert file.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("write", [log_in_thread, log_at_once])
def test_a_file_that_cannot_be_opened_again_stays_open(
    write: Callable[[LogSettings], AbstractContextManager[None]], tmp_path: Path
) -> None:
    (folder := tmp_path / "logs").mkdir()

    with write(LogSettings(folder / "log")):
        folder.rename(tmp_path / "moved")
        reopen_log()
        logging.getLogger("oda_proxy.test").warning("goes on")

    first, second = lines((tmp_path / "moved/log").read_text())
    assert first.startswith("WARNING cannot open the log again")
    assert second == "WARNING goes on"


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        FileOutput(tmp_path / "missing/log")


def test_a_worker_does_not_hold_the_file_of_its_parent_process(tmp_path: Path) -> None:
    """Its disk space is free once it was renamed and removed."""
    settings, folder = LogSettings(tmp_path / "log"), Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("only Linux lists the open files of a process")

    def held() -> int:
        return [link.readlink() for link in folder.iterdir() if link.exists()].count(tmp_path / "log")

    with log_at_once(settings):
        assert held() == 1
        with log_in_thread(settings):
            assert held() == 1
        logging.getLogger("oda_proxy.test").warning("still logged")

    assert held() == 0
    assert lines((tmp_path / "log").read_text()) == ["WARNING still logged"]


def open_links(target: Path) -> int:
    """Return how many open files of this process have a path, or had it and are removed."""
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [str(link).removesuffix(" (deleted)") for link in links].count(str(target))


def test_a_file_that_was_removed_is_released_although_nothing_is_logged(tmp_path: Path) -> None:
    """It would still fill its disk."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("only Linux lists the open files of a process")
    file, renamed = tmp_path / "log", tmp_path / "log.1"

    with log_in_thread(LogSettings(file)):
        file.rename(renamed)
        reopen_log()
        wait_until(lambda: file.exists() and not open_links(renamed))
        assert open_links(file) == 1


@pytest.mark.parametrize("is_appended", [True, False])
def test_a_full_disk_cuts_no_line_off(log: logging.Logger, tmp_path: Path, is_appended: bool) -> None:
    resource = pytest.importorskip("resource")
    file, limits = tmp_path / "log", resource.getrlimit(resource.RLIMIT_FSIZE)
    stream = file.open("w")
    handler = ThreadedHandler(FileOutput(file) if is_appended else StreamOutput(stream))
    log.addHandler(handler)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        for number in range(20):
            log.info("line %2d", number)
        wait_until(lambda: handler.dropped_total > 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    written = file.read_text().count("\n")
    log.info("there is space again")
    handler.close()
    stream.close()

    found = lines(file.read_text())
    assert 0 < written < 20
    assert found[:written] == [f"INFO line {number:2d}" for number in range(written)]
    assert found[written] == "INFO there is space again"
    assert found[written + 1 :] == [
        f"WARNING {20 - written} lines are missing here: they came too fast, or the disk was full"
    ]
    assert handler.dropped_total == 20 - written
