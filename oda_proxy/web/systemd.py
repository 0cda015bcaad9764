"""The interface of systemd: sockets that it passes to a service, and the service's report that it is ready."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_FIRST: Final = 3
"""The descriptor of the first socket that is passed (sd_listen_fds(3))."""
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def passed_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Return the listening sockets that were passed to this process, and remove their variables from `environ`.

    Raises UsageError for a descriptor that is no TCP socket, or does not listen.
    """
    values = [environ.pop(name, "") for name in _VARIABLES]
    if values[0] != str(os.getpid()) or not values[1].isdecimal():
        return []
    sockets = []
    for descriptor in range(_FIRST, _FIRST + int(values[1])):
        try:
            one = socket.socket(fileno=descriptor)
            listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise UsageError(f"LISTEN_FDS={values[1]}: descriptor {descriptor} is no socket") from error
        if not listens or one.family not in {socket.AF_INET, socket.AF_INET6}:
            raise UsageError(
                f"LISTEN_FDS={values[1]}: descriptor {descriptor} is no TCP socket that listens; write "
                "ListenStream=127.0.0.1:8400 in the socket unit"
            )
        one.setblocking(False)
        os.set_inheritable(descriptor, False)
        sockets.append(one)
    return sockets


def notify(state: str, environ: MutableMapping[str, str]) -> None:
    """Send a state such as `READY=1` to systemd, if it waits for one (sd_notify(3))."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        channel.send(state.encode())
