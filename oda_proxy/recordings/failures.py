"""Redact the final failure of a job, and render it for another client.

A failure that was recorded is replayed with the dispatcher's message and HTTP status, and with the session and job of
the client that replays it. The dispatcher's configuration and folders are removed. The paths of the members that name
the client are stored, and those of another client are inserted there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec import json_text
from oda_proxy.codec.json_steps import compact
from oda_proxy.codec.json_text import JsonObject
from oda_proxy.compat import screening
from oda_proxy.errors import CodecError
from oda_proxy.query.cache_key import KEY_VERSION, key_of
from oda_proxy.query.query import ENVELOPE
from oda_proxy.recordings import api_code, serialisation
from oda_proxy.recordings.leak_check import Secrets, check_no_secrets, collect_secrets
from oda_proxy.recordings.redaction import REMOVED, NotStorableError, names_client, redact_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.query import Envelope, Query
    from oda_proxy.recordings.serialisation import MemberPath

FORMAT: Final = 1
"""Version of the file format."""

MAX_SIZE: Final = 1024 * 1024
"""Largest failure that is stored, in bytes; a dispatcher's traceback has some thousands."""
MAX_DOCUMENT: Final = 8 * MAX_SIZE
"""Largest document that is parsed, in bytes: a failure takes more when indented and escaped."""

_OK: Final = 200
_STATUSES: Final = frozenset({_OK, *range(400, 502)}) - {408, 425, 429}
"""Statuses of a final failure. Others are sent by gateways or ask the client to wait: the job has not ended."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a query failed; `failed_at` is in s since 1970 (UTC)."""

    key: Key
    status: int
    content_type: str
    body: Mapping[str, Any] | str
    """The JSON object of the answer without its client, `api_code` as a program with gaps; or a text."""
    failed_at: float
    gaps: tuple[MemberPath, ...] = ()
    """Paths of the members that name the client."""
    query: Query | None = None
    """The redacted query, for people."""
    private: bool = False
    """Whether the request had a token."""


def redact(
    body: bytes,
    envelope: Envelope,
    *,
    status: int,
    content_type: str,
    key: Key,
    failed_at: float,
    query: Query | None = None,
) -> Failure:
    """Make a failure of an answer that ended a job; `query` is what `recording.redact_query` returns.

    Raises NotStorableError for an answer that is not a final failure, is larger than `MAX_SIZE`, would make a client
    load classes that are not on the allow-list, or still names its client.
    """
    if len(body) > MAX_SIZE:
        raise NotStorableError("too-large")
    if status not in _STATUSES:
        raise NotStorableError("not-final")
    answer = _parsed(body)
    members = answer if isinstance(answer, dict) else {}
    if status == _OK and members.get(_STATE) != "failed":
        raise NotStorableError("not-failed")
    if screening.forbidden_names(members.get("products")):
        raise NotStorableError("unsafe")
    found = _secrets(envelope, answer)
    gaps: list[MemberPath] = []
    try:
        redacted = _redacted(answer, found, gaps)
        failure = Failure(
            key, status, content_type, redacted, failed_at, tuple(gaps), query, envelope.token is not None
        )
        serialise(failure)
    except (CodecError, RecursionError):  # e.g. a lone surrogate, or a number beyond the range of a float
        raise NotStorableError("not-an-answer") from None
    check_no_secrets([redacted, content_type], found)
    return failure


def render(failure: Failure, envelope: Envelope, *, now: float, address: str) -> bytes:
    """Return the body of a failure for a client that reaches us at `address`; `now` is in s since 1970 (UTC)."""
    if isinstance(failure.body, str):
        return failure.body.encode("utf-8")
    client: dict[str, Any] = {
        **envelope.others,
        "session_id": envelope.session_id,
        "job_id": envelope.job_id or failure.key[:16],
        _STATE: envelope.query_status,
        "token": envelope.token.text if envelope.token else None,
    }
    answer: dict[str, Any] = json.loads(compact(failure.body))
    for *path, name in failure.gaps:
        if name == _NOW:
            serialisation.follow(answer, path)[name] = now
        elif name in client:
            serialisation.follow(answer, path)[name] = client[name]
    products = answer.get("products")
    if isinstance(products, dict) and isinstance(program := products.get(_API_CODE), list):
        products[_API_CODE] = api_code.fill_gaps(program, client, address)
    return f"{compact(answer)}\n".encode()


# -- redaction -------------------------------------------------------------------------------------

_CONFIG: Final = "config"
_NOW: Final = "time_request"
_STATE: Final = "query_status"
_API_CODE: Final = "api_code"

_FOLDER: Final = re.compile(r"file://[^\s\"'<>]+|(?<![\w:/.\\-])/(?:[\w.+~@-]+/)+[\w.+~@-]*")
"""Paths of files on the server, as tracebacks and system messages name them; URLs are not matched."""


