"""A body is read to its end in little memory, or remains a stream."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http import spool
from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.encrypted_file import EncryptedFile
from oda_proxy.http.memory import Total
from oda_proxy.http.spool import SpooledBody, SpoolError, spooled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oda_proxy.http.message import Headers


@dataclass
class Body:
    """A body that counts the chunks that were read, and whether it was closed."""

    pieces: list[bytes]
    taken: int = 0
    closed: bool = False
    broken: bool = field(default=False)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.taken += 1
            yield piece
        if self.broken:
            raise UpstreamUnreachableError("http://x", "the connection broke")

    async def aclose(self) -> None:
        self.closed = True


PIECES = [bytes([65 + number]) * 10 for number in range(10)]


def answer(body: Body, headers: Headers = ()) -> Answer:
    return Answer(200, headers, body, CacheStatus())


async def read(body: object) -> bytes:
    return b"".join([piece async for piece in body])  # type: ignore[attr-defined]


@pytest.fixture(params=[1000, 35, 0])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Set how much is held in memory: all, some, nothing."""
    monkeypatch.setattr(spool, "MAX_IN_MEMORY", request.param)
    monkeypatch.setattr(spool, "BATCH_SIZE", 7)
    return int(request.param)


async def test_what_goes_to_a_file_is_written_in_large_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_IN_MEMORY", 20)
    monkeypatch.setattr(spool, "BATCH_SIZE", 25)
    sizes = []

    def write(self: EncryptedFile, content: bytes, at: int, write: Any = EncryptedFile.write) -> None:
        sizes.append(len(content))
        write(self, content, at)

    monkeypatch.setattr(EncryptedFile, "write", write)

    result = (await spooled(answer(Body(PIECES)), 100)).body

    assert await read(result) == b"".join(PIECES)
    assert sizes == [30, 30, 30, 10]
    assert isinstance(result, SpooledBody)
    await result.aclose()


@pytest.mark.usefixtures("memory")
async def test_a_body_is_read_to_its_end_and_closed() -> None:
    body = Body(PIECES)

    result = (await spooled(answer(body), 100)).body

    assert isinstance(result, SpooledBody)
    assert body.closed
    assert result.size == 100
    assert result.read() == await read(result) == await read(result) == b"".join(PIECES)
    await result.aclose()


@pytest.mark.usefixtures("memory")
async def test_a_body_that_is_too_long_remains_a_stream() -> None:
    body = Body(PIECES)

    result = (await spooled(answer(body), 55)).body

    assert not isinstance(result, (SpooledBody, tuple))
    assert body.taken == 6
    assert not body.closed
    assert await read(result) == b"".join(PIECES)
    await result.aclose()
    assert body.closed


async def test_a_body_with_a_content_length_that_is_too_long_is_not_read() -> None:
    body = Body(PIECES)

    result = await spooled(answer(body, (("Content-Length", "100"),)), 99)

    assert result.body is body
    assert body.taken == 0


@pytest.mark.parametrize("length", ["-1", "x", "", "²"])
async def test_an_invalid_content_length_is_ignored(length: str) -> None:
    assert isinstance((await spooled(answer(Body(PIECES), (("Content-Length", length),)), 100)).body, SpooledBody)


@pytest.mark.parametrize("room", [0, 12, 36, 52])
async def test_nothing_is_lost_when_the_temporary_folder_is_full(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_IN_MEMORY", 35)
    monkeypatch.setattr(spool, "CHUNK_SIZE", 7)
    write = os.pwrite

    def into_little_room(file: int, content: bytes, at: int) -> int:
        if at >= room:
            raise OSError(28, "No space left on device")
        return write(file, content[: room - at], at)

    monkeypatch.setattr(os, "pwrite", into_little_room)

    full = await spooled(answer(Body(PIECES)), 1000)
    result = full.body

    assert full.cache_status.detail == spool.SPOOL_FULL
    assert not isinstance(result, (SpooledBody, tuple))
    assert await read(result) == b"".join(PIECES)
    await result.aclose()


async def test_nothing_is_lost_without_a_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(spool, "MAX_IN_MEMORY", 35)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)

    result = (await spooled(answer(Body(PIECES)), 1000)).body

    assert not isinstance(result, tuple)
    assert await read(result) == b"".join(PIECES)


@pytest.mark.usefixtures("memory")
async def test_a_body_that_breaks_off_is_closed() -> None:
    body = Body(PIECES, broken=True)

    with pytest.raises(UpstreamUnreachableError):
        await spooled(answer(body), 1000)
    assert body.closed


async def test_a_spool_that_cannot_be_read_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_IN_MEMORY", 0)
    result = (await spooled(answer(Body(PIECES)), 1000)).body
    assert isinstance(result, SpooledBody)

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(SpoolError, match="Input/output error"):
        result.read()
    await result.aclose()


