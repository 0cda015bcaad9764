"""A connection of a client: requests that were sent before, but for their session, are answered as they are received.

All others take the way of aiohttp, and so do all requests of a connection after one that was not received in one piece.
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from oda_proxy.errors import InternalError
from oda_proxy.web.log_formats import RequestRecord
from oda_proxy.web.repeated_requests import MAX_RESPONSE, FirstResponse, candidate_of, is_only_session
from oda_proxy.web.request_log import HEADER
from oda_proxy.web.whole_response import SMALL, WholeResponse, head_template

if TYPE_CHECKING:
    import asyncio

    from oda_proxy.http.answer import Answer
    from oda_proxy.web.repeated_requests import Account, Candidate, Origin, RepeatedRequests

_log = logging.getLogger(__name__)

_END: Final = b"\r\n\r\n"
_WITH_MORE: Final = re.compile(rb"[\r\n](?:content-length|transfer-encoding|upgrade|expect)[ \t]*:", re.IGNORECASE)
"""Headers of a request after which more is to come."""

_INTERNAL: Final = frozenset(
    {
        *("_close", "_force_close", "_keepalive_timeout", "_loop", "_manager", "_messages"),
        *("_next_keepalive_close_time", "_paused", "_request_count", "_waiter"),
    }
)
"""Attributes of aiohttp's connections that are not part of its interface, and are needed here."""


def can_repeat() -> bool:
    """Return whether the connections of this release of aiohttp have what is needed to repeat responses."""
    return {name for kind in web.RequestHandler.__mro__ for name in getattr(kind, "__slots__", ())} >= _INTERNAL


class Connection(web.RequestHandler):
    """A connection of aiohttp that repeats responses while nothing else is under way on it."""

    __slots__ = ("_candidate", "_is_whole", "_origin", "_repeated")

    def __init__(self, server: web.Server, repeated: RepeatedRequests, **options: Any) -> None:
        super().__init__(server, **options)
        self._repeated = repeated
        self._is_whole = True
        """Whether each request so far was received in one piece, without a body: the parser holds none of the next."""
        self._candidate: Candidate | None = None
        """The request that is being answered, if it may be repeated."""
        self._origin: Origin | None = None

    def data_received(self, data: bytes) -> None:
        """Answer a request that was sent before, or pass what was received on to aiohttp."""
        self._candidate = None
        if self._is_whole:
            waiter = self._waiter
            if waiter is not None and not waiter.done() and data.startswith(b"GET "):
                candidate = candidate_of(self._origin or self._read_origin(), data)
                if candidate and self._answer(candidate):
                    return
                self._candidate = candidate
            self._is_whole = _is_whole_request(data)
        super().data_received(data)

    def note(self, request: web.BaseRequest, answer: Answer, response: web.StreamResponse, account: Account) -> None:
        """Memoise the response to the request that was just answered, if it may be repeated.

        `account` is what was logged of it, and where it was. A request that was sent with an id is not repeated: it may
        keep that.
        """
        candidate, self._candidate = self._candidate, None
        if candidate is None or answer.repeatable is None or not self._is_whole or self._messages:
            return
        if HEADER in request.headers:
            return
        if not isinstance(response, WholeResponse) or not response.keep_alive or response.body_length > MAX_RESPONSE:
            return
        if not self._repeated.is_wanted(candidate) or not is_only_session(candidate, request.raw_path):
            return
        if head := head_template(answer, account.record.cache_status):
            self._repeated.add(candidate, FirstResponse(answer.repeatable(), head, account))

    def _answer(self, candidate: Candidate) -> bool:
        """Answer a request that was sent before; return whether that was possible."""
        transport = self.transport
        if self._close or self._force_close or self._paused or transport is None or transport.is_closing():
            return False
        start = time.monotonic()
        try:
            found = self._repeated.find(candidate)
        except Exception as error:  # noqa: BLE001 - aiohttp would close the connection; the proxy answers in any case
            _log.error("%s", InternalError(error).log_line)
            return False
        if found is None:
            return False
        _write(transport, found.parts, found.size)
        self._request_count += 1
        if self._manager is not None:
            self._manager.requests_count += 1
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        first = found.account.record
        record = RequestRecord(
            time.time(),
            found.request_id,
            first.method,
            first.path,
            first.status,
            first.cache_status,
            first.outcome,
            found.size,
            time.monotonic() - start,
            first.client,
            first.notes,
        )
        found.account.log.note(record)
        return True

    def _read_origin(self) -> Origin:
        peer, own = (name[0] if isinstance(name, tuple) else "" for name in (self.peername, self.sockname))
        self._origin = ("https" if self.ssl_context else "http", peer, own)
        return self._origin


def _write(transport: asyncio.Transport, parts: list[bytes], size: int) -> None:
    """Give a response to a connection: one copy of a small body costs less than several parts."""
    if size <= SMALL:
        transport.write(b"".join(parts))
    else:
        transport.writelines(parts)


def _is_whole_request(data: bytes) -> bool:
    """Return whether what was received ends with a request, and nothing of it is to come."""
    return (
        data.startswith(b"GET ")
        and data.endswith(_END)
        and data.find(_END) == len(data) - len(_END)
        and data.count(b"\n") == data.count(b"\r\n")
        and _WITH_MORE.search(data) is None
    )


class ConnectionServer(web.Server):
    """The server of an application, with connections that repeat responses."""

    def __init__(self, server: web.Server, repeated: RepeatedRequests) -> None:
        super().__init__(server.request_handler, request_factory=server.request_factory)
        self._options: dict[str, Any] = server._kwargs  # noqa: SLF001 - aiohttp makes the server of an application itself
        self._repeated = repeated

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return Connection(self, self._repeated, loop=self._loop, **self._options)
