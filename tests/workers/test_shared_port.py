"""One port with a listening socket for each worker."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from oda_proxy.errors import ListenError
from oda_proxy.workers.shared_port import distribute, share_port


def test_each_worker_has_a_socket_of_its_own_on_one_free_port() -> None:
    with closing(share_port("127.0.0.1", 0, 3)) as port:
        names = [one.getsockname() for sockets in port.sockets for one in sockets]

        assert names == [("127.0.0.1", port.port)] * 3
        assert port.port > 0


def test_connections_are_spread_over_all_sockets() -> None:
    with closing(share_port("127.0.0.1", 0, 2)) as port:
        connections = [socket.create_connection(("127.0.0.1", port.port)) for _ in range(24)]
        accepted = []
        for ((listener,),) in zip(port.sockets, strict=True):
            accepted.append(0)
            while True:
                try:
                    listener.accept()[0].close()
                except BlockingIOError:
                    break
                accepted[-1] += 1
        for connection in connections:
            connection.close()

        assert sum(accepted) == 24
        assert all(accepted)


@pytest.mark.parametrize("shares", [True, False], ids=["by workers, too", "by one process"])
def test_a_port_that_is_in_use_is_refused(*, shares: bool) -> None:
    """SO_REUSEPORT alone would let two servers of one user share it, and each get a part of the connections."""
    with closing(share_port("127.0.0.1", 0, 2)) as port:
        taken = port.port
        if shares:
            with pytest.raises(ListenError, match="the port is in use"):
                share_port("127.0.0.1", taken, 2)
    if not shares:
        with socket.create_server(("127.0.0.1", taken)), pytest.raises(ListenError, match="the port is in use"):
            share_port("127.0.0.1", taken, 2)


def test_a_name_of_a_host_is_listened_on_at_all_its_addresses() -> None:
    addresses = {info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    with closing(share_port("localhost", 0, 2)) as port:
        assert all({one.getsockname()[0] for one in sockets} == addresses for sockets in port.sockets)


def test_a_host_that_is_none_of_this_machine_is_refused() -> None:
    with pytest.raises(ListenError, match="no such address here"):
        share_port("192.0.2.1", 0, 2)


@pytest.mark.parametrize(
    ("passed", "workers", "own"), [(1, 1, [1]), (1, 3, [1, 1, 1]), (2, 2, [1, 1]), (4, 2, [2, 2]), (2, 3, [1, 1, 1])]
)
def test_sockets_that_were_passed_are_those_of_the_workers(passed: int, workers: int, own: list[int]) -> None:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(passed)]
    names = [one.getsockname() for one in listeners]

    with closing(distribute(listeners, workers)) as port:
        assert port.port == names[0][1]
        assert [len(each) for each in port.sockets] == own
        assert {one.getsockname() for each in port.sockets for one in each} == set(names)
        port.close_others(0)
        with socket.create_connection(names[0]), port.sockets[0][0].accept()[0]:
            pass
