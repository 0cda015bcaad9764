"""A plain HTTP exchange of a run, stored without personal data.

Only public answers are stored: to a GET or HEAD without credentials, whose address holds nothing that looks like a
secret or a person, with status 200, a redirect, or a final failure (4xx). So are answers to a POST, by the digest of
its body, where the author says so for a host. Partial answers (206) and those to conditional requests (304) are not
stored, so that a range for one client is never served as the whole file to another; a range or conditional request may
be answered by the whole file.

Bodies are stored as they were received. They are requested uncompressed (`identity_encoding`), since another client
may not support the encoding; if a server compresses nevertheless, its `Content-Encoding` is stored, too.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from oda_proxy.capsule.layout import MAX_FILE
from oda_proxy.capsule.secrets import is_credential_header, may_hold_secret
from oda_proxy.errors import OdaProxyError
from oda_proxy.http import headers as _headers
from oda_proxy.http.answer import OK, Answer
from oda_proxy.recordings.redaction import NotStorableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.http.cache_status import CacheStatus
    from oda_proxy.http.message import Headers

FORMAT = 2
"""Version of the JSON document; 1, without methods other than GET and without failures, is read as well."""

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a body that is stored, unless another limit is chosen."""
MAX_JSON = 1024 * 1024
"""Bytes of the JSON form."""
MAX_OCCURRENCES = 10_000
"""Different answers to one request that are stored."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
FINAL_FAILURES = frozenset(range(400, 500)) - {407, 408, 421, 425, 429}
"""Failures of the request; the others are failures of a proxy, of this connection, or of this moment."""

_STORED_HEADERS = frozenset(
    {
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "etag",
        "last-modified",
        "location",
        "vary",
    }
)
_NEGOTIATION = frozenset({"accept", "accept-language"})
"""Request headers of content negotiation; no others are stored with an exchange."""
_METHODS = frozenset({"GET", "HEAD", "POST"})


class ExchangeError(OdaProxyError):
    """A document that is not an exchange, or one that would never have been stored."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer."""

    url: str
    request_headers: Headers
    """The headers of the request by which the answer varies (`Vary`), names in lower case, sorted."""
    status: int
    headers: Headers
    """The headers of the answer that are stored."""
    body: bytes = field(repr=False)
    when: float
    """Time of the answer, in whole s since 1970 (UTC)."""
    method: str = "GET"
    request_digest: str | None = None
    """Digest of the body of a POST (`request_digest`)."""
    occurrence: int = 1
    """1 for the first answer to a request, counted up for each later one that differs from the one before."""

    @property
    def name(self) -> str:
        """A readable name, which differs for different requests and occurrences."""
        digest = hashlib.sha256(json.dumps([*self.request, self.occurrence]).encode("ascii")).hexdigest()
        address = urlsplit(self.url)
        words = [address.hostname or "", address.path.rstrip("/").rpartition("/")[2]]
        readable = "_".join(re.sub(r"[^A-Za-z0-9.-]+", "_", word).strip("._-") for word in words).strip("_")
        return f"{readable[:_MAX_READABLE].rstrip('._-') or 'page'}-{digest[:12]}"

    @property
    def request(self) -> tuple[str, str, Headers, str | None]:
        """What tells this request from others."""
        return self.method, self.url, self.request_headers, self.request_digest

    def matches(self, method: str, url: str, headers: Headers, body: bytes | None = None) -> bool:
        """Return whether this exchange answers a request; a HEAD is answered from a GET, too."""
        if url != self.url or method not in {self.method, *({"HEAD"} if self.method == "GET" else ())}:
            return False
        if self.method == "POST" and request_digest(headers, body or b"") != self.request_digest:
            return False
        return all(_joined(headers, name) == value for name, value in self.request_headers)

    def answer(self, cache_status: CacheStatus) -> Answer:
        """Return the answer for a program."""
        if self.method == "HEAD":
            return Answer(self.status, self.headers, (), cache_status)
        headers = (*self.headers, ("Content-Length", str(len(self.body))))
        return Answer(self.status, headers, (self.body,), cache_status)


