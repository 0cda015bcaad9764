"""The real dispatcher: the only place that speaks HTTP outward."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Self

import aiohttp
from yarl import URL

from oda_proxy.errors import UpstreamSlowError, UpstreamUnreachableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

    from oda_proxy.http.message import Headers, Request

MAX_LINE = 64 * 1024
"""Bytes in a status line, a header or a redirect's address, which repeats a query with its catalogue."""

CHUNK = 64 * 1024
"""Bytes read at once from a body."""

_AIOHTTP_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""What aiohttp would add by itself: a request goes on with the headers that its client chose."""


class Dispatcher:
    """A dispatcher at an address. Enter it as an asynchronous context: it holds connections."""

    def __init__(self, url: str, *, connect_timeout: float = 30.0, read_timeout: float = 3600.0) -> None:
        """Take the dispatcher's address, and patience in s: to connect, and between two pieces of an answer."""
        self.url = url.rstrip("/")
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout

    async def __aenter__(self) -> Self:
        self._session = _session(aiohttp.TCPConnector(limit=0))
        # A connection that was kept may be dead by now; where a request may not be repeated, that would be its end.
        self._session_for_once = _session(aiohttp.TCPConnector(limit=0, force_close=True), _not_again)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        await self._session_for_once.close()

    async def send(self, request: Request) -> DispatcherReply:
        """Ask once; redirects are not followed.

        Raises UpstreamUnreachableError where nobody answers, UpstreamSlowError where somebody is there and does not
        answer in time.
        """
        query = f"?{request.query_string}" if request.query_string else ""
        url = URL(f"{self.url}{request.path}{query}", encoded=True)  # byte for byte what the client sent
        body = (
            BytesIO(request.body) if isinstance(request.body, bytes) else request.body
        )  # large bytes are sent piece by piece
        # aiohttp's default of 5 minutes for the whole would cut long synchronous jobs.
        timeout = aiohttp.ClientTimeout(
            total=request.timeout, sock_connect=self._time_to_connect(request), sock_read=self._read_timeout
        )
        session = self._session_for_once if request.at_most_once else self._session
        with _named(self.url):
            response = await session.request(
                request.method, url, headers=request.headers, data=body, allow_redirects=False, timeout=timeout
            )
        return DispatcherReply(response.status, tuple(response.headers.items()), DispatcherBody(self.url, response))

    def _time_to_connect(self, request: Request) -> float:
        """Give up connecting, in s, before the asker's patience is over: then somebody was there who was only slow."""
        return self._connect_timeout if request.timeout is None else min(self._connect_timeout, request.timeout / 2)


@dataclass(frozen=True, slots=True)
class DispatcherReply:
    """What a dispatcher answered."""

    status: int
    headers: Headers
    body: DispatcherBody


@dataclass(frozen=True, slots=True)
class DispatcherBody:
    """The body of an answer that is still being read."""

    url: str
    response: aiohttp.ClientResponse

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            with _named(self.url):
                async for chunk in self.response.content.iter_chunked(CHUNK):
                    yield chunk
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Let go of the connection: it is used again where the body was read to its end, and closed elsewhere."""
        self.response.release()


def _session(connector: aiohttp.BaseConnector, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
    """Make a session that passes on what it is given, and adds nothing."""
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),  # one client's cookies are not another's
        max_field_size=MAX_LINE,
        max_line_size=MAX_LINE,
        middlewares=middlewares,
        skip_auto_headers=_AIOHTTP_HEADERS,
        trust_env=True,
    )


async def _not_again(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request a second time.

    Where a connection breaks before the answer, it repeats GET, HEAD, PUT, DELETE, OPTIONS and TRACE: harmless by the
    rules of HTTP, not by the dispatcher's. It does so after two kinds of errors (aiohttp/client.py, 3.14), which become
    another one here.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # nothing was sent, and aiohttp does not repeat it
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(str(error)) from error


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Turn what aiohttp raises into our error, without the query: it may hold a token."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise UpstreamUnreachableError(url, "no connection in time") from error
    except TimeoutError as error:
        raise UpstreamSlowError(url, "no answer in time") from error
    except aiohttp.ClientConnectorError as error:
        raise UpstreamUnreachableError(url, _reason(error.os_error)) from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise UpstreamUnreachableError(url, "this is no address of a dispatcher") from error
    except aiohttp.ClientError as error:
        raise UpstreamUnreachableError(url, "the connection broke before the answer was whole") from error


def _reason(error: OSError) -> str:
    """Say why a connection failed; for some reasons asyncio writes the address, which our message has already."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
