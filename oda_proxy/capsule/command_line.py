"""Redaction of a command line: without secrets and without the name of the user."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from oda_proxy.capsule.secrets import holds_key, is_credential_header, is_secret_name, may_hold_secret
from oda_proxy.recordings.redaction import REMOVED, redact_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

_SHORTEST: Final = 6
"""Characters of a secret that is searched for within words; shorter ones must be a whole word."""

_FOLDERS: Final = frozenset({"PWD", "OLDPWD"})
"""Variables that are not passwords."""

_USER: Final = re.compile(r"(?<=://)[^/@\s]*@")
_URL: Final = re.compile(r"https?://[^\s\"'<>\\]+", re.IGNORECASE)
_HOME: Final = re.compile(r"(?<![\w.-])/(?:home|Users)/[^/\s:\"']+|(?<![\w/.-])/root(?![\w.-])")
_ASSIGNED: Final = re.compile(r"([\w.-]{1,100})([\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s&;,\"']+)")
_HEADER: Final = re.compile(r"(?:(?<!\w)-H\s*)?([A-Za-z][\w-]{1,60})[\"']?\s*:\s*\S", re.ASCII)
_LOGIN_OPTION: Final = re.compile(
    r"-[uUa]|--(?:proxy-|http-|ftp-)?(?:user|userpwd|username|auth|login|creds?|credentials?)", re.ASCII
)
"""Options whose value is user:password, or one of both."""
_ATTACHED: Final = re.compile(r"(-[uUa])[^\s-].*[:%,].*|(-[pPw])(?!\d+$)[^\s=-]\S+", re.ASCII)
"""Options with an attached value: -ubob:password, -ppassword; a number is a port."""
_LOGIN: Final = re.compile(r"[A-Za-z][\w.@+-]*[:%](?![\d.]+$)[^\s/:\\]+")
"""user:password; what follows is no port, version or path."""
_CODE_LOGIN: Final = re.compile(r"(?:^|\s)-[uUa]\s*[\"']?[^\s\"':]+[:%]\S+|(?:^|\s)-[pPw](?!\d+\b)[^\s-]\S+", re.ASCII)
"""The same within the code of a shell."""
_SECRET_WORD: Final = re.compile(
    r"(?<![\w-])-{0,2}(?:pass|passwords?|passwd|passphrase|secrets?|credentials?|bearer|auth|api[-_ ]?keys?|tokens?"
    r"|login|sshpass|password-stdin)(?![\w-])",
    re.IGNORECASE,
)
_PASSWORD_PROGRAMS: Final = {
    "7z": "-p",
    "curlftpfs": "-o",
    "ldapsearch": "-w",
    "mariadb": "-p",
    "mongo": "-p",
    "mongosh": "-p",
    "mysql": "-p",
    "redis-cli": "-a",
    "sshpass": "-p",
    "unzip": "-P",
    "zip": "-P",
}
"""Programs with an option for a password that other programs use for something else."""


def redacted(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    home: str = "",
    credentials: Collection[str] = (),
) -> tuple[str, ...]:
    """Return the words of a command without secrets; `("(removed)",)` where one may be left in its code.

    A word is removed if it holds a header with credentials, user and password, a value of a variable of the
    environment that is named like a secret, or one of the `credentials` that the command sent. So is the word after an
    option that is named like a secret. Home folders become `~`.
    """
    named = {name: value.strip() for name, value in (environment or {}).items() if name not in _FOLDERS}
    values = {value for name, value in named.items() if is_secret_name(name)}
    secrets = {*(value for value in values if len(value) >= _SHORTEST), *filter(None, credentials)}
    words = [_redacted_word(word, secrets, home) for word in _without_values(command)]
    if any(" " in word.strip() and _may_be_left(word) for word in words):
        return (REMOVED,)
    return tuple(words)


def without_user(url: str) -> str:
    """Return an address without the user and password in it."""
    return _USER.sub("", url)


def _without_values(command: Sequence[str]) -> Iterator[str]:
    """Return the words; the values of options that are named like secrets are removed."""
    before, option = "", ""
    for word in command:
        option = _PASSWORD_PROGRAMS.get(PurePath(word).name, option)
        is_value = before and not word.startswith("--")
        if (is_value and (_is_secret_option(before) or before == option)) or (
            is_value and _LOGIN_OPTION.fullmatch(before) and re.search(r"[:%,]", word)
        ):
            yield REMOVED
        else:
            yield word
        before = word


def _is_secret_option(word: str) -> bool:
    if not re.fullmatch(r"[\w.-]{1,100}", word) or (word.startswith("-") and "=" in word):
        return False
    if word.startswith("-"):
        return is_secret_name(word)
    return bool(re.search(r"(?:token|password|passwd|secret|api[_-]?key|passphrase)$", word, re.IGNORECASE))


def _redacted_word(word: str, secrets: Collection[str], home: str) -> str:
    word = word.encode("utf-8", "replace").decode("utf-8")  # the manifest is UTF-8
    if any(_holds(word, secret) for secret in secrets) or _has_credential_header(word):
        return REMOVED
    if attached := _ATTACHED.fullmatch(word):
        return f"{attached[1] or attached[2]}{REMOVED}"
    if _LOGIN.fullmatch(word) or (" " in word and _CODE_LOGIN.search(word)):
        return REMOVED
    word = _URL.sub(_redacted_url, without_user(word))
    word = _ASSIGNED.sub(_redacted_assignment, redact_text(word))
    if holds_key(word):
        return REMOVED
    if len(home) > 1:
        word = re.sub(rf"{re.escape(home.rstrip('/'))}(?![\w.-])", "~", word)
    return _HOME.sub("~", word)


def _holds(word: str, secret: str) -> bool:
    return secret in word if len(secret) >= _SHORTEST else secret == word


def _has_credential_header(word: str) -> bool:
    names = (found[1].lstrip("-") for found in _HEADER.finditer(_URL.sub("", word)))
    return any(is_credential_header(name) and not _is_field(name) for name in names)


def _is_field(name: str) -> bool:
    """Return whether a name is rather one of a field of JSON, whose value is removed, than one of a header."""
    return "-" not in name and not re.fullmatch(r"authorization|cookie2?", name, re.IGNORECASE)


def _redacted_url(found: re.Match[str]) -> str:
    url = found[0]
    if not may_hold_secret(url):
        return url
    url = url.partition("?")[0]
    return REMOVED if may_hold_secret(url) else url


def _redacted_assignment(found: re.Match[str]) -> str:
    name, sign, value = found.groups()
    if is_secret_name(name) or (name.startswith("-") and _LOGIN_OPTION.fullmatch(name)):
        return f"{name}{sign}{REMOVED}"
    return f"{name}{sign}{value}"


def _may_be_left(code: str) -> bool:
    """Return whether code names a secret otherwise than by an assignment, whose value was removed."""
    rest = re.sub(rf"[\w.-]+[\"']?\s*[=:]\s*{re.escape(REMOVED)}", "", code)
    return bool(_SECRET_WORD.search(rest))
