"""Brings up the loopback interface: in a network namespace of its own (`unshare -rn`) a process finds it down."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

from oda_proxy.errors import OdaProxyError

_GET_FLAGS: Final = 0x8913
_SET_FLAGS: Final = 0x8914
_UP: Final = 0x1
_RUNNING: Final = 0x40
"""Of netdevice(7): SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP, IFF_RUNNING."""
_REQUEST: Final = struct.Struct("16sh")


class LoopbackDownError(OdaProxyError):
    """The loopback interface is down: no program could reach a server of ours."""

    def __init__(self) -> None:
        super().__init__(
            "the loopback interface is down, and we may not bring it up: begin with `ip link set lo up`, "
            "as in unshare -rn sh -c 'ip link set lo up; exec oda-proxy ...'"
        )


def bring_up() -> None:
    """Bring up the loopback interface where it is down (Linux). Raises LoopbackDownError where that is not allowed."""
    if sys.platform != "linux":
        return
    with socket.socket() as any_socket:
        try:
            if _flags(any_socket) & _UP:
                return
        except OSError:  # there is none of this name, or it cannot be asked for: listening will tell
            return
        try:
            _ioctl(any_socket, _SET_FLAGS, _flags(any_socket) | _UP | _RUNNING)
        except OSError:
            raise LoopbackDownError from None


def _flags(any_socket: socket.socket) -> int:
    return _ioctl(any_socket, _GET_FLAGS, 0)


def _ioctl(any_socket: socket.socket, operation: int, flags: int) -> int:
    import fcntl  # not on Windows

    response = fcntl.ioctl(any_socket, operation, _REQUEST.pack(b"lo", flags) + bytes(16))
    return int(_REQUEST.unpack(response[: _REQUEST.size])[1])
