"""Forms that upload files are read as clients write them, and in no other way."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.errors import BadQueryError
from oda_proxy.query.multipart import read_form

TYPE = "multipart/form-data; boundary=xYz"


def part(head: str, content: bytes) -> bytes:
    return b"--xYz\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


def field(name: str, content: str) -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"', content.encode())


FILE = 'Content-Disposition: form-data; name="user_catalog_file"; filename="c.fits"\r\nContent-Type: application/fits'
END = b"--xYz--\r\n"


def test_a_form_has_fields_and_files() -> None:
    content = b"SIMPLE\r\n--xY\x00\xff\r\n\r\n"

    fields, files = read_form(TYPE, field("RA", "83.0") + part(FILE, content) + field("RA", "") + END)

    assert fields == [("RA", "83.0"), ("RA", "")]
    assert files == [("user_catalog_file", hashlib.sha256(content).hexdigest())]


@pytest.mark.parametrize(
    "content_type", [TYPE, 'multipart/form-data;boundary="xYz"', "Multipart/Form-Data; boundary=xYz "]
)
def test_the_boundary_may_be_quoted(content_type: str) -> None:
    assert read_form(content_type, field("a", "1") + END[:-2]) == ([("a", "1")], [])


def test_what_a_file_is_called_and_its_type_do_not_matter() -> None:
    other = FILE.replace("c.fits", "other name.fits").replace("application/fits", "application/octet-stream")

    assert read_form(TYPE, part(FILE, b"x") + END) == read_form(TYPE, part(other, b"x") + END)


def test_a_name_that_is_not_ascii_may_come_twice() -> None:
    head = 'content-disposition: form-data; name="f"; filename="k.txt"; filename*=utf-8\'\'k%C3%A4.txt'

    assert read_form(TYPE, part(head, b"x") + END)[1][0][0] == "f"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", field("a", "1") + END),
        (TYPE + "; charset=utf-8", field("a", "1") + END),
        ("multipart/form-data; boundary=other", field("a", "1") + END),
        (TYPE, b""),
        (TYPE, field("a", "1")),
        (TYPE, b"preamble\r\n" + field("a", "1") + END),
        (TYPE, field("a", "1") + END + b"epilogue"),
        (TYPE, part("Content-Type: text/plain", b"1") + END),
        (TYPE, part('Content-Disposition: attachment; name="a"', b"1") + END),
        (TYPE, part('Content-Disposition: form-data; name="a\\"b"', b"1") + END),
        (TYPE, part('Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64', b"MQ==") + END),
        (
            TYPE,
            part('Content-Disposition: form-data; name="a"\r\nContent-Type: multipart/mixed; boundary=b', b"") + END,
        ),
        (
            TYPE,
            part('Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="b"', b"1") + END,
        ),
        (
            TYPE,
            part('Content-Disposition: form-data; name="a"\r\nContent-Type: text/plain; charset=latin-1', b"1") + END,
        ),
        (TYPE, part(FILE.replace("application/fits", "multipart/mixed; boundary=b"), b"1") + END),
        (TYPE, field("a", "1").replace(b"\r\n", b"\n") + END),
        (TYPE, field("a", "1") * 10_001 + END),
        (TYPE, part('Content-Disposition: form-data; name="f"; filename="../.."', b"1") + END),
    ],
)
def test_a_form_written_otherwise_is_not_guessed_at(content_type: str, body: bytes) -> None:
    with pytest.raises(BadQueryError):
        read_form(content_type, body)


@given(st.text(), st.binary() | st.binary().map(lambda body: field("a", "1") + body + END))
def test_any_form_is_read_or_is_a_bad_query(content_type: str, body: bytes) -> None:
    for stated in (content_type, TYPE):
        try:
            fields, _ = read_form(stated, body)
        except BadQueryError:
            continue
        assert all(isinstance(name, str) for name, _ in fields)
