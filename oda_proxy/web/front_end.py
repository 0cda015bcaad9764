"""The address of this server as its clients know it, and the addresses of its clients, behind front ends or not."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from aiohttp import web

from oda_proxy.http.front_end_headers import (
    HEADERS,
    UNIX,
    UNKNOWN,
    FrontEndHeadersError,
    Reported,
    TrustedProxies,
    is_host,
    normalised_address,
    reported,
)
from oda_proxy.http.loopback import is_loopback
from oda_proxy.web.request_log import HEADER, well_formed

if TYPE_CHECKING:
    import asyncio


class Addresses(Protocol):
    """Says where a request was sent to, and where from."""

    @property
    def mount(self) -> str:
        """The prefix of one of several upstreams of this server, for the log; empty for the only one."""

    def public_url(self, incoming: web.BaseRequest) -> str:
        """Return the URL of this server for the client, with the prefix of the deployment, without a slash at its end.

        Links, `Location` and `api_code` begin with it.
        """

    def client_address(self, incoming: web.BaseRequest) -> str:
        """Return the address of the client: an IP address, `unix`, `unknown` or an identifier of RFC 7239.

        It is that of this machine only for clients on it: one that a front end on this machine forwards, of which this
        server does not know, is `unknown`.
        """

    def is_remote(self, incoming: web.BaseRequest) -> bool:
        """Return whether the client is on another machine."""

    def target(self, incoming: web.BaseRequest) -> str:
        """Return the encoded path of a request, without the prefix of the deployment, with its query string."""

    def error(self, incoming: web.BaseRequest) -> FrontEndHeadersError | None:
        """Return why the headers of front ends, or `Host`, cannot be read, or None."""

    def request_id(self, incoming: web.BaseRequest) -> str | None:
        """Return the id that a front end has given a request; None where it has none, or is not trusted."""


class FrontEnd:
    """What front ends and the connection report; `url` overrides what they report about the address of this server.

    Headers are read from `trusted` front ends alone.
    """

    mount = ""

    def __init__(self, url: str | None = None, trusted: TrustedProxies | None = None) -> None:
        self._url = url
        self._trusted = trusted or None
        self._prefix = urlsplit(url).path if url else ""

    def public_url(self, incoming: web.BaseRequest) -> str:
        """Return the URL of this server for the client, as `Addresses.public_url` does."""
        if self._url is not None:
            return self._url
        if self._trusted is None or (reports := self._reported(incoming)) is None:
            return f"{incoming.scheme}://{incoming.host}"
        return f"{reports.scheme or incoming.scheme}://{reports.host or incoming.host}{reports.prefix or ''}"

    def client_address(self, incoming: web.BaseRequest) -> str:
        """Return the address of the client, as `Addresses.client_address` does."""
        if self._trusted is None or (reports := self._reported(incoming)) is None:
            return _direct_client(incoming)
        return reports.client

    def is_remote(self, incoming: web.BaseRequest) -> bool:
        """Return whether the client is on another machine."""
        if self._trusted is None or (reports := self._reported(incoming)) is None:
            return _is_remote(incoming.transport)
        return reports.client != UNIX and not is_loopback(reports.client)

    def target(self, incoming: web.BaseRequest) -> str:
        """Return the path of a request without the prefix, which front ends may remove or leave there."""
        path = incoming.raw_path
        prefix = self._prefix
        if self._url is None and self._trusted is not None and (reports := self._reported(incoming)):
            prefix = reports.prefix or ""
        return path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path

    def error(self, incoming: web.BaseRequest) -> FrontEndHeadersError | None:
        """Return why the headers of front ends, or `Host`, cannot be read, or None."""
        if (host := incoming.headers.get("Host")) and not is_host(host):
            return FrontEndHeadersError(f"the Host {host[:200]!r} is no name or address, with or without a port")
        if self._trusted is not None:
            try:
                self._reported(incoming)
            except FrontEndHeadersError as error:
                return error
        return None

    def request_id(self, incoming: web.BaseRequest) -> str | None:
        """Return the id that a trusted front end has given a request, if it is well-formed; else None."""
        if self._trusted is None or not self._trusted.trusts(_peer(incoming)):
            return None
        return well_formed(incoming.headers.get(HEADER, ""))

    def _reported(self, incoming: web.BaseRequest) -> Reported | None:
        """Return what front ends report about a request, which is read once; raises FrontEndHeadersError."""
        known = incoming.get(_REPORTED)
        if known is None:
            headers = incoming.headers
            values = tuple(",".join(headers.getall(name, ())) for name in HEADERS)
            incoming[_REPORTED] = known = (reported(_peer(incoming), values, self._trusted or TrustedProxies()),)
        return known[0]


_REPORTED: Final = web.RequestKey("reported by front ends", tuple)

DIRECT: Final[Addresses] = FrontEnd()
"""Clients connect to this server without a front end."""

_FORWARDED: Final = ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Proto")
"""Headers that front ends add, and no client of this server."""

ADDRESSES: Final = web.AppKey[Addresses]("addresses")
"""How the handlers of an application learn where a request was sent to, and where from."""


def public_url(request: web.Request) -> str:
    """Return the URL of this server for the client of a request: `Addresses.public_url`."""
    return request.app[ADDRESSES].public_url(request)


def client_address(request: web.Request) -> str:
    """Return the address of the client of a request: `Addresses.client_address`."""
    return request.app[ADDRESSES].client_address(request)


def _peer(incoming: web.BaseRequest) -> str:
    """Return the address from which the connection of a request comes."""
    return _connection_from(incoming.remote)[0]


@lru_cache(maxsize=1024)
def _connection_from(peer: str | None) -> tuple[str, bool]:
    """Return the address of a connection, and whether it is one of this machine."""
    if not peer:
        return UNIX, True
    address = normalised_address(peer.partition("%")[0])  # without the interface that some systems append
    return address, is_loopback(address)


def _direct_client(incoming: web.BaseRequest) -> str:
    """Return the address of a client whose connection does not come from a trusted front end."""
    address, is_of_this_machine = _connection_from(incoming.remote)
    if is_of_this_machine:
        headers = incoming.headers
        for name in _FORWARDED:
            if name in headers:
                return UNKNOWN
    return address


def _is_remote(transport: asyncio.BaseTransport | None) -> bool:
    """Return whether a connection comes from another machine."""
    if transport is None:
        return False
    peer, own = (transport.get_extra_info(name) for name in ("peername", "sockname"))
    if not isinstance(peer, tuple) or not isinstance(own, tuple):  # a Unix socket, or the connection is closed
        return False
    return peer[0] != own[0] and not is_loopback(peer[0].removeprefix("::ffff:"))
