"""A plain HTTP exchange of a run, kept without what belongs to its asker.

Only what anybody may ask is kept: a GET without credentials, whose address holds nothing that looks like a secret or a
person, and which was answered whole (200) or by a redirect. Partial answers (206) and those to conditions (304) are not
kept, so that one asker's range is never another's file; a range or a condition may be answered by the whole.

Bytes are kept as they came. Whoever asks for what is to be kept asks for them uncompressed (`asking`), as another asker
may not read what this one did; a server that compresses nevertheless is believed, and its `Content-Encoding` kept.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from oda_proxy.errors import OdaProxyError
from oda_proxy.http import headers as _headers
from oda_proxy.http.answer import OK, Answer
from oda_proxy.recordings.redaction import CLIENT_MEMBERS, NotStorableError, redact_text

if TYPE_CHECKING:
    from oda_proxy.http.cache_status import CacheStatus
    from oda_proxy.http.message import Headers

FORMAT = 1

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a body that is kept."""
MAX_JSON = 1024 * 1024
"""Bytes of the JSON form."""
MAX_URL = 8 * 1024
"""Characters of an address that is kept; few servers take longer ones."""
MAX_ENCODED = 4
"""How often a part of an address may be percent-encoded that is kept."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})

_KEPT = frozenset(
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
_CREDENTIALS = frozenset({"authorization", "cookie", "cookie2", "proxy-authorization", "x-api-key", "x-auth-token"})
_CHOOSING = frozenset({"accept", "accept-language"})
"""Headers by which programs choose among forms of one thing; no others are kept with an exchange."""


class ExchangeError(OdaProxyError):
    """What is read is not the form of an exchange that could have been kept."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A GET and what was answered."""

    url: str
    asked: Headers
    """Those headers of the request by which the answer varies, names in lower case, sorted."""
    status: int
    headers: Headers
    """Those headers of the answer that are kept."""
    body: bytes = field(repr=False)
    when: float
    """When it was answered, in whole s since 1970 (UTC)."""

    @property
    def name(self) -> str:
        """What it is filed under, in hexadecimal digits: the same for whoever asks the same."""
        return hashlib.sha256(json.dumps([self.url, self.asked]).encode("ascii")).hexdigest()[:32]

    def is_for(self, method: str, url: str, headers: Headers) -> bool:
        """Tell whether it answers a request; a HEAD is answered by what a GET was told."""
        if method not in {"GET", "HEAD"} or url != self.url:
            return False
        return all(_choice(headers, name) == value for name, value in self.asked)

    def answer(self, cache_status: CacheStatus) -> Answer:
        """Give what a program is told."""
        told = (*self.headers, ("Content-Length", str(len(self.body))))
        return Answer(self.status, told, (self.body,), cache_status)


# -- what may be kept ------------------------------------------------------------------------------


def refuse_request(method: str, url: str, headers: Headers) -> None:
    """Raise NotStorableError where the answer to a request must not be kept, whatever it is."""
    if method != "GET":
        raise NotStorableError("method")
    if any(name.casefold() in _CREDENTIALS for name, _ in headers):
        raise NotStorableError("credentials")
    if not _ADDRESS.fullmatch(url):
        raise NotStorableError("address")
    if names_a_secret(url):
        raise NotStorableError("secret-in-address")


_ADDRESS = re.compile(r"https?://[!-\"$-~]+")
"""Printable, and without the sign that begins a fragment."""


def names_a_secret(url: str) -> bool:
    """Tell whether an address holds a password, a token, or what leads to a person, however it is encoded.

    It may, where it takes long to look through: an address of more than MAX_URL characters, or encoded too often.
    """
    text = url if len(url) <= MAX_URL else ""
    for _ in range(MAX_ENCODED):
        if not text or _holds_a_secret(text):
            return True
        if (shorter := unquote(text)) == text:
            return False
        text = shorter
    return True


def _holds_a_secret(text: str) -> bool:
    names = _NAME.findall(text)
    words = {name.casefold() for name in names}
    parts = {part.casefold() for name in names for part in _PART.findall(name)}
    if words & CLIENT_MEMBERS or (words | parts) & _SECRET:
        return True
    return redact_text(text) != text or bool(_LOGIN.search(text) or _KEY.search(text))


_SECRET = frozenset(
    {
        "apikey",
        "auth",
        "authorization",
        "bearer",
        "code",
        "cred",
        "credential",
        "credentials",
        "jsessionid",
        "jwt",
        "key",
        "login",
        "passphrase",
        "passwd",
        "password",
        "phpsessid",
        "pwd",
        "secret",
        "session",
        "sessionid",
        "sid",
        "sig",
        "signature",
        "ticket",
        "token",
        "user",
        "userid",
        "username",
    }
)
"""Words that name a secret or a person, as a parameter or a part of one (`access_token`, `X-Amz-Signature`)."""
_NAME = re.compile(r"[?&;]([^=&;?]{1,100})=")
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_LOGIN = re.compile(r"//[^/?#]*@")
_KEY = re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|sk-|xox[abprs]-|AKIA|hf_)[\w-]{16,}")
"""How the keys of well-known services begin."""


