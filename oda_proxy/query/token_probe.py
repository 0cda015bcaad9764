"""Ask the dispatcher whether it accepts a token, by a request that computes nothing.

A recording of a user may be served for a new token of the same user once the dispatcher has verified its signature. It
does so before it describes an instrument, too. That counts only where it is seen to refuse the same token with another
signature, before and after, in the words that dispatchers have for tokens (protocol section 8): a dispatcher that
describes instruments to everyone does not verify tokens there, and a gateway that refuses requests now and then must
not make one look verified.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from cachetools import TTLCache

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http.message import Request
from oda_proxy.query.audience import token_digest
from oda_proxy.query.query import Token

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.http.message import Upstream
    from oda_proxy.query.audience import TokenVerifier

_log = logging.getLogger(__name__)

TIMEOUT: Final = 10.0
"""Time limit in s for a description; after that the token is verified by the query itself."""

MAX_REFUSAL: Final = 2**16
"""Longest refusal that is read, in bytes."""

UNVERIFIED_TTL: Final = 60.0
"""Seconds for which a token that the dispatcher refused, or does not verify, is not verified again."""

MAX_UNVERIFIED: Final = 10_000
"""Such tokens that are cached, as digests."""

_OK: Final = 200
_REFUSED: Final = frozenset({401, 403})


class TokenProbe:
    """Has tokens verified by an upstream; without one, or with its secret key, none need be."""

    def __init__(
        self, upstream: Upstream | None, tokens: TokenVerifier, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Verify with `tokens`, and with requests to `upstream`; `clock` returns s since 1970 (UTC)."""
        self._upstream = upstream
        self._tokens = tokens
        self._probes: dict[bytes, asyncio.Task[bool]] = {}
        self._unverified: TTLCache[bytes, None] = TTLCache(MAX_UNVERIFIED, ttl=UNVERIFIED_TTL, timer=clock)

    async def is_verified(self, token: Token | None, instrument: str) -> bool:
        """Return whether the signature of a token is verified; the dispatcher is asked once for concurrent requests.

        That it is not is cached for a short time.
        """
        if self._tokens.is_verified(token):
            return True
        if token is None or self._upstream is None or self._tokens.has_key:
            return False
        name = _name(token, instrument)
        if name in self._unverified:
            return False
        if (task := self._probes.get(name)) is None:
            task = self._probes[name] = asyncio.create_task(self._probe(token, instrument, self._upstream))
            task.add_done_callback(lambda _: self._probes.pop(name))
        return await asyncio.shield(task)

    async def _probe(self, token: Token, instrument: str, upstream: Upstream) -> bool:
        try:
            async with asyncio.timeout(TIMEOUT):
                outcome = await _outcome(token, instrument, upstream)
        except (UpstreamUnreachableError, TimeoutError) as error:
            _log.info("a token could not be verified: %s", str(error) or "no answer in time")
            return False
        if outcome is _Outcome.ACCEPTED:
            self._tokens.mark_verified(token)
        elif outcome is _Outcome.NOT_VERIFIED:
            self._unverified[_name(token, instrument)] = None
        return outcome is _Outcome.ACCEPTED


def _name(token: Token, instrument: str) -> bytes:
    """Return a digest of a token and an instrument: neither is stored, and it is short however long they are."""
    return hashlib.sha256(token_digest(token) + instrument.encode("utf-8", "surrogateescape")).digest()


class _Outcome(Enum):
    """What a dispatcher is seen to do with a token."""

    ACCEPTED = auto()
    NOT_VERIFIED = auto()
    """It refuses the token, or verifies none: it will do so again."""
    UNKNOWN = auto()
    """Something else failed, such as a gateway: the next request may succeed."""


async def _outcome(token: Token, instrument: str, upstream: Upstream) -> _Outcome:
    """Have a dispatcher verify a token; raises UpstreamUnreachableError."""
    forged = _with_other_signature(token)
    before = await _describe(forged, instrument, upstream)
    if before.status == _OK:
        return _Outcome.NOT_VERIFIED
    if not before.is_refusal:
        return _Outcome.UNKNOWN
    answer = await _describe(token, instrument, upstream)
    if answer.status != _OK:
        return _Outcome.NOT_VERIFIED if answer.is_refusal else _Outcome.UNKNOWN
    after = await _describe(forged, instrument, upstream)
    return _Outcome.ACCEPTED if after.is_refusal else _Outcome.UNKNOWN


def _with_other_signature(token: Token) -> Token:
    """Return a token with the same claims, and a signature that differs in its first character."""
    signed, _, signature = token.text.rpartition(".")
    return Token(f"{signed}.{'B' if signature.startswith('A') else 'A'}{signature[1:]}")


@dataclass(frozen=True, slots=True)
class _Answer:
    """The status with which the dispatcher describes an instrument to the owner of a token, and a short body."""

    status: int
    body: bytes

    @property
    def is_refusal(self) -> bool:
        """Whether the dispatcher refuses the token, and says that it is because of the token."""
        if self.status not in _REFUSED:
            return False
        try:
            refusal = json.loads(self.body)
        except ValueError:
            return False
        reasons = [refusal.get(name) for name in ("error", "error_message")] if isinstance(refusal, dict) else []
        return any(isinstance(reason, str) and "token" in reason.casefold() for reason in reasons)


async def _describe(token: Token, instrument: str, upstream: Upstream) -> _Answer:
    """Request the description of an instrument with a token; raises UpstreamUnreachableError."""
    headers = (("Accept-Encoding", "identity"), ("Cache-Control", "no-cache"), ("Via", "1.1 oda-proxy"))
    query = urlencode({"instrument": instrument, "token": token.text}, errors="surrogateescape")
    reply = await upstream.send(Request("GET", "/api/meta-data", query, headers))
    body = bytearray()
    try:
        if reply.status != _OK:
            async for piece in reply.body:
                body += piece
                if len(body) > MAX_REFUSAL:
                    return _Answer(reply.status, b"")
    finally:
        await reply.body.aclose()
    return _Answer(reply.status, bytes(body))
