"""Whose an answer is: only a verified token says."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_server.tokens import make_token
from oda_proxy.query.audience import Claims, Sharing, TokenVerifier, read_claims
from oda_proxy.query.cache_key import PUBLIC
from oda_proxy.query.query import Token

KEY = "a key of a dispatcher that is long enough for HS256"
NOW = 1_700_000_000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def token(key: str = KEY, **payload: Any) -> Token:
    return Token(
        jwt.encode({"sub": "one@example.org", "roles": "general, x", "exp": NOW + 60, **payload}, key, "HS256")
    )


def tokens(sharing: Sharing = Sharing.SUBJECT, key: str | None = KEY, clock: Clock | None = None) -> TokenVerifier:
    return TokenVerifier(sharing, secret_key=key, trust=300.0, clock=clock or Clock())


def test_claims_are_read_as_the_dispatcher_reads_them() -> None:
    assert read_claims(token()) == Claims("one@example.org", ("general", "x"), NOW + 60)
    listed = Token(jwt.encode({"email": "e@example.org", "roles": ["b", "a"]}, KEY, "HS256"))
    assert read_claims(listed) == Claims("e@example.org", ("a", "b"), None)


def test_a_short_key_of_the_dispatcher_verifies_tokens_without_a_warning() -> None:
    signed = Token(make_token({"sub": "one@example.org"}, "short"))

    assert tokens(key="short").is_verified(signed)


@pytest.mark.parametrize("text", ["", "None", "a.b.c", "a.b", "..", "x" * 20_000, "a." + "W10" + ".c", "é.é.é"])
def test_what_is_no_token_claims_nothing(text: str) -> None:
    assert read_claims(Token(text)) is None


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_payload_is_read_or_is_none(payload: Any) -> None:
    text = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")

    read_claims(Token(f"a.{text}.c"))


def test_a_token_with_our_signature_is_verified() -> None:
    assert tokens().is_verified(token())


def test_who_has_no_token_is_anyone() -> None:
    assert tokens().is_verified(None)
    assert tokens().audience(None) == PUBLIC
    assert tokens().audience(token()) != PUBLIC


@pytest.mark.parametrize(
    "forged",
    [
        token("another key that is just as long as the real one is"),
        Token(token().text[:-4] + "AAAA"),
        Token(jwt.encode({"sub": "one@example.org", "roles": "general, x"}, "", "none")),
    ],
)
def test_a_forged_token_is_not(forged: Token) -> None:
    assert not tokens().is_verified(forged)


def test_an_expired_token_has_no_audience() -> None:
    clock = Clock()
    known = tokens(clock=clock)
    assert known.audience(token()) is not None
    clock.now += 60

    assert known.audience(token()) is None


def test_the_dispatchers_word_counts_for_a_while() -> None:
    clock = Clock()
    known = tokens(key=None, clock=clock)
    assert not known.is_verified(token())
    known.mark_verified(token())

    assert known.is_verified(token())
    assert not known.is_verified(token(sub="another"))
    clock.now += 301
    assert not known.is_verified(token())


@pytest.mark.parametrize(
    ("sharing", "same_person", "other_person", "other_roles"),
    [(Sharing.SUBJECT, True, False, False), (Sharing.ROLES, True, True, False), (Sharing.TEAM, True, True, True)],
)
def test_the_house_says_who_shares(sharing: Sharing, same_person: bool, other_person: bool, other_roles: bool) -> None:
    known = tokens(sharing)
    mine = known.audience(token())

    assert (known.audience(token(exp=NOW + 90, roles="x,general")) == mine) == same_person
    assert (known.audience(token(sub="two@example.org")) == mine) == other_person
    assert (known.audience(token(roles="general")) == mine) == other_roles


@given(st.tuples(st.text(), st.lists(st.text())), st.tuples(st.text(), st.lists(st.text())))
def test_no_two_audiences_have_one_name(one: tuple[str, list[str]], other: tuple[str, list[str]]) -> None:
    first, second = (Claims(subject, tuple(sorted(roles)), None) for subject, roles in (one, other))

    same = first == second
    assert (first.audience(Sharing.SUBJECT) == second.audience(Sharing.SUBJECT)) == same


def test_a_token_is_not_remembered_itself() -> None:
    known = tokens(key=None)
    known.mark_verified(token())

    assert token().text not in repr(vars(known))
