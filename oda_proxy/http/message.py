"""Asking somebody who may have an answer, whoever that is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

Headers = tuple[tuple[str, str], ...]
"""Names and values in the order sent; names may repeat."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a dispatcher: `path` is encoded and begins with a slash, below the dispatcher's own address."""

    method: str
    path: str
    query_string: str = field(default="", repr=False)  # it may hold a token
    headers: Headers = field(default=(), repr=False)
    body: bytes | AsyncIterable[bytes] | None = field(default=None, repr=False)
    timeout: float | None = None
    """Seconds until the answer has to be whole; without a limit it may take as long as a job does."""
    at_most_once: bool | None = None
    """Whether it must not reach the dispatcher twice, also where nobody knows if it did; None: as its route says."""


class Body(Protocol):
    """The bytes of an answer as they come: compressed where they were, read once."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Give piece after piece; raises UpstreamUnreachableError where the body ends too early."""

    async def aclose(self) -> None:
        """Let go of the connection, whether or not anything was read; a second time does nothing."""


class Reply(Protocol):
    """What came back."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Headers:
        """The headers, as they came."""

    @property
    def body(self) -> Body:
        """The body."""


class Upstream(Protocol):
    """Whom the proxy asks."""

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""

    async def send(self, request: Request) -> Reply:
        """Ask once; redirects are not followed.

        Raises UpstreamUnreachableError where nobody answers: UpstreamSlowError where only time ran out, and
        UpstreamPausedError, with the seconds to wait, where nothing was sent.
        """
