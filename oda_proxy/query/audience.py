"""The audience of an answer: which users may see it, by the claims of a verified token.

The claims of a token count only once its signature has been verified: by this program with the dispatcher's secret key,
or by the dispatcher, which answered a request with the token a short while ago. The dispatcher grants access by roles
and runs separate jobs for each subject: both make the audience, unless the deployment shares more widely.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import warnings
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
"""Longest token that is parsed, in characters."""

MAX_VERIFIED = 10_000
"""Verified tokens that are cached."""


class Sharing(StrEnum):
    """Which users share what was computed for one of them."""

    SUBJECT = "subject"
    """One user, with the same roles."""
    ROLES = "roles"
    """All users with the same roles."""
    TEAM = "team"
    """All users with a verified token."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a token: its subject, the subject's roles, and when it expires, in s since 1970 (UTC)."""

    subject: str
    roles: tuple[str, ...]
    expires: float | None

    def audience(self, sharing: Sharing) -> str:
        """Return a unique name of the users who may see what this one may."""
        shared_by: dict[str, Any] = {"sharing": sharing}
        if sharing is Sharing.SUBJECT:
            shared_by["subject"] = self.subject
        if sharing is not Sharing.TEAM:
            shared_by["roles"] = self.roles
        return json.dumps(shared_by, sort_keys=True)


def read_claims(token: Token) -> Claims | None:
    """Read the claims of a token without verifying its signature; None where it cannot be parsed.

    As for the dispatcher, the subject is `sub` or else `email`; roles are a list, or a text with commas.
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
    """Read the payload of a token. Raises TypeError or ValueError where the dispatcher would not make such a one."""
    if not isinstance(payload, dict):
        raise TypeError(payload)
    subject, roles, expires = payload.get("sub", payload.get("email", "")), payload.get("roles", ""), payload.get("exp")
    names = roles.split(",") if isinstance(roles, str) else roles
    if not isinstance(subject, str) or not all(isinstance(role, str) for role in names):
        raise TypeError(payload)
    return Claims(
        subject, tuple(sorted({role.strip() for role in names} - {""})), None if expires is None else float(expires)
    )


class TokenVerifier:
    """Verifies tokens and caches, as digests, those that the dispatcher verified.

    `trust` is how long, in s, a token counts as verified after the dispatcher accepted it; `clock` returns s since 1970
    (UTC).
    """

    def __init__(self, sharing: Sharing, *, secret_key: str | None, trust: float, clock: Callable[[], float]) -> None:
        self._sharing = sharing
        self._secret_key = secret_key
        self._clock = clock
        self._verified: TTLCache[bytes, None] = TTLCache(MAX_VERIFIED, ttl=trust, timer=clock)

    def audience(self, token: Token | None) -> str | None:
        """Return the audience that a token claims; None for a token that has expired or cannot be parsed.

        Callers serve nothing private until `is_verified` holds for the token.
        """
        if token is None:
            return PUBLIC
        claimed = read_claims(token)
        if claimed is None or (claimed.expires is not None and claimed.expires <= self._clock()):
            return None
        return claimed.audience(self._sharing)

    def subject(self, token: Token) -> str:
        """Return the subject that a token claims; empty for none, and for a token that cannot be parsed."""
        claimed = read_claims(token)
        return claimed.subject if claimed else ""

    def is_verified(self, token: Token | None) -> bool:
        """Return whether the signature of a token is verified; a request without a token claims nothing."""
        return token is None or token_digest(token) in self._verified or self._has_our_signature(token)

    @property
    def has_key(self) -> bool:
        """Whether the dispatcher's secret key is known, and with it which tokens it accepts."""
        return self._secret_key is not None

    def check(self, token: Token | None) -> None:
        """Raise TokenRefusedError for a token that the dispatcher would refuse, as far as we can tell offline."""
        if token is None or (claimed := read_claims(token)) is None:
            return
        if claimed.expires is not None and claimed.expires <= self._clock():
            raise TokenRefusedError("expired")
        if self._secret_key is not None and not self._has_our_signature(token):
            raise TokenRefusedError("not valid")

    def mark_verified(self, token: Token | None) -> None:
        """Record that the dispatcher has just accepted this token."""
        if token is not None:
            self._verified[token_digest(token)] = None

    def _has_our_signature(self, token: Token) -> bool:
        if self._secret_key is None:
            return False
        import jwt

        # Expiry is checked with our own clock; the dispatcher ignores the other claims.
        options: jwt.types.Options = {
            "verify_aud": False,
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
            "verify_sub": False,
        }
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of keys below 32 bytes: the dispatcher chose this one
                jwt.decode(token.text, self._secret_key, algorithms=["HS256"], options=options)
        except jwt.InvalidTokenError:
            return False
        return True


def token_digest(token: Token) -> bytes:
    """Return a digest of a token, which may be stored."""
    return hashlib.sha256(token.text.encode("utf-8", "surrogateescape")).digest()
