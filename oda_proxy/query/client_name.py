"""Names of clients, for limits: a person, whose token was verified, or an address."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oda_proxy.query.audience import TokenVerifier
    from oda_proxy.query.query import Token


def client_name(address: str, token: Token | None, tokens: TokenVerifier) -> str:
    """Return the name of a client: one for all addresses of a person, and for all persons with an address.

    A token that was not verified names nobody: anybody can make up one.
    """
    if token is not None and tokens.is_verified(token) and (subject := tokens.subject(token)):
        return f"person {subject}"
    return address_name(address)


def address_name(address: str) -> str:
    """Return the name of a client without a token."""
    return f"address {_network(address)}"


@lru_cache(maxsize=1024)
def _network(address: str) -> str:
    """Return an address; of an IPv6 address the network of 64 bits, which one client has for itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))  # noqa: PLR2004
