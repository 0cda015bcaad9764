"""The content coding of a response follows `Accept-Encoding` (RFC 9110, section 12.5.3)."""

from __future__ import annotations

import pytest

from oda_proxy.http.content_coding import MAX_HEADER, preferred

AVAILABLE = ("zstd", "gzip")


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate", "gzip"),  # requests
        ("gzip, deflate, br, zstd", "zstd"),  # browsers
        ("deflate, gzip, br, zstd", "zstd"),  # curl --compressed
        ("GZip", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip ; q=0.5 ,\tzstd; Q=0.501", "zstd"),
        ("*", "zstd"),
        ("*;q=0.5, gzip", "gzip"),
        ("zstd;q=0, *", "gzip"),
        ("gzip;q=0, zstd;q=0, *", "identity"),
        ("identity;q=0", "identity"),  # there is nothing else
        ("identity;q=0, gzip;q=0.001", "gzip"),
        ("identity, gzip;q=0.5", "identity"),
        ("identity, gzip", "gzip"),
        ("identity;q=0.5, gzip", "gzip"),
        ("gzip;q=0", "identity"),
        ("br", "identity"),
        ("", "identity"),
        (",, ,gzip", "gzip"),
        ("gzip;q=2", "identity"),
        ("gzip;q=0.1234", "identity"),
        ("gzip;level=9", "identity"),
        ("gzip zstd", "identity"),
        (f"{'x' * MAX_HEADER}, gzip", "identity"),
    ],
)
def test_the_coding_with_the_highest_weight_is_preferred(accepted: str, coding: str) -> None:
    assert preferred((("accept-encoding", accepted),), AVAILABLE) == coding


def test_without_the_header_there_is_no_coding() -> None:
    assert preferred((), AVAILABLE) == "identity"


def test_several_headers_are_one_list() -> None:
    headers = (("Accept-Encoding", "gzip;q=0.5"), ("Accept-Encoding", "zstd"))

    assert preferred(headers, AVAILABLE) == "zstd"
