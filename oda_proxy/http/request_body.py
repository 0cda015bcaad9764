"""The body of a request, while its client sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator


class RequestBody:
    """A body that knows whether its client has failed to send all of it.

    aiohttp reports that as a broken connection, as if the server that the body is sent to had closed it.
    """

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self.has_failed = False
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                yield chunk
        except Exception:
            self.has_failed = True
            raise
