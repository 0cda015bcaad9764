"""HTTP client for the dispatcher."""

from __future__ import annotations

import errno
import logging
import os
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Self

import aiohttp
from yarl import URL

from oda_proxy.errors import LocalLimitError, RequestIncompleteError, UpstreamSlowError, UpstreamUnreachableError
from oda_proxy.http.decoding import decoded, must_be_decoded
from oda_proxy.http.request_body import RequestBody
from oda_proxy.upstream.environment_proxies import proxy_for
from oda_proxy.upstream.moved import MAX_MOVES, UpstreamMovedError, may_follow, new_address
from oda_proxy.upstream.trust import trusting_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

    from oda_proxy.http.message import Body, Headers, Request

_log = logging.getLogger(__name__)

MAX_LINE = 64 * 1024
"""Bytes of a status line or header at most: the Location of a redirect repeats a query with its catalogue."""

CHUNK_SIZE = 64 * 1024
"""Bytes of a chunk of a body at most."""

_LOCAL_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors of a connection that this process or machine cannot open: of files, memory and ports."""
_AIOHTTP_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add by itself: a request is forwarded with the headers of its client."""


class Dispatcher:
    """Sends requests to a dispatcher. Enter it as an asynchronous context: it holds connections."""

    def __init__(
        self, url: str, *, connect_timeout: float = 30.0, read_timeout: float = 3600.0, verify: bool = True
    ) -> None:
        """Take the URL, and time-outs in s: to connect, and between two chunks of a response.

        The certificate is checked if `verify`, against those that the environment of this process trusts.
        """
        self.url = url.rstrip("/")
        self._verify = verify
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._moves: set[str] = set()

    async def __aenter__(self) -> Self:
        """Open the sessions. Raises UnusableProxyError for a proxy of the environment that is not supported."""
        proxy_for(URL(self.url))
        tls = trusting_context(os.environ) if self._verify else False
        self._session = _session(aiohttp.TCPConnector(limit=0, ssl=tls))
        # A stale keep-alive connection would fail a request that must not be repeated.
        self._at_most_once_session = _session(aiohttp.TCPConnector(limit=0, force_close=True, ssl=tls), _prevent_retry)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        await self._at_most_once_session.close()

    async def send(self, request: Request) -> DispatcherReply:
        """Send a request once; of redirects, only those of a dispatcher that has moved are followed, for reads.

        Raises UpstreamUnreachableError where there is no connection, UpstreamSlowError where there is one, and no
        response in time, UpstreamMovedError where a request must not be sent to the new address, and
        RequestIncompleteError where the body of the request cannot be read to its end.

        A body that the dispatcher compresses although the request accepts no coding is decoded.
        """
        url, moves = self.url, 0
        while True:
            reply = await self._send_to(url, request)
            new_url = new_address(reply.status, reply.headers, request, url)
            if new_url is None:
                return self._decoded(reply) if must_be_decoded(request, reply.status) else reply
            await reply.body.aclose()
            self._warn_of_move(new_url)
            if moves == MAX_MOVES or not may_follow(request, url, new_url):
                raise UpstreamMovedError(self.url, new_url)
            url, moves = new_url, moves + 1

    def _decoded(self, reply: DispatcherReply) -> DispatcherReply:
        headers, body = decoded(reply.headers, reply.body, self.url)
        return DispatcherReply(reply.status, headers, body)

    def _warn_of_move(self, new_url: str) -> None:
        """Log a new address once."""
        if new_url not in self._moves and len(self._moves) < MAX_MOVES:
            self._moves.add(new_url)
            _log.warning(
                "the dispatcher %s has moved to %.200s: start the proxy with that --upstream", self.url, new_url
            )

    async def _send_to(self, base: str, request: Request) -> DispatcherReply:
        query = f"?{request.query_string}" if request.query_string else ""
        url = URL(f"{base}{request.path}{query}", encoded=True)  # byte for byte as the client sent it
        # aiohttp sends a file in chunks, and large bytes in one piece.
        body: BytesIO | RequestBody | None
        if isinstance(request.body, bytes):
            body = BytesIO(request.body)
        else:
            body = None if request.body is None else RequestBody(request.body)
        # aiohttp's default total of 5 minutes would cut long synchronous jobs.
        timeout = aiohttp.ClientTimeout(
            total=request.timeout, sock_connect=self._time_to_connect(request), sock_read=self._read_timeout
        )
        session = self._at_most_once_session if request.at_most_once else self._session
        try:
            with _translated_errors(self.url):
                response = await session.request(
                    request.method,
                    url,
                    headers=request.headers,
                    data=body,
                    allow_redirects=False,
                    timeout=timeout,
                    proxy=proxy_for(url),
                )
        except UpstreamUnreachableError as error:
            if isinstance(body, RequestBody) and body.has_failed:
                raise RequestIncompleteError from error  # it was not the dispatcher that failed
            raise
        return DispatcherReply(response.status, tuple(response.headers.items()), DispatcherBody(self.url, response))

    def _time_to_connect(self, request: Request) -> float:
        """Return the time-out to connect, in s: less than that of the request, so that the two can be told apart."""
        return self._connect_timeout if request.timeout is None else min(self._connect_timeout, request.timeout / 2)


