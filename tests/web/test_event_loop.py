"""A server runs in the event loop of uvloop where it is installed, and in that of asyncio where it is not."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from oda_proxy.web import event_loop
from oda_proxy.web.event_loop import SWITCH_INTERVAL, run_server
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from pathlib import Path

LOOPS = ["asyncio", pytest.param("uvloop", marks=pytest.mark.skipif(sys.platform == "win32", reason="no uvloop"))]


def environment(loop: str, folder: Path) -> dict[str, str]:
    """Return an environment in which uvloop is not to be found, unless it is the one to use."""
    if loop == "uvloop":
        return {}
    (folder / "uvloop.py").write_text("raise ImportError\n")
    return {"PYTHONPATH": str(folder)}


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:  # noqa: S310 - on this machine
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.status or 0, error.read()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_answers_and_stops_on_a_signal(tmp_path: Path, loop: str, number: signal.Signals) -> None:
    log = tmp_path / "log"
    with running(log, "serve", "--mock", "--port", "0", env=environment(loop, tmp_path)) as server:
        assert get(f"{server.url}/-/livez") == (200, b"ok\n")
        assert get(f"{server.url}/call_back")[0] == 403
        server.process.send_signal(number)
        assert server.process.wait(PATIENCE) == 0

    lines = [re.sub(r"^[\d-]+ [\d:,]+ |\d\.\d{3} s \w{8}-\w+$", "", line) for line in log.read_text().splitlines()]
    assert lines[0] == f"INFO event loop: {loop}"
    assert lines[1:] == [
        "INFO GET /call_back 403 oda-proxy; detail=closed-route ",
        f"INFO stopping on {number.name}",
    ]


@pytest.mark.parametrize("loop", LOOPS)
def test_workers_have_the_same_event_loop(tmp_path: Path, loop: str) -> None:
    arguments = ["serve", "--offline", "--workers", "2", "--port", "0", "--cache-dir", str(tmp_path / "cache")]
    with running(tmp_path / "log", *arguments, env=environment(loop, tmp_path)) as server:
        assert get(f"{server.url}/-/livez") == (200, b"ok\n")
        log = server.end()

    assert f"event loop: {loop}\n" in log


def test_an_error_that_ends_a_server_comes_after_its_log(tmp_path: Path) -> None:
    with running(tmp_path / "first", "serve", "--mock", "--port", "0") as first:
        port = first.url.rpartition(":")[2]
        with pytest.raises(AssertionError), running(tmp_path / "log", "serve", "--mock", "--port", port):
            pass

    assert (tmp_path / "log").read_text().splitlines()[-1].startswith("oda-proxy: cannot listen on")


def test_threads_yield_to_a_server_while_it_runs() -> None:
    usual = sys.getswitchinterval()

    async def server() -> float:
        return sys.getswitchinterval()

    assert run_server(server()) == pytest.approx(SWITCH_INTERVAL)
    assert sys.getswitchinterval() == pytest.approx(usual)


def test_threads_of_a_server_share_one_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr(event_loop, "use_one_heap", lambda: steps.append("one heap"))

    async def server() -> None:
        steps.append("server")

    run_server(server())

    assert steps == ["one heap", "server"]


def test_a_log_that_cannot_be_opened_ends_the_start_with_one_line(tmp_path: Path) -> None:
    file = str(tmp_path / "missing/log")
    arguments = ["-m", "oda_proxy.cli", "serve", "--offline", "--port", "0", "--log-file", file]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"oda-proxy: {file}: No such file or directory\n"
