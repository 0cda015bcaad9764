"""Where the loopback interface is down, it is brought up, or that is said."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oda_proxy.run.loopback import _UP, LoopbackDownError, bring_up
from tests.support.namespaces import why_no_namespace


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stand in for the interface: the last is what it has, and what was set is added."""
    monkeypatch.setattr(sys, "platform", "linux")
    flags = [0x8]

    def ioctl(_: object, operation: int, value: int) -> int:
        if operation == 0x8914:
            flags.append(value)
        return flags[-1]

    monkeypatch.setattr("oda_proxy.run.loopback._ioctl", ioctl)
    return flags


def test_an_interface_that_is_down_is_brought_up(flags: list[int]) -> None:
    bring_up()
    bring_up()

    assert flags == [0x8, 0x8 | _UP | 0x40]


def test_an_interface_that_may_not_be_brought_up_is_an_error_that_says_how(
    flags: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object, operation: int, value: int) -> int:
        if operation == 0x8914:
            raise PermissionError(1, "Operation not permitted")
        return 0

    monkeypatch.setattr("oda_proxy.run.loopback._ioctl", refuse)

    with pytest.raises(LoopbackDownError, match="is down, and we may not bring it up: begin with `ip link set lo up`"):
        bring_up()


def test_a_new_network_namespace_gets_its_loopback_interface() -> None:
    if reason := why_no_namespace():
        pytest.skip(f"no network namespaces here: {reason}")
    script = (
        "import socket; from oda_proxy.run.loopback import bring_up; bring_up();"
        "server = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname()); print('up')"
    )
    command = ["unshare", "--map-root-user", "--net", sys.executable, "-c", script]

    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "up\n"
