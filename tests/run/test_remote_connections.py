"""The connections of processes to other machines are found, and tables are read only where they may have changed."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from oda_proxy.run import remote_connections
from oda_proxy.run.remote_connections import NEW, READ_INTERVAL, ConnectionSampler, _parse
from tests.support.scripted_upstream import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these tables")


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Listen on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list of the tables that are read, to which reading adds; this machine counts as another one."""
    monkeypatch.setattr("ipaddress.IPv4Address.is_loopback", False)
    found: list[Path] = []
    original = remote_connections._table

    def table(file: Path) -> str:
        found.append(file)
        return original(file)

    monkeypatch.setattr(remote_connections, "_table", table)
    return found


def test_a_connection_of_any_process_is_found_once(server: socket.socket, reads: list[Path]) -> None:
    sampler, address = ConnectionSampler(), server.getsockname()
    with socket.create_connection(address):
        assert address in sampler.look([os.getpid()])
        assert address not in sampler.look([os.getpid()])
    assert sampler.look([]) == []


def test_a_connection_to_this_machine_is_not_found(server: socket.socket) -> None:
    with socket.create_connection(server.getsockname()):
        assert server.getsockname() not in ConnectionSampler().look([os.getpid()])


def test_tables_are_read_only_for_sockets_that_may_have_been_connected(
    server: socket.socket, reads: list[Path]
) -> None:
    clock = Clock()
    sampler = ConnectionSampler(clock)
    with socket.socket() as waiting:
        for _ in range(NEW + 3):
            sampler.look([os.getpid()])
        assert len(reads) == 2 * NEW

        waiting.connect(server.getsockname())
        assert server.getsockname() not in sampler.look([os.getpid()])
        clock.now += READ_INTERVAL
        assert server.getsockname() in sampler.look([os.getpid()])
        assert len(reads) == 2 * NEW + 2

        with socket.create_connection(server.getsockname()):
            sampler.look([os.getpid()])
        assert len(reads) == 2 * NEW + 4
    sampler.look([])
    assert not sampler._looks
    assert not sampler._connected


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("010200C0:01BB", "192.0.2.1"),
        ("0000000000000000FFFF0000010200C0:01BB", "192.0.2.1"),
        ("B80D0120000000000000000001000000:01BB", "2001:db8::1"),
    ],
)
@pytest.mark.skipif(sys.byteorder != "little", reason="written as little-endian machines do")
def test_addresses_of_the_kernel_are_read(text: str, address: str) -> None:
    found, port = _parse(text)

    assert (str(found), port) == (address, 443)
