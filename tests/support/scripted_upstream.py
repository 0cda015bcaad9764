"""An upstream that plays a script, and how its proxy is asked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from oda_proxy.http.message import Request
from tests.support.dispatcher_responses import SESSION, json_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Headers
    from oda_proxy.proxy import Proxy

ORIGIN = "http://127.0.0.1:8400"
QUERY = "instrument=isgri&product_type=isgri_image&query_type=Real&RA=83.0&api=True"
JSON = (("Content-Type", "application/json"),)


@dataclass
class Body:
    """A body in small pieces that knows whether it was let go."""

    content: bytes
    closed: bool = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.content), 100):
            yield self.content[at : at + 100]

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Reply:
    status: int
    headers: Headers
    body: Body


@dataclass
class Script:
    """An upstream that answers one request after the other as told, and remembers what it was asked."""

    replies: list[Reply | Exception] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    url: str = "http://dispatcher.example/dispatch-data"

    async def send(self, ask: Request) -> Reply:
        self.asked.append(ask)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def then(self, value: Any, *, status: int = 200, headers: Headers = JSON) -> Script:
        body = value if isinstance(value, bytes) else json_bytes(value)
        self.replies.append(Reply(status, headers, Body(body)))
        return self


class Clock:
    """A clock that stands until it is set; s since 1970."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


async def at_once(_: float) -> None:
    """Sleep as long as the others need to be told."""
    await asyncio.sleep(0)


def request(query_string: str = "", *, path: str = "/run_analysis", who: str = SESSION, status: str = "new") -> Request:
    return Request("GET", path, f"{query_string or QUERY}&query_status={status}&session_id={who}")


async def body_of(answer: Answer) -> bytes:
    if isinstance(answer.body, tuple):
        return b"".join(answer.body)
    return b"".join([piece async for piece in answer.body])


async def told(proxy: Proxy, ask: Request) -> tuple[int, str, bytes]:
    result = await proxy.answer(ask, origin=ORIGIN)
    return result.status, str(result.cache_status), await body_of(result)
