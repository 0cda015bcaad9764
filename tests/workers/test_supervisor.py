"""The parent process, in programs of their own: it forks."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from pathlib import Path

ENDS_AT_ONCE = """
import logging, sys
from oda_proxy.errors import OdaProxyError
from oda_proxy.workers import supervision, supervisor

logging.basicConfig(format="%(message)s", stream=sys.stderr)
supervision.MAX_SHORT_LIVES = supervisor.MAX_SHORT_LIVES = 2
try:
    supervisor.Supervisor(2, lambda number, channel, is_first: 3, lambda: print("complete"), print, patience=5.0).run()
except OdaProxyError as error:
    sys.exit(f"error: {error}")
"""

FREEZES = """
import gc
from oda_proxy.errors import OdaProxyError
from oda_proxy.workers import supervision, supervisor

def work(number, channel, is_first):
    print("objects of the parent are frozen:", gc.get_freeze_count() > 10_000, flush=True)
    return 3

supervision.MAX_SHORT_LIVES = supervisor.MAX_SHORT_LIVES = 1
try:
    supervisor.Supervisor(1, work, lambda: None, lambda: None, patience=5.0).run()
except OdaProxyError:
    pass
"""


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "oda_proxy.cli", "serve", "--workers", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_workers_that_end_at_once_are_given_up_with_one_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ENDS_AT_ONCE], capture_output=True, text=True, timeout=PATIENCE, check=False
    )

    *lines, last = ended.stderr.splitlines()
    assert last == (
        "error: worker 1 ended 2 times in a row just after its start, the last time with status 3; the server stops"
    )
    assert [line.partition(") ")[2] for line in lines] == ["ended with status 3: it is started again"]
    assert (ended.returncode, ended.stdout) == (1, "")


def test_objects_of_the_parent_are_left_alone_by_the_collector_of_each_worker() -> None:
    done = subprocess.run([sys.executable, "-c", FREEZES], capture_output=True, text=True, timeout=PATIENCE, check=True)

    assert done.stdout == "objects of the parent are frozen: True\n"


def test_the_reason_why_the_first_worker_cannot_start_is_printed_once(tmp_path: Path) -> None:
    ended = serve("--upstream", "http://127.0.0.1:9", "--port", "0", "--cache-dir", str(tmp_path))

    (line,) = ended.stderr.splitlines()
    assert line.startswith("oda-proxy: cannot reach the dispatcher http://127.0.0.1:9: ")
    assert (ended.returncode, ended.stdout) == (1, "")


def test_a_port_in_use_is_reported_before_any_worker_starts(tmp_path: Path) -> None:
    with running(tmp_path / "log", "mock", "--port", "0") as mock:
        port = mock.url.rpartition(":")[2]
        ended = serve("--upstream", mock.url, "--port", port, "--cache-dir", str(tmp_path / "cache"))

    assert ended.stderr == (
        f"oda-proxy: cannot listen on 127.0.0.1 port {port}: the port is in use; choose others with --host and --port\n"
    )
    assert ended.returncode == 1


def test_a_mock_within_the_server_has_no_workers() -> None:
    ended = serve("--mock")

    assert "--mock runs in one process" in ended.stderr
    assert ended.returncode == 2


def test_workers_that_cannot_be_forked_are_given_up_with_one_line() -> None:
    program = ENDS_AT_ONCE.replace("import logging, sys", "import errno, logging, os, sys").replace(
        "try:", "def fork():\n    raise OSError(errno.EAGAIN, 'no more processes')\n\n\nos.fork = fork\ntry:", 1
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )

    assert ended.stderr.splitlines()[-1] == (
        "error: worker 1 ended 2 times in a row just after its start, the last time before it began (no more "
        "processes); the server stops"
    )
