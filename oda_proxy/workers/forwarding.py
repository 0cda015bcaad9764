"""Requests that one worker forwards to another, over sockets that only this user can open.

The leader answers a forwarded request as if the client had sent it there. Where it ends before it has answered, the
request is sent to the next leader, if sending it twice does no harm.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
from yarl import URL

from oda_proxy.errors import OdaProxyError, RequestIncompleteError, UpstreamUnreachableError
from oda_proxy.http import headers
from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus, read_cache_status
from oda_proxy.http.front_end_headers import UNKNOWN
from oda_proxy.http.request_body import RequestBody
from oda_proxy.web.request_log import HEADER
from oda_proxy.web.server import MAX_LINE
from oda_proxy.workers.socket_folder import socket_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import TracebackType

    from aiohttp import web

    from oda_proxy.http.message import Headers, Reply, Request, Upstream
    from oda_proxy.workers.membership import Membership

PATIENCE: Final = 60.0
"""Seconds that a request waits for a leader: longer than a worker needs to start."""
RETRY: Final = 0.1
"""Seconds between two attempts."""
OTHERS_TIMEOUT: Final = 5.0
"""Seconds for what another worker says of itself."""

NOT_LEADER: Final = "Oda-Proxy-Not-Leader"
"""Header of the response of a worker that does not lead: it was restarted, and another one leads by now."""
REMOTE: Final = "Oda-Proxy-Remote"
"""Header of a forwarded request that was received from another machine."""
BASE_URL: Final = "Oda-Proxy-Base-Url"
"""Header of a forwarded request: the URL of the server as the client knows it."""
CLIENT: Final = "Oda-Proxy-Client"
"""Header of a forwarded request: the address of its client."""
REQUEST_ID: Final = "Oda-Proxy-Request-Id"
"""Header of a forwarded request: the id under which the log has it."""
_MARKS: Final = frozenset({REQUEST_ID.casefold(), REMOTE.casefold(), BASE_URL.casefold(), CLIENT.casefold()})
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class LeaderEndedError(OdaProxyError):
    """The leader ended while it answered a request."""

    http_status = 502
    detail = "worker-ended"

    def __init__(self) -> None:
        super().__init__("the process of the proxy that answered this request has ended; send the request again")


class NoLeaderError(OdaProxyError):
    """No worker leads: the server is stopping, or workers do not start."""

    http_status = 503
    detail = "no-leader"

    def __init__(self) -> None:
        super().__init__("the proxy is stopping, or its processes do not start; its log says which")


class Forwarder:
    """Sends requests to other workers. Enter it as an asynchronous context: it holds connections."""

    def __init__(self, folder: Path, membership: Membership) -> None:
        self._folder = folder
        self._membership = membership
        self._sessions: dict[int, aiohttp.ClientSession] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def send(self, request: Request, *, base_url: str = "") -> Answer:
        """Return the leader's answer to a request, its body unread; raises as `respond`."""
        return _answer(await self.respond(request, base_url=base_url))

    async def respond(self, request: Request, *, base_url: str = "") -> aiohttp.ClientResponse:
        """Return the leader's response to a request, its body unread; `base_url` is the server's for the client.

        A worker that has become the leader meanwhile sends it to itself. Raises NoLeaderError, LeaderEndedError where
        the request must not be sent twice, and RequestIncompleteError where its body cannot be read to its end.
        """
        until = time.monotonic() + PATIENCE
        while True:
            if (leader := self._membership.roles.leader) is not None:
                try:
                    response = await self._send_to(leader, request, base_url)
                except aiohttp.ClientConnectorError:
                    pass  # nothing was sent: the leader has ended, and this worker has not been told yet
                except aiohttp.ClientError as error:
                    if not may_repeat(request):
                        raise LeaderEndedError from error
                    until = time.monotonic() + PATIENCE  # the leader has had it for a while: it hung, or held a poll
                else:
                    if NOT_LEADER not in response.headers:
                        return response
                    response.close()
                    if not _is_buffered(request):
                        raise LeaderEndedError
            if self._membership.closing or time.monotonic() >= until:
                raise NoLeaderError
            await asyncio.sleep(RETRY)

    async def page(self, number: int, path: str, *, method: str = "GET") -> Any:
        """Return the JSON of a page of another worker, or None where it does not answer."""
        try:
            async with (
                asyncio.timeout(OTHERS_TIMEOUT),
                (await self._session(number)).request(method, URL(f"http://worker{path}", encoded=True)) as response,
            ):
                return await response.json() if response.ok else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    async def _send_to(self, number: int, request: Request, base_url: str) -> aiohttp.ClientResponse:
        length = ("content-length",) if isinstance(request.body, bytes) else ()
        without = ("expect", *_MARKS, *length)
        remote = "yes" if request.is_remote else ""
        request_id = request.notes.request_id if request.notes else ""
        marks = ((REMOTE, remote), (BASE_URL, base_url), (CLIENT, request.client_address), (REQUEST_ID, request_id))
        path = request.path if request.path.startswith("/") else f"/{request.path}"
        # Byte for byte as the client sent it: URL(...) would cut a `#` off.
        url = URL.build(scheme="http", host="worker", path=path, query_string=request.query_string, encoded=True)
        body = request.body
        if body is not None and not isinstance(body, bytes):
            body = RequestBody(body)
        try:
            return await (await self._session(number)).request(
                request.method,
                url,
                headers=(
                    *headers.without_hop_by_hop(request.headers, without=without),
                    *((name, value) for name, value in marks if value),
                ),
                data=body or None,
                allow_redirects=False,
            )
        except aiohttp.ClientError as error:
            if isinstance(body, RequestBody) and body.has_failed:
                raise RequestIncompleteError from error
            raise

    async def _session(self, number: int) -> aiohttp.ClientSession:
        """Return the session for a worker; each request has a connection of its own, which cannot be stale."""
        if number not in self._sessions:
            path = str(socket_of(self._folder, number))
            self._sessions[number] = await self._stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(path, limit=0, force_close=True),
                    auto_decompress=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    max_line_size=MAX_LINE,
                    max_field_size=MAX_LINE,
                    skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                    timeout=aiohttp.ClientTimeout(total=None),
                )
            )
        return self._sessions[number]


