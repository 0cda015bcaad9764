"""Persons are known by a token that the dispatcher accepts, which is asked about few wrong ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import jwt
import pytest

from oda_proxy.handlers.persons import MAX_WRONG, WRONG_TTL, Persons
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query, Token
from oda_proxy.query.resolved import QueryResolver
from oda_proxy.query.token_probe import TokenProbe
from oda_proxy.store.memory import MemoryStore
from tests.support.recordings import recording
from tests.support.scripted_upstream import JSON, Body, Clock, Reply

if TYPE_CHECKING:
    from oda_proxy.http.message import Request

KEY = "a key of a dispatcher that is long enough for HS256"


@dataclass
class Dispatcher:
    """A dispatcher that verifies tokens before it describes an instrument."""

    url: str = "http://dispatcher.example"
    instruments: list[str] = field(default_factory=list)

    async def send(self, request: Request) -> Reply:
        fields = parse_qs(request.query_string)
        self.instruments += fields["instrument"]
        try:
            jwt.decode(fields["token"][0], KEY, algorithms=["HS256"])
        except jwt.InvalidSignatureError:
            return Reply(403, JSON, Body(json.dumps({"error": "The token provided is not valid."}).encode()))
        return Reply(200, JSON, Body(b"[]"))


class Setup:
    def __init__(self) -> None:
        self.clock, self.dispatcher, self.store = Clock(), Dispatcher(), MemoryStore()
        tokens = TokenVerifier(Sharing.SUBJECT, secret_key=None, trust=300.0, clock=self.clock)
        probe = TokenProbe(self.dispatcher, tokens, clock=self.clock)
        self.persons = Persons(tokens, probe, QueryResolver(None), self.store, self.clock)

    async def audience(self, subject: str, key: str = KEY) -> str | None:
        return await self.persons.audience_of(Token(jwt.encode({"sub": subject, "roles": "general"}, key, "HS256")))


@pytest.fixture
def setup() -> Setup:
    return Setup()


async def test_the_dispatcher_is_asked_once_about_a_token_that_it_accepts(setup: Setup) -> None:
    assert "her" in (await setup.audience("her") or "")
    requests = len(setup.dispatcher.instruments)
    assert await setup.audience("her")
    assert len(setup.dispatcher.instruments) == requests > 0


async def test_it_describes_an_instrument_with_public_recordings(setup: Setup) -> None:
    setup.store.put(recording(Key("a" * 64), query=Query("secret", "p", "Real", (), api=True), private=True))
    setup.store.put(recording(Key("b" * 64), query=Query("jemx", "p", "Real", (), api=True)))

    await setup.audience("her")

    assert set(setup.dispatcher.instruments) == {"jemx"}


@pytest.mark.parametrize("text", ["", "nothing", "a.b.c"])
async def test_it_is_not_asked_about_what_is_no_token(setup: Setup, text: str) -> None:
    assert await setup.persons.audience_of(Token(text)) is None
    assert setup.dispatcher.instruments == []


async def test_it_is_not_asked_about_many_wrong_tokens(setup: Setup) -> None:
    for number in range(MAX_WRONG + 50):
        assert await setup.audience(f"person {number}", "x" * 32) is None
    requests = len(setup.dispatcher.instruments)
    assert requests <= 3 * MAX_WRONG
    assert await setup.audience("her") is None
    assert len(setup.dispatcher.instruments) == requests

    setup.clock.now += WRONG_TTL
    assert await setup.audience("her")
