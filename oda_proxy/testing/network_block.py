"""Blocking the network for a while: Python's sockets reach this machine and no other.

A program that is started meanwhile, and a library that opens its sockets in C, is not blocked.
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
_LOOK_UPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr")
_INTERNET = (socket.AF_INET, socket.AF_INET6)  # what is a file (AF_UNIX) is on this machine
_ADDRESS_OF_SENDMSG = 3


class NetworkBlockedError(RuntimeError):
    """Something wanted to reach another machine; no OSError, after which programs would try again."""


class NetworkBlock:
    """What keeps this process from other machines."""

    def __init__(self) -> None:
        self._lifted = 0

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Raise NetworkBlockedError wherever another machine is to be reached, until the block ends."""
        with ExitStack() as stack:
            for name in _METHODS:  # inherited: what is set here is taken away again
                guarded = self._method(name, getattr(socket.socket, name))
                stack.enter_context(mock.patch.object(socket.socket, name, guarded))
            for name in _LOOK_UPS:
                guarded = self._look_up(getattr(socket, name))
                stack.enter_context(mock.patch.object(socket, name, guarded))
            yield

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Let other machines be reached until the block ends, also where the blockade stands."""
        self._lifted += 1
        try:
            yield
        finally:
            self._lifted -= 1

    def _method(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(sock: socket.socket, *arguments: Any) -> Any:
            if sock.family in _INTERNET and (address := _address(name, arguments)):
                try:
                    self._refuse(address[0])
                except NetworkBlockedError:
                    sock.close()  # whoever opened it does so after an OSError only
                    raise
            return method(sock, *arguments)

        return guarded

    def _look_up(self, look_up: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(host: Any, *arguments: Any, **options: Any) -> Any:
            if not _is_address(host):
                self._refuse(host)
            return look_up(host, *arguments, **options)

        return guarded

    def _refuse(self, host: Any) -> None:
        if not self._lifted and not _is_here(host):
            raise NetworkBlockedError(
                f"the network is blocked (--oda-block-network): {_text(host)} is not this machine"
            )


def _address(name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Give the address among the arguments of a method; None where a connected socket needs none."""
    if name == "sendmsg":
        found = arguments[_ADDRESS_OF_SENDMSG] if len(arguments) > _ADDRESS_OF_SENDMSG else None
    else:
        found = arguments[-1] if arguments else None
    return found if isinstance(found, tuple) and found else None


def _text(host: Any) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host)


def _is_here(host: Any) -> bool:
    """Tell whether a host is this machine; None and an empty text are its own addresses."""
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
    """Tell whether a host is an address already, so that nobody is asked for it."""
    try:
        ip_address(_text(host or "").partition("%")[0])
    except ValueError:
        return False
    return True
