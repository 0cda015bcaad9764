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
from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.decoding import MAX_DECODED, decoded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

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


def answer(body: Body, coding: str) -> Answer:
    headers = (("Content-Type", "x/y"), ("Content-Encoding", coding), ("Content-Length", "7"), ("ETag", '"1"'))
    return Answer(200, headers, body, CacheStatus())


async def chunks(answer: Answer) -> list[bytes]:
    assert not isinstance(answer.body, tuple)
    return [chunk async for chunk in answer.body]


@pytest.mark.parametrize("coding", CODINGS)
@given(content=st.binary(max_size=300), size=st.integers(1, 40))
async def test_a_compressed_body_is_decoded(coding: str, content: bytes, size: int) -> None:
    result = decoded(answer(Body(CODINGS[coding](content), size), coding), "http://x")

    assert b"".join(await chunks(result)) == content
    assert result.headers == (("Content-Type", "x/y"),)


async def test_a_body_of_several_members_is_decoded_to_its_end() -> None:
    content = gzip.compress(b"one") + gzip.compress(b"two") + b"\0\0"

    assert b"".join(await chunks(decoded(answer(Body(content), "gzip"), "http://x"))) == b"onetwo"


async def test_a_small_body_that_decodes_to_a_large_one_is_decoded_in_small_chunks() -> None:
    body = Body(gzip.compress(bytes(20 * MAX_DECODED)), 10**6)

    sizes = [len(chunk) for chunk in await chunks(decoded(answer(body, "gzip"), "http://x"))]

    assert sum(sizes) == 20 * MAX_DECODED
    assert max(sizes) <= MAX_DECODED


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no gzip at all", "not valid gzip"), (gzip.compress(b"x" * 1000, mtime=0)[:-9], "ended within the gzip data")],
)
async def test_a_damaged_body_breaks_off(content: bytes, reason: str) -> None:
    with pytest.raises(UpstreamUnreachableError, match=reason):
        await chunks(decoded(answer(Body(content), "gzip"), "http://x"))


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "identity"])
def test_another_coding_is_unchanged(coding: str) -> None:
    unchanged = answer(Body(b"x"), coding)

    assert decoded(unchanged, "http://x") is unchanged


async def test_closing_closes_the_encoded_body() -> None:
    body = Body(gzip.compress(b"x"))

    await decoded(answer(body, "gzip"), "http://x").close()

    assert body.closed
