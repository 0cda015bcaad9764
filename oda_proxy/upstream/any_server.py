"""Servers that are no dispatchers: a command under record asks them, too."""

from __future__ import annotations

import os
from io import BytesIO
from typing import TYPE_CHECKING, Self

import aiohttp
from yarl import URL

from oda_proxy.errors import OdaProxyError
from oda_proxy.http.headers import end_to_end
from oda_proxy.upstream.dispatcher import MAX_LINE, DispatcherBody, DispatcherReply

if TYPE_CHECKING:
    from types import TracebackType

    from oda_proxy.http.message import Request

CONNECT_PATIENCE, READ_PATIENCE = 30.0, 3600.0
"""Seconds to connect, and between two pieces of an answer; the command has its own patience."""

_AIOHTTP_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""What aiohttp would add by itself."""


class ServerUnreachableError(OdaProxyError):
    """A server cannot be asked."""

    http_status = 502
    word = "unreachable"

    def __init__(self, origin: str, reason: str) -> None:
        super().__init__(f"cannot reach {origin}: {reason}")


class AnyServer:
    """Asks any server. Enter it as an asynchronous context: it holds connections.

    With `through_proxies`, proxies are used that the environment of this process names.
    """

    def __init__(self, *, through_proxies: bool) -> None:
        self._through_proxies = through_proxies

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(
                limit=0, force_close=True
            ),  # a dead connection would fail what is asked once
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=MAX_LINE,
            max_line_size=MAX_LINE,
            skip_auto_headers=_AIOHTTP_HEADERS,
            trust_env=self._through_proxies,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(self, origin: str, request: Request) -> DispatcherReply:
        """Ask the server at `origin` (scheme, host and port) once; redirects are not followed.

        The hop-by-hop headers of the request stay here. Raises ServerUnreachableError where nobody answers.
        """
        query = f"?{request.query_string}" if request.query_string else ""
        held = isinstance(request.body, bytes)
        try:
            response = await self._session.request(
                request.method,
                URL(f"{origin}{request.path}{query}", encoded=True),  # byte for byte what the client sent
                headers=end_to_end(request.headers, without=("host", "expect", *(("content-length",) if held else ()))),
                data=BytesIO(request.body) if isinstance(request.body, bytes) else request.body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_PATIENCE, sock_read=READ_PATIENCE),
            )
        except TimeoutError as error:
            raise ServerUnreachableError(origin, "no answer in time") from error
        except aiohttp.ClientConnectorError as error:
            number = error.os_error.errno or 0  # negative where a name cannot be looked up
            reason = os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
            raise ServerUnreachableError(origin, reason) from error
        except aiohttp.ClientError as error:
            raise ServerUnreachableError(origin, "the connection broke before there was an answer") from error
        return DispatcherReply(response.status, tuple(response.headers.items()), DispatcherBody(origin, response))
