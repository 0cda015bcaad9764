"""Client of the HTTP API of a running proxy, for commands (docs/api.md)."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from yarl import URL

from oda_proxy.commands.output import warn
from oda_proxy.errors import OdaProxyError
from oda_proxy.files.secret_file import read_secret
from oda_proxy.http.loopback import is_loopback
from oda_proxy.query.message_text import printable
from oda_proxy.upstream.dispatcher import connection_failure
from oda_proxy.upstream.environment_proxies import proxy_for
from oda_proxy.upstream.trust import trusting_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

TIMEOUT: Final = 600.0
"""Seconds for a response: a filter may select many recordings, and a capsule may be large."""
CONNECT_TIMEOUT: Final = 30.0
MAX_SIZE: Final = 256 * 1024 * 1024
"""Bytes of a response."""
MAX_PROBLEM: Final = 64 * 1024
"""Bytes of an error that are read."""
_LONGEST: Final = 1000
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_OK: Final = 300
"""First status that is no success."""


class ProxyError(OdaProxyError):
    """The proxy cannot be reached, or refuses."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running proxy, the token to send, and how to name its address in messages."""

    url: str
    token: str | None = field(default=None, repr=False)
    option: str = "--server"

    @classmethod
    def pop(cls, values: dict[str, Any]) -> Server | None:
        """Take the values of `config.options.REMOTE` out of those of a command; None without a server.

        Raises UsageError for a file with a token that cannot be read.
        """
        url, admin, file, read = (
            values.pop(name) for name in ("server", "admin_token", "admin_token_file", "read_token")
        )
        return None if url is None else cls(url, token_of(admin, file) or read)


def token_of(admin_token: str | None, admin_token_file: Path | None) -> str | None:
    """Return the token of the administrator: that in the file, if one is named. Raises UsageError."""
    return admin_token if admin_token_file is None else read_secret(admin_token_file, "--admin-token-file")


class ProxyApi:
    """Sends requests to a proxy."""

    def __init__(self, server: Server, session: aiohttp.ClientSession) -> None:
        self.url = server.url
        self._option = server.option
        self._session = session

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Any:
        """Send a request for a path of the proxy, and return the JSON of the response. Raises ProxyError."""
        content = await self._exchange(method, path, query=query, headers=headers, body=body)
        try:
            return json.loads(content)
        except ValueError:
            raise self._no_proxy("the response is not JSON") from None

    async def fetch(self, path: str) -> bytes:
        """Return the content of a file of the proxy. Raises ProxyError."""
        return await self._exchange("GET", path)

    async def _exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> bytes:
        url = URL(f"{self.url}{path}")
        try:
            async with self._session.request(
                method,
                url.with_query(query) if query else url,
                headers=headers,
                data=body,
                allow_redirects=False,  # the token is for this server alone
                proxy=proxy_for(url),
            ) as response:
                if not response.headers.get("Cache-Status", "").startswith("oda-proxy"):
                    raise self._no_proxy("another program does")
                if response.status >= _OK:
                    raise ProxyError(self._refusal(response, await response.content.read(MAX_PROBLEM)))
                return await self._content(response)
        except aiohttp.ClientConnectorError as error:
            raise self._no_proxy(connection_failure(error)) from None
        except aiohttp.ClientError as error:
            raise self._no_proxy(str(error) or type(error).__name__) from None
        except TimeoutError:
            raise self._no_proxy("no response in time") from None

    async def _content(self, response: aiohttp.ClientResponse) -> bytes:
        pieces, size = [], 0
        async for piece in response.content.iter_chunked(2**16):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_SIZE:
                raise ProxyError(f"the response of {self.url} has more than {MAX_SIZE} bytes")
        return b"".join(pieces)

    def _refusal(self, response: aiohttp.ClientResponse, body: bytes) -> str:
        """Return what a response with an error says: the `detail` of a problem (RFC 9457), or else its text."""
        if location := response.headers.get("Location"):
            return printable(f"{self.url} redirects to {location:.200}: name that address with {self._option}")
        text = body.decode("utf-8", "replace").strip()
        try:
            problem = json.loads(text)
        except ValueError:
            problem = {}
        detail = str(problem.get("detail", "")) if isinstance(problem, dict) else ""
        if not detail:
            detail = f"{self.url} responds {response.status}: {text or response.reason or 'nothing'}"
        if response.status in {_UNAUTHORIZED, _FORBIDDEN}:
            detail += "; commands send the token in ODA_PROXY_ADMIN_TOKEN, or in --admin-token-file FILE"
        return printable(detail[:_LONGEST])

    def _no_proxy(self, reason: str) -> ProxyError:
        return ProxyError(
            f"no oda-proxy answers at {self.url}: {printable(reason)}; name its address with {self._option}"
        )


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[ProxyApi]:
    """Yield the client of a proxy. Its token is sent with each request."""
    url = URL(server.url)
    if server.token and url.scheme == "http" and not is_loopback(url.host or ""):
        warn(f"the token is sent to {server.url} without encryption; use https")
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trusting_context(os.environ)),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Authorization": f"Bearer {server.token}"} if server.token else None,
        timeout=aiohttp.ClientTimeout(total=TIMEOUT, sock_connect=CONNECT_TIMEOUT),
        trust_env=False,  # ~/.netrc has other credentials
    ) as session:
        yield ProxyApi(server, session)


def send_one(server: Server, method: str, path: str, *, headers: Mapping[str, str] | None = None) -> Any:
    """Send one request to a proxy, and return the JSON of the response. Raises ProxyError."""

    async def send() -> Any:
        async with connected(server) as api:
            return await api.send(method, path, headers=headers)

    return asyncio.run(send())
