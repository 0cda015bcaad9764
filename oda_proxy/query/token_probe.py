"""Ask the dispatcher whether it accepts a token, by a request that computes nothing.

A recording of a user may be served for a new token of the same user once the dispatcher has verified its signature. It
does so before it describes an instrument, too. That counts only where it is seen to refuse the same token with another
signature, before and after, in the words that dispatchers have for tokens (protocol section 8): a dispatcher that
describes instruments to everyone does not verify tokens there, and a gateway that refuses requests now and then must
not make one look verified.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http.message import Request
from oda_proxy.query.query import Token

if TYPE_CHECKING:
    from oda_proxy.http.message import Upstream
    from oda_proxy.query.audience import TokenVerifier

_log = logging.getLogger(__name__)

TIMEOUT: Final = 10.0
"""Time limit in s for a description; after that the token is verified by the query itself."""

MAX_REFUSAL: Final = 2**16
"""Longest refusal that is read, in bytes."""

_OK: Final = 200
_REFUSED: Final = frozenset({401, 403})


class TokenProbe:
    """Has tokens verified by an upstream; without one, or with its secret key, none need be."""

    def __init__(self, upstream: Upstream | None, tokens: TokenVerifier) -> None:
        self._upstream = upstream
        self._tokens = tokens
        self._probes: dict[Token, asyncio.Task[bool]] = {}

    async def is_verified(self, token: Token | None, instrument: str) -> bool:
        """Tell whether the signature of a token is verified; the dispatcher is asked once for concurrent requests."""
        if self._tokens.is_verified(token):
            return True
        if token is None or self._upstream is None or self._tokens.has_key:
            return False
        if (task := self._probes.get(token)) is None:
            task = self._probes[token] = asyncio.create_task(self._probe(token, instrument, self._upstream))
            task.add_done_callback(lambda _: self._probes.pop(token))
        return await asyncio.shield(task)

    async def _probe(self, token: Token, instrument: str, upstream: Upstream) -> bool:
        try:
            async with asyncio.timeout(TIMEOUT):
                forged = _with_other_signature(token)
                is_accepted = (
                    await _is_refused(forged, instrument, upstream)
                    and (await _describe(token, instrument, upstream))[0] == _OK
                    and await _is_refused(forged, instrument, upstream)
                )
        except (UpstreamUnreachableError, TimeoutError) as error:
            _log.info("a token could not be verified: %s", str(error) or "no answer in time")
            return False
        if is_accepted:
            self._tokens.mark_verified(token)
        return is_accepted


def _with_other_signature(token: Token) -> Token:
    """Return a token with the same claims, and a signature that differs in its first character."""
    signed, _, signature = token.text.rpartition(".")
    return Token(f"{signed}.{'B' if signature.startswith('A') else 'A'}{signature[1:]}")


async def _is_refused(token: Token, instrument: str, upstream: Upstream) -> bool:
    """Return whether the dispatcher refuses a token, and says that it is because of the token."""
    status, body = await _describe(token, instrument, upstream)
    if status not in _REFUSED:
        return False
    try:
        refusal = json.loads(body)
    except ValueError:
        return False
    reasons = [refusal.get(name) for name in ("error", "error_message")] if isinstance(refusal, dict) else []
    return any(isinstance(reason, str) and "token" in reason.casefold() for reason in reasons)


async def _describe(token: Token, instrument: str, upstream: Upstream) -> tuple[int, bytes]:
    """Return the status with which the dispatcher describes an instrument to the owner of a token, and a short body."""
    headers = (("Accept-Encoding", "identity"), ("Cache-Control", "no-cache"), ("Via", "1.1 oda-proxy"))
    query = urlencode({"instrument": instrument, "token": token.text}, errors="surrogateescape")
    reply = await upstream.send(Request("GET", "/api/meta-data", query, headers))
    body = bytearray()
    try:
        if reply.status != _OK:
            async for piece in reply.body:
                body += piece
                if len(body) > MAX_REFUSAL:
                    return reply.status, b""
    finally:
        await reply.body.aclose()
    return reply.status, bytes(body)
