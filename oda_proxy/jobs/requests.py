"""The requests for one job: that of a client with other fields of its envelope."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from oda_proxy.http import headers
from oda_proxy.query.multipart import MULTIPART, read_form, replace_form_fields
from oda_proxy.query.query import FORM, replace_fields

if TYPE_CHECKING:
    from oda_proxy.http.message import Request


def without_files(request: Request) -> Request:
    """Return a request that uploads files as a form without them: a poll repeats only the fields."""
    if not isinstance(request.body, bytes) or headers.media_type(request.headers) != MULTIPART:
        return request
    (content_type,) = headers.values(request.headers, "content-type")
    fields, _ = read_form(content_type, request.body)
    others = tuple((name, value) for name, value in request.headers if name.casefold() != "content-type")
    body = urlencode(fields, errors="surrogateescape").encode("ascii")
    return replace(request, headers=(*others, ("Content-Type", FORM)), body=body)


def with_fields(request: Request, **changes: str) -> Request:
    """Return a request with other values for some fields; an empty value removes the field."""
    if not isinstance(request.body, bytes):
        return replace(request, query_string=replace_fields(request.query_string, **changes))
    query_string = replace_fields(request.query_string, **dict.fromkeys(changes, ""))
    if headers.media_type(request.headers) == MULTIPART:
        (content_type,) = headers.values(request.headers, "content-type")
        body = replace_form_fields(content_type, request.body, **changes)
    else:
        body = replace_fields(request.body.decode("utf-8", "surrogateescape"), **changes).encode(
            "utf-8", "surrogateescape"
        )
    return replace(request, query_string=query_string, body=body)
