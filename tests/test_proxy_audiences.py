"""What was asked with a token is for its audience, and only once the token was verified."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.query import Token
from oda_proxy.store.freshness import Freshness, Rule
from oda_proxy.store.memory import MemoryStore
from tests.support.dispatcher_responses import SESSION, answer, json_bytes
from tests.support.scripted_upstream import JSON, ORIGIN, QUERY, Body, Clock, Reply, Script, body_of, request, told

if TYPE_CHECKING:
    from io import FileIO

    from oda_proxy.http.message import Request

KEY = "a key of a dispatcher that is long enough for HS256"


def token(sub: str = "one", *, roles: str = "general", key: str = KEY, exp: float = Clock.now + 3600) -> str:
    return jwt.encode({"sub": sub, "roles": roles, "exp": exp}, key, "HS256")


def with_token(text: str, who: str = SESSION) -> Request:
    return request(f"{QUERY}&token={text}", who=who)


def answer_to(text: str) -> dict[str, Any]:
    """Give an answer as the dispatcher makes it for a token, which it echoes."""
    echo = {**answer()["products"]["analysis_parameters"], "token": text}
    return answer(products={"analysis_parameters": echo, "api_code": f'par_dict={{"token": "{text}"}}\n'})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def upstream() -> Script:
    return Script()


def house(
    upstream: Script | None, clock: Clock, *, secret_key: str | None = None, sharing: Sharing = Sharing.SUBJECT
) -> Proxy:
    tokens = TokenVerifier(sharing, secret_key=secret_key, trust=300.0, clock=clock)
    return Proxy(MemoryStore(), upstream, Policy(), services=Services(tokens=tokens), runtime=Runtime(clock=clock))


async def test_the_dispatcher_verifies_a_token_before_its_recording_is_served(upstream: Script, clock: Clock) -> None:
    proxy = house(upstream, clock)
    refused = {"error": "The token provided is not valid"}
    upstream.then(answer_to(token())).then(refused, status=403).then(refused, status=403).then(answer_to(token()))

    asked = [(await told(proxy, with_token(token())))[1] for _ in range(2)]
    clock.now += 301  # it is verified again, which fails: by a query
    asked.append((await told(proxy, with_token(token())))[1])

    assert asked == [
        "oda-proxy; fwd=request; fwd-status=200; stored",
        "oda-proxy; hit",
        "oda-proxy; fwd=request; fwd-status=200; stored",
    ]


async def test_a_token_that_was_issued_again_gets_the_recording_of_its_user_without_a_query(
    upstream: Script, clock: Clock
) -> None:
    proxy = house(upstream, clock)
    newer = token(exp=clock.now + 7200)
    refused = {"error": "The token provided is not valid"}
    upstream.then(answer_to(token())).then(refused, status=403).then([]).then(refused, status=403)
    await told(proxy, with_token(token()))

    got = [(await told(proxy, with_token(newer)))[1] for _ in range(2)]

    assert got == ["oda-proxy; hit"] * 2
    assert [one.path for one in upstream.asked] == ["/run_analysis", *["/api/meta-data"] * 3]
    for forged in upstream.asked[1], upstream.asked[3]:  # the same claims with another signature
        assert newer not in forged.query_string
    assert newer in upstream.asked[2].query_string


async def test_a_token_that_was_issued_again_joins_the_running_job_of_its_user(clock: Clock) -> None:
    class Slow(Script):
        """Takes long for an analysis, and verifies tokens before it describes an instrument."""

        async def send(self, ask: Request) -> Reply:
            self.asked.append(ask)
            if ask.path == "/run_analysis":
                await finish.wait()
                return Reply(200, JSON, Body(json_bytes(answer_to(token()))))
            if newer in ask.query_string:
                return Reply(200, JSON, Body(b"[]"))
            return Reply(403, JSON, Body(json_bytes({"error": "The token provided is not valid"})))

    finish, newer, upstream = asyncio.Event(), token(exp=clock.now + 7200), Slow()
    tokens = TokenVerifier(Sharing.SUBJECT, secret_key=None, trust=300.0, clock=clock)
    tokens.mark_verified(Token(token()))
    services = Services(tokens=tokens)
    proxy = Proxy(MemoryStore(), upstream, Policy(), services=services, runtime=Runtime(clock=clock))

    first = asyncio.create_task(told(proxy, with_token(token())))
    while not upstream.asked:  # noqa: ASYNC110 - the same loop sends it
        await asyncio.sleep(0)
    second = asyncio.create_task(told(proxy, with_token(newer, "OTHERSESSION0000")))
    while len(upstream.asked) < 4:  # noqa: ASYNC110 - the analysis, and three descriptions
        await asyncio.sleep(0)
    finish.set()

    assert "stored" in (await first)[1]
    assert (await second)[1] == "oda-proxy; fwd=uri-miss; collapsed"
    assert [one.path for one in upstream.asked].count("/run_analysis") == 1


async def test_a_token_is_not_verified_apart_where_there_is_no_recording(upstream: Script, clock: Clock) -> None:
    proxy = house(upstream, clock)
    upstream.then(answer_to(token()))

    assert (await told(proxy, with_token(token())))[1] == "oda-proxy; fwd=request; fwd-status=200; stored"
    assert [one.path for one in upstream.asked] == ["/run_analysis"]


async def test_a_hit_echoes_the_askers_own_token(upstream: Script, clock: Clock) -> None:
    proxy = house(upstream, clock, secret_key=KEY)
    upstream.then(answer_to(token()))
    await told(proxy, with_token(token()))
    newer = token(exp=clock.now + 7200)

    _, cache_status, body = await told(proxy, with_token(newer, "OTHERSESSION0000"))

    assert cache_status == "oda-proxy; hit"
    assert newer.encode() in body
    assert token().encode() not in body
    assert SESSION.encode() not in body


@pytest.mark.parametrize(
    "other",
    [token("two"), token(roles="general,more"), token(key="another key that is just as long as the other one")],
    ids=["another person", "other roles", "a forged token"],
)
async def test_a_recording_is_not_given_to_another_audience(upstream: Script, clock: Clock, other: str) -> None:
    proxy = house(upstream, clock, secret_key=KEY)
    upstream.then(answer_to(token())).then({"error": "the token provided is not valid"}, status=403)
    await told(proxy, with_token(token()))

    assert (await told(proxy, with_token(other)))[0] == 403


async def test_what_is_private_is_not_public_and_the_other_way_round(upstream: Script, clock: Clock) -> None:
    proxy = house(upstream, clock, secret_key=KEY)
    upstream.then(answer_to(token())).then(answer(products={"catalog": {"public": 1}}))
    await told(proxy, with_token(token()))

    assert b'"public":1' in (await told(proxy, request()))[2]
    assert b'"public":1' not in (await told(proxy, with_token(token())))[2]
    assert len(upstream.asked) == 2


async def test_a_refused_token_gets_the_dispatchers_message_and_is_not_trusted(upstream: Script, clock: Clock) -> None:
    proxy = house(upstream, clock)
    refused = {"error_message": "The token provided is expired", "error": "RequestNotAuthorized()"}
    upstream.then(refused, status=403).then(refused, status=403)

    for _ in range(2):
        status, cache_status, body = await told(proxy, with_token(token(key="x" * 40)))
        assert (status, cache_status) == (403, "oda-proxy; fwd=request; fwd-status=403")
        assert b"The token provided is expired" in body


async def test_a_house_may_let_its_team_share(upstream: Script, clock: Clock) -> None:
    proxy = house(upstream, clock, secret_key=KEY, sharing=Sharing.TEAM)
    upstream.then(answer_to(token()))
    await told(proxy, with_token(token()))

    assert (await told(proxy, with_token(token("two", roles="other"))))[1] == "oda-proxy; hit"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (token(exp=Clock.now - 1), "The token provided is expired"),
        (token(key="another key that is just as long as the other one"), "The token provided is not valid"),
    ],
)
async def test_offline_a_bad_token_is_refused_as_the_dispatcher_would(clock: Clock, bad: str, said: str) -> None:
    status, _, body = await told(house(None, clock, secret_key=KEY), with_token(bad))

    assert status == 403
    assert said.encode() in body


async def test_a_stale_recording_is_revalidated_and_served_while_the_dispatcher_is_away(
    upstream: Script, clock: Clock
) -> None:
    policy = Policy(freshness=Freshness((Rule.parse("isgri/*=1"),)))
    proxy = Proxy(MemoryStore(), upstream, policy, runtime=Runtime(clock=clock))
    upstream.then(answer())
    await told(proxy, request())
    clock.now += 86401
    upstream.replies.append(UpstreamUnreachableError(upstream.url, "Connection refused"))
    upstream.then(answer(products={"catalog": {"new": 1}}))

    away = await proxy.answer(request(), origin=ORIGIN)

    assert str(away.cache_status) == "oda-proxy; hit; detail=stale"
    assert ("Age", "86401") in away.headers
    assert b"numpy_data_product_list" in await body_of(away)
    assert (await told(proxy, request()))[1] == "oda-proxy; fwd=stale; fwd-status=200; stored"
    status, cache_status, body = await told(proxy, request())
    assert (status, cache_status) == (200, "oda-proxy; hit")
    assert b'"new":1' in body


async def test_offline_nothing_is_stale(upstream: Script, clock: Clock) -> None:
    store = MemoryStore()
    upstream.then(answer())
    await told(Proxy(store, upstream, Policy(), runtime=Runtime(clock=clock)), request())
    clock.now += 10 * 365 * 86400
    offline = Proxy(store, None, Policy(freshness=Freshness((Rule.parse("*/*=1"),))), runtime=Runtime(clock=clock))

    assert (await told(offline, request()))[1] == "oda-proxy; hit"


def contents(file: object) -> bytes:
    return Path(str(file)).read_bytes()


async def test_an_answer_that_repeats_a_token_is_encrypted_on_the_disk(
    upstream: Script, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files: list[FileIO] = []

    def temporary_file(*_: object, **__: object) -> FileIO:
        files.append((tmp_path / f"{len(files)}").open("w+b", buffering=0))
        return files[-1]

    monkeypatch.setattr("tempfile.TemporaryFile", temporary_file)
    large = answer_to(token())
    large["products"]["catalog"] = {"private": "x" * 9_000_000}
    upstream.then(large)

    _, cache_status, body = await told(house(upstream, clock, secret_key=KEY), with_token(token()))

    assert cache_status == "oda-proxy; fwd=uri-miss; fwd-status=200; stored"
    assert len(body) > 9_000_000
    assert files
    for file in files:
        file.close()
        content = contents(file.name)
        assert not [text for text in (token().encode(), SESSION.encode(), b"x" * 100) if text in content]
