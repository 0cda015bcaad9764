"""A plain HTTP exchange of a run, stored without personal data.

Only public answers are stored: to a GET without credentials, whose address holds nothing that looks like a secret or
a person, with status 200 or a redirect. Partial answers (206) and those to conditional requests (304) are not stored,
so that a range for one client is never served as the whole file to another; a range or conditional request may be
answered by the whole file.

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

from oda_proxy.capsule.secrets import is_credential_header, may_hold_secret
from oda_proxy.errors import OdaProxyError
from oda_proxy.http import headers as _headers
from oda_proxy.http.answer import OK, Answer
from oda_proxy.recordings.redaction import NotStorableError

if TYPE_CHECKING:
    from oda_proxy.http.cache_status import CacheStatus
    from oda_proxy.http.message import Headers

FORMAT = 1

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a body that is stored."""
MAX_JSON = 1024 * 1024
"""Bytes of the JSON form."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})

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


class ExchangeError(OdaProxyError):
    """A document that is not an exchange, or one that would never have been stored."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A GET and its answer."""

    url: str
    request_headers: Headers
    """The headers of the request by which the answer varies (`Vary`), names in lower case, sorted."""
    status: int
    headers: Headers
    """The headers of the answer that are stored."""
    body: bytes = field(repr=False)
    when: float
    """Time of the answer, in whole s since 1970 (UTC)."""

    @property
    def name(self) -> str:
        """Digest of the request, in hexadecimal digits: the same for equal requests."""
        return hashlib.sha256(json.dumps([self.url, self.request_headers]).encode("ascii")).hexdigest()[:32]

    def matches(self, method: str, url: str, headers: Headers) -> bool:
        """Tell whether this exchange answers a request; a HEAD is answered from a GET."""
        if method not in {"GET", "HEAD"} or url != self.url:
            return False
        return all(_joined(headers, name) == value for name, value in self.request_headers)

    def answer(self, cache_status: CacheStatus) -> Answer:
        """Return the answer for a program."""
        headers = (*self.headers, ("Content-Length", str(len(self.body))))
        return Answer(self.status, headers, (self.body,), cache_status)


# -- what may be stored ------------------------------------------------------------------------------


def check_request(method: str, url: str, headers: Headers) -> None:
    """Raise NotStorableError where no answer to a request may be stored."""
    if method != "GET":
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
    if status != OK and status not in REDIRECTS:
        raise NotStorableError("status")
    if "*" in _varying(headers):
        raise NotStorableError("varies")
    if any(may_hold_secret(target) for target in _headers.values(headers, "location")):
        raise NotStorableError("secret-in-address")


def exchange_from_answer(
    url: str, request_headers: Headers, status: int, headers: Headers, body: bytes, *, when: float
) -> Exchange:
    """Return the exchange of a GET of `url` and its answer; `when` is in s since 1970.

    Raises NotStorableError, with one short word, for what may not be stored. The caller limits the length of the body.
    """
    check_request("GET", url, request_headers)
    check_answer(status, headers)
    negotiated = tuple((name, _joined(request_headers, name)) for name in sorted(_varying(headers) & _NEGOTIATION))
    stored = tuple((name, value) for name, value in headers if name.casefold() in _STORED_HEADERS)
    return Exchange(url, negotiated, status, stored, body, float(int(when)))


def _varying(headers: Headers) -> set[str]:
    """Return the names of the request headers in `Vary`, in lower case."""
    return {name.strip().casefold() for value in _headers.values(headers, "vary") for name in value.split(",")}


def _joined(headers: Headers, name: str) -> str:
    return ", ".join(_headers.values(headers, name))


# -- JSON ------------------------------------------------------------------------------------------


def to_json(exchange: Exchange) -> bytes:
    """Return the JSON document of an exchange: all but the body, of which it has size and digest."""
    document = {
        "format": FORMAT,
        "url": exchange.url,
        "asked": exchange.request_headers,
        "status": exchange.status,
        "headers": exchange.headers,
        "body": {"size": len(exchange.body), "sha256": hashlib.sha256(exchange.body).hexdigest()},
        "when": datetime.fromtimestamp(exchange.when, UTC).strftime(_TIME),
    }
    return f"{json.dumps(document, indent=2, sort_keys=True)}\n".encode("ascii")


def from_json(text: bytes, body: bytes, *, max_body: int = MAX_BODY) -> Exchange:
    """Read the document of `to_json`, with its body. Raises ExchangeError for what would never have been stored."""
    if len(text) > MAX_JSON or len(body) > max_body:
        raise ExchangeError(f"an exchange has up to {MAX_JSON} bytes of JSON, and a body of up to {max_body}")
    exchange = _read(text, body)
    try:
        expected = exchange_from_answer(
            exchange.url, exchange.request_headers, exchange.status, exchange.headers, body, when=exchange.when
        )
    except NotStorableError as error:
        raise ExchangeError(f"an exchange like this is never stored ({error})") from error
    if expected != exchange:
        raise ExchangeError("an exchange is never stored with these headers")
    return exchange


def _read(text: bytes, body: bytes) -> Exchange:
    """Read an exchange; check the types of its members and the digest of its body."""
    try:
        match json.loads(text):
            case {
                "format": 1,
                "url": str(url),
                "asked": list(request_headers),
                "status": int(status),
                "headers": list(headers),
                "body": {"size": int(size), "sha256": str(digest), **no_more},
                "when": str(when),
                **nor_more,
            } if not no_more and not nor_more:
                answered = datetime.strptime(when, _TIME).replace(tzinfo=UTC).timestamp()
                exchange = Exchange(url, _pairs(request_headers), status, _pairs(headers), body, answered)
            case _:
                raise ExchangeError(f"this is not the JSON document of an exchange, format {FORMAT}")
    except (ValueError, RecursionError) as error:
        raise ExchangeError(f"this is not the JSON document of an exchange, format {FORMAT}") from error
    if (size, digest) != (len(body), hashlib.sha256(body).hexdigest()):
        raise ExchangeError("the body is not the one that was stored")
    return exchange


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