def _answer(response: aiohttp.ClientResponse) -> Answer:
    """Return the response of another worker; its last `Cache-Status` is that of the proxy."""
    fields = list(headers.without_hop_by_hop(tuple(response.headers.items()), without=(HEADER,)))
    status = CacheStatus()
    for at in reversed(range(len(fields))):
        if fields[at][0].casefold() == "cache-status":
            status = read_cache_status(fields.pop(at)[1])
            break
    return Answer(response.status, tuple(fields), _ForwardedBody(response, LeaderEndedError()), status)


def received(request: Request) -> Request:
    """Return a forwarded request as the other worker received it."""
    return replace(request, headers=tuple(field for field in request.headers if field[0].casefold() not in _MARKS))


class ForwardedAddresses:
    """Where forwarded requests were sent to, and where from, as the worker reports that received them."""

    mount = ""

    def public_url(self, incoming: web.BaseRequest) -> str:
        """Return the URL of the server as the client knows it."""
        return incoming.headers.get(BASE_URL) or f"{incoming.scheme}://{incoming.host}"

    def client_address(self, incoming: web.BaseRequest) -> str:
        """Return the address of the client."""
        return incoming.headers.get(CLIENT, UNKNOWN)

    def is_remote(self, incoming: web.BaseRequest) -> bool:
        """Return whether the client is on another machine."""
        return REMOTE in incoming.headers

    def target(self, incoming: web.BaseRequest) -> str:
        """Return the path of a request, from which the other worker has removed the prefix of the deployment."""
        return incoming.raw_path

    def request_id(self, incoming: web.BaseRequest) -> str | None:
        """Return the id that the other worker has given a request."""
        return incoming.headers.get(REQUEST_ID)

    def error(self, _: web.BaseRequest) -> None:
        """Return None: the other worker has refused requests whose headers it cannot read."""


def may_repeat(request: Request) -> bool:
    """Return whether a request may be sent once more: it only reads, or asks for a job, of which there is one."""
    return _is_buffered(request) and (request.method in _SAFE or request.path.endswith("/run_analysis"))


def _is_buffered(request: Request) -> bool:
    """Return whether the body of a request can be sent once more."""
    return request.body is None or isinstance(request.body, bytes)


@dataclass(frozen=True, slots=True)
class _ForwardedBody:
    """The body of the response of another worker; `error` is raised where it is incomplete."""

    response: aiohttp.ClientResponse
    error: OdaProxyError

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self.response.content.iter_any():
                yield chunk
        except aiohttp.ClientError as error:
            raise self.error from error
        finally:
            self.response.close()

    async def aclose(self) -> None:
        """Close the connection, whether or not the body was read."""
        self.response.close()


class UpstreamOfLeader:
    """The dispatcher, as a worker reads descriptions of instruments from it: through the leader."""

    def __init__(self, upstream: Upstream, forwarder: Forwarder, membership: Membership) -> None:
        self.url = upstream.url
        self._upstream = upstream
        self._forwarder = forwarder
        self._membership = membership

    async def send(self, request: Request) -> Reply:
        """Send a request, which only reads; raises UpstreamUnreachableError where no worker leads."""
        if self._membership.leads:
            return await self._upstream.send(request)
        try:
            response = await self._forwarder.respond(request)
        except OdaProxyError as error:
            raise UpstreamUnreachableError(self.url, str(error)) from error
        body = _ForwardedBody(response, UpstreamUnreachableError(self.url, str(LeaderEndedError())))
        return _Reply(response.status, _answer(response).headers, body)


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Headers
    body: _ForwardedBody
