"""Compressed data are searched, wherever they begin and however they are nested."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.recordings import unpacking
from oda_proxy.recordings.unpacking import OVERLAP, PIECE, TooLargeError, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = b"the session of somebody"


def zipped(data: bytes, name: str = "a.fits") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
        archive.writestr("last", b"-" * 100)
    return file.getvalue()


def tarred(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("first", "second"):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "fast zlib": lambda data: zlib.compress(data, 1),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": zipped,
    "in binary data": lambda data: b"\0\x78\x9c PK\x03\x04" + gzip.compress(data) + b"\0" * 99,
    "a tar of gzip": lambda data: gzip.compress(tarred(gzip.compress(data))),
    "two files": lambda data: gzip.compress(b"-") + gzip.compress(data),
    "cut": lambda data: gzip.compress(data + random.Random(0).randbytes(9000))[:-4000],  # noqa: S311 - no secret
    "stored": lambda data: zlib.compress(data, 0),
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_what_is_compressed_is_found(name: str) -> None:
    assert any(SECRET in piece for piece in unpacked(COMPRESSED[name](b"-" * 2000 + SECRET + b"-" * 2000)))


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zip"])
def test_what_lies_across_two_pieces_is_found(name: str) -> None:
    for at in (PIECE - 5, 2 * PIECE - len(SECRET) + 1):
        data = b"-" * at + SECRET + b"-" * PIECE
        pieces = list(unpacked(COMPRESSED[name](data)))
        assert any(SECRET in piece for piece in pieces)
        assert max(map(len, pieces)) <= PIECE + OVERLAP


def test_no_more_is_decompressed_than_the_limit() -> None:
    with pytest.raises(TooLargeError):
        list(unpacked(gzip.compress(b"\0" * (PIECE + 1)), limit=PIECE))
    assert list(unpacked(gzip.compress(b"\0" * 10), limit=10)) == [b"\0" * 10]


def test_nothing_is_decompressed_deeper_than_the_limit() -> None:
    data = SECRET
    for _ in range(unpacking.MAX_DEPTH + 1):
        data = gzip.compress(data)

    assert SECRET not in b"".join(unpacked(data))


@given(st.binary(), st.sampled_from(sorted(COMPRESSED)), st.integers(0, 300))
def test_any_data_are_searched_without_an_error(data: bytes, name: str, cut: int) -> None:
    list(unpacked(data + COMPRESSED[name](data)[cut:] + data))
