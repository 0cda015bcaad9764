"""Persons: the audience of a token that the dispatcher accepts, for pages that show private recordings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import StoreUnusableError

if TYPE_CHECKING:
    from oda_proxy.query.audience import TokenVerifier
    from oda_proxy.query.query import Token
    from oda_proxy.query.resolved import QueryResolver
    from oda_proxy.query.schema import Schema
    from oda_proxy.query.token_probe import TokenProbe
    from oda_proxy.store.base import Store

INSTRUMENT: Final = "isgri"
"""The instrument whose description verifies a token where nothing was recorded yet."""


class Persons:
    """Verifies the tokens of persons, if need be by the dispatcher."""

    def __init__(self, tokens: TokenVerifier, probe: TokenProbe, resolver: QueryResolver, store: Store) -> None:
        self._tokens = tokens
        self._probe = probe
        self._resolver = resolver
        self._store = store

    async def audience_of(self, token: Token) -> str | None:
        """Return the audience of a token; None for one that has expired, or that nobody has verified."""
        audience = self._tokens.audience(token)
        if audience is None or not await self._probe.is_verified(token, await asyncio.to_thread(self._instrument)):
            return None
        return audience

    def stored_schemas(self, instrument: str) -> tuple[Schema, ...]:
        """Return the known descriptions of an instrument, newest first, without a request; may read a file."""
        return self._resolver.stored_schemas(instrument)

    def _instrument(self) -> str:
        """Return an instrument that the dispatcher describes: one with public recordings."""
        try:
            totals = self._store.totals()
        except StoreUnusableError:
            totals = []
        return next((one.instrument for one in totals if one.instrument and not one.private), INSTRUMENT)
