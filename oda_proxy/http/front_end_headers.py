"""What the headers of front ends report about a request: `X-Forwarded-*`, and `Forwarded` of RFC 7239.

Anybody can send these headers. They count as far as each was added by a trusted front end: from the connection
backwards, up to the first address that is not trusted, which is the client's.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Sequence

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

HEADERS: Final = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix", "Forwarded")
OTHER_HEADERS: Final = ("X-Forwarded-Port", "X-Forwarded-Server", "X-Real-IP")
"""Headers of front ends that are not read, and, like the others, not for a dispatcher."""
UNKNOWN: Final = "unknown"
"""The address of a client that a front end does not tell (RFC 7239, section 6.2)."""
UNIX: Final = "unix"
"""The address of a client of a Unix socket."""
MAX_LENGTH: Final = 4096
"""Characters of a header of a front end."""

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]{1,64}){1,8}")
_PAIR = re.compile(r"[ \t]*(?:([\w-]+)=(\"(?:[^\"\\]|\\.)*\"|[\w!#$%&'*+.^`|~:\[\]-]+))?[ \t]*([;,]|$)", re.ASCII)


class FrontEndHeadersError(OdaProxyError):
    """The headers of front ends cannot be read, or contradict each other."""

    http_status = 400
    detail = "bad-request"


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The addresses of front ends whose headers are read; `unix` stands for all clients of Unix sockets."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    def __bool__(self) -> bool:
        return self.unix or bool(self.networks)

    def trusts(self, address: str) -> bool:
        """Return whether an address is that of a front end."""
        if address == UNIX:
            return self.unix
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Reported:
    """What trusted front ends report about a request; None for what they do not."""

    client: str
    """The address of the client: an IP address, `unix`, `unknown`, or an identifier that a front end made up."""
    scheme: str | None = None
    host: str | None = None
    prefix: str | None = None
    """The path below which the public reaches this server, without a trailing slash; a front end has removed it."""


@lru_cache(maxsize=1024)
def reported(peer: str, values: tuple[str, ...], trusted: TrustedProxies) -> Reported | None:
    """Return what front ends report about a request of a connection from `peer`; None if `peer` is not trusted.

    `values` are those of `HEADERS`, joined by commas where a header is repeated, and empty where it is missing.
    Raises FrontEndHeadersError.
    """
    if not trusted.trusts(peer):
        return None
    for name, value in zip(HEADERS, values, strict=True):
        if len(value) > MAX_LENGTH:
            raise FrontEndHeadersError(f"the header {name} is longer than {MAX_LENGTH} characters")
    addresses, schemes, hosts, prefixes = (_split(value) for value in values[:4])
    elements = _elements(values[4])
    if not elements:
        client, hops = _client(peer, addresses, trusted)
        return Reported(client, _scheme(_at(schemes, hops)), _host(_at(hosts, hops)), plain_prefix(_at(prefixes, hops)))
    client, hops = _client(peer, [element.get("for", UNKNOWN) for element in elements], trusted)
    if addresses and _client(peer, addresses, trusted)[0] != client:
        raise FrontEndHeadersError(
            "the headers Forwarded and X-Forwarded-For name different clients; have the front end of this server "
            "remove the one that it does not set"
        )
    element = elements[-max(hops, 1)]
    scheme, host = (element.get(name) or _at(others, hops) for name, others in (("proto", schemes), ("host", hosts)))
    return Reported(client, _scheme(scheme), _host(host), plain_prefix(_at(prefixes, hops)))


@lru_cache(maxsize=1024)
def is_host(value: str) -> bool:
    """Return whether a `Host` is a name or an address, with or without a port, that can be part of a URL."""
    return _HOST.fullmatch(value) is not None


def normalised_address(text: str) -> str:
    """Return an IP address without port and brackets; IPv4 in IPv6 as IPv4. Other text becomes `unknown`.

    Identifiers that front ends make up (`_name`, RFC 7239, section 6.3) are returned as they are.
    """
    text = text.strip()
    if re.fullmatch(r"_[A-Za-z0-9._-]{1,63}", text):
        return text
    if match := re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::\w+)?|([0-9.]+):\w+", text):
        text = match[1] or match[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return UNKNOWN
    return str(getattr(address, "ipv4_mapped", None) or address)


def plain_prefix(value: str | None) -> str | None:
    """Return a prefix of paths without a slash at its end; None for one that is empty, or that needs encoding."""
    path = (value or "").rstrip("/")
    return path if _PREFIX.fullmatch(path) and not {".", ".."} & set(path.split("/")) else None


def _client(peer: str, addresses: Sequence[str], trusted: TrustedProxies) -> tuple[str, int]:
    """Return the address of the client, and how many front ends have forwarded its request."""
    client, hops = peer, 0
    while hops < len(addresses) and trusted.trusts(client):
        hops += 1
        client = normalised_address(addresses[-hops])
    return client, hops


def _split(value: str) -> list[str]:
    return [item.strip() for item in value.split(",")] if value else []


def _at(values: Sequence[str], hops: int) -> str | None:
    """Return the value that the outermost trusted front end has added, or the only one."""
    return values[-min(max(hops, 1), len(values))] if values else None


def _elements(value: str) -> list[dict[str, str]]:
    """Return the elements of `Forwarded`, with names in lower case; raises FrontEndHeadersError."""
    if not value:
        return []
    elements: list[dict[str, str]] = [{}]
    end = 0
    while end < len(value):
        match = _PAIR.match(value, end)
        if match is None:
            raise FrontEndHeadersError("the header Forwarded is not valid (RFC 7239, section 4)")
        name, text, separator = match.groups()
        if name:
            elements[-1][name.casefold()] = re.sub(r"\\(.)", r"\1", text[1:-1]) if text[0] == '"' else text
        if separator == ",":
            elements.append({})
        end = match.end()
    return elements


def _scheme(value: str | None) -> str | None:
    return value.casefold() if value and value.casefold() in {"http", "https"} else None


def _host(value: str | None) -> str | None:
    return value if value and is_host(value) else None
