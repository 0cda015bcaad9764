"""The roles that an address, a token and a session show."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import jwt
import pytest

from oda_proxy.access.authentication import Authentication, NotAuthenticatedError, Readers, Secret, Tokens
from oda_proxy.access.roles import Role
from oda_proxy.access.sessions import LIFETIME, Sessions

if TYPE_CHECKING:
    from oda_proxy.query.query import Token

TOKENS = Tokens(admin=Secret("the admin token"), read=Secret("the read token"), metrics=Secret("the metrics token"))
HERE, ELSEWHERE = "127.0.0.1", "192.0.2.7"


async def audience_of(token: Token) -> str | None:
    return "her" if token.text == "hers" else None


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("readers", "address", "is_reader"),
    [
        (Readers.LOCAL, HERE, True),
        (Readers.LOCAL, "unix", False),
        (Readers.LOCAL, "::1", True),
        (Readers.LOCAL, ELSEWHERE, False),
        (Readers.LOCAL, "unknown", False),
        (Readers.ANYONE, ELSEWHERE, True),
        (Readers.TOKEN, HERE, False),
        (Readers.VERIFIED, HERE, False),
    ],
)
async def test_the_address_shows_a_reader(readers: Readers, address: str, *, is_reader: bool) -> None:
    visitor = await Authentication(TOKENS, readers=readers).visitor(address, {})

    assert visitor.roles == (frozenset({Role.READER}) if is_reader else frozenset())


async def test_an_address_that_may_be_that_of_a_front_end_shows_nothing() -> None:
    assert not (await Authentication(trusts_addresses=False).visitor(HERE, {})).roles


async def test_figures_are_for_this_machine_until_there_is_a_token_for_them() -> None:
    assert Role.METRICS in (await Authentication().visitor(HERE, {})).roles
    assert Role.METRICS not in (await Authentication().visitor(ELSEWHERE, {})).roles
    assert Role.METRICS not in (await Authentication(TOKENS).visitor(HERE, {})).roles


@pytest.mark.parametrize(
    ("readers", "token", "roles"),
    [
        (Readers.TOKEN, "the admin token", {Role.ADMIN}),
        (Readers.TOKEN, "the read token", {Role.READER}),
        (Readers.TOKEN, "the metrics token", {Role.METRICS}),
        (Readers.TOKEN, "hers", {Role.PERSON}),
        (Readers.LOCAL, "hers", {Role.PERSON}),
        (Readers.VERIFIED, "hers", {Role.PERSON, Role.READER}),
        (Readers.ANYONE, "hers", {Role.PERSON, Role.READER}),
    ],
)
async def test_a_token_shows_a_role(readers: Readers, token: str, roles: set[Role]) -> None:
    authentication = Authentication(TOKENS, readers=readers, audience_of=audience_of)

    visitor = await authentication.visitor(ELSEWHERE, {"Authorization": f"bEARER  {token} "})

    assert visitor.roles == roles
    assert visitor.audience == ({"hers": "her"}.get(token))


@pytest.mark.parametrize("token", ["", "another", "the admin token.", "his"])
async def test_any_other_token_is_refused(token: str) -> None:
    with pytest.raises(NotAuthenticatedError):
        await Authentication(TOKENS, audience_of=audience_of).visitor(HERE, bearer(token))


@pytest.mark.parametrize("authorization", ["Basic dXNlcjpwYXNzd29yZA==", "the admin token"])
async def test_another_scheme_is_that_of_a_front_end_and_shows_nothing(authorization: str) -> None:
    assert not (await Authentication(TOKENS).visitor(ELSEWHERE, {"Authorization": authorization})).roles


@pytest.mark.parametrize(("token", "role"), [("the admin token", Role.ADMIN), ("hers", Role.PERSON)])
async def test_a_session_shows_what_the_token_has_shown(token: str, role: Role) -> None:
    clock = Clock()
    authentication = Authentication(TOKENS, audience_of=audience_of, sessions=Sessions(b"key", clock))

    cookie = await authentication.sign_in(token)

    assert token not in cookie
    visitor = await authentication.visitor(ELSEWHERE, {}, cookie)
    assert (role in visitor.roles, visitor.has_session) == (True, True)
    assert visitor.audience == ({"hers": "her"}.get(token))
    clock.now += LIFETIME
    assert not (await authentication.visitor(ELSEWHERE, {}, cookie)).roles


async def test_a_session_ends_with_the_token_of_the_person() -> None:
    async def accepted(token: Token) -> str:
        return "her"

    clock = Clock()
    authentication = Authentication(audience_of=accepted, sessions=Sessions(b"key", clock))
    cookie = await authentication.sign_in(jwt.encode({"sub": "her", "exp": clock.now + 60}, "x" * 32, "HS256"))

    assert (await authentication.visitor(ELSEWHERE, {}, cookie)).audience == "her"
    clock.now += 60
    assert (await authentication.visitor(ELSEWHERE, {}, cookie)).audience is None


async def test_a_session_ends_when_a_person_signs_out() -> None:
    authentication = Authentication(TOKENS)
    cookie, other = await authentication.sign_in("the admin token"), await authentication.sign_in("the admin token")

    authentication.sign_out(cookie)

    assert not (await authentication.visitor(ELSEWHERE, {}, cookie)).roles
    assert (await authentication.visitor(ELSEWHERE, {}, other)).roles == {Role.ADMIN}


async def test_a_session_ends_when_its_token_is_replaced() -> None:
    authentication = Authentication(TOKENS)
    cookie = await authentication.sign_in("the admin token")

    authentication.tokens = Tokens(admin=Secret("a new admin token"))

    assert not (await authentication.visitor(ELSEWHERE, {}, cookie)).roles


async def test_a_session_that_was_changed_or_signed_by_another_server_shows_nothing() -> None:
    one, other = Authentication(TOKENS), Authentication(TOKENS)
    cookie = await one.sign_in("the read token")
    text, _, signature = cookie.partition(".")
    forged = (await other.sign_in("the admin token")).partition(".")[0]

    for changed in (f"{forged}.{signature}", f"{text}.", text, "", "a.b", f"{text}A.{signature}", "x" * 5000):
        assert not (await one.visitor(ELSEWHERE, {}, changed)).roles
    assert not (await other.visitor(ELSEWHERE, {}, cookie)).roles


async def test_a_token_counts_more_than_a_session() -> None:
    authentication = Authentication(TOKENS)
    cookie = await authentication.sign_in("the admin token")

    assert (await authentication.visitor(ELSEWHERE, bearer("the read token"), cookie)).roles == {Role.READER}


def test_tokens_do_not_print() -> None:
    assert "token" not in repr(TOKENS).replace("Tokens", "")


async def test_a_person_whom_one_dispatcher_knows_is_nobody_at_another_upstream() -> None:
    sessions = Sessions(b"key", Clock())
    one, other = (
        Authentication(TOKENS, audience_of=audience_of, sessions=sessions, upstream=name) for name in ("one", "other")
    )

    cookie = await one.sign_in("hers")

    assert (await one.visitor(ELSEWHERE, {}, cookie)).audience == "her"
    visitor = await other.visitor(ELSEWHERE, {}, cookie)
    assert (visitor.roles, visitor.audience) == (frozenset(), None)


async def test_a_session_of_an_administrator_ends_at_all_upstreams() -> None:
    sessions = Sessions(b"key", Clock())
    one, other = (Authentication(TOKENS, sessions=sessions, upstream=name) for name in ("one", "other"))
    cookie = await one.sign_in("the admin token")
    assert Role.ADMIN in (await other.visitor(ELSEWHERE, {}, cookie)).roles

    one.sign_out(cookie)

    assert not (await other.visitor(ELSEWHERE, {}, cookie)).roles


@pytest.mark.parametrize("role", ["admin", "read", "metrics"])
async def test_a_session_ends_with_the_token_that_it_was_opened_with(role: str) -> None:
    authentication = Authentication(TOKENS)
    cookie = await authentication.sign_in(f"the {role} token")
    assert authentication.session(cookie)

    authentication.tokens = replace(TOKENS, **{role: Secret("another token")})

    assert authentication.session(cookie) is None
