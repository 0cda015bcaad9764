"""Redaction of a command line: without secrets and without the name of the user."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from oda_proxy.recordings.redaction import REMOVED, redact_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_NAMES: Final = r"(?:token|password|passwd|secret|api[_-]?key)"
_ASSIGNED: Final = re.compile(rf"([\w-]*{_NAMES}[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s&;,]+)", re.IGNORECASE)
_NAMED: Final = re.compile(rf"[\w.-]*{_NAMES}", re.IGNORECASE)
_USER: Final = re.compile(r"(?<=://)[^/@\s]*@")
_HOME: Final = re.compile(r"(?<![\w.-])/(?:home|Users)/[^/\s:\"']+|(?<![\w/.-])/root(?![\w.-])")
_SHORTEST: Final = 6
"""Characters of the shortest value of a variable that is searched for: shorter ones may be ordinary words."""


def redacted(command: Sequence[str], environment: Mapping[str, str], *, home: str) -> tuple[str, ...]:
    """Return the words of a command without secrets, which are found by their form, name or value.

    A word after the name of a secret (`--token X`, `-p token X`) is removed. Home folders become `~`.
    """
    secrets = _secret_values(environment)
    words = []
    is_secret = False
    for word in command:
        words.append(REMOVED if is_secret else _redacted_word(word, secrets, home))
        is_secret = bool(_NAMED.fullmatch(word))
    return tuple(words)


def without_user(url: str) -> str:
    """Return an address without the user and password in it."""
    return _USER.sub("", url)


def _secret_values(environment: Mapping[str, str]) -> list[str]:
    """Return the values of variables that are named like secrets, the longest first."""
    named = {value.strip() for name, value in environment.items() if _NAMED.fullmatch(name)}
    return sorted((value for value in named if len(value) >= _SHORTEST), key=len, reverse=True)


def _redacted_word(word: str, secrets: Iterable[str], home: str) -> str:
    word = word.encode("utf-8", "replace").decode("utf-8")  # the manifest is UTF-8
    for secret in secrets:
        word = word.replace(secret, REMOVED)
    word = redact_text(without_user(word))
    word = _ASSIGNED.sub(rf"\1{REMOVED}", word)
    if len(home) > 1:
        word = re.sub(rf"{re.escape(home.rstrip('/'))}(?![\w.-])", "~", word)
    return _HOME.sub("~", word)
