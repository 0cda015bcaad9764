"""Answers as values: what a client is sent."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from oda_proxy.errors import UpstreamPausedError
from oda_proxy.http import headers
from oda_proxy.http.cache_status import CacheStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from oda_proxy.errors import OdaProxyError
    from oda_proxy.http.message import Body, Headers

OK = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its body is whole, in pieces to be sent one after the other, or read as it comes in."""

    status: int
    headers: Headers
    body: tuple[bytes, ...] | Body
    cache_status: CacheStatus

    async def close(self) -> None:
        """Let go of a body of which nobody wants more."""
        if not isinstance(self.body, tuple):
            await self.body.aclose()


@dataclass(frozen=True, slots=True)
class ThreadedBody:
    """A body that is read from a medium piece by piece, each in a thread, so that nobody else waits for it."""

    pieces: Iterable[bytes]
    close: Callable[[], None]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = iter(self.pieces)
        try:
            while piece := await asyncio.to_thread(next, pieces, b""):
                yield piece
        finally:
            self.close()

    async def aclose(self) -> None:
        """Let go of the medium."""
        self.close()


def is_plain(answer: Answer) -> bool:
    """Tell whether an answer is a success whose body can be read as it is."""
    return answer.status == OK and not headers.values(answer.headers, "content-encoding")


def age(since: float, now: float) -> tuple[str, str]:
    """Write the header `Age`, in whole s (RFC 9111, section 5.1)."""
    return "Age", str(max(0, int(now - since)))


async def buffered(answer: Answer, limit: int) -> Answer:
    """Read the body of an answer, up to a limit in bytes; what is longer still goes on as it comes."""
    if isinstance(answer.body, tuple):
        return answer
    pieces, size = [], 0
    rest = aiter(answer.body)
    try:
        async for piece in rest:
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                return replace(answer, body=_PartlyRead(pieces, rest, answer.body))
    except BaseException:
        await answer.close()
        raise
    return replace(answer, body=tuple(pieces))


@dataclass(frozen=True, slots=True)
class _PartlyRead:
    """A body of which the first pieces were read already."""

    pieces: list[bytes]
    rest: AsyncIterator[bytes]
    body: Body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.pieces:
            yield self.pieces.pop(0)
        async for piece in self.rest:
            yield piece

    async def aclose(self) -> None:
        """Let go of the body."""
        await self.body.aclose()


def text_error(error: OdaProxyError) -> Answer:
    """Refuse in plain text: as JSON, clients before 1.1.46 would take it for the description they asked for."""
    status = 404 if error.http_status == 400 else error.http_status  # noqa: PLR2004 - as in RFC 9110
    return error_answer(status, "text/plain; charset=utf-8", f"{error}\n".encode(), error)


def json_answer(status: int, text: bytes, cache_status: CacheStatus) -> Answer:
    """Answer with a JSON text."""
    told = (("Content-Type", "application/json"), ("Content-Length", str(len(text))))
    return Answer(status, told, (text,), cache_status)


def error_answer(status: int, content_type: str, body: bytes, error: OdaProxyError) -> Answer:
    """Make an answer of our own that says what `error` says."""
    told = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    if isinstance(error, UpstreamPausedError):
        told.append(("Retry-After", str(math.ceil(error.retry_after))))
    return Answer(status, tuple(told), (body,), CacheStatus(detail=error.detail))