async def test_a_spool_that_was_cut_short_is_reported_and_not_taken_for_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spool, "MAX_IN_MEMORY", 0)
    result = (await spooled(answer(Body(PIECES)), 1000)).body
    assert isinstance(result, SpooledBody)
    assert result._file is not None

    os.ftruncate(result._file._file.fileno(), 30)

    with pytest.raises(SpoolError, match="it ends after 30 of 100 bytes"):
        result.read()
    await result.aclose()


async def test_a_temporary_file_does_not_hold_what_an_answer_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer to a request with a token repeats it."""
    monkeypatch.setattr(spool, "MAX_IN_MEMORY", 0)
    written = []
    write = os.pwrite

    def watch(file: int, content: bytes, at: int) -> int:
        written.append(bytes(content))
        return write(file, content, at)

    monkeypatch.setattr(os, "pwrite", watch)
    body = [b'"token": "eyJh', b"bGci.eyJz.c2ln", b'", "zeros": "', bytes(100)]

    result = (await spooled(answer(Body(body)), 1000)).body

    assert isinstance(result, SpooledBody)
    assert result.read() == b"".join(body)
    on_disk = b"".join(written)
    assert len(on_disk) == result.size
    assert not any(part in on_disk for part in (b"token", b"eyJh", b"bGci", bytes(8)))
    await result.aclose()


@pytest.mark.parametrize("size", [1, 15, 16, 17, 1000])
def test_any_part_of_an_encrypted_file_can_be_read(size: int) -> None:
    content, file = os.urandom(5000), EncryptedFile()
    for at in range(0, 5000, size):
        file.write(content[at : at + size], at)

    for at in (0, 1, 16, 17, 4000, 4999, 5000):
        assert file.read(100, at) == content[at : at + 100]
    file.close()


async def test_all_bodies_together_have_a_limit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "TOTAL", total := Total(250))

    bodies = [(await spooled(answer(Body(PIECES)), 1000)).body for _ in range(4)]

    assert [isinstance(body, SpooledBody) and body._file is None for body in bodies] == [True, True, False, False]
    assert total.used == 200
    assert [await read(body) for body in bodies] == [b"".join(PIECES)] * 4
    for body in bodies[1:]:
        assert isinstance(body, SpooledBody)
        await body.aclose()
        await body.aclose()
    assert total.used == 100
    bodies.clear()
    del body
    assert total.used == 0, "what is dropped is released, too"


@pytest.mark.parametrize("fails_at", [1, 2], ids=["the first piece in a file", "a later one"])
async def test_a_body_without_room_on_a_disk_is_held_in_memory(monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    monkeypatch.setattr(spool, "MAX_IN_MEMORY", 100)
    writes = []

    def write(self: EncryptedFile, content: bytes, at: int, write: Any = EncryptedFile.write) -> None:
        writes.append(at)
        if len(writes) >= fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, content, at)

    monkeypatch.setattr(EncryptedFile, "write", write)
    body = SpooledBody()
    for piece in (b"a" * 60, b"b" * 60, b"c" * 60, b"d" * 60):
        body.hold(piece)

    assert (body.size, body.read()) == (240, b"a" * 60 + b"b" * 60 + b"c" * 60 + b"d" * 60)
    assert body._file is None
    assert len(writes) == fails_at


async def test_an_empty_piece_is_not_taken_for_the_end(memory: int) -> None:
    body = SpooledBody()
    for piece in (b"", PIECES[0], b"", PIECES[1], b""):
        body.hold(piece)
        body.add(piece)

    assert body.is_in_file == (memory < 40)
    assert await read(body) == body.read() == 2 * PIECES[0] + 2 * PIECES[1]
    await body.aclose()


@pytest.mark.parametrize("limit", [1000, 35, 0], ids=["in memory", "partly", "in a file"])
async def test_any_part_of_a_body_can_be_read(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(spool, "MAX_IN_MEMORY", limit)
    monkeypatch.setattr(spool, "BATCH_SIZE", 7)
    body, whole = SpooledBody(), b"".join(PIECES)
    for piece in PIECES:
        body.add(piece)

    for begin in range(len(whole) + 1):
        for end in (begin, begin + 1, begin + 15, len(whole)):
            assert b"".join(body.part(begin, min(end, len(whole)))) == whole[begin:end]
    await body.aclose()


async def test_what_is_needed_no_more_is_released_while_the_rest_is_read(memory: int) -> None:
    body = SpooledBody()
    for piece in PIECES[:3]:
        body.add(piece)
    used = spool.TOTAL.used

    body.release(19)
    body.release(20)

    assert b"".join(body.part(20, 27)) == PIECES[2][:7]
    assert spool.TOTAL.used == (used if body.is_in_file else used - 20)
    if not body.is_in_file:
        with pytest.raises(ValueError, match="the first 20 bytes of the body were released"):
            body.read()
    await body.aclose()
    assert spool.TOTAL.used == 0