_MAX_READABLE = 60
"""Characters of the readable part of a name."""


def request_digest(headers: Headers, body: bytes) -> str:
    """Return the digest of the body of a POST, in hexadecimal digits.

    The boundary of a multipart form, which clients choose at random, does not count.
    """
    content_type = next(iter(_headers.values(headers, "content-type")), "")
    if boundary := _BOUNDARY.search(content_type):
        body = body.replace(boundary[1].encode("latin-1"), b"boundary")
        content_type = content_type.replace(boundary[1], "boundary")
    return hashlib.sha256(content_type.casefold().encode("utf-8", "replace") + b"\n" + body).hexdigest()


_BOUNDARY = re.compile(r"multipart/.*\bboundary=\"?([^\";\s]{8,70})", re.IGNORECASE)


# -- what may be stored ------------------------------------------------------------------------------


def check_request(method: str, url: str, headers: Headers, *, post: bool = False) -> None:
    """Raise NotStorableError where no answer to a request may be stored; `post` allows POST."""
    if method not in {"GET", "HEAD"} and not (post and method == "POST"):
        raise NotStorableError("method")
    if any(is_credential_header(name) for name, _ in headers):
        raise NotStorableError("credentials")
    if not _ADDRESS.fullmatch(url):
        raise NotStorableError("address")
    if may_hold_secret(url):
        raise NotStorableError("secret-in-address")


_ADDRESS = re.compile(r"https?://[!-\"$-~]+")
"""Printable, and without a fragment."""


def identity_encoding(headers: Headers) -> Headers:
    """Return the headers of a request for an uncompressed answer, which can be stored."""
    rest = tuple((name, value) for name, value in headers if name.casefold() != "accept-encoding")
    return (*rest, ("Accept-Encoding", "identity"))


def check_answer(status: int, headers: Headers) -> None:
    """Raise NotStorableError where an answer may not be stored, whatever its body is."""
    if status != OK and status not in REDIRECTS and status not in FINAL_FAILURES:
        raise NotStorableError("status")
    if "*" in _varying(headers):
        raise NotStorableError("varies")
    if any(may_hold_secret(target) for target in _headers.values(headers, "location")):
        raise NotStorableError("secret-in-address")


def exchange_from_answer(
    url: str,
    request_headers: Headers,
    status: int,
    headers: Headers,
    body: bytes,
    *,
    when: float,
    method: str = "GET",
    request_digest: str | None = None,
    occurrence: int = 1,
) -> Exchange:
    """Return the exchange of a request of `url` and its answer; `when` is in s since 1970.

    Raises NotStorableError, with one short word, for what may not be stored. The caller limits the length of the body.
    """
    check_request(method, url, request_headers, post=request_digest is not None)
    check_answer(status, headers)
    negotiated = tuple((name, _joined(request_headers, name)) for name in sorted(_varying(headers) & _NEGOTIATION))
    names = _STORED_HEADERS | {"content-length"} if method == "HEAD" else _STORED_HEADERS
    stored = tuple((name, value) for name, value in headers if name.casefold() in names)
    return Exchange(url, negotiated, status, stored, body, float(int(when)), method, request_digest, occurrence)


def _varying(headers: Headers) -> set[str]:
    """Return the names of the request headers in `Vary`, in lower case."""
    return {name.strip().casefold() for value in _headers.values(headers, "vary") for name in value.split(",")}


def _joined(headers: Headers, name: str) -> str:
    return ", ".join(_headers.values(headers, name))


# -- JSON ------------------------------------------------------------------------------------------


def to_json(exchange: Exchange) -> bytes:
    """Return the JSON document of an exchange: all but the body, of which it has size and digest."""
    body = {"size": len(exchange.body), "sha256": hashlib.sha256(exchange.body).hexdigest()}
    document = {
        "format": FORMAT,
        "method": exchange.method,
        "url": exchange.url,
        "asked": exchange.request_headers,
        "request_digest": exchange.request_digest,
        "occurrence": exchange.occurrence,
        "status": exchange.status,
        "headers": exchange.headers,
        "body": body,
        "newline_added": _needs_newline(exchange.body),
        "when": datetime.fromtimestamp(exchange.when, UTC).strftime(_TIME),
    }
    return f"{json.dumps(document, indent=2, sort_keys=True)}\n".encode("ascii")


