"""Hosts that are this machine, told by their names."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether the name of a host is this machine, without resolving it."""
    return bool(loopback_addresses(host))


def loopback_addresses(host: str) -> tuple[str, ...]:
    """Return the addresses of a host that is this machine, none for any other host."""
    if host.casefold() == "localhost" or host.casefold().endswith(".localhost"):
        return ("127.0.0.1", "::1")
    try:
        return (host,) if ipaddress.ip_address(host).is_loopback else ()
    except ValueError:
        return ()
