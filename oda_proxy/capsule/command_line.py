"""A command line as others may see it: without secrets, and without the name of whose machine it ran on."""

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
"""Characters from which on the value of a variable is looked for: shorter ones are words like any other."""


def published(command: Sequence[str], environment: Mapping[str, str], *, home: str) -> tuple[str, ...]:
    """Give the words of a command without what is a secret there, by its looks, its name or its value.

    A word after one that names a secret (`--token X`, `-p token X`) is taken for it. Home folders are shown as `~`.
    """
    secrets = _values(environment)
    words = []
    is_secret = False
    for word in command:
        words.append(REMOVED if is_secret else _cleaned(word, secrets, home))
        is_secret = bool(_NAMED.fullmatch(word))
    return tuple(words)


def without_user(url: str) -> str:
    """Give an address without the user and the password that may stand in it."""
    return _USER.sub("", url)


def _values(environment: Mapping[str, str]) -> list[str]:
    """Give the values of variables that name secrets, the longest first."""
    named = {value.strip() for name, value in environment.items() if _NAMED.fullmatch(name)}
    return sorted((value for value in named if len(value) >= _SHORTEST), key=len, reverse=True)


def _cleaned(word: str, secrets: Iterable[str], home: str) -> str:
    word = word.encode("utf-8", "replace").decode("utf-8")  # what is no UTF-8 has no form in the manifest
    for secret in secrets:
        word = word.replace(secret, REMOVED)
    word = redact_text(without_user(word))
    word = _ASSIGNED.sub(rf"\1{REMOVED}", word)
    if len(home) > 1:
        word = re.sub(rf"{re.escape(home.rstrip('/'))}(?![\w.-])", "~", word)
    return _HOME.sub("~", word)
