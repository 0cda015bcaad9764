"""Which headers of the dispatcher reach which client, and what browsers of other sites may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oda_proxy.handlers.policy import Policy
from oda_proxy.http.cors import CorsPolicy
from oda_proxy.http.message import Headers, Request
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.store.memory import MemoryStore
from tests.support.dispatcher_responses import answer
from tests.support.scripted_upstream import JSON, ORIGIN, Clock, Script, at_once, request, told

if TYPE_CHECKING:
    from collections.abc import Iterable

SITE = "https://site.example"
PERSONAL = (*JSON, ("Set-Cookie", "session=SECRET"), ("X-Request-Id", "17"))
OF_DISPATCHER = ("Access-Control-Allow-Origin", "https://of-the-dispatcher.example")


def proxy_of(upstream: Script | None, origins: Iterable[str] = (), store: MemoryStore | None = None) -> Proxy:
    policy = Policy(cors=CorsPolicy(frozenset(origins)))
    return Proxy(store or MemoryStore(), upstream, policy, runtime=Runtime(clock=Clock(), sleep=at_once))


async def headers_of(proxy: Proxy, ask: Request) -> Headers:
    return (await proxy.answer(ask, origin=ORIGIN)).headers


def allowed(headers: Headers) -> list[str]:
    return [value for name, value in headers if name == "Access-Control-Allow-Origin"]


async def test_a_cookie_for_the_first_request_of_a_job_reaches_no_client() -> None:
    proxy = proxy_of(Script().then(answer(), headers=PERSONAL))

    first, hit = [await headers_of(proxy, request(who=who)) for who in ("FIRSTSESSION0000", "SECONDSESSION000")]

    assert not {"Set-Cookie", "X-Request-Id"} & {name for name, _ in (*first, *hit)}


@pytest.mark.parametrize(
    ("name", "value", "detail"),
    [
        ("Cache-Control", "private, max-age=0", "upstream-private"),
        ("Cache-Control", "no-store", "upstream-no-store"),
        ("Vary", "Accept-Language", "upstream-varies"),
        ("Vary", "*", "upstream-varies"),
    ],
)
async def test_an_answer_that_the_dispatcher_reserves_for_its_client_is_not_stored(
    name: str, value: str, detail: str
) -> None:
    fields = (*JSON, (name, value))
    proxy = proxy_of(Script().then(answer(), headers=fields).then(answer(), headers=fields))

    for who in ("FIRSTSESSION0000", "SECONDSESSION000"):
        _, cache_status, _ = await told(proxy, request(who=who))
        assert cache_status == f"oda-proxy; fwd=uri-miss; fwd-status=200; detail={detail}"


@pytest.mark.parametrize(("origins", "expected"), [({SITE}, [SITE]), ({"*"}, ["*"])])
async def test_hits_misses_failures_and_offline_answers_have_the_same_cors_headers(
    origins: set[str], expected: list[str]
) -> None:
    store = MemoryStore()
    failing = Request("GET", "/api/par-names", headers=(("Origin", SITE),))
    upstream = Script().then(answer(), headers=(*JSON, OF_DISPATCHER)).then(b"", status=500)
    online = proxy_of(upstream, origins, store)
    ask = Request("GET", "/run_analysis", request().query_string, (("Origin", SITE),))
    other = Request("GET", "/run_analysis", request().query_string.replace("RA=83", "RA=84"), (("Origin", SITE),))
    closed = Request("GET", "/reload-plugin", headers=(("Origin", SITE),))

    answers = [(online, ask), (online, ask), (online, failing), (online, closed)]
    offline = proxy_of(None, origins, store)
    answers += [(offline, ask), (offline, other), (offline, failing)]

    for proxy, each in answers:
        headers = await headers_of(proxy, each)
        assert allowed(headers) == expected, each
        assert any(name == "Access-Control-Expose-Headers" and "Cache-Status" in value for name, value in headers)


async def test_without_a_policy_a_stored_answer_has_no_cors_headers() -> None:
    proxy = proxy_of(Script().then(answer(), headers=(*JSON, OF_DISPATCHER)))

    first, hit = [await headers_of(proxy, request()) for _ in range(2)]

    assert allowed(first) == [OF_DISPATCHER[1]]
    assert allowed(hit) == []


@pytest.mark.parametrize("path", ["/run_analysis", "/api/meta-data", "/"])
async def test_options_is_answered_offline_and_by_the_dispatcher_online(path: str) -> None:
    ask = Request("OPTIONS", path)
    offline = await proxy_of(None).answer(ask, origin=ORIGIN)
    online = await told(proxy_of(Script().then(b"", status=200, headers=())), ask)

    assert (offline.status, offline.body) == (204, ())
    assert ("Allow", "GET, HEAD, POST, OPTIONS") in offline.headers
    assert online[:2] == (200, "oda-proxy; fwd=bypass; fwd-status=200")


async def test_an_answer_with_an_unknown_coding_is_passed_on_and_named() -> None:
    fields = (*JSON, ("Content-Encoding", "br"))
    proxy = proxy_of(Script().then(b"\x8b\x00\x80{}\x03", headers=fields))

    result = await proxy.answer(request(), origin=ORIGIN)

    assert result.cache_status.detail == "encoded"
    assert ("Content-Encoding", "br") in result.headers
