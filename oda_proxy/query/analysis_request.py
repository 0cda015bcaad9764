"""Read a `run_analysis` request: its fields, its uploaded files and its headers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from oda_proxy.errors import BadQueryError
from oda_proxy.http import headers
from oda_proxy.query.multipart import MULTIPART, read_form
from oda_proxy.query.query import FORM, Envelope, Query, parse_fields, split_query

if TYPE_CHECKING:
    from oda_proxy.http.message import Request
    from oda_proxy.query.query_memo import QueryMemo


def read_query(request: Request, memo: QueryMemo) -> tuple[Query, Envelope]:
    """Return the query and the envelope of a request.

    Raises BadQueryError where the body is not a form that we can read, and as `split_query` does.
    """
    form = _form(request)
    return split_query(*read_fields(request)) if form is None else memo.read(request.query_string, form)


def read_fields(request: Request) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the fields of a request, and for each uploaded file the name of its field and the SHA-256 of its content.

    Raises BadQueryError where the body is not a form that we can read.
    """
    if (form := _form(request)) is not None:
        return parse_fields(request.query_string, form), []
    if request.method in _WITHOUT_FORM:
        raise BadQueryError(f"a {request.method} request has a body, which dispatchers do not read")
    if isinstance(request.body, bytes) and headers.media_type(request.headers) == MULTIPART:
        sent, files = read_form(headers.values(request.headers, "content-type")[0], request.body)
        return [*parse_fields(request.query_string), *sent], files
    raise BadQueryError("the body of the request is not a form, or is too large")


def _form(request: Request) -> bytes | None:
    """Return the URL-encoded form of a request, empty where it has no body; None for any other body."""
    if request.body is None or request.body == b"":
        return b""
    if request.method in _WITHOUT_FORM or not isinstance(request.body, bytes):
        return None
    return request.body if headers.media_type(request.headers) == FORM else None


_WITHOUT_FORM = frozenset({"GET", "HEAD"})


def api_envelope(request: Request) -> Envelope | None:
    """Return the envelope of a request that is not a query; None where it is not from an API client, or unreadable."""
    try:
        sent = dict(read_fields(request)[0])
    except BadQueryError:
        return None
    return Envelope("", sent.get("session_id", ""), sent.get("job_id", "")) if "api" in sent else None


def bypass_reason(query: Query, request: Request) -> str:
    """Return why a request must bypass the recordings, as a word for `Cache-Status`; "" where it need not."""
    if not query.api:
        return "not-api"  # pages for the web frontend name files that belong to one session
    if query.is_partial:
        return "partial"
    return CREDENTIALS if has_credentials(request) else ""


CREDENTIALS = "credentials"
"""Why a request bypasses the recordings of today: the dispatcher may know its client."""


JOB_STATES = frozenset({"new", "submitted", "progress", "ready", "done", "failed", "prepared", "not-prepared"})
"""Values of `query_status` that clients send: `new`, and those that dispatchers have returned to them."""


def state_error(envelope: Envelope) -> str:
    """Return why the dispatcher refuses the state of a request; "" where it may accept it."""
    if envelope.query_status not in JOB_STATES:
        return f"query_status {envelope.query_status[:40]!r} is not a state of a job"
    if envelope.query_status != "new" and not envelope.job_id:
        return f"a request with query_status={envelope.query_status} needs the job_id of its job"
    return ""


def has_credentials(request: Request) -> bool:
    """Return whether the headers identify the client: the answer may then be for it alone (RFC 9111, section 3.5)."""
    return headers.has_any(request.headers, _CREDENTIALS)


_CREDENTIALS = frozenset({"authorization", "cookie"})


def uncompressed(request: Request) -> Request:
    """Return the request with `Accept-Encoding: identity`, for an answer that we can read."""
    others = tuple((name, value) for name, value in request.headers if name.casefold() != "accept-encoding")
    return replace(request, headers=(*others, ("Accept-Encoding", "identity")))


def has_files(request: Request) -> bool:
    """Return whether a request may upload files."""
    return headers.media_type(request.headers) == MULTIPART
