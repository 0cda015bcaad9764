"""Real servers that read their configuration and open their log again on SIGHUP, or end with their terminal."""

from __future__ import annotations

import os
import pty
import signal
import sys
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.support.crowds import wait_until
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow
WORKERS = [pytest.param("1", id="one-process"), pytest.param("2", id="two-workers")]


def is_admin(url: str, token: str) -> bool:
    """Return whether a token may read figures."""
    request = urllib.request.Request(f"{url}/-/metrics", headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - on this machine
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310 - as above
            return bool(response.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False


@pytest.mark.parametrize("workers", WORKERS)
def test_a_server_takes_over_what_can_change_and_opens_its_log_again(tmp_path: Path, workers: str) -> None:
    config, token, log = tmp_path / "config.toml", tmp_path / "token", tmp_path / "log"
    token.write_text("the-first-token")
    token.chmod(0o600)
    lines = [
        "offline = true",
        f'metrics-token-file = "{token}"',
        f'log-file = "{log}"',
        f'cache-dir = "{tmp_path}/cache"',
    ]
    config.write_text("\n".join(lines))
    arguments = ["serve", "--config", str(config), "--port", "0", "--workers", workers]
    with running(tmp_path / "errors", *arguments) as server:
        assert is_admin(server.url, "the-first-token")
        token.write_text("the-second-token")
        config.write_text("\n".join([*lines, 'max-size = "5GB"', 'memory = "1MB"']))
        log.rename(tmp_path / "log.1")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: log.is_file() and "was read again" in log.read_text())
        wait_until(lambda: all(is_admin(server.url, "the-second-token") for _ in range(12)))

        assert not any(is_admin(server.url, "the-first-token") for _ in range(12))
        config.write_text("max-size = -1")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "stays as it was" in log.read_text())
        assert is_admin(server.url, "the-second-token")
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0

    text = log.read_text()
    assert "--max-size is 5000000000\n" in text
    assert "--memory is 1000000 takes effect after a restart\n" in text
    assert "tokens have changed" in text
    assert text.count("was read again") == text.count("stopping on SIGTERM") == 1
    assert "-token" not in text.replace("metrics-token-file", "")
    assert (tmp_path / "log.1").read_text()
    assert (tmp_path / "errors").read_text() == ""


def start_in_terminal(arguments: list[str]) -> tuple[int, int]:
    """Start the program in a terminal of its own; return its process id and our end of the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "oda_proxy.cli", *arguments])  # noqa: S606 - our own program
    return pid, terminal


@pytest.mark.parametrize("workers", WORKERS)
def test_a_server_ends_with_its_terminal_and_not_with_a_hang_up_before(tmp_path: Path, workers: str) -> None:
    log = tmp_path / "log"
    files = ["--cache-dir", str(tmp_path / "cache"), "--log-file", str(log)]
    pid, terminal = start_in_terminal(["serve", "--offline", "--port", "0", "--workers", workers, *files])
    shown = bytearray()

    def read() -> None:
        while b"listening on" not in shown:
            shown.extend(os.read(terminal, 1000))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(PATIENCE)
    assert b"listening on" in shown, shown
    os.kill(pid, signal.SIGHUP)
    wait_until(lambda: "was read again" in log.read_text())

    os.close(terminal)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert log.read_text().count("stopping on SIGHUP") == 1
