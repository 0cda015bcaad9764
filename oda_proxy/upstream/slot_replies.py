"""Replies that hold a slot among the requests under way until their body is read or closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from oda_proxy.http.message import Body, Headers, Reply


@dataclass(frozen=True, slots=True)
class SlotBody:
    """The body of such a reply; `release` is called once or twice, and `note_size` with the bytes of each chunk."""

    body: Body
    release: Callable[[], Awaitable[None]]
    note_size: Callable[[int], None]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self.body:
                self.note_size(len(chunk))
                yield chunk
        finally:
            await self.release()

    async def aclose(self) -> None:
        """Close the body and release the slot."""
        try:
            await self.body.aclose()
        finally:
            await self.release()


@dataclass(frozen=True, slots=True)
class SlotReply:
    """A reply that holds its slot."""

    status: int
    headers: Headers
    body: SlotBody


def with_slot(
    reply: Reply, release: Callable[[], Awaitable[None]], note_size: Callable[[int], None] = lambda _: None
) -> SlotReply:
    """Return a reply that releases its slot at the end of its body; a second call of `release` has to do nothing."""
    return SlotReply(reply.status, reply.headers, SlotBody(reply.body, release, note_size))
