"""What a request for an analysis says, in its address, its form and its headers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from oda_proxy.errors import BadQueryError
from oda_proxy.http import headers
from oda_proxy.query.multipart import MULTIPART, read_form
from oda_proxy.query.query import FORM, Envelope, Query, fields

if TYPE_CHECKING:
    from oda_proxy.http.message import Ask


def read(ask: Ask) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Give what a request asks: its fields, and the digests of the files it uploads."""
    if ask.body is None:
        return fields(ask.query_string), []
    if isinstance(ask.body, bytes) and headers.media_type(ask.headers) == FORM:
        return fields(ask.query_string, ask.body), []
    if isinstance(ask.body, bytes) and headers.media_type(ask.headers) == MULTIPART:
        sent, files = read_form(headers.values(ask.headers, "content-type")[0], ask.body)
        return [*fields(ask.query_string), *sent], files
    raise BadQueryError("the body of the request is no form, or too large to be read")


def api_client(ask: Ask) -> Envelope | None:
    """Tell who sent a request that is no query; None where that is no API client, or cannot be told."""
    try:
        sent = dict(read(ask)[0])
    except BadQueryError:
        return None
    return Envelope("", sent.get("session_id", ""), sent.get("job_id", "")) if "api" in sent else None


def not_ours(query: Query, ask: Ask) -> str:
    """Say why a request is not answered from recordings and its answer not kept, or nothing where both may be."""
    if has_credentials(ask):
        return "credentials"
    if not query.api:
        return "not-api"  # pages for the web frontend name files that belong to one session
    return "partial" if query.partial else ""


def has_credentials(ask: Ask) -> bool:
    """Tell whether the headers say who asks: the answer may then be theirs alone (RFC 9111, section 3.5)."""
    return bool(headers.values(ask.headers, "authorization") or headers.values(ask.headers, "cookie"))


def uncompressed(ask: Ask) -> Ask:
    """Ask for a body that we can read."""
    others = tuple((name, value) for name, value in ask.headers if name.casefold() != "accept-encoding")
    return replace(ask, headers=(*others, ("Accept-Encoding", "identity")))


def has_files(ask: Ask) -> bool:
    """Tell whether a request may upload files."""
    return headers.media_type(ask.headers) == MULTIPART
