"""Sessions of browsers: what a person has shown when signing in, signed by this server.

A session is in a cookie, and not stored by the server. It holds roles and an audience, never a token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cachetools import TTLCache

from oda_proxy.access.roles import Role

if TYPE_CHECKING:
    from collections.abc import Callable

LIFETIME: Final = 8 * 3600.0
"""Seconds for which a session is valid: a day at work."""
MAX_LENGTH: Final = 4096
"""Characters of a cookie that is read."""
MAX_ENDED: Final = 10_000
"""Ended sessions that are cached until they would have expired."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a signed-in person has shown; `expires` is in s since 1970 (UTC)."""

    roles: frozenset[Role]
    audience: str | None = field(repr=False)
    expires: float
    name: str = field(default="", repr=False)
    """A random name, by which the session can be ended."""


class Sessions:
    """Signs sessions, and reads those that it has signed; `clock` returns s since 1970 (UTC).

    `key` is secret, and the same in all processes of a server.
    """

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._key = key
        self._clock = clock
        self._ended: TTLCache[str, None] = TTLCache(MAX_ENDED, ttl=LIFETIME, timer=clock)

    def sign(
        self, roles: frozenset[Role], audience: str | None, *, binding: str = "", until: float | None = None
    ) -> str:
        """Return a new session as text for a cookie.

        `binding` is what must still be the same when it is read: the token with which its role was shown. The session
        expires at `until`, in s since 1970 (UTC), at the latest.
        """
        expires = self._clock() + LIFETIME
        members = {
            "roles": sorted(roles),
            "audience": audience,
            "expires": expires if until is None else min(expires, until),
            "name": secrets.token_urlsafe(12),
        }
        text = base64.urlsafe_b64encode(json.dumps(members).encode()).decode().rstrip("=")
        return f"{text}.{self._signature(text, binding)}"

    def read(self, cookie: str, binding: Callable[[frozenset[Role]], str]) -> Session | None:
        """Return the session in a cookie; None where this server has not signed it, or it has expired or ended.

        `binding` returns the binding that is valid now for a session with some roles.
        """
        if len(cookie) > MAX_LENGTH:
            return None
        text, _, signature = cookie.partition(".")
        try:
            members = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            roles = frozenset(map(Role, members["roles"]))
            session = Session(roles, members["audience"], float(members["expires"]), str(members["name"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if not hmac.compare_digest(signature.encode(), self._signature(text, binding(roles)).encode()):
            return None
        return None if session.expires <= self._clock() or session.name in self._ended else session

    def end(self, session: Session) -> None:
        """End a session before it expires."""
        self._ended[session.name] = None

    def _signature(self, text: str, binding: str) -> str:
        message = f"{text}.{hashlib.sha256(binding.encode('utf-8', 'surrogateescape')).hexdigest()}"
        return hmac.new(self._key, message.encode(), hashlib.sha256).hexdigest()
