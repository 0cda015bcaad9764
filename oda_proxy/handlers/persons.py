"""Persons: the audience of a token that the dispatcher accepts, for pages that show private recordings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cachetools import TTLCache

from oda_proxy.errors import StoreUnusableError
from oda_proxy.query.audience import token_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.query.audience import TokenVerifier
    from oda_proxy.query.query import Token
    from oda_proxy.query.resolved import QueryResolver
    from oda_proxy.query.schema import Schema
    from oda_proxy.query.token_probe import TokenProbe
    from oda_proxy.store.base import Store

INSTRUMENT: Final = "isgri"
"""The instrument whose description verifies a token where nothing was recorded yet."""
MAX_PROBES: Final = 2
"""Tokens that are sent to the dispatcher at a time."""
MAX_WRONG: Final = 60
"""Wrong tokens in `WRONG_TTL` s after which no others are sent to the dispatcher."""
WRONG_TTL: Final = 60.0


class Persons:
    """Verifies the tokens of persons, if need be by the dispatcher."""

    def __init__(
        self,
        tokens: TokenVerifier,
        probe: TokenProbe,
        resolver: QueryResolver,
        store: Store,
        clock: Callable[[], float],
    ) -> None:
        """Take what knows tokens and descriptions; `clock` returns s since 1970 (UTC)."""
        self._tokens = tokens
        self._probe = probe
        self._resolver = resolver
        self._store = store
        self._probing = asyncio.Semaphore(MAX_PROBES)
        self._wrong: TTLCache[bytes, None] = TTLCache(MAX_WRONG, ttl=WRONG_TTL, timer=clock)

    async def audience_of(self, token: Token) -> str | None:
        """Return the audience of a token; None for one that has expired, or that nobody has verified.

        Few tokens are sent to the dispatcher at a time, and none once many have turned out to be wrong: anybody can
        make up tokens.
        """
        audience = self._tokens.audience(token)
        if audience is None or self._tokens.is_verified(token):
            return audience
        if len(self._wrong) >= MAX_WRONG:
            return None
        async with self._probing:
            if await self._probe.is_verified(token, await asyncio.to_thread(self._instrument)):
                return audience
        self._wrong[token_digest(token)] = None
        return None

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
