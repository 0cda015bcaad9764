"""Answering of requests within the limits of their clients."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from oda_proxy.access.client_limits import ClientLimiter, Refusal
    from oda_proxy.handlers.limits import LimitHandler
    from oda_proxy.http.answer import Answer, Repeatable
    from oda_proxy.http.message import Body, Request
    from oda_proxy.web.app import Answering

MAX_HOLD: Final = 20.0
"""Seconds for which a request for a description is held: releases of oda_api since 1.1.46 end with an error for 429."""


class LimitedAnswering:
    """Answers requests as `answer_to` does, unless their clients are over a limit; counts requests and bytes."""

    def __init__(
        self,
        answer_to: Answering,
        limiter: ClientLimiter,
        handler: LimitHandler,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take what answers, and what limits; `sleep` takes s."""
        self._answer_to = answer_to
        self._limiter = limiter
        self._handler = handler
        self._sleep = sleep

    async def __call__(self, request: Request, *, origin: str) -> Answer:
        """Answer a request; `origin` is the URL of the proxy as the client sees it."""
        client = self._handler.client_name(request)
        refusal = self._limiter.admit(client)
        if refusal and self._handler.may_hold(request):
            refusal = await self._hold(client, refusal)
        if refusal:
            return await self._handler.answer(request, refusal)
        answer = await self._answer_to(request, origin=origin)
        body = answer.body
        if isinstance(body, tuple):
            self._limiter.charge(client, sum(map(len, body)))
            return answer if answer.repeatable is None else replace(answer, repeatable=self._limited(answer, client))
        return replace(answer, body=_CountedBody(body, self._limiter, client), repeatable=None)

    def _limited(self, answer: Answer, client: str) -> Callable[[], Repeatable] | None:
        """Return what makes the repetition of an answer, for a client within its limits."""
        repeatable = answer.repeatable
        return None if repeatable is None else lambda: _LimitedHit(repeatable(), self._limiter, client)

    async def _hold(self, client: str, refusal: Refusal) -> Refusal | None:
        """Wait until a request of a client is within its limits; return why it is not after `MAX_HOLD` s."""
        held, found = 0.0, refusal
        while held + found.retry_after <= MAX_HOLD:
            await self._sleep(found.retry_after)
            held += found.retry_after
            if (next_refusal := self._limiter.admit(client)) is None:
                return None
            found = next_refusal
        return found


@dataclass(frozen=True, slots=True)
class _LimitedHit:
    """Repeats an answer to a client within its limits; the client is in the bytes of the request and its connection."""

    hit: Repeatable
    limiter: ClientLimiter
    client: str

    def repeat(self, session_id: str) -> tuple[int, tuple[bytes, ...]] | None:
        """Return the age and the body, as `Repeatable` does; None where the client is over a limit."""
        if self.limiter.admit(self.client) is not None or (repeated := self.hit.repeat(session_id)) is None:
            return None
        self.limiter.charge(self.client, sum(map(len, repeated[1])))
        return repeated


@dataclass(frozen=True, slots=True)
class _CountedBody:
    """A body whose bytes are counted as they are read."""

    body: Body
    limiter: ClientLimiter
    client: str

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self.body:
            self.limiter.charge(self.client, len(piece))
            yield piece

    async def aclose(self) -> None:
        """Close the body."""
        await self.body.aclose()
