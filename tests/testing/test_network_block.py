"""A network block refuses other machines while it is active, and leaves no trace."""

from __future__ import annotations

import socket

import pytest

from oda_proxy.testing.network_block import NetworkBlock, NetworkBlockedError


def test_sockets_are_restored_when_the_block_ends() -> None:
    before = [vars(socket.socket).copy(), socket.getaddrinfo, socket.gethostbyname]

    with NetworkBlock().active(), pytest.raises(NetworkBlockedError, match=r"192\.0\.2\.1 is not this machine"):
        socket.create_connection(("192.0.2.1", 80))

    assert [vars(socket.socket).copy(), socket.getaddrinfo, socket.gethostbyname] == before


def test_a_suspended_block_allows_other_machines() -> None:
    block = NetworkBlock()

    with block.active(), block.suspended(), pytest.raises(OSError, match="guard"):  # the guard of these tests
        socket.create_connection(("192.0.2.1", 80))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "::1", "::ffff:127.0.0.1", None])
def test_names_of_this_machine_are_resolved(host: str | None) -> None:
    with NetworkBlock().active():
        assert socket.getaddrinfo(host, 80)


@pytest.mark.parametrize("host", ["dispatcher.example", b"dispatcher.example", "localhost.example"])
def test_names_of_other_machines_are_not_resolved(host: str | bytes) -> None:
    with NetworkBlock().active(), pytest.raises(NetworkBlockedError, match="example is not this machine"):
        socket.getaddrinfo(host, 80)
