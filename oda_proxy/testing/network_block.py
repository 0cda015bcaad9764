"""A block of the network: while it is active, sockets of Python connect to this machine only.

Child processes and libraries that open sockets in C are not blocked.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_METHODS = ("connect", "connect_ex", "sendto", "sendmsg")
_LOOKUPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr")
_INTERNET = (socket.AF_INET, socket.AF_INET6)  # AF_UNIX sockets are local
_ADDRESS_OF_SENDMSG = 3


class NetworkBlockedError(RuntimeError):
    """A connection to another machine was refused. It is no OSError, so that clients do not retry."""


class NetworkBlock:
    """Refuses connections of this process to other machines."""

    def __init__(self) -> None:
        self._suspended = 0
        self.refused: list[str] = []
        """Hosts of refused connections."""

    @contextmanager
    def active(self) -> Iterator[None]:
        """Raise NetworkBlockedError on each connection to another machine, until the `with` block ends."""
        with ExitStack() as stack:
            for name in _METHODS:  # inherited attributes: the patch is deleted at the end
                guarded = self._method(name, getattr(socket.socket, name))
                stack.enter_context(mock.patch.object(socket.socket, name, guarded))
            for name in _LOOKUPS:
                guarded = self._lookup(getattr(socket, name))
                stack.enter_context(mock.patch.object(socket, name, guarded))
            yield

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Allow connections to other machines until the `with` block ends, also while the block is active."""
        self._suspended += 1
        try:
            yield
        finally:
            self._suspended -= 1

    def _method(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(sock: socket.socket, *arguments: Any) -> Any:
            if sock.family in _INTERNET and (address := _address(name, arguments)):
                try:
                    self._refuse(address[0])
                except NetworkBlockedError:
                    sock.close()  # callers close it after an OSError only
                    raise
            return method(sock, *arguments)

        return guarded

    def _lookup(self, lookup: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(host: Any, *arguments: Any, **options: Any) -> Any:
            if not _is_address(host):
                self._refuse(host)
            return lookup(host, *arguments, **options)

        return guarded

    def _refuse(self, host: Any) -> None:
        if not self._suspended and not _is_local(host):
            self.refused.append(_text(host))
            raise NetworkBlockedError(
                f"the network is blocked (--oda-block-network): {_text(host)} is not this machine"
            )


def _address(name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Return the address among the arguments of a method; None if the socket is connected already."""
    if name == "sendmsg":
        found = arguments[_ADDRESS_OF_SENDMSG] if len(arguments) > _ADDRESS_OF_SENDMSG else None
    else:
        found = arguments[-1] if arguments else None
    return found if isinstance(found, tuple) and found else None


def _text(host: Any) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host)


def _is_local(host: Any) -> bool:
    """Whether a host is this machine; None and an empty name are, too."""
    name = _text(host or "").casefold().partition("%")[0]
    if name in {"", "localhost", socket.gethostname().casefold()}:
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or address.is_unspecified


def _is_address(host: Any) -> bool:
    """Whether a host is an IP address, which needs no lookup."""
    try:
        ip_address(_text(host or "").partition("%")[0])
    except ValueError:
        return False
    return True