@dataclass(frozen=True, slots=True)
class DispatcherReply:
    """The response of a dispatcher."""

    status: int
    headers: Headers
    body: Body


@dataclass(frozen=True, slots=True)
class DispatcherBody:
    """The body of a response, which is still being received."""

    url: str
    response: aiohttp.ClientResponse

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            with _translated_errors(self.url):
                async for chunk in self.response.content.iter_chunked(CHUNK_SIZE):
                    yield chunk
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Release the connection: it is reused where the body was read to its end, and closed otherwise."""
        self.response.release()


def _session(connector: aiohttp.BaseConnector, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
    """Return a session that adds no headers, cookies or decoding of its own."""
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),  # cookies of one client must not reach another
        max_field_size=MAX_LINE,
        max_line_size=MAX_LINE,
        middlewares=middlewares,
        skip_auto_headers=_AIOHTTP_HEADERS,
        trust_env=False,  # it would send the credentials of ~/.netrc with the requests of all clients
    )


async def _prevent_retry(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Prevent aiohttp from sending a request a second time.

    Where a connection breaks before the response, aiohttp repeats GET, HEAD, PUT, DELETE, OPTIONS and TRACE (RFC 9110,
    section 9.2.2); the dispatcher's GET begins jobs. It does so after two types of errors (aiohttp/client.py, 3.14),
    which are replaced by another here.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # nothing was sent, and aiohttp does not retry
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(str(error)) from error


@contextmanager
def _translated_errors(url: str) -> Iterator[None]:
    """Raise our errors for those of aiohttp, without the query string: it may hold a token."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise UpstreamUnreachableError(url, "no connection in time") from error
    except TimeoutError as error:
        raise UpstreamSlowError(url, "no response in time") from error
    except aiohttp.ClientConnectorError as error:
        kind = LocalLimitError if error.os_error.errno in _LOCAL_LIMITS else UpstreamUnreachableError
        raise kind(url, connection_failure(error)) from error
    except aiohttp.ClientHttpProxyError as error:
        raise UpstreamUnreachableError(url, f"the proxy of the environment responded {error.status}") from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise UpstreamUnreachableError(url, "this is not the URL of a dispatcher") from error
    except aiohttp.ClientError as error:
        raise UpstreamUnreachableError(url, "the connection broke before the response was complete") from error


def _verification(error: Exception) -> str:
    return error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)


def connection_failure(error: aiohttp.ClientConnectorError) -> str:
    """Return the reason of a failed connection, without the address, which asyncio adds for some errors."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted ({_verification(error.certificate_error)})"
    cause = error.os_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({_verification(cause)})"
    if isinstance(cause, ssl.SSLError):
        reason = (cause.reason or "unknown error").replace("_", " ").lower()
        return f"no TLS connection ({reason}): it may only speak http"
    # negative where a name cannot be resolved
    reason = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror or str(cause)
    is_of_proxy = isinstance(error, aiohttp.ClientProxyConnectionError)
    return f"the proxy of the environment, {error.host} port {error.port}: {reason}" if is_of_proxy else reason
