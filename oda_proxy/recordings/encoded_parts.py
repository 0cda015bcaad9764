"""Decode what is percent-encoded, escaped, written as entities of HTML or split by CONTINUE cards within data."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from oda_proxy.recordings.byte_patterns import BytePattern, PatternScan

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEXADECIMAL: Final = b"0123456789ABCDEFabcdef"
ENCODINGS: Final = (
    BytePattern("continued", (b"CO",), re.compile(rb"CONTINUE")),
    BytePattern(
        "percent", tuple(b"%%%c" % digit for digit in b"0123456789ABCDEFabcdef"), re.compile(rb"%[0-9A-Fa-f]{2}")
    ),
    BytePattern("json", (b"\\u",), re.compile(rb"\\u[0-9A-Fa-f]{4}")),
    BytePattern("python", (b"\\x",), re.compile(rb"\\x[0-9A-Fa-f]{2}")),
    BytePattern("html", (b"&#",), re.compile(rb"&#\w{1,7};")),
)
"""Encoded characters."""
AROUND: Final = 4096
"""Bytes before and after an encoded character that are decoded with it; tokens are shorter."""
_ESCAPE: Final = re.compile(rb"\\+(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))|&#(?:(\d{1,7})|[xX]([0-9A-Fa-f]{1,6}));")
_ESCAPES: Final = (
    re.compile(rb"\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})"),
    re.compile(rb"&#(?:\d{1,7}|[xX][0-9A-Fa-f]{1,6});"),
)
"""What each match of `_ESCAPE` has: as these begin with one text, they are searched in a fortieth of the time."""
_END_OF_UNICODE: Final = 0x110000


def decoded_parts(data: bytes, scan: PatternScan) -> Iterator[bytes]:
    """Yield everything in data that may be encoded text, decoded, with what is around it.

    The data were scanned for `ENCODINGS`.
    """
    begin, end = 0, -1
    for at, _ in scan.starts(ENCODINGS):
        if end >= 0 and at - AROUND > end:
            yield decoded(data[begin:end].replace(b"CONTINUE", b""))
            end = -1
        if end < 0:
            begin = max(at - AROUND, 0)
        end = at + AROUND
    if end >= 0:
        yield decoded(data[begin:end].replace(b"CONTINUE", b""))


def decoded(text: bytes) -> bytes:
    """Undo percent-encoding, escapes of JSON and Python, and entities of HTML, however often they were applied."""
    while (shorter := _without_escapes(unquote_to_bytes(text))) != text:
        text = shorter
    return text


def plain(text: str) -> bytes:
    """Return a text without the accents of its letters."""
    return (text if text.isascii() else unicodedata.normalize("NFKD", text)).encode("utf-8", "surrogatepass")


def _without_escapes(text: bytes) -> bytes:
    return _ESCAPE.sub(_character, text) if any(escape.search(text) for escape in _ESCAPES) else text


def _character(escape: re.Match[bytes]) -> bytes:
    json_escape, python_escape, decimal, hexadecimal = escape.groups()
    code = int(decimal) if decimal else int(json_escape or python_escape or hexadecimal, 16)
    return plain(chr(code)) if code < _END_OF_UNICODE else b""
