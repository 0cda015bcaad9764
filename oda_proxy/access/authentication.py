"""Authentication of visitors: the roles that the address, the token and the session of a request show."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from oda_proxy.access.ownership import NO_DESCRIPTIONS, Ownership
from oda_proxy.access.roles import Role
from oda_proxy.access.sessions import Sessions
from oda_proxy.access.visitor import Visitor
from oda_proxy.errors import OdaProxyError
from oda_proxy.http.loopback import is_loopback
from oda_proxy.query.audience import read_claims
from oda_proxy.query.query import Token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from oda_proxy.access.roles import Action
    from oda_proxy.access.sessions import Session

CHALLENGE: Final = "Bearer"
"""The scheme of `Authorization` (RFC 6750, section 2.1)."""


class NotAuthenticatedError(OdaProxyError):
    """A request needs a token, or has one that is not valid (RFC 6750, section 3.1)."""

    http_status = 401
    detail = "token"


class TokenNeededError(NotAuthenticatedError):
    """A request has no token, and needs one."""

    def __init__(self, action: Action) -> None:
        super().__init__(f"to {action}, send a token: Authorization: {CHALLENGE} TOKEN")
        self.action = action


class NotAllowedError(OdaProxyError):
    """A visitor may not do what is requested."""

    http_status = 403
    detail = "not-allowed"


class Readers(StrEnum):
    """Who may read the pages about recordings and jobs, beside those with a token of this server."""

    ANYONE = "anyone"
    LOCAL = "local"
    """Clients on this machine."""
    TOKEN = "token"  # noqa: S105 - no token
    """Nobody else."""
    VERIFIED = "verified"
    """Persons whose token the dispatcher accepts."""


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
    """The tokens of this server, each for a role; None for those that are not set."""

    admin: Secret | None = None
    read: Secret | None = None
    metrics: Secret | None = None

    def roles(self, text: str) -> frozenset[Role]:
        """Return the roles of who has a token."""
        by_role = ((self.admin, Role.ADMIN), (self.read, Role.READER), (self.metrics, Role.METRICS))
        return frozenset(role for secret, role in by_role if secret is not None and secret.equals(text))


class Authentication:
    """Determines who sent a request.

    `trusts_addresses` is whether an address on this machine means that the client is there, and not a front end that
    does not name its clients. `audience_of` returns the audience of a token that the dispatcher accepts, None for any
    other. `tokens` can be replaced while the server runs. `sessions` may be those of several upstreams; `upstream` is
    the name of this one.
    """

    def __init__(
        self,
        tokens: Tokens | None = None,
        *,
        readers: Readers = Readers.LOCAL,
        trusts_addresses: bool = True,
        audience_of: Callable[[Token], Awaitable[str | None]] | None = None,
        ownership: Ownership = NO_DESCRIPTIONS,
        sessions: Sessions | None = None,
        upstream: str = "",
    ) -> None:
        self.tokens = tokens or Tokens()
        self.readers = readers
        self._trusts_addresses = trusts_addresses
        self._audience_of = audience_of
        self._ownership = ownership
        self._sessions = sessions or Sessions(secrets.token_bytes(32), time.time)
        self._upstream = upstream

    async def visitor(self, address: str, headers: Mapping[str, str], cookie: str | None = None) -> Visitor:
        """Return the visitor of a request from an address, with the session in its cookie.

        Raises NotAuthenticatedError for a token that is neither of this server nor accepted by the dispatcher.
        """
        visitor = Visitor(address, self._roles_of_address(address), ownership=self._ownership)
        if (token := bearer_token(headers)) is not None:
            roles, audience = await self._shown_by(token)
            return replace(visitor, roles=visitor.roles | roles, audience=audience, has_credentials=True)
        if cookie is not None and (session := self.session(cookie)):
            visitor = replace(visitor, roles=visitor.roles | session.roles, audience=session.audience)
            return replace(visitor, has_credentials=True, has_session=True)
        return visitor

    async def sign_in(self, token: str) -> str:
        """Return a session, as text for a cookie, for what a token shows; it expires with the token of a person.

        Raises NotAuthenticatedError.
        """
        roles, audience = await self._shown_by(token)
        claims = read_claims(Token(token)) if audience is not None else None
        until = claims.expires if claims else None
        return self._sessions.sign(roles, audience, binding=self._binding(roles), until=until)

    def sign_out(self, cookie: str) -> None:
        """End the session in a cookie."""
        if session := self.session(cookie):
            self._sessions.end(session)

    def session(self, cookie: str) -> Session | None:
        """Return the session in a cookie; None where it is not valid any more."""
        return self._sessions.read(cookie, self._binding)

    def _roles_of_address(self, address: str) -> frozenset[Role]:
        is_local = self._trusts_addresses and is_loopback(address)
        roles = set()
        if self.readers is Readers.ANYONE or (self.readers is Readers.LOCAL and is_local):
            roles.add(Role.READER)
        if is_local and self.tokens.metrics is None:
            roles.add(Role.METRICS)
        return frozenset(roles)

    async def _shown_by(self, token: str) -> tuple[frozenset[Role], str | None]:
        """Return the roles and the audience of a token. Raises NotAuthenticatedError for one that shows nothing."""
        if roles := self.tokens.roles(token):
            return roles, None
        audience = await self._audience_of(Token(token)) if self._audience_of else None
        if audience is None:
            raise NotAuthenticatedError(
                "the token is not one of this server, and the dispatcher has not accepted it as that of a person"
            )
        readers = {Readers.ANYONE, Readers.VERIFIED}
        return frozenset({Role.PERSON, *([Role.READER] if self.readers in readers else [])}), audience

    def _binding(self, roles: frozenset[Role]) -> str:
        """Return what sessions with these roles depend on: the tokens that gave them, which can be replaced.

        That of a person depends on the upstream: its dispatcher has accepted the token, and no other one has.
        """
        if Role.PERSON in roles:
            return f"a person at {self._upstream!r}"
        tokens = self.tokens
        of_roles = ((Role.ADMIN, tokens.admin), (Role.READER, tokens.read), (Role.METRICS, tokens.metrics))
        return "\n".join(secret.text for role, secret in of_roles if role in roles and secret is not None)


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """Return the token in `Authorization: Bearer`; None where the header is absent, or of another scheme."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.casefold() == CHALLENGE.casefold() else None
