"""Bodies without their content coding, for servers that compress although the request does not accept it."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http import headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from oda_proxy.http.message import Body, Headers, Request

MAX_DECODED: Final = 256 * 1024
"""Bytes that are decoded at once: a small body can decode to a large one."""

_PARTIAL_CONTENT: Final = 206
_BODY_HEADERS: Final = frozenset({"content-encoding", "content-length", "etag", "content-md5", "digest"})
"""Headers that are wrong for a decoded body."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _gzip() -> _Decompressor:
    return zlib.decompressobj(zlib.MAX_WBITS + 16)


def _deflate() -> _Decompressor:
    return zlib.decompressobj()


_DECOMPRESSORS: Final[dict[str, Callable[[], _Decompressor]]] = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate}
"""Content codings (RFC 9110, section 8.4.1) that are decoded."""


def must_be_decoded(request: Request, status: int) -> bool:
    """Return whether the sender of a request accepts no coding; part of an encoded body cannot be decoded."""
    accepted = [value.strip().casefold() for value in headers.values(request.headers, "accept-encoding")]
    return accepted == ["identity"] and request.method != "HEAD" and status != _PARTIAL_CONTENT


def decoded(reply_headers: Headers, body: Body, url: str) -> tuple[Headers, Body]:
    """Return the headers and the body of a reply, decoded as it is read; one with an unknown coding is unchanged.

    Reading the body raises UpstreamUnreachableError, with the `url` of the server, for one that is not valid.
    """
    codings = [value.strip().casefold() for value in headers.values(reply_headers, "content-encoding")]
    decompressor = _DECOMPRESSORS.get(codings[0]) if len(codings) == 1 else None
    if decompressor is None:
        return reply_headers, body
    remaining = tuple((name, value) for name, value in reply_headers if name.casefold() not in _BODY_HEADERS)
    return remaining, _DecodedBody(body, decompressor, codings[0], url)


@dataclass(frozen=True, slots=True)
class _DecodedBody:
    """A body that is decoded in a thread, chunk by chunk."""

    body: Body
    new_decompressor: Callable[[], _Decompressor]
    coding: str
    url: str

    async def __aiter__(self) -> AsyncIterator[bytes]:
        decoder = _Decoder(self.new_decompressor)
        try:
            async for encoded in self.body:
                chunks = decoder.decode(encoded)
                while chunk := await asyncio.to_thread(next, chunks, b""):
                    yield chunk
        except zlib.error as error:
            raise UpstreamUnreachableError(self.url, f"its answer is not valid {self.coding}") from error
        if not decoder.is_complete:
            raise UpstreamUnreachableError(self.url, f"its answer ended within the {self.coding} data")

    async def aclose(self) -> None:
        """Close the encoded body."""
        await self.body.aclose()


class _Decoder:
    """Decodes a body that may consist of several compressed members (RFC 1952, section 2.2)."""

    def __init__(self, new_decompressor: Callable[[], _Decompressor]) -> None:
        self._new_decompressor = new_decompressor
        self._decompressor: _Decompressor | None = None
        self.is_complete = True
        """Whether the body may end here: before the first member, and after the end of one."""

    def decode(self, encoded: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes, at most `MAX_DECODED` at once; raises zlib.error."""
        while encoded:
            decompressor = self._decompressor or self._new_decompressor()
            self._decompressor, self.is_complete = decompressor, False
            if chunk := decompressor.decompress(encoded, MAX_DECODED):
                yield chunk
            encoded = decompressor.unconsumed_tail
            if decompressor.eof:
                self._decompressor, self.is_complete = None, True
                encoded = decompressor.unused_data.lstrip(b"\0")  # some servers pad the last member
