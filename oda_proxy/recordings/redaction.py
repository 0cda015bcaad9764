"""Remove from JSON what names the client: members by their names, and addresses, tokens and folders in any text.

JSON within a text is redacted like any other. This is the first of two lines of defence; `leak_check` refuses whatever
still holds a secret of the exchange.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from oda_proxy.codec.json_steps import compact
from oda_proxy.query.query import ENVELOPE

REMOVED = "(removed)"
"""Replaces what is removed from a text."""

CLIENT_MEMBERS = ENVELOPE | {
    "call_back_url",
    "callback_url",
    "email",
    "scratch_dir",
    "time_original_request",
    "user_email",
    "work_dir",
}
"""Members, at any depth, that name the client or the folder of its job."""

_MODES = {"async_dispatcher", "oda_api_version", "off_line", "query_status"}
_ALIKE = {re.sub("[^a-z]", "", name) for name in CLIENT_MEMBERS - _MODES} | {
    *("accesstoken", "authtoken", "bearertoken", "idtoken", "refreshtoken", "apikey", "secretkey"),
    *("authorization", "cookie", "emailaddress", "password", "passwd", "setcookie", "useremailaddress", "username"),
}
"""Such names in any spelling (`sessionId`, `job-id`), and others for credentials and persons, by their letters."""

_CACHED_NAMES, _SHORT_NAME = 1024, 100
"""Names of members and cards whose letters are cached, and their longest: the same cards are in every header."""

MAX_NESTED = 1024 * 1024
"""Longest text in which JSON is redacted, in characters; longer texts hold encoded files."""


class NotStorableError(Exception):
    """An answer must not be stored; the message is the reason as one word, for the `detail` of `Cache-Status`."""


def redact_value(value: Any) -> Any:
    """Return a JSON value without what names a client: the same object where nothing has to be removed."""
    if isinstance(value, str):
        return redact_text(_redact_nested(value))
    if isinstance(value, list):
        cleaned = [redact_value(inner) for inner in value]
        return value if all(map(_is, cleaned, value)) else cleaned
    if isinstance(value, dict):
        rest: dict[str, Any] = {}
        for name, inner in value.items():
            if not names_client(name):
                rest[_unused_name(redact_text(name), rest)] = redact_value(inner)
        same = len(rest) == len(value) and all(name in rest and rest[name] is value[name] for name in value)
        return value if same else rest
    return value


def _redact_nested(text: str) -> str:
    """Return a text that is JSON without what names a client; any other text, or one without that, unchanged."""
    if not text.lstrip().startswith(("{", "[")) or len(text) > MAX_NESTED:
        return text
    try:
        value = json.loads(text)
        redacted = redact_value(value)
    except (ValueError, RecursionError):
        return text
    return text if redacted is value else compact(redacted)


def _unused_name(name: str, members: dict[str, Any]) -> str:
    """Return the name of a member, numbered if redaction made it the name of another."""
    number = 1
    while (unused := name if number == 1 else f"{name} {number}") in members:
        number += 1
    return unused


def names_client(name: str) -> bool:
    """Return whether members of this name are removed."""
    bare = bare_name(name)
    return bare in CLIENT_MEMBERS or letters(bare) in _ALIKE


def letters(name: str) -> str:
    """Return the letters of a name, without case."""
    return _letters(name) if len(name) <= _SHORT_NAME else _letters.__wrapped__(name)


@lru_cache(_CACHED_NAMES)
def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", name.casefold())


def bare_name(name: str) -> str:
    """Return the name of a member or a FITS card for comparison: without case, and without `HIERARCH`."""
    folded = name.casefold()
    return (re.sub(r"^hierarch\s+", "", folded) if folded.startswith("hierarch") else folded).strip()


_AT = r"(?:@|%(?:25)*40|\\u0040|&#(?:64|[xX]40);|&commat;)"
_EMAIL = re.compile(rf"[\w.%+-]+(?:'[\w.%+-]+)*{_AT}[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{{2,}}")
_HAS_AT = re.compile(_AT)
_LOGIN = re.compile(r"(?<=://)[^\s/@\"'<>\\?#]+@")
JWT = re.compile(r"eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*")
_SCRATCH = re.compile(r"[^\s\"'<>\\,;]*scratch_(?:sid|dir)_[^\s\"'<>\\,;]*")
_CALL_BACK = re.compile(r"https?(?:://|%3A%2F%2F)[^\s\"'<>\\]*call_back[^\s\"'<>\\]*", re.IGNORECASE)
_URL = re.compile(r"(https?://[^\s\"'<>\\?#]*)[?#]([^\s\"'<>\\]*)")
_CLIENT_FIELD = re.compile(
    r"(?:^|[?&#]|%26|%3F)(?:session_?id|job_?id|(?:\w+_)?token|api_?key|password|email)(?:=|%3D)", re.IGNORECASE
)


_MARKS = "@%\\&:.?#_"
"""Characters of which a text that is changed by `redact_text` has at least one; base64 has none."""
_LONG = 4096
"""Characters from which on looking for `_MARKS` first is worth it."""


def redact_text(text: str) -> str:
    """Return a text without e-mail addresses, tokens, logins, folders of jobs and call-back addresses."""
    if len(text) >= _LONG and not any(mark in text for mark in _MARKS):
        return text
    if "://" in text and "@" in text:
        text = _LOGIN.sub("", text)
    if _HAS_AT.search(text):
        text = _EMAIL.sub(REMOVED, text)
    if "eyJ" in text and "." in text:
        text = JWT.sub(REMOVED, text)
    if "scratch_" in text:
        text = _SCRATCH.sub(REMOVED, text)
    if "call_back" in text:
        text = _CALL_BACK.sub(REMOVED, text)
    if "?" in text or "#" in text:
        text = _URL.sub(lambda found: found[1] if _names_client(f"?{found[2]}") else found[0], text)
    return text


def _names_client(text: str) -> bool:
    return bool(_CLIENT_FIELD.search(text))


def _is(one: Any, other: Any) -> bool:
    return one is other
