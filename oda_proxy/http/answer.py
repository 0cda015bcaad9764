"""The answer to a client, as a value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from oda_proxy.errors import UpstreamPausedError
from oda_proxy.http import headers
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.scope import ScopeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from oda_proxy.errors import OdaProxyError
    from oda_proxy.http.message import Body, Headers

OK = 200


class Repeatable(Protocol):
    """What repeats an answer for requests that differ only in their session."""

    def repeat(self, session_id: str) -> tuple[int, tuple[bytes, ...]] | None:
        """Return the value of `Age` and the body for another session; None where the request has to be answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; its body is a tuple of chunks in memory, or a stream."""

    status: int
    headers: Headers
    body: tuple[bytes | memoryview, ...] | Body
    cache_status: CacheStatus
    repeatable: Callable[[], Repeatable] | None = field(default=None, repr=False, compare=False)
    """Returns what repeats the answer; None where that is not possible."""

    version: tuple[str, float] | None = field(default=None, repr=False, compare=False)
    """The key of the recording that answers a request for a past time, and since when it was the answer."""

    async def close(self) -> None:
        """Close a streamed body that is not read any further."""
        if not isinstance(self.body, tuple):
            await self.body.aclose()


def is_plain(answer: Answer) -> bool:
    """Return whether an answer is a success without a content coding."""
    return answer.status == OK and not headers.values(answer.headers, "content-encoding")


def age(since: float, now: float) -> tuple[str, str]:
    """Return the header `Age`, in whole s (RFC 9111, section 5.1)."""
    return "Age", str(max(0, int(now - since)))


async def buffered(answer: Answer, limit: int) -> Answer:
    """Read the body of an answer up to `limit` bytes; a longer one remains a stream."""
    if isinstance(answer.body, tuple):
        return answer
    chunks, size = [], 0
    rest = aiter(answer.body)
    try:
        async for chunk in rest:
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                return replace(answer, body=_PartlyRead(chunks, rest, answer.body))
    except BaseException:
        await answer.close()
        raise
    return replace(answer, body=tuple(chunks))


@dataclass(frozen=True, slots=True)
class _PartlyRead:
    """A stream of which the first chunks were read already."""

    chunks: list[bytes]
    rest: AsyncIterator[bytes]
    body: Body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.chunks:
            yield self.chunks.pop(0)
        async for chunk in self.rest:
            yield chunk

    async def aclose(self) -> None:
        """Close the stream."""
        await self.body.aclose()


def text_error(error: OdaProxyError) -> Answer:
    """Return an error as plain text: clients before 1.1.46 would take JSON for the description they requested."""
    is_bad = error.http_status == 400 and not isinstance(error, ScopeError)  # noqa: PLR2004 - as in RFC 9110
    status = 404 if is_bad else error.http_status
    return error_answer(status, "text/plain; charset=utf-8", f"{error}\n".encode(), error)


def json_answer(status: int, text: bytes, cache_status: CacheStatus) -> Answer:
    """Return an answer with a JSON body."""
    fields = (("Content-Type", "application/json"), ("Content-Length", str(len(text))))
    return Answer(status, fields, (text,), cache_status)


def error_answer(status: int, content_type: str, body: bytes, error: OdaProxyError) -> Answer:
    """Return an answer of the proxy itself for an error, with `Retry-After` where it is known."""
    fields = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    if isinstance(error, UpstreamPausedError):
        fields.append(("Retry-After", str(math.ceil(error.retry_after))))
    return Answer(status, tuple(fields), (body,), CacheStatus(detail=error.detail))