def body_file(exchange: Exchange) -> bytes:
    """Return the content of the file of the body: text ends with a newline, as editors and git hooks want it."""
    return exchange.body + b"\n" * _needs_newline(exchange.body)


def _needs_newline(body: bytes) -> bool:
    return bool(body) and b"\0" not in body and not body.endswith(b"\n")


def from_json(text: bytes, content: bytes, *, max_body: int = MAX_FILE) -> Exchange:
    """Read the document of `to_json`, with the content of the file of its body.

    Raises ExchangeError for what would never have been stored.
    """
    if len(text) > MAX_JSON or len(content) > max_body:
        raise ExchangeError(f"an exchange has up to {MAX_JSON} bytes of JSON, and a body of up to {max_body}")
    exchange = _read(text, content)
    try:
        expected = exchange_from_answer(
            exchange.url,
            exchange.request_headers,
            exchange.status,
            exchange.headers,
            exchange.body,
            when=exchange.when,
            method=exchange.method,
            request_digest=exchange.request_digest,
            occurrence=exchange.occurrence,
        )
    except NotStorableError as error:
        raise ExchangeError(f"an exchange like this is never stored ({error})") from error
    if expected != exchange or exchange.method not in _METHODS:
        raise ExchangeError("an exchange is never stored with these headers")
    return exchange


def _read(text: bytes, content: bytes) -> Exchange:
    """Read an exchange; check the types of its members and the digest of its body."""
    try:
        document = json.loads(text)
        match document:
            case {
                "url": str(url),
                "asked": list(request_headers),
                "status": int(status),
                "headers": list(headers),
                "body": {"size": int(size), "sha256": str(digest), **no_more},
                "when": str(when),
                **rest,
            } if not no_more:
                answered = datetime.strptime(when, _TIME).replace(tzinfo=UTC).timestamp()
                method, posted, occurrence, is_longer = _read_rest(rest)
                body = content[:-1] if is_longer else content
                exchange = Exchange(
                    url, _pairs(request_headers), status, _pairs(headers), body, answered, method, posted, occurrence
                )
            case _:
                raise ExchangeError(_NO_EXCHANGE)
    except (ValueError, RecursionError) as error:
        raise ExchangeError(_NO_EXCHANGE) from error
    if (size, digest) != (len(body), hashlib.sha256(body).hexdigest()):
        raise ExchangeError("the body is not the one that was stored")
    return exchange


def _read_rest(rest: Mapping[Any, Any]) -> tuple[str, str | None, int, bool]:
    """Return method, digest of the request, occurrence, and whether the file of the body has one newline more.

    Raises ValueError.
    """
    match rest:
        case {"format": 1, **no_more} if not no_more:
            return "GET", None, 1, False
        case {
            "format": 2,
            "method": "GET" | "HEAD" | "POST" as method,
            "request_digest": None | str() as digest,
            "occurrence": int(occurrence),
            "newline_added": bool(is_longer),
            **no_more,
        } if (
            not (no_more or isinstance(occurrence, bool))
            and 0 < occurrence <= MAX_OCCURRENCES
            and (digest is not None) == (method == "POST")
        ):
            return method, digest, occurrence, is_longer
    raise ValueError("not an exchange")


_NO_EXCHANGE = f"this is not the JSON document of an exchange, format 1 to {FORMAT}"


_TIME = "%Y-%m-%dT%H:%M:%SZ"


def _pairs(items: list[Any]) -> Headers:
    """Read headers. Raises ValueError."""
    for pair in items:
        match pair:
            case [str(name), str(value)] if name.isascii() and not _CONTROLS.search(name + value):
                pass
            case _:
                raise ValueError("not a header")
    return tuple((name, value) for name, value in items)


_CONTROLS = re.compile(r"[\0\r\n]")
