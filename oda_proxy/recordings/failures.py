"""A job's final failure without its asker, and back for another.

What failed once in a run fails alike when the run is replayed: with the dispatcher's own words, its HTTP status, and
the names of whoever asks then. The dispatcher's configuration and folders are nobody's business and left out. Where
members stood that name the asker is remembered as paths, and those of the next asker are put in there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec import json_text
from oda_proxy.codec.json_spans import compact
from oda_proxy.codec.json_text import JsonObject
from oda_proxy.compat import screening
from oda_proxy.errors import CodecError
from oda_proxy.query.cache_key import KEY_VERSION, key_of
from oda_proxy.query.query import ENVELOPE
from oda_proxy.recordings import api_code, serialisation
from oda_proxy.recordings.redaction import (
    CLIENT_MEMBERS,
    REMOVED,
    NotStorableError,
    Secrets,
    bare_name,
    check_no_secrets,
    collect_secrets,
    redact_text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.query import Envelope, Query
    from oda_proxy.recordings.serialisation import Place

FORMAT: Final = 1
"""Version of the document."""

MAX_SIZE: Final = 1024 * 1024
"""Bytes of a failure that is kept; a dispatcher's traceback has some thousand."""
MAX_DOCUMENT: Final = 8 * MAX_SIZE
"""Bytes of a document that is read: indented and escaped, a failure takes more than it did."""

_OK: Final = 200
_STATUSES: Final = frozenset({_OK, *range(400, 502)}) - {408, 425, 429}
"""Of what is missing, gateways speak for a dispatcher that is not there, or asks for patience: nothing has ended."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a query failed; `failed_at` is in s since 1970 (UTC)."""

    key: Key
    status: int
    content_type: str
    body: Mapping[str, Any] | str
    """The JSON object of the answer without its asker, `api_code` a program with gaps; or a text."""
    failed_at: float
    gaps: tuple[Place, ...] = ()
    """Where members stood that name the asker."""
    query: Query | None = None
    """What was asked, for people."""
    private: bool = False
    """Whether it was asked for with a token."""


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
    """Make a failure of an answer that ended a job; `query` is as `recording.redact_query` gives it.

    Raises NotKeptError for an answer that is no final failure, is larger than `MAX_SIZE`, would have a client load what
    is not on the allow-list, or cannot be freed of its asker.
    """
    if len(body) > MAX_SIZE:
        raise NotStorableError("too-large")
    if status not in _STATUSES:
        raise NotStorableError("not-final")
    answer = _parsed(body)
    told = answer if isinstance(answer, dict) else {}
    if status == _OK and told.get(_STATE) != "failed":
        raise NotStorableError("not-failed")
    if screening.forbidden_names(told.get("products")):
        raise NotStorableError("unsafe")
    known = _secrets(envelope, answer)
    gaps: list[Place] = []
    try:
        kept = _without_asker(answer, known, gaps)
        failure = Failure(key, status, content_type, kept, failed_at, tuple(gaps), query, envelope.token is not None)
        serialise(failure)
    except (CodecError, RecursionError):  # half a pair of surrogates, a number beyond the range of a float
        raise NotStorableError("not-an-answer") from None
    check_no_secrets([kept], known)
    return failure


def render(failure: Failure, envelope: Envelope, *, now: float, address: str) -> bytes:
    """Give the body of a failure for this asker, who reaches us at `address`; `now` is in s since 1970 (UTC)."""
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
    for *way, name in failure.gaps:
        if name == _NOW:
            serialisation.follow(answer, way)[name] = now
        elif name in client:
            serialisation.follow(answer, way)[name] = client[name]
    products = answer.get("products")
    if isinstance(products, dict) and isinstance(program := products.get(_API_CODE), list):
        products[_API_CODE] = api_code.fill_gaps(program, client, address)
    return f"{compact(answer)}\n".encode()


# -- taking out ------------------------------------------------------------------------------------

_CONFIG: Final = "config"
_NOW: Final = "time_request"
_STATE: Final = "query_status"
_API_CODE: Final = "api_code"

_FOLDER: Final = re.compile(r"file://[^\s\"'<>]+|(?<![\w:/.\\-])/(?:[\w.+~@-]+/)+[\w.+~@-]*")
"""Files of the server, as tracebacks and messages of the system name them; addresses are none."""


def _parsed(body: bytes) -> dict[str, Any] | str:
    """Read an answer: a JSON object, or else its text."""
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
    """Collect the secrets of an exchange; noughts are the job of what was refused before there was one."""
    known = collect_secrets(envelope, answer)
    return Secrets({word: frozenset(s for s in texts if s.strip("0")) for word, texts in known.by_word.items()})


def _without_asker(value: Any, known: Secrets, gaps: list[Place], at: Place = ()) -> Any:
    """Give a JSON value without what names the asker, and take note of where the next asker is named."""
    if isinstance(value, str):
        return _cleaned(value, known)
    if isinstance(value, list):
        return [_without_asker(inner, known, gaps, (*at, number)) for number, inner in enumerate(value)]
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, inner in value.items():
        place = (*at, name)
        if place == (_CONFIG,):
            continue
        if place == (_STATE,):
            kept[name] = inner
        elif name in ENVELOPE or place == (_NOW,):
            gaps.append(place)
        elif bare_name(name) in CLIENT_MEMBERS:
            continue
        elif place == ("products", _API_CODE):
            program = api_code.with_gaps(inner) if isinstance(inner, str) else []
            kept[name] = [[_cleaned(text, known) for text in part] for part in program]
        else:
            clean = _cleaned(name, known)
            kept[clean] = _without_asker(inner, known, gaps, (*at, clean))
    return kept


def _cleaned(text: str, known: Secrets) -> str:
    """Take persons, sessions and folders out of a text: messages repeat what was asked, and where it failed."""
    secret = {one for texts in known.by_word.values() for one in texts if len(one) >= _LONG and one in text}
    for one in sorted(secret, key=len, reverse=True):
        text = text.replace(one, REMOVED)
    return _FOLDER.sub(REMOVED, redact_text(text))


_LONG: Final = 8
"""Characters from which on a secret is not taken for a word."""


# -- the document ----------------------------------------------------------------------------------


def serialise(failure: Failure) -> str:
    """Write a failure as strict JSON. Raises CodecError where it has no such form."""
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
    """Read what `written` wrote. Raises CodecError for anything else."""
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
        raise CodecError("'content_type' is no value of a header")
    return text


_LONGEST_HEADER: Final = 200


def _check_products(body: Mapping[str, Any] | str) -> None:
    """Refuse what clients would load, and an `api_code` that is no program."""
    products = None if isinstance(body, str) else body.get("products")
    if names := screening.forbidden_names(products):
        raise CodecError(f"a client that reads it would load {', '.join(names)}")
    if isinstance(products, dict) and isinstance(program := products.get(_API_CODE), list):
        serialisation.read_program(program)
