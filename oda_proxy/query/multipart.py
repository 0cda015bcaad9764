"""Parse a multipart form into its fields and the digests of its uploaded files (RFC 7578).

Only forms as browsers, curl and requests write them are read. Any other is refused: the dispatcher might read it
differently, and the answer to its reading must not be stored under ours. The body itself is forwarded unchanged.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from oda_proxy.errors import BadQueryError
from oda_proxy.query.query import MAX_FIELDS

MULTIPART: Final = "multipart/form-data"

_BOUNDARY: Final = re.compile(
    r"""multipart/form-data\s*;\s*boundary=(?:"([^"\\\r\n]{1,70})"|([-\w'()+./:=?]{1,70}))\s*""",
    re.ASCII | re.IGNORECASE,
)
_HEADER_LIMIT: Final = 4096
_DISPOSITION: Final = re.compile(
    rb'content-disposition: form-data; name="(?P<name>[^"\\\r\n]*)"(?:; filename="(?P<file>[^"\r\n]*)")?'
    rb"(?:; filename\*=[\w.'%+-]+)?",
    re.IGNORECASE,
)
_SAVED: Final = re.compile(rb"[A-Za-z0-9]")
"""What is left of the name of a file; the dispatcher drops other characters, and dots at the ends."""
_IGNORED_OF_FILES: Final = re.compile(
    rb"content-(?:type: (?!\s*(?:multipart|message)/)[^\r\n]*|length: \d+)", re.IGNORECASE
)
_IGNORED_OF_FIELDS: Final = re.compile(rb"content-(?:type: text/plain(?:; charset=utf-8)?|length: \d+)", re.IGNORECASE)
"""Headers that change nothing; in a field, another character set would."""


def read_form(content_type: str, body: bytes) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the fields of a form, and for each file the name of its field and the SHA-256 of its content.

    Raises BadQueryError for a form that is not written as clients write it.
    """
    boundary = _BOUNDARY.fullmatch(content_type)
    if boundary is None:
        raise BadQueryError("the form names no boundary between its parts")
    delimiter = b"\r\n--" + (boundary[1] or boundary[2]).encode("ascii", "replace")
    begin, *parts = (b"\r\n" + body).split(delimiter, MAX_FIELDS + 1)
    if begin or not parts or parts.pop() not in {b"--", b"--\r\n"}:
        raise BadQueryError(f"the form does not begin and end at its boundary, or has more than {MAX_FIELDS} parts")
    fields, files = [], []
    for part in parts:
        name, is_file, content = _part(part)
        if is_file:
            files.append((name, hashlib.sha256(content).hexdigest()))
        else:
            fields.append((name, content.decode("utf-8", "surrogateescape")))
    return fields, files


def _part(part: bytes) -> tuple[str, bool, bytes]:
    """Parse one part: the name of its field, whether it is a file, and its content."""
    head, separator, content = part.partition(b"\r\n\r\n")
    first, *headers = head.split(b"\r\n")
    if first or not separator or len(head) > _HEADER_LIMIT:
        raise BadQueryError("a part of the form has no headers, or too many")
    dispositions = [match for line in headers if (match := _DISPOSITION.fullmatch(line))]
    others = [line for line in headers if not _DISPOSITION.fullmatch(line)]
    if len(dispositions) != 1:
        raise BadQueryError("a part of the form must have one name")
    disposition = dispositions[0]
    is_file = b"filename" in disposition[0][disposition.end("name") :]
    if disposition["file"] and not _SAVED.search(disposition["file"]):
        raise BadQueryError("a file of the form has a name under which the dispatcher cannot save it")
    ignored = _IGNORED_OF_FILES if is_file else _IGNORED_OF_FIELDS
    if not all(ignored.fullmatch(line) for line in others):
        raise BadQueryError("a part of the form has other headers than clients write")
    return disposition["name"].decode("utf-8", "surrogateescape"), is_file, content


def replace_form_fields(content_type: str, body: bytes, **changes: str) -> bytes:
    """Return a form that `read_form` reads with other values for some fields; an empty value removes the field.

    Files and other fields keep their bytes.
    """
    boundary = _BOUNDARY.fullmatch(content_type)
    if boundary is None:
        raise BadQueryError("the form names no boundary between its parts")
    delimiter = b"\r\n--" + (boundary[1] or boundary[2]).encode("ascii", "replace")
    begin, *parts, end = (b"\r\n" + body).split(delimiter, MAX_FIELDS + 1)
    kept = []
    for part in parts:
        name, is_file, _ = _part(part)
        if is_file or name not in changes:
            kept.append(part)
    for name, value in changes.items():
        if value:
            text = f'\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'
            kept.append(text.encode("utf-8", "surrogateescape"))
    return delimiter.join([begin, *kept, end]).removeprefix(b"\r\n")
