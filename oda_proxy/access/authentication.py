"""Authentication of visitors: the roles that the tokens of a request show."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from oda_proxy.access.roles import Role
from oda_proxy.access.visitor import Visitor
from oda_proxy.errors import OdaProxyError
from oda_proxy.http.loopback import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORWARDED = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"})
"""Headers of requests that a front end forwards, which may be on this machine though the visitor is not."""

CHALLENGE = "Bearer"
"""The scheme of `Authorization` (RFC 6750, section 2.1)."""


class NotAuthenticatedError(OdaProxyError):
    """A request needs a token, or has one that is not valid (RFC 6750, section 3.1)."""

    http_status = 401
    detail = "token"


class NotAllowedError(OdaProxyError):
    """A visitor may not do what is requested, whatever the token."""

    http_status = 403
    detail = "not-allowed"


@dataclass(frozen=True, slots=True)
class Secret:
    """A token of this server, which does not print."""

    text: str = field(repr=False)

    def equals(self, text: str) -> bool:
        """Return whether a text is the token, in a time that depends on neither."""
        sent, expected = (
            hashlib.sha256(one.strip().encode("utf-8", "surrogateescape")).digest() for one in (text, self.text)
        )
        return hmac.compare_digest(sent, expected)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of this server, by the role that they give; None for those that are not set."""

    admin: Secret | None = None
    read: Secret | None = None
    metrics: Secret | None = None

    def roles(self, text: str) -> frozenset[Role]:
        """Return the roles that a token gives."""
        given = ((self.admin, Role.ADMIN), (self.read, Role.READER), (self.metrics, Role.METRICS))
        return frozenset(role for secret, role in given if secret is not None and secret.equals(text))


class Authentication:
    """Tells who sent a request."""

    def __init__(self, tokens: Tokens = Tokens()) -> None:
        self.tokens = tokens

    async def visitor(self, address: str, headers: Mapping[str, str]) -> Visitor:
        """Return the visitor of a request with an address. Raises NotAuthenticatedError for a wrong token.

        Programs on this machine may read figures where there is no token for that.
        """
        everyone = frozenset({Role.READER})
        if self.tokens.metrics is None and is_loopback(address) and _FORWARDED.isdisjoint(map(str.casefold, headers)):
            everyone |= {Role.METRICS}
        if (token := bearer_token(headers)) is None:
            return Visitor(address, everyone)
        if not (roles := self.tokens.roles(token)):
            raise NotAuthenticatedError("the token of this request is not one of this server")
        return Visitor(address, everyone | roles)


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """Return the token in `Authorization: Bearer`; None where the header is absent, or of another scheme."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.casefold() == CHALLENGE.casefold() else None
