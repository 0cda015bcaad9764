"""Listening sockets that share one port: one for each worker, and for each address of the host.

The kernel spreads connections over sockets with SO_REUSEPORT. One socket that all workers inherit would not do: an
event loop accepts every connection that waits, so that of 16 which come at once one worker gets 15 (docs/jobs.md).

The parent process keeps the sockets open: connections to a worker that is being restarted wait for it.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import ListenError
from oda_proxy.web.server import reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKLOG: Final = 128
"""Connections that wait to be accepted, for each worker."""


@dataclass(frozen=True, slots=True)
class SharedPort:
    """The sockets of each worker; the port is theirs."""

    port: int
    sockets: Sequence[Sequence[socket.socket]]

    def close(self) -> None:
        """Close all sockets in this process."""
        for each in self.sockets:
            for one in each:
                one.close()

    def close_others(self, number: int) -> None:
        """Close the sockets of all workers but one in this process."""
        for other, each in enumerate(self.sockets):
            if other != number:
                for one in each:
                    one.close()


def share_port(host: str, port: int, count: int) -> SharedPort:
    """Listen on all addresses of a host, once for each of `count` workers; port 0 takes a free one.

    Raises ListenError, also where another server shares the port already: it would get a part of the connections.
    """
    with ExitStack() as stack:
        try:
            addresses = dict.fromkeys(
                (family, address)
                for family, _, _, _, address in socket.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
            )
            if port:
                for family, address in addresses:
                    with closing(_bound(family, address, shared=False)):
                        pass
            sockets: list[list[socket.socket]] = []
            for _ in range(count):
                sockets.append([])
                for family, address in addresses:
                    one = stack.enter_context(_bound(family, (address[0], port, *address[2:]), shared=True))
                    port = port or one.getsockname()[1]
                    sockets[-1].append(one)
            for each in sockets:
                for one in each:
                    one.listen(BACKLOG)
                    one.setblocking(False)
        except OSError as error:
            raise ListenError(host, port, reason_of(error)) from error
        stack.pop_all()
        return SharedPort(port, sockets)


def distribute(listeners: Sequence[socket.socket], count: int) -> SharedPort:
    """Return sockets that listen, which were passed to this process, as those of `count` workers; they are closed.

    With at least as many sockets as workers, each worker has sockets of its own; otherwise workers share them.
    """
    own = len(listeners) >= count
    chosen = [listeners[number::count] if own else [listeners[number % len(listeners)]] for number in range(count)]
    sockets = [[one.dup() for one in each] for each in chosen]
    for each in sockets:
        for one in each:
            one.setblocking(False)
    port = listeners[0].getsockname()[1]
    for one in listeners:
        one.close()
    return SharedPort(port, sockets)


def _bound(family: int, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    """Return a socket that is bound to an address, as asyncio binds them."""
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
    except BaseException:
        one.close()
        raise
    return one
