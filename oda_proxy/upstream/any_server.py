"""HTTP client for servers other than the dispatcher, which a recorded command requests from as well."""

from __future__ import annotations

import os
from io import BytesIO
from typing import TYPE_CHECKING, Self

import aiohttp
from yarl import URL

from oda_proxy.errors import OdaProxyError
from oda_proxy.http.headers import end_to_end
from oda_proxy.upstream.dispatcher import MAX_LINE, DispatcherBody, DispatcherReply, connection_failure
from oda_proxy.upstream.environment_proxies import check_proxies, proxy_for
from oda_proxy.upstream.trust import is_untrusted, trusting_context

if TYPE_CHECKING:
    from types import TracebackType

    from oda_proxy.http.message import Request

CONNECT_TIMEOUT, READ_TIMEOUT = 30.0, 3600.0
"""Seconds to connect, and between two chunks of a response; the command applies its own time-outs."""

_AIOHTTP_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add by itself."""


class ServerUnreachableError(OdaProxyError):
    """A server cannot be reached."""

    http_status = 502
    detail = "unreachable"

    def __init__(self, origin: str, reason: str) -> None:
        super().__init__(f"cannot reach {origin}: {reason}")


class AnyServer:
    """Sends requests to any server. Enter it as an asynchronous context: it holds connections.

    With `use_env_proxies`, requests go through the proxies that the environment of this process names; entering then
    raises UnusableProxyError for one that is not supported.
    """

    def __init__(self, *, use_env_proxies: bool) -> None:
        self._use_env_proxies = use_env_proxies
        self._context = trusting_context(os.environ)
        self._untrusted: dict[str, bool] = {}

    async def __aenter__(self) -> Self:
        if self._use_env_proxies:
            check_proxies()
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            # A request that must not be repeated would fail on a stale keep-alive connection.
            connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=self._context),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=MAX_LINE,
            max_line_size=MAX_LINE,
            skip_auto_headers=_AIOHTTP_HEADERS,
            trust_env=False,  # it would send the credentials of ~/.netrc
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def is_untrusted(self, origin: str) -> bool:
        """Return whether the certificate of the server at `origin` is not trusted; from then on it is not checked.

        A program that checks certificates must be refused by whoever calls this.
        """
        if origin not in self._untrusted:
            url = URL(origin)
            proxy = proxy_for(url) if self._use_env_proxies else None
            host, port = url.host or "", url.port or 443
            self._untrusted[origin] = await is_untrusted(host, port, self._context, proxy=proxy)
        return self._untrusted[origin]

    async def send(self, origin: str, request: Request) -> DispatcherReply:
        """Send a request to the server at `origin` (scheme, host and port) once; redirects are not followed.

        Hop-by-hop headers are not forwarded. Raises ServerUnreachableError where the server does not respond.
        """
        query = f"?{request.query_string}" if request.query_string else ""
        url = URL(f"{origin}{request.path}{query}", encoded=True)  # byte for byte as the client sent it
        is_buffered = isinstance(request.body, bytes)
        try:
            response = await self._session.request(
                request.method,
                url,
                headers=end_to_end(
                    request.headers, without=("host", "expect", *(("content-length",) if is_buffered else ()))
                ),
                data=BytesIO(request.body) if isinstance(request.body, bytes) else request.body,
                allow_redirects=False,
                proxy=proxy_for(url) if self._use_env_proxies else None,
                ssl=not self._untrusted.get(origin, False),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT),
            )
        except TimeoutError as error:
            raise ServerUnreachableError(origin, "no response in time") from error
        except aiohttp.ClientConnectorError as error:
            raise ServerUnreachableError(origin, connection_failure(error)) from error
        except aiohttp.ClientHttpProxyError as error:
            raise ServerUnreachableError(origin, f"the proxy of the environment responded {error.status}") from error
        except aiohttp.ClientError as error:
            raise ServerUnreachableError(origin, "the connection broke before a response arrived") from error
        return DispatcherReply(response.status, tuple(response.headers.items()), DispatcherBody(origin, response))
