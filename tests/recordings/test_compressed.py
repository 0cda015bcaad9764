"""A compressed answer has the bytes of the answer, for decoders that read one gzip member and all zstd frames."""

from __future__ import annotations

import io
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.query.query import Envelope
from oda_proxy.recordings import compressed
from oda_proxy.recordings.compressed import CODINGS, MIN_SIZE, compress, is_compressible
from oda_proxy.recordings.fits_cards import Gap
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.recordings.loaded import body, load
from oda_proxy.recordings.recording import BEGIN
from tests.support.recordings import recording

TEXT = b'"numpy_data_product_list":"%b"' % (b"an image, " * 4000)


def decoded(coding: str, content: bytes) -> bytes:
    if coding == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content), read_across_frames=True).read()
    decompressor = zlib.decompressobj(zlib.MAX_WBITS + 16)
    text = decompressor.decompress(content)
    assert decompressor.eof, "its CRC-32 and its length are right"
    assert decompressor.unused_data == b"", "browsers and curl read one member"
    return text


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("session", ["A", "B" * 5000])
def test_an_answer_is_the_same_compressed(coding: str, session: str) -> None:
    loaded = load(recording(text=TEXT), (TEXT[:100], TEXT[100:]))
    envelope = Envelope(session_id=session)
    head = compress(loaded, coding)
    assert head

    answer = b"".join(head.body(loaded.template.fill(envelope, now=5.0, address="http://p")))

    assert decoded(coding, answer) == b"".join(body(loaded, envelope, now=5.0, address="http://p"))
    assert len(answer) < len(TEXT) / 2


@given(st.sampled_from(CODINGS), st.lists(st.binary(max_size=300), max_size=5), st.binary(max_size=300))
def test_heads_and_tails_of_any_bytes_are_joined(coding: str, parts: list[bytes], end: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compressed, "_STEP", 70)
        patch.setattr(compressed, "_MAX_RATIO", 100.0)
        head = compress(load(recording(text=b"".join(parts)), parts), coding)
    assert head

    assert decoded(coding, b"".join(head.body(end))) == BEGIN + b"".join(parts) + end


def test_what_becomes_hardly_smaller_is_not_compressed() -> None:
    random = bytes(range(256)) * 3
    noise = zlib.compress(random) * 100

    assert compress(recording(head=MemoryHead(noise[:100])), "gzip") is None


def test_small_heads_and_those_with_gaps_are_not_compressed() -> None:
    assert is_compressible(recording(text=b"x" * MIN_SIZE))
    assert not is_compressible(recording(text=b"x" * (MIN_SIZE - 1)))
    assert not is_compressible(recording(text=b"x" * MIN_SIZE, gaps=(Gap(5, False, {"JOB": "job_id"}),)))
