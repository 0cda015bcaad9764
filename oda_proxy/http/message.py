"""Requests to an upstream, and its replies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from oda_proxy.http.scope import EVERYTHING, Scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

Headers = tuple[tuple[str, str], ...]
"""Names and values in the order sent; names may repeat."""


@dataclass(slots=True)
class RequestNotes:
    """What the log says of a request; names are set once they are known to be names, and no secrets."""

    request_id: str = ""
    instrument: str = ""
    product: str = ""
    key: str = ""
    """The cache key of the query."""
    subject: str = field(default="", repr=False)
    """The subject of its token, once that is verified."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a dispatcher: `path` is encoded and begins with a slash, relative to the dispatcher's address."""

    method: str
    path: str
    query_string: str = field(default="", repr=False)  # may contain a token
    headers: Headers = field(default=(), repr=False)
    body: bytes | AsyncIterable[bytes] | None = field(default=None, repr=False)
    timeout: float | None = None
    """Seconds until the reply must be complete; None for no limit, because a job may take hours."""
    at_most_once: bool | None = None
    """Whether it must not be sent again after a broken connection; None: as its route requires."""
    is_remote: bool = False
    """Whether it was received from another machine."""
    client_address: str = ""
    """The address of the client, as `oda_proxy.web.front_end` determines it; empty where nobody needs it."""
    scope: Scope = EVERYTHING
    """What a prefix of the path selects."""
    prefix: str = ""
    """The prefix of the path as it was received, encoded."""
    notes: RequestNotes | None = field(default=None, repr=False, compare=False)
    """What is logged of it; None where it is not logged."""


class Body(Protocol):
    """The bytes of a reply as received, possibly compressed; can be read once."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield chunks; raises UpstreamUnreachableError if the body ends too early."""

    async def aclose(self) -> None:
        """Release the connection, whether or not the body was read; a second call does nothing."""


class Reply(Protocol):
    """The reply of an upstream."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Headers:
        """The headers, as received."""

    @property
    def body(self) -> Body:
        """The body."""


class Upstream(Protocol):
    """A dispatcher that the proxy can send requests to."""

    @property
    def url(self) -> str:
        """The address, without a trailing slash."""

    async def send(self, request: Request) -> Reply:
        """Send a request; of redirects, only those of a dispatcher that has moved are followed, for reads.

        Raises UpstreamUnreachableError if there is no reply: UpstreamSlowError after a timeout, and
        UpstreamPausedError, with the seconds to wait, if nothing was sent.
        """