def _parsed(body: bytes) -> dict[str, Any] | str:
    """Parse an answer: a JSON object, or else its text."""
    try:
        answer = json.loads(body, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        return answer
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise NotStorableError("not-an-answer") from None


def _secrets(envelope: Envelope, answer: Any) -> Secrets:
    """Collect the secrets of an exchange; a job id of zeros means that the request was refused before it had a job."""
    found = collect_secrets(envelope, answer)
    return Secrets({reason: frozenset(s for s in texts if s.strip("0")) for reason, texts in found.by_reason.items()})


def _redacted(value: Any, found: Secrets, gaps: list[MemberPath], at: MemberPath = ()) -> Any:
    """Return a JSON value without what names the client, and append to `gaps` where another client is to be named."""
    if isinstance(value, str):
        return _cleaned(value, found)
    if isinstance(value, list):
        return [_redacted(inner, found, gaps, (*at, number)) for number, inner in enumerate(value)]
    if not isinstance(value, dict):
        return value
    redacted = {}
    for name, inner in value.items():
        path = (*at, name)
        if path == (_CONFIG,):
            continue
        if path == (_STATE,):
            redacted[name] = inner
        elif name in ENVELOPE or path == (_NOW,):
            gaps.append(path)
        elif names_client(name):
            continue
        elif path == ("products", _API_CODE):
            program = api_code.with_gaps(inner) if isinstance(inner, str) else []
            redacted[name] = [[_cleaned(text, found) for text in part] for part in program]
        else:
            clean = _cleaned(name, found)
            redacted[clean] = _redacted(inner, found, gaps, (*at, clean))
    return redacted


def _cleaned(text: str, found: Secrets) -> str:
    """Remove persons, sessions and folders from a text: messages repeat the request, and where it failed."""
    secret = {one for texts in found.by_reason.values() for one in texts if len(one) >= _LONG and one in text}
    for one in sorted(secret, key=len, reverse=True):
        text = text.replace(one, REMOVED)
    return _FOLDER.sub(REMOVED, redact_text(text))


_LONG: Final = 8
"""Characters from which on a secret is replaced in texts; a shorter one may be an ordinary word."""


# -- file format -----------------------------------------------------------------------------------


def serialise(failure: Failure) -> str:
    """Return a failure as strict JSON. Raises CodecError where it cannot be written so."""
    document = {
        "format": FORMAT,
        "key": failure.key,
        "key_version": KEY_VERSION,
        "status": failure.status,
        "content_type": failure.content_type,
        "failed_at": failure.failed_at,
        "private": failure.private,
        "query": failure.query and serialisation.dump_query(failure.query),
        "gaps": failure.gaps,
        "text" if isinstance(failure.body, str) else "body": failure.body,
    }
    return json_text.dumps(document)


def parse(text: bytes) -> Failure:
    """Parse what `serialise` returns. Raises CodecError for anything else."""
    if len(text) > MAX_DOCUMENT:
        raise CodecError(f"is larger than {MAX_DOCUMENT} bytes")
    document = JsonObject.of(json_text.loads(text))
    if (version := document.count("format")) != FORMAT:
        raise CodecError(f"is of format {version}; this release reads format {FORMAT}")
    if (status := document.count("status")) not in _STATUSES:
        raise CodecError(f"{status} is not the status of a final failure")
    query = (
        None
        if document.members.get("query") is None
        else serialisation.read_query(JsonObject.of(document.members["query"]))
    )
    private = document.boolean("private", default=True)
    key = serialisation.read_key(document, "key")
    if document.count("key_version") != KEY_VERSION and query and not private:
        key = key_of(query)
    body: dict[str, Any] | str = document.text("text") if "text" in document.members else document.mapping("body")
    _check_products(body)
    return Failure(
        key=key,
        status=status,
        content_type=_header(document.text("content_type")),
        body=body,
        failed_at=serialisation.read_seconds(document, "failed_at"),
        gaps=tuple(serialisation.read_path(place, body) for place in document.items("gaps")),
        query=query,
        private=private,
    )


def _header(text: str) -> str:
    if not (text.isascii() and text.isprintable()) or len(text) > _LONGEST_HEADER:
        raise CodecError("'content_type' is not a header value")
    return text


_LONGEST_HEADER: Final = 200


def _check_products(body: Mapping[str, Any] | str) -> None:
    """Refuse classes that clients would load, and an `api_code` that is not a program with gaps."""
    products = None if isinstance(body, str) else body.get("products")
    if names := screening.forbidden_names(products):
        raise CodecError(f"a client that reads it would load {', '.join(names)}")
    if isinstance(products, dict) and isinstance(program := products.get(_API_CODE), list):
        serialisation.read_program(program)
