"""Requests to a forward proxy as values: the target of each, and its origin."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from oda_proxy.http.message import Request

_PORTS = {"http": 80, "https": 443}
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Origin:
    """A server: scheme, host in lower case and without brackets, port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{bracketed(self.host)}{port}"


@dataclass(frozen=True, slots=True)
class ForwardedRequest:
    """A request to any server; the path of `request` is the whole path there, with its percent-encoding."""

    origin: Origin
    request: Request

    @property
    def url(self) -> str:
        """The URL with its query, which may hold a token."""
        query = f"?{self.request.query_string}" if self.request.query_string else ""
        return f"{self.origin}{self.request.path}{query}"


class NotForwardedError(OdaProxyError):
    """A request that a forward proxy cannot answer."""

    detail = "not-forwarded"

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


def split_target(target: str, tunnel: Origin | None) -> tuple[Origin, str]:
    """Return the origin of a request target (RFC 9112, 3.2), and the path there with its query.

    `tunnel` is the origin of a connection after CONNECT. Raises NotForwardedError.
    """
    if absolute := _ABSOLUTE.fullmatch(target):
        scheme, authority, path = absolute.groups()
        host, port = _host_and_port(authority, _PORTS[scheme.lower()])
        origin = Origin(scheme.lower(), host, port)
        if tunnel not in {None, origin}:
            raise NotForwardedError(
                f"a request for {origin} came on a connection to {tunnel}", HTTPStatus.MISDIRECTED_REQUEST
            )
        return origin, path if path.startswith("/") else f"/{path}"
    if target.startswith("/") and tunnel is not None:
        return tunnel, target
    raise NotForwardedError("this is a forward proxy: it has no pages, and forwards only http:// and https://")


def connect_target(head: str) -> tuple[str, int]:
    """Return host and port of a CONNECT request. Raises NotForwardedError."""
    match head.split("\r\n", 1)[0].split(" "):
        case ["CONNECT", authority, "HTTP/1.1" | "HTTP/1.0"]:
            return _host_and_port(authority, None)
    raise NotForwardedError("this is not a CONNECT request: write CONNECT host:port HTTP/1.1")


def bracketed(host: str) -> str:
    """Return a host as it is written in a URL."""
    return f"[{host}]" if ":" in host else host


_HOST = re.compile(r"[A-Za-z0-9._-]+")
_PORT = re.compile(r":([0-9]{1,5})$", re.ASCII)
_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)(.*)", re.ASCII | re.DOTALL | re.IGNORECASE)


def _host_and_port(authority: str, default: int | None) -> tuple[str, int]:
    """Return a host, without its brackets and in lower case, and a port. Raises NotForwardedError.

    Some versions of Python's http.client omit the brackets around an IPv6 address.
    """
    found = _PORT.search(authority)
    host = authority[: found.start()] if found else authority
    port = int(found[1]) if found else default
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if port is None or not 0 < port <= _MAX_PORT or not (_is_ipv6(bare) if ":" in bare else _HOST.fullmatch(host)):
        raise NotForwardedError(f"{authority[:80]!r} is not the address of a server: write host:port")
    return bare.lower(), port


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return "%" not in host  # the name of an interface
