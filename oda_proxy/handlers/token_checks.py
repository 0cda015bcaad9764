"""Whose answers a client may receive, by its token."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oda_proxy.query.audience import TokenVerifier
    from oda_proxy.query.query import Envelope
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.query.token_probe import TokenProbe


class TokenChecker:
    """Reads and verifies the tokens of clients."""

    def __init__(self, tokens: TokenVerifier, probe: TokenProbe, *, is_online: bool) -> None:
        self._tokens = tokens
        self._probe = probe
        self._is_online = is_online

    def audience(self, envelope: Envelope) -> str | None:
        """Return the audience that a client claims to belong to; None for a token that cannot be read."""
        if not self._is_online:
            self._tokens.check(envelope.token)  # online, the dispatcher checks it
        return self._tokens.audience(envelope.token)

    async def is_verified(self, envelope: Envelope, resolved: ResolvedQuery, *, saves_query: bool) -> bool:
        """Return whether the token of a client is verified; the dispatcher is asked only where it saves a query."""
        if saves_query:
            return await self._probe.is_verified(envelope.token, resolved.query.instrument)
        return self._tokens.is_verified(envelope.token)
