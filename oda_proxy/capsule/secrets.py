"""Recognises secrets by their names and forms: in addresses, headers, and words of a command."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from oda_proxy.http import headers
from oda_proxy.query.query import FORM
from oda_proxy.recordings.redaction import CLIENT_MEMBERS, redact_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.http.message import Request

MAX_URL = 8 * 1024
"""Characters of an address that is searched; few servers accept longer ones."""
MAX_ENCODED = 4
"""How often parts of an address may be percent-encoded."""
MAX_FORM_SEARCHED = 1024 * 1024
"""Bytes of a form that is searched for credentials."""

_URL_WORDS = frozenset(
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
"""Words that name a secret or a person, as a parameter or a part of one (`access_token`, `X-Amz-Signature`).

Published capsules are checked with them: a word that is added makes capsules unreadable that hold it.
"""

_SECRET_WORDS = frozenset(
    {
        "accesskey",
        "apikey",
        "auth",
        "authorization",
        "authtoken",
        "bearer",
        "cookie",
        "cookies",
        "cred",
        "credential",
        "credentials",
        "jwt",
        "key",
        "pass",
        "passcode",
        "passphrase",
        "passwd",
        "password",
        "pat",
        "pin",
        "privatekey",
        "pwd",
        "secret",
        "sessionid",
        "sig",
        "signature",
        "token",
        "userpwd",
    }
)
"""Words that name a secret, as an option, a variable, a field of a form, or a part of one."""

_CREDENTIAL_HEADERS = re.compile(
    r"(?:proxy-)?authorization|cookie2?|(?:[\w-]*-)?(?:api-?key|auth|auth-?key|token|secret|password|credentials?|session-?id)"
    r"|x-[\w-]*key",
    re.IGNORECASE,
)
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_URL_NAME = re.compile(r"[?&;]([^=&;?]{1,100})=")
_LOGIN = re.compile(r"//[^/?#]*@")
_URL_KEY = re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|sk-|xox[abprs]-|AKIA|hf_)[\w-]{16,}")
"""Prefixes of the keys of well-known services; as for `_URL_WORDS`, published capsules are checked with them."""
_KEY = re.compile(
    r"(?<![\w-])(?:"
    r"(?:gh[pousr]_|github_pat_|glpat-|gl\w{2,5}-|sk-|[rp]k_|sk_|xox[abeprs]-|A[KS]IA|hf_|gsk_|AIza|ya29\.|SG\.|pypi-|npm_|dop_v1_"
    r"|shp\w{2}_|EAAC|dckr_pat_|nvapi-|figd_|lin_api_|secret_|Bearer\s+|Basic\s+)[\w.~+/=-]{8,}"
    r"|eyJ[\w-]{5,}"
    r")|-----BEGIN"
)
_RANDOM = re.compile(r"(?<![\w+/=.-])[A-Za-z0-9_+=-]{32,}(?![\w+/=.-])")


def is_secret_name(name: str) -> bool:
    """Return whether an option, variable or field is named like a secret: `--password`, `ODA_TOKEN`, `apiKey`."""
    parts = [part.casefold() for part in _PART.findall(name)]
    joined = {"".join(parts[at : at + 2]) for at in range(len(parts))}
    return bool({*parts, *joined, name.strip("-_").casefold()} & _SECRET_WORDS)


def is_credential_header(name: str) -> bool:
    """Return whether a header holds credentials."""
    return bool(_CREDENTIAL_HEADERS.fullmatch(name.strip()))


def holds_key(text: str) -> bool:
    """Return whether a text holds what looks like a key: the prefix of a well-known service, or random characters."""
    return bool(_KEY.search(text)) or any(_is_random(found[0]) for found in _RANDOM.finditer(text))


def _is_random(text: str) -> bool:
    digits = sum(character.isdigit() for character in text)
    return digits >= len(text) // 10 and any(character.isalpha() for character in text)


def may_hold_secret(url: str) -> bool:
    """Return whether an address may hold a password, a token or personal data, also percent-encoded.

    True as well for addresses of more than MAX_URL characters, and for those encoded more than MAX_ENCODED times.
    """
    text = url if len(url) <= MAX_URL else ""
    for _ in range(MAX_ENCODED):
        if not text or _holds_secret(text):
            return True
        if (shorter := unquote(text)) == text:
            return False
        text = shorter
    return True


def _holds_secret(text: str) -> bool:
    names = _URL_NAME.findall(text)
    words = {name.casefold() for name in names}
    parts = {part.casefold() for name in names for part in _PART.findall(name)}
    if words & CLIENT_MEMBERS or (words | parts) & _URL_WORDS:
        return True
    return redact_text(text) != text or bool(_LOGIN.search(text) or _URL_KEY.search(text))


def credentials_in(request: Request) -> set[str]:
    """Return the credentials of a request: of its headers, its query, and a form of up to MAX_FORM_SEARCHED bytes."""
    found: set[str] = set()
    for name, value in request.headers:
        if is_credential_header(name):
            found |= set(_header_credentials(value))
    query = request.query_string
    if isinstance(request.body, bytes) and headers.media_type(request.headers) == FORM:
        query += "&" + request.body[:MAX_FORM_SEARCHED].decode("latin-1")
    found |= {value for name, value in parse_qsl(query) if is_secret_name(name)}
    return {value for value in found if value.strip()}


def _header_credentials(value: str) -> Iterator[str]:
    yield value
    scheme, _, rest = value.partition(" ")
    if scheme.casefold() == "basic":
        try:
            login = base64.b64decode(rest, validate=True).decode("utf-8", "replace")
        except (ValueError, binascii.Error):
            login = ""
        yield from (rest, login, login.partition(":")[2])
    elif rest:
        yield rest
    for pair in value.split(";"):
        name, _, cookie = pair.strip().partition("=")
        if name and len(cookie) >= _SHORTEST_COOKIE:
            yield cookie


_SHORTEST_COOKIE = 6
"""Characters of a cookie that may be a credential: shorter ones are settings."""
