"""Programs that tests start, wait for and stop: our own commands, and the real dispatcher."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

PATIENCE = 60.0
"""Seconds after which a program that prints nothing has failed to start: long enough for a busy machine."""

_LISTENING = "listening on "


@dataclass(frozen=True)
class Server:
    """A command of ours that listens at `url`; its log is complete when it has ended."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def end(self) -> str:
        """Terminate the program, check that it exits with 0, and return its log."""
        self.process.terminate()
        status = self.process.wait(PATIENCE)
        text = self.log.read_text()
        assert status == 0, text
        return text


@contextmanager
def running(
    log: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "oda_proxy.cli"),
    pass_fds: Sequence[int] = (),
) -> Iterator[Server]:
    """Run `oda-proxy`, or a `program` in its place, with these arguments until the block ends.

    It inherits the descriptors `pass_fds`.
    """
    command = [sys.executable, *program, *arguments]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(env or {})},
            pass_fds=pass_fds,
        ) as process,
    ):
        try:
            line = _first_line(process)
            assert line.startswith(_LISTENING), f"{line!r}, and on standard error: {log.read_text()}"
            yield Server(line.removeprefix(_LISTENING), process, log)
        finally:
            process.terminate()


def _first_line(process: subprocess.Popen[str]) -> str:
    """Wait for the first line of a program, or for its end."""
    assert process.stdout is not None
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(target=lambda: lines.put(process.stdout.readline().strip()), daemon=True)  # type: ignore[union-attr]
    reader.start()
    try:
        return lines.get(timeout=PATIENCE)
    except queue.Empty:
        process.kill()
        raise


DISPATCHER_SETTINGS: dict[str, Any] = {
    "dummy_cache": "dummy-cache",
    "sentry_url": None,
    "sentry_environment": "production",
    "logstash_host": None,
    "logstash_port": None,
    "secret_key": "secretkey_test",
    "token_max_refresh_interval": 604800,
    "resubmit_timeout": 1800,
    "soft_minimum_folder_age_days": 5,
    "hard_minimum_folder_age_days": 30,
    "email_options": {
        "smtp_server": "localhost",
        "site_name": "test",
        "manual_reference": "test",
        "sender_email_address": "dispatcher@example.org",
        "contact_email_address": "dispatcher@example.org",
        "cc_receivers_email_addresses": [],
        "bcc_receivers_email_addresses": [],
        "smtp_port": 61025,
        "smtp_server_password": "",
        "email_sending_timeout": True,
        "email_sending_timeout_default_threshold": 1800,
        "email_sending_job_submitted": True,
        "email_sending_job_submitted_default_interval": 60,
        "sentry_for_email_sending_check": False,
        "incident_report_email_options": {
            "incident_report_sender_email_address": "dispatcher@example.org",
            "incident_report_receivers_email_addresses": ["dispatcher@example.org"],
        },
    },
}


@contextmanager
def real_dispatcher(python: Path, folder: Path) -> Iterator[str]:
    """Run a real dispatcher with its dummy plugin in `folder` until the block ends; yield its address."""
    import json

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    settings = {
        **DISPATCHER_SETTINGS,
        "products_url": f"{url}/",
        "dispatcher_callback_url_base": url,
        "bind_options": {"bind_host": "127.0.0.1", "bind_port": port},
    }
    (folder / "CONF.yaml").write_text(json.dumps({"dispatcher": settings}))  # JSON is YAML
    # The dispatcher imports a module for colours that is not on PyPI.
    (folder / "pscolors.py").write_text("def render(text):\n    return text\n")
    command = [str(python), "-m", "gunicorn", 'cdci_data_analysis.flask_app.app:conf_app("CONF.yaml")']
    # It requests its own pages when a job is done: with one thread it would wait for itself.
    command += ["--bind", f"127.0.0.1:{port}", "--workers", "1", "--threads", "8", "--timeout", "900"]
    command += ["--limit-request-line", "0"]
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path, "DISPATCHER_DEBUG_MODE": "yes"}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_for(f"{url}/api/instr-list?instrument=mock", process, folder / "log")
            yield url
        finally:
            process.terminate()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE):  # noqa: S310 - an address on this machine
                return
        except urllib.error.HTTPError:  # 1.3.6 redirects to an address that it does not serve itself
            return
        except OSError:  # refused, or reset while it starts
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)  # gunicorn reports its address before it answers
