"""Token -> Audience: for whom an answer is, once somebody who can tell has verified the token.

What stands in a token is a claim until its signature was checked, by us with the dispatcher's key or by the dispatcher,
which answered a request with it a short while ago. The dispatcher decides by the roles what a person may see, and makes
jobs its own for each subject: both are the audience, unless the house says that more people share.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cachetools import TTLCache

from oda_proxy.errors import TokenRefusedError
from oda_proxy.query.cache_key import PUBLIC

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oda_proxy.query.query import Token

MAX_TOKEN = 16 * 1024
"""Characters of a token that is looked at."""

MAX_VERIFIED = 10_000
"""Tokens remembered at once."""


class Sharing(StrEnum):
    """Who shares what was computed for a token."""

    SUBJECT = "subject"
    """The same person, with the same roles."""
    ROLES = "roles"
    """All who have the same roles."""
    TEAM = "team"
    """All who have a verified token."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says: whose it is, what that one may do, and until when, in s since 1970."""

    subject: str
    roles: tuple[str, ...]
    expires: float | None

    def audience(self, sharing: Sharing) -> str:
        """Name those who may see what this one may, so that no two audiences have one name."""
        whose: dict[str, Any] = {"sharing": sharing}
        if sharing is Sharing.SUBJECT:
            whose["subject"] = self.subject
        if sharing is not Sharing.TEAM:
            whose["roles"] = self.roles
        return json.dumps(whose, sort_keys=True)


def read_claims(token: Token) -> Claims | None:
    """Read what a token claims, its signature unseen; None where it is no token that we understand.

    The dispatcher takes `sub`, or `email` where there is none, and roles as a list or as text with commas.
    """
    parts = token.text.split(".")
    if len(parts) != 3 or len(token.text) > MAX_TOKEN:  # noqa: PLR2004 - RFC 7519: header, payload, signature
        return None
    try:
        payload = json.loads(base64.b64decode(_padded(parts[1]), altchars=b"-_", validate=True))
        return _read(payload)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        return None


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)


def _read(payload: Mapping[str, Any]) -> Claims:
    """Read the payload of a token; raises TypeError or ValueError where it is not as the dispatcher makes it."""
    if not isinstance(payload, dict):
        raise TypeError(payload)
    subject, roles, expires = payload.get("sub", payload.get("email", "")), payload.get("roles", ""), payload.get("exp")
    named = roles.split(",") if isinstance(roles, str) else roles
    if not isinstance(subject, str) or not all(isinstance(role, str) for role in named):
        raise TypeError(payload)
    told = tuple(sorted({role.strip() for role in named} - {""}))
    return Claims(subject, told, None if expires is None else float(expires))


class TokenVerifier:
    """Knows which tokens were verified; it remembers digests of them, never themselves.

    `trust` is how long, in s, the dispatcher's word for a token counts; `clock` gives s since 1970.
    """

    def __init__(self, sharing: Sharing, *, secret_key: str | None, trust: float, clock: Callable[[], float]) -> None:
        self._sharing = sharing
        self._secret_key = secret_key
        self._clock = clock
        self._vouched: TTLCache[bytes, None] = TTLCache(MAX_VERIFIED, ttl=trust, timer=clock)

    def audience(self, token: Token | None) -> str | None:
        """Name the audience that a token claims; None for a token that has expired or says nothing that we understand.

        Nothing may be given to it before the token was verified.
        """
        if token is None:
            return PUBLIC
        claimed = read_claims(token)
        if claimed is None or (claimed.expires is not None and claimed.expires <= self._clock()):
            return None
        return claimed.audience(self._sharing)

    def is_verified(self, token: Token | None) -> bool:
        """Tell whether what a token claims is true, as far as its signature says; no token claims nothing."""
        return token is None or _digest(token) in self._vouched or self._signed_by_us(token)

    def check(self, token: Token | None) -> None:
        """Raise TokenRefusedError for a token of which we know by ourselves that the dispatcher would not take it."""
        if token is None or (claimed := read_claims(token)) is None:
            return
        if claimed.expires is not None and claimed.expires <= self._clock():
            raise TokenRefusedError("expired")
        if self._secret_key is not None and not self._signed_by_us(token):
            raise TokenRefusedError("not valid")

    def mark_verified(self, token: Token | None) -> None:
        """Take note that the dispatcher has just answered a request with this token."""
        if token is not None:
            self._vouched[_digest(token)] = None

    def _signed_by_us(self, token: Token) -> bool:
        if self._secret_key is None:
            return False
        import jwt

        # Expiry is looked at by our own clock; of the other claims the dispatcher makes nothing.
        options: jwt.types.Options = {
            "verify_aud": False,
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
            "verify_sub": False,
        }
        try:
            jwt.decode(token.text, self._secret_key, algorithms=["HS256"], options=options)
        except jwt.InvalidTokenError:
            return False
        return True


def _digest(token: Token) -> bytes:
    return hashlib.sha256(token.text.encode("utf-8", "surrogateescape")).digest()
