"""Remove from JSON what names the client: members by their names, and addresses, tokens and folders in any text.

This is the first of two lines of defence; `leak_check` refuses whatever still holds a secret of the exchange.
"""

from __future__ import annotations

import re
from typing import Any

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


class NotStorableError(Exception):
    """An answer must not be stored; the message is the reason as one word, for the `detail` of `Cache-Status`."""


def redact_value(value: Any) -> Any:
    """Return a JSON value without what names a client: the same object where nothing has to be removed."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, list):
        cleaned = [redact_value(inner) for inner in value]
        return value if all(map(_is, cleaned, value)) else cleaned
    if isinstance(value, dict):
        rest = {name: inner for name, inner in value.items() if bare_name(name) not in CLIENT_MEMBERS}
        rest = {redact_text(name): redact_value(inner) for name, inner in rest.items()}
        same = len(rest) == len(value) and all(name in rest and rest[name] is value[name] for name in value)
        return value if same else rest
    return value


def bare_name(name: str) -> str:
    """Return the name of a member or a FITS card for comparison: without case, and without `HIERARCH`."""
    return re.sub(r"^hierarch\s+", "", name.casefold()).strip()


_EMAIL = re.compile(r"[\w.%+-]+(?:@|%40)[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
JWT = re.compile(r"eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*")
_SCRATCH = re.compile(r"[^\s\"'<>\\,;]*scratch_(?:sid|dir)_[^\s\"'<>\\,;]*")
_CALL_BACK = re.compile(r"https?(?:://|%3A%2F%2F)[^\s\"'<>\\]*call_back[^\s\"'<>\\]*", re.IGNORECASE)
_URL = re.compile(r"(https?://[^\s\"'<>\\?]*)\?([^\s\"'<>\\]*)")
_CLIENT_FIELD = re.compile(r"(?:^|[?&]|%26|%3F)(?:session_id|job_id|token)(?:=|%3D)", re.IGNORECASE)


def redact_text(text: str) -> str:
    """Return a text without e-mail addresses, tokens, folders of jobs and call-back addresses."""
    if "@" in text or "%40" in text:
        text = _EMAIL.sub(REMOVED, text)
    if "eyJ" in text and "." in text:
        text = JWT.sub(REMOVED, text)
    if "scratch_" in text:
        text = _SCRATCH.sub(REMOVED, text)
    if "call_back" in text:
        text = _CALL_BACK.sub(REMOVED, text)
    if "?" in text:
        text = _URL.sub(lambda found: found[1] if _names_client(f"?{found[2]}") else found[0], text)
    return text


def _names_client(text: str) -> bool:
    return bool(_CLIENT_FIELD.search(text))


def _is(one: Any, other: Any) -> bool:
    return one is other
