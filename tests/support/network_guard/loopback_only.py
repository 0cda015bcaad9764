"""Refuse whatever would leave this machine: connections, datagrams and look-ups of names.

An audit hook sees them before the operating system does, whichever library asks, and cannot be taken off again.
Look-ups fail as they do without a network, so that a name that must not exist does not. (A name that is given to a
socket itself is looked up first, and then refused.)
"""

from __future__ import annotations

import os
import sys
from typing import Any

MESSAGE = "the tests' network guard refuses what is not on this machine"

_CONNECTIONS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_LOOK_UPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


class RefusedError(OSError):
    """Something wanted to reach another machine."""


def install() -> None:
    """Guard this process from now on, once."""
    if getattr(sys, "_loopback_only", False):
        return
    sys._loopback_only = True  # type: ignore[attr-defined]
    connections, look_ups = frozenset(_CONNECTIONS), frozenset(_LOOK_UPS)  # globals are gone when the interpreter ends

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in connections:
            _check_connection(arguments[1])
        elif event in look_ups:
            _check_look_up(arguments[0])

    sys.addaudithook(hook)


def _check_connection(address: Any) -> None:
    # A path is a socket in the file system; None is a datagram on a connected socket.
    if isinstance(address, tuple) and not _is_here(address[0]):
        raise RefusedError(f"{MESSAGE}: {address[0]}")


def _check_look_up(host: str | bytes | None) -> None:
    if host is not None and not _is_here(host) and not _is_address(host):
        import socket  # it is there already, as it raised the event

        raise socket.gaierror(socket.EAI_NONAME, f"{MESSAGE}: {_text(host)}")


def _text(host: str | bytes) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else host


def _is_here(host: str | bytes) -> bool:
    name = _text(host).casefold()
    # A connection to "any address" reaches this machine.
    return name in {"", "localhost", "::1", "0.0.0.0", "::", os.uname().nodename.casefold()} or (  # noqa: S104
        name.startswith("127.") and _is_address(name)
    )


def _is_address(host: str | bytes) -> bool:
    """Tell whether something is an address already, so that nobody is asked for it."""
    name = _text(host)
    return ":" in name or (name.count(".") == 3 and all(part.isdigit() for part in name.split(".")))
