"""A forward proxy's listener: whatever a program asks, wherever it wants to ask it, becomes one call of a handler.

A program that is told to use a proxy sends it `GET http://host/path`, or for TLS first `CONNECT host:443`. The first
bytes of a connection are looked at while they are still in the socket, so that whoever reads it next finds it whole:
aiohttp, aiohttp behind TLS that ends here, or, for a server on this machine that is passed through, that server.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http import HttpVersion11

from oda_proxy.answer import refusal
from oda_proxy.errors import ListenError, OdaProxyError
from oda_proxy.web.messages import MAX_FORM, read, send
from oda_proxy.web.server import MAX_LINE, reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from oda_proxy.answer import Answer
    from oda_proxy.authority import Authority
    from oda_proxy.upstream.base import Ask

_log = logging.getLogger(__name__)

MAX_CONNECT = 16 * 1024
"""Bytes of a CONNECT request with its headers; a name has up to 253."""

CONNECT_PATIENCE = 30.0
"""Seconds that a program has for its first bytes, a CONNECT request, and to agree on TLS."""

IDLE = 75.0
"""Seconds after which a connection on which nothing is asked ends."""

_PORTS = {"http": 80, "https": 443}
_PIECE = 64 * 1024


# -- what is asked, and where ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """A server that a program names: its scheme, its host in lower case and without brackets, its port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to any server; the path of `ask` is the whole path there, encoded as it was sent."""

    origin: Origin
    ask: Ask

    @property
    def url(self) -> str:
        """The address, with the query: it may hold a token."""
        query = f"?{self.ask.query_string}" if self.ask.query_string else ""
        return f"{self.origin}{self.ask.path}{query}"


Handler = "Callable[[Asked], Awaitable[Answer]]"
"""Answers a request; an OdaProxyError that it raises is told in plain text."""


def is_loopback(host: str) -> bool:
    """Tell whether a host, as a program names it, is this machine, without looking anything up."""
    return bool(_addresses_here(host))


def environment(proxy_url: str, bundle: Path) -> dict[str, str | None]:
    """Give the variables by which programs use the proxy and trust the bundle; None takes a variable away."""
    told: dict[str, str | None] = dict.fromkeys(_NEVER)
    told |= dict.fromkeys(_PROXIES, proxy_url)
    told |= dict.fromkeys(_BUNDLES, str(bundle))
    return told | {"NODE_USE_ENV_PROXY": "1"}


_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_BUNDLES = (
    "AWS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)
_NEVER = ("ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_DIR", "GIT_SSL_CAPATH")


# -- listening -------------------------------------------------------------------------------------


@asynccontextmanager
async def forwarding(
    handler: Callable[[Asked], Awaitable[Answer]],
    authority: Authority,
    *,
    is_passed_through: Callable[[str, int], bool] = lambda _host, _port: False,
    host: str = "127.0.0.1",
    port: int = 0,
    shutdown_timeout: float = 1.0,
) -> AsyncIterator[str]:
    """Listen, give every request to `handler`, and give the proxy's address; port 0 takes a free one.

    A CONNECT to a server on this machine is passed through untouched where `is_passed_through(host, port)` says so; no
    other connection is ever opened. `shutdown_timeout` is how long, in s, answers under way may take after the end.
    Raises ListenError.
    """
    raise NotImplementedError
    yield ""
