"""A body that a server compressed unasked is decoded in little memory."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http.decoding import MAX_DECODED, decoded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from oda_proxy.http.message import Headers

CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "X-GZIP": gzip.compress,
    "deflate": zlib.compress,
}


@dataclass
class Body:
    content: bytes
    size: int = 10
    closed: bool = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.content), self.size):
            yield self.content[at : at + self.size]

    async def aclose(self) -> None:
        self.closed = True


def headers_of(coding: str) -> Headers:
    return (("Content-Type", "x/y"), ("Content-Encoding", coding), ("Content-Length", "7"), ("ETag", '"1"'))


async def chunks(content: bytes, coding: str = "gzip", size: int = 10) -> list[bytes]:
    _, body = decoded(headers_of(coding), Body(content, size), "http://x")
    return [chunk async for chunk in body]


@pytest.mark.parametrize("coding", CODINGS)
@given(content=st.binary(max_size=300), size=st.integers(1, 40))
async def test_a_compressed_body_is_decoded(coding: str, content: bytes, size: int) -> None:
    assert b"".join(await chunks(CODINGS[coding](content), coding, size)) == content


def test_headers_of_the_encoded_body_are_removed() -> None:
    assert decoded(headers_of("gzip"), Body(b""), "http://x")[0] == (("Content-Type", "x/y"),)


async def test_a_body_of_several_members_is_decoded_to_its_end() -> None:
    content = gzip.compress(b"one") + gzip.compress(b"two") + b"\0\0"

    assert b"".join(await chunks(content)) == b"onetwo"


async def test_a_small_body_that_decodes_to_a_large_one_is_decoded_in_small_chunks() -> None:
    content = gzip.compress(bytes(20 * MAX_DECODED))

    sizes = [len(chunk) for chunk in await chunks(content, size=10**6)]

    assert sum(sizes) == 20 * MAX_DECODED
    assert max(sizes) <= MAX_DECODED


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no gzip at all", "not valid gzip"), (gzip.compress(b"x" * 1000, mtime=0)[:-9], "ended within the gzip data")],
)
async def test_a_damaged_body_breaks_off(content: bytes, reason: str) -> None:
    with pytest.raises(UpstreamUnreachableError, match=reason):
        await chunks(content)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "identity"])
def test_another_coding_is_unchanged(coding: str) -> None:
    headers, body = headers_of(coding), Body(b"x")

    assert decoded(headers, body, "http://x") == (headers, body)


async def test_closing_closes_the_encoded_body() -> None:
    body = Body(gzip.compress(b"x"))

    await decoded(headers_of("gzip"), body, "http://x")[1].aclose()

    assert body.closed
