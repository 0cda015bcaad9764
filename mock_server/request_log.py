"""Keeps the last requests to a mock, without tokens, for tests that check what was requested."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_REQUESTS: Final = 1000
_MAX_LENGTH: Final = 4096
"""Maximum length of a text in the log, in characters."""
_MAX_ARGUMENTS: Final = 200
_MAX_NAME: Final = 200
_REMOVED: Final = "(removed)"
_WEB_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.?[A-Za-z0-9_-]*")


@dataclass
class LoggedRequest:
    """One request: `arguments` as the mock read them, sizes of `files` in bytes, and what became of it.

    `status` is the HTTP status of the response, None before the response; `fault` is the fault that struck it.
    """

    number: int
    method: str
    path: str
    arguments: Mapping[str, str]
    files: Mapping[str, int]
    fault: str | None = None
    status: int | None = None


@dataclass
class RequestLog:
    """The last requests, oldest first; `count` includes those that were dropped."""

    requests: deque[LoggedRequest] = field(default_factory=lambda: deque(maxlen=MAX_REQUESTS))
    count: int = 0

    def add(self, method: str, path: str, arguments: Mapping[str, Any], files: Mapping[str, bytes]) -> LoggedRequest:
        """Add a request, and return its entry, whose result is set later."""
        self.count += 1
        entry = LoggedRequest(
            number=self.count,
            method=method,
            path=without_tokens(path),
            arguments=public_arguments(arguments),
            files={without_tokens(name)[:_MAX_NAME]: len(files[name]) for name in list(files)[:_MAX_ARGUMENTS]},
        )
        self.requests.append(entry)
        return entry

    def reset(self) -> None:
        """Forget all requests."""
        self.requests.clear()
        self.count = 0


def public_arguments(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return arguments as short texts, without tokens; those that are None are left out."""
    token = str(arguments.get("token") or "")
    shown = {}
    for name, value in list(arguments.items())[:_MAX_ARGUMENTS]:
        if value is None:
            continue
        text = str(value)
        if "token" in name.lower():
            text = _REMOVED
        elif token:
            text = text.replace(token, _REMOVED)
        shown[without_tokens(name)[:_MAX_NAME]] = without_tokens(text)
    return shown


def without_tokens(text: str) -> str:
    """Return a text without JSON web tokens, and not longer than the limit."""
    cleaned = _WEB_TOKEN.sub(_REMOVED, text[: 2 * _MAX_LENGTH])
    return cleaned if len(cleaned) <= _MAX_LENGTH else f"{cleaned[:_MAX_LENGTH]}..."