def asking(headers: Headers) -> Headers:
    """Give a request's headers as they go on when the answer is to be kept: it is asked for uncompressed."""
    rest = tuple((name, value) for name, value in headers if name.casefold() != "accept-encoding")
    return (*rest, ("Accept-Encoding", "identity"))


def refuse_answer(status: int, headers: Headers) -> None:
    """Raise NotStorableError where an answer must not be kept, whatever its body is."""
    if status != OK and status not in REDIRECTS:
        raise NotStorableError("status")
    if "*" in _varying(headers):
        raise NotStorableError("varies")
    if any(names_a_secret(target) for target in _headers.values(headers, "location")):
        raise NotStorableError("secret-in-address")


def kept(url: str, asked: Headers, status: int, headers: Headers, body: bytes, *, when: float) -> Exchange:
    """Keep a GET of `url` with the headers `asked`, and its answer; `when` is in s since 1970.

    Raises NotStorableError, with one short word, for what must not be kept. The length of the body is the caller's to
    limit, as it reads it.
    """
    refuse_request("GET", url, asked)
    refuse_answer(status, headers)
    chosen = tuple((name, _choice(asked, name)) for name in sorted(_varying(headers) & _CHOOSING))
    told = tuple((name, value) for name, value in headers if name.casefold() in _KEPT)
    return Exchange(url, chosen, status, told, body, float(int(when)))


def _varying(headers: Headers) -> set[str]:
    """Give the headers of a request by which an answer varies, in lower case."""
    return {name.strip().casefold() for value in _headers.values(headers, "vary") for name in value.split(",")}


def _choice(headers: Headers, name: str) -> str:
    return ", ".join(_headers.values(headers, name))


# -- JSON ------------------------------------------------------------------------------------------


def to_json(exchange: Exchange) -> bytes:
    """Write all but the body, of which size and digest are told."""
    told = {
        "format": FORMAT,
        "url": exchange.url,
        "asked": exchange.asked,
        "status": exchange.status,
        "headers": exchange.headers,
        "body": {"size": len(exchange.body), "sha256": hashlib.sha256(exchange.body).hexdigest()},
        "when": datetime.fromtimestamp(exchange.when, UTC).strftime(_TIME),
    }
    return f"{json.dumps(told, indent=2, sort_keys=True)}\n".encode("ascii")


def from_json(text: bytes, body: bytes, *, max_body: int = MAX_BODY) -> Exchange:
    """Read what `to_json` wrote, with its body. Raises ExchangeError for all that could not have been kept."""
    if len(text) > MAX_JSON or len(body) > max_body:
        raise ExchangeError(f"an exchange has up to {MAX_JSON} bytes of JSON, and a body of up to {max_body}")
    told = _read(text, body)
    try:
        again = kept(told.url, told.asked, told.status, told.headers, body, when=told.when)
    except NotStorableError as error:
        raise ExchangeError(f"an exchange like this is never kept ({error})") from error
    if again != told:
        raise ExchangeError("an exchange is never kept with these headers")
    return told


def _read(text: bytes, body: bytes) -> Exchange:
    """Read an exchange whose members have the right types, and whose body the right digest."""
    try:
        match json.loads(text):
            case {
                "format": 1,
                "url": str(url),
                "asked": list(asked),
                "status": int(status),
                "headers": list(headers),
                "body": {"size": int(size), "sha256": str(digest), **no_more},
                "when": str(when),
                **nor_more,
            } if not no_more and not nor_more:
                answered = datetime.strptime(when, _TIME).replace(tzinfo=UTC).timestamp()
                exchange = Exchange(url, _pairs(asked), status, _pairs(headers), body, answered)
            case _:
                raise ExchangeError(f"this is not the JSON form of an exchange, format {FORMAT}")
    except (ValueError, RecursionError) as error:
        raise ExchangeError(f"this is not the JSON form of an exchange, format {FORMAT}") from error
    if (size, digest) != (len(body), hashlib.sha256(body).hexdigest()):
        raise ExchangeError("the body is not the one that was kept")
    return exchange


_TIME = "%Y-%m-%dT%H:%M:%SZ"


def _pairs(given: list[Any]) -> Headers:
    """Read headers; raises ValueError."""
    for pair in given:
        match pair:
            case [str(name), str(value)] if name.isascii() and not _CONTROLS.search(name + value):
                pass
            case _:
                raise ValueError("no header")
    return tuple((name, value) for name, value in given)


_CONTROLS = re.compile(r"[\0\r\n]")
