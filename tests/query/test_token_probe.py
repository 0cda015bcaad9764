"""The dispatcher verifies a token by a request that computes nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import jwt
import pytest

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.query import token_probe
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.query import Token
from oda_proxy.query.token_probe import TokenProbe
from tests.support.scripted_upstream import JSON, Body, Clock, Reply

if TYPE_CHECKING:
    from oda_proxy.http.message import Request

KEY = "a key of a dispatcher that is long enough for HS256"
OK = 200
TOKEN = Token(jwt.encode({"sub": "one", "roles": "general"}, KEY, "HS256"))
FORGED = Token(jwt.encode({"sub": "one", "roles": "general"}, "another key, as long as the first one", "HS256"))


@dataclass
class Verifying:
    """A dispatcher that verifies tokens before it describes an instrument."""

    verifies: bool = True
    refuses: int = 403
    refusal: Any = field(default_factory=lambda: {"error_message": "The token provided is not valid."})
    answers: list[int] = field(default_factory=list)
    """Status codes of a gateway before the dispatcher, instead of those of the dispatcher."""
    url: str = "http://dispatcher.example"
    requests: list[Request] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    lag: asyncio.Event | None = None

    async def send(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.lag:
            await self.lag.wait()
        [token] = parse_qs(request.query_string)["token"]
        try:
            if self.verifies:
                jwt.decode(token, KEY, algorithms=["HS256"])
            status = OK
        except jwt.InvalidSignatureError:
            status = self.refuses
        status = self.answers.pop(0) if self.answers else status
        body = json.dumps([] if status == OK else self.refusal).encode()
        self.replies.append(reply := Reply(status, JSON, Body(body)))
        return reply


def tokens(**changes: Any) -> TokenVerifier:
    return TokenVerifier(Sharing.SUBJECT, **{"secret_key": None, "trust": 300.0, "clock": Clock(), **changes})


async def test_a_token_that_the_dispatcher_accepts_is_verified_for_as_long_as_any() -> None:
    upstream, verifier = Verifying(), tokens()
    probe = TokenProbe(upstream, verifier)

    assert await probe.is_verified(TOKEN, "isgri")
    assert verifier.is_verified(TOKEN)
    assert await probe.is_verified(TOKEN, "isgri")
    assert [(one.path, parse_qs(one.query_string)["instrument"]) for one in upstream.requests] == [
        ("/api/meta-data", ["isgri"])
    ] * 3
    assert all(reply.body.closed for reply in upstream.replies)


async def test_a_forged_token_is_not_verified() -> None:
    verifier = tokens()

    assert not await TokenProbe(Verifying(), verifier).is_verified(FORGED, "isgri")
    assert not verifier.is_verified(FORGED)


@pytest.mark.parametrize(
    "upstream",
    [
        Verifying(verifies=False),
        Verifying(refuses=404),
        Verifying(refuses=500),
        Verifying(refusal={"error": "too many requests"}),
        Verifying(refusal="<html>token</html>"),
        Verifying(refusal={"error": "token " * 20_000}),
        Verifying(verifies=False, answers=[403, 200, 200]),
        Verifying(verifies=False, answers=[403, 403, 403]),
    ],
)
async def test_a_dispatcher_that_is_not_seen_to_refuse_another_signature_verifies_nothing(upstream: Verifying) -> None:
    verifier = tokens()

    assert not await TokenProbe(upstream, verifier).is_verified(TOKEN, "isgri")
    assert not verifier.is_verified(TOKEN)


async def test_nobody_is_asked_where_it_is_known() -> None:
    upstream = Verifying()

    assert await TokenProbe(upstream, tokens()).is_verified(None, "isgri")
    assert await TokenProbe(upstream, tokens(secret_key=KEY)).is_verified(TOKEN, "isgri")
    assert not await TokenProbe(upstream, tokens(secret_key=KEY)).is_verified(FORGED, "isgri")
    assert not await TokenProbe(None, tokens()).is_verified(TOKEN, "isgri")
    assert upstream.requests == []


async def test_concurrent_requests_share_one_probe_and_may_go_away() -> None:
    upstream, verifier = Verifying(lag=asyncio.Event()), tokens()
    probe = TokenProbe(upstream, verifier)
    waiting = [asyncio.create_task(probe.is_verified(TOKEN, "isgri")) for _ in range(5)]
    while not upstream.requests:  # noqa: ASYNC110 - the same loop sends it
        await asyncio.sleep(0)
    waiting[0].cancel()
    assert upstream.lag
    upstream.lag.set()

    assert await asyncio.gather(*waiting[1:]) == [True] * 4
    assert len(upstream.requests) == 3


async def test_a_dispatcher_that_is_away_or_hangs_verifies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away(Verifying):
        async def send(self, request: Request) -> Reply:
            raise UpstreamUnreachableError(self.url, f"nobody listens for {request.method}")

    assert not await TokenProbe(Away(), tokens()).is_verified(TOKEN, "isgri")
    monkeypatch.setattr(token_probe, "TIMEOUT", 0)
    assert not await TokenProbe(Verifying(lag=asyncio.Event()), tokens()).is_verified(TOKEN, "isgri")


@pytest.mark.parametrize(
    ("upstream", "token", "requests"),
    [(Verifying(), FORGED, 2), (Verifying(verifies=False), TOKEN, 1)],
    ids=["refused", "no token is verified"],
)
async def test_a_token_that_is_not_verified_is_not_verified_again_for_a_minute(
    upstream: Verifying, token: Token, requests: int
) -> None:
    clock = Clock()
    probe = TokenProbe(upstream, tokens(clock=clock), clock=clock)

    found = [await probe.is_verified(token, "isgri") for _ in range(3)]
    assert (found, len(upstream.requests)) == ([False] * 3, requests)
    await probe.is_verified(token, "jemx")
    assert len(upstream.requests) == 2 * requests

    clock.now += token_probe.UNVERIFIED_TTL
    await probe.is_verified(token, "isgri")
    assert len(upstream.requests) == 3 * requests


@pytest.mark.parametrize("answers", [[500, 200, 403], [403, 502, 403], [403, 200, 502]])
async def test_a_failure_of_a_gateway_is_not_cached(answers: list[int]) -> None:
    upstream = Verifying(answers=list(answers))
    probe = TokenProbe(upstream, tokens())

    assert not await probe.is_verified(TOKEN, "isgri")
    upstream.answers.clear()
    assert await probe.is_verified(TOKEN, "isgri")


async def test_a_token_that_the_dispatcher_accepts_meanwhile_is_verified() -> None:
    verifier = tokens()
    probe = TokenProbe(Verifying(), verifier)

    assert not await probe.is_verified(FORGED, "isgri")
    verifier.mark_verified(FORGED)
    assert await probe.is_verified(FORGED, "isgri")


async def test_no_token_is_cached_in_the_clear() -> None:
    probe = TokenProbe(Verifying(), tokens())

    await probe.is_verified(FORGED, "isgri")

    (name,) = probe._unverified
    assert name == hashlib.sha256(hashlib.sha256(FORGED.text.encode()).digest() + b"isgri").digest()
    assert not probe._probes


async def test_the_number_of_cached_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_probe, "MAX_UNVERIFIED", 3)
    upstream = Verifying(verifies=False)
    probe = TokenProbe(upstream, tokens())

    for number in range(9):
        await probe.is_verified(Token(f"a.b.{number}"), "isgri")

    assert len(probe._unverified) == 3
