"""Reads JSON Web Tokens as the dispatcher does: HS256, subject, roles, expiry.

A mock only has to reject tokens for the right reasons, so `hmac` is enough and no library is needed. Do not use this
module for access control.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import BadQueryError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SEGMENTS: Final = 3
_MAX_LENGTH: Final = 64 * 1024


class MalformedTokenError(BadQueryError):
    """A text that is not a token; the message is that of PyJWT, which the dispatcher passes on."""


class InvalidTokenError(BadQueryError):
    """A token with a wrong signature."""

    http_status = 403

    def __init__(self) -> None:
        super().__init__(
            "The token provided is not valid, please try to logout and login again. "
            "If already logged out, please clean the cookies, and resubmit you request."
        )


class ExpiredTokenError(BadQueryError):
    """An expired token."""

    http_status = 403

    def __init__(self) -> None:
        super().__init__(
            "The token provided is expired, please try to logout and login again. "
            "If already logged out, please clean the cookies, and resubmit you request."
        )


@dataclass(frozen=True)
class Token:
    """The claims of a token; `subject` is `sub`, else `email`, else empty."""

    subject: str
    roles: tuple[str, ...]
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


def read_token(text: str, secret_key: str | None, now: float) -> Token:
    """Verify a token and read it.

    Parameters
    ----------
    text
        The token, three segments of base64url.
    secret_key
        Key of the signature; None leaves the signature unverified.
    now
        Unix time in seconds.

    Raises
    ------
    MalformedTokenError, InvalidTokenError, ExpiredTokenError
        In this order of precedence.
    """
    if text.count(".") < _SEGMENTS - 1 or len(text) > _MAX_LENGTH:
        raise MalformedTokenError("Not enough segments")
    first, rest = text.split(".", 1)
    segments = [first, *rest.rsplit(".", 1)]
    header, payload = (
        _read_segment(segment, name) for segment, name in zip(segments, ("header", "payload"), strict=False)
    )
    if secret_key is not None and not _is_signed(segments, header, secret_key):
        raise InvalidTokenError
    expires = payload.get("exp")
    if isinstance(expires, (int, float)) and expires <= now:
        raise ExpiredTokenError
    subject = payload.get("sub") or payload.get("email") or ""
    return Token(subject=str(subject), roles=_read_roles(payload.get("roles")), claims=payload)


def make_token(payload: Mapping[str, Any], secret_key: str) -> str:
    """Sign a payload; the same bytes as from PyJWT."""
    parts = ({"alg": "HS256", "typ": "JWT"}, payload)
    segments = [_encode(json.dumps(part, separators=(",", ":")).encode()) for part in parts]
    return ".".join([*segments, _encode(_signature(segments, secret_key))])


def _is_signed(segments: list[str], header: dict[str, Any], secret_key: str) -> bool:
    expected = _encode(_signature(segments, secret_key))
    return header.get("alg") == "HS256" and hmac.compare_digest(expected.encode(), segments[2].encode())


def _signature(segments: list[str], secret_key: str) -> bytes:
    return hmac.digest(secret_key.encode(), ".".join(segments[:2]).encode(), hashlib.sha256)


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _read_segment(segment: str, name: str) -> dict[str, Any]:
    try:
        content = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise MalformedTokenError(f"Invalid {name} padding") from None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise MalformedTokenError(f"Invalid {name} string") from None
    if not isinstance(value, dict):
        raise MalformedTokenError(f"Invalid {name} string: must be a json object")
    return value


def _read_roles(roles: Any) -> tuple[str, ...]:
    names = roles.split(",") if isinstance(roles, str) else roles if isinstance(roles, list) else []
    return tuple(name.strip() for name in names if isinstance(name, str))  # an empty text is one empty role
