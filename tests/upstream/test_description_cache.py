"""Descriptions are cached for a while, and for longer while the dispatcher is down."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.http.message import Request
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.store.memory import MemoryStore
from oda_proxy.upstream.description_cache import DescriptionCache
from tests.support.dispatcher_responses import json_bytes
from tests.support.scripted_upstream import JSON, ORIGIN, Clock, Script, body_of, told

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.http.answer import Answer
    from tests.support.scripted_upstream import Reply

ASK = Request("GET", "/api/par-names", "instrument=isgri")
TTL = 300.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def upstream() -> Script:
    return Script().then(["RA"])


@pytest.fixture
async def proxy(upstream: Script, clock: Clock) -> Proxy:
    """Return a proxy that has just cached a description."""
    proxy = Proxy(MemoryStore(), upstream, Policy(description_ttl=TTL), runtime=Runtime(clock=clock))
    await told(proxy, ASK)
    return proxy


async def test_a_description_is_fetched_again_after_its_time_to_live(
    proxy: Proxy, upstream: Script, clock: Clock
) -> None:
    upstream.then(["RA", "DEC"])
    clock.now += TTL

    assert (await told(proxy, ASK))[1:] == ("oda-proxy; fwd=stale; fwd-status=200; stored", json_bytes(["RA", "DEC"]))
    assert (await told(proxy, ASK))[1:] == ("oda-proxy; hit", json_bytes(["RA", "DEC"]))


async def test_the_age_that_another_cache_reports_counts(clock: Clock) -> None:
    upstream = Script().then(["RA"], headers=(*JSON, ("Age", "200"))).then(["DEC"])
    proxy = Proxy(MemoryStore(), upstream, Policy(description_ttl=TTL), runtime=Runtime(clock=clock))
    await told(proxy, ASK)

    clock.now += 50
    assert ("Age", "250") in (await proxy.answer(ASK, origin=ORIGIN)).headers
    clock.now += 50
    assert (await told(proxy, ASK))[1:] == ("oda-proxy; fwd=stale; fwd-status=200; stored", json_bytes(["DEC"]))


async def test_a_cached_description_may_be_as_old_as_the_request_says(
    proxy: Proxy, upstream: Script, clock: Clock
) -> None:
    upstream.then(["RA", "DEC"]).then([])
    clock.now += 60

    young, old, pragma = (
        replace(ASK, headers=(header,))
        for header in (("Cache-Control", "max-age=60"), ("Cache-Control", "max-age=59"), ("Pragma", "no-cache"))
    )

    assert (await told(proxy, young))[1] == "oda-proxy; hit"
    assert (await told(proxy, old))[1:] == (
        "oda-proxy; fwd=request; fwd-status=200; stored",
        json_bytes(["RA", "DEC"]),
    )
    assert (await told(proxy, old))[1] == "oda-proxy; hit"
    assert (await told(proxy, pragma))[2] == json_bytes([])


async def test_a_stale_description_is_marked_while_the_dispatcher_is_down(
    proxy: Proxy, upstream: Script, clock: Clock
) -> None:
    upstream.replies.append(UpstreamUnreachableError(upstream.url, "Connection refused"))
    upstream.then(b"<h1>Bad Gateway</h1>", status=502)
    clock.now += 3 * TTL

    for _ in range(2):
        answer = await proxy.answer(ASK, origin=ORIGIN)
        assert (answer.status, str(answer.cache_status)) == (200, "oda-proxy; hit; detail=stale")
        assert ("Age", "900") in answer.headers
        assert await body_of(answer) == json_bytes(["RA"])


async def test_concurrent_requests_share_one_fetch(upstream: Script, clock: Clock) -> None:
    proxy = Proxy(MemoryStore(), upstream, Policy(description_ttl=TTL), runtime=Runtime(clock=clock))

    answers = await asyncio.gather(*(told(proxy, ASK) for _ in range(20)))

    assert {(status, body) for status, _, body in answers} == {(200, json_bytes(["RA"]))}
    assert len(upstream.asked) == 1


async def test_a_failed_fetch_fails_all_who_share_it(upstream: Script, clock: Clock) -> None:
    upstream.replies[:] = [UpstreamUnreachableError(upstream.url, "Connection refused")]
    proxy = Proxy(MemoryStore(), upstream, Policy(description_ttl=TTL), runtime=Runtime(clock=clock))

    answers = await asyncio.gather(*(told(proxy, ASK) for _ in range(20)))

    assert {status for status, _, _ in answers} == {502}
    assert len(upstream.asked) == 1


class Slow(Script):
    """An upstream whose replies come when they are released."""

    released: asyncio.Event

    async def send(self, ask: Request) -> Reply:
        reply = await super().send(ask)
        await self.released.wait()
        return reply


@pytest.fixture
def slow() -> Slow:
    upstream = Slow()
    upstream.then(["RA"]).then(["RA", "DEC"])
    upstream.released = asyncio.Event()
    return upstream


def impatient(upstream: Script, clock: Clock) -> Proxy:
    """Return a proxy that serves stale descriptions as soon as a fetch takes any time."""
    services = Services(description_cache=DescriptionCache(TTL, clock, stale_after=0.0))
    return Proxy(MemoryStore(), upstream, Policy(), services=services, runtime=Runtime(clock=clock))


async def test_a_slow_description_is_waited_for_where_none_is_cached(slow: Slow, clock: Clock) -> None:
    waiting = asyncio.gather(*(told(impatient(slow, clock), ASK) for _ in range(1)))
    await asyncio.sleep(0)
    slow.released.set()

    assert [body for _, _, body in await waiting] == [json_bytes(["RA"])]
    assert (slow.asked[0].timeout or 0) > 100, "clients wait 120 s"


async def test_a_stale_description_is_served_while_the_dispatcher_is_slow(slow: Slow, clock: Clock) -> None:
    proxy = impatient(slow, clock)
    slow.released.set()
    await told(proxy, ASK)
    slow.released.clear()
    clock.now += TTL

    for _ in range(2):
        assert (await told(proxy, ASK))[1:] == ("oda-proxy; hit; detail=stale", json_bytes(["RA"]))
    (fetch,) = proxy._descriptions._fetches.values()
    slow.released.set()
    await fetch

    assert (await told(proxy, ASK))[1:] == ("oda-proxy; hit", json_bytes(["RA", "DEC"]))
    assert len(slow.asked) == 2


@pytest.mark.parametrize(
    ("path", "status", "is_fetched_again"),
    [
        ("/reload-plugin/dummy", 200, True),
        ("/reload-plugin", 200, True),
        ("/reload-plugin/dummy", 403, False),
        ("/free-up-space", 200, False),
    ],
)
async def test_descriptions_are_fetched_again_after_a_plugin_was_reloaded(
    upstream: Script, clock: Clock, path: str, status: int, *, is_fetched_again: bool
) -> None:
    policy = Policy(description_ttl=TTL, open_routes=frozenset({"reload-plugin", "free-up-space"}))
    proxy = Proxy(MemoryStore(), upstream, policy, runtime=Runtime(clock=clock))
    await told(proxy, ASK)
    upstream.then("done", status=status).then(["RA", "DEC"])

    await told(proxy, Request("GET", path))

    expected = ["RA", "DEC"] if is_fetched_again else ["RA"]
    assert (await told(proxy, ASK))[2] == json_bytes(expected)


async def test_an_unknown_description_is_not_made_up(proxy: Proxy, upstream: Script) -> None:
    upstream.replies.append(UpstreamUnreachableError(upstream.url, "Connection refused"))

    assert (await told(proxy, Request("GET", "/api/par-names", "instrument=jemx")))[0] == 502


async def test_a_description_outlives_the_process_and_serves_offline(
    upstream: Script, clock: Clock, tmp_path: Path
) -> None:
    proxy = Proxy(
        MemoryStore(),
        upstream,
        Policy(),
        services=Services(description_cache=DescriptionCache(TTL, clock, tmp_path)),
        runtime=Runtime(clock=clock),
    )
    await told(proxy, ASK)
    clock.now += 10 * TTL
    offline = Proxy(
        MemoryStore(),
        None,
        Policy(),
        services=Services(description_cache=DescriptionCache(TTL, clock, tmp_path)),
        runtime=Runtime(clock=clock),
    )

    assert await told(offline, ASK) == (200, "oda-proxy; hit; detail=stale", json_bytes(["RA"]))
    assert (await told(offline, Request("GET", "/api/par-names", "instrument=jemx")))[0] == 404


def persistent(upstream: Script | None, clock: Clock, folder: Path) -> Proxy:
    """Return a proxy that keeps descriptions in a folder."""
    services = Services(description_cache=DescriptionCache(TTL, clock, folder))
    return Proxy(MemoryStore(), upstream, Policy(), services=services, runtime=Runtime(clock=clock))


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"format":1}', b"\xff"])
async def test_a_damaged_file_is_ignored(upstream: Script, clock: Clock, tmp_path: Path, damage: bytes) -> None:
    proxy = Proxy(
        MemoryStore(),
        upstream,
        Policy(),
        services=Services(description_cache=DescriptionCache(TTL, clock, tmp_path)),
        runtime=Runtime(clock=clock),
    )
    await told(proxy, ASK)
    (file,) = (tmp_path / "descriptions").iterdir()
    file.write_bytes(damage)
    offline = Proxy(
        MemoryStore(),
        None,
        Policy(),
        services=Services(description_cache=DescriptionCache(TTL, clock, tmp_path)),
        runtime=Runtime(clock=clock),
    )

    assert (await told(offline, ASK))[0] == 404


async def test_a_file_of_another_release_stays(upstream: Script, clock: Clock, tmp_path: Path) -> None:
    await told(persistent(upstream, clock, tmp_path), ASK)
    (file,) = (tmp_path / "descriptions").iterdir()
    file.write_text('{"format": 2}')
    upstream.then(["RA", "DEC"])

    await told(persistent(upstream, clock, tmp_path), ASK)

    assert file.read_text() == '{"format": 2}'
    assert (await told(persistent(None, clock, tmp_path), ASK))[2] == json_bytes(["RA", "DEC"])


async def test_a_folder_that_cannot_be_written_does_not_fail_a_request(
    upstream: Script, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "descriptions").write_text("")
    proxy = Proxy(
        MemoryStore(),
        upstream,
        Policy(),
        services=Services(description_cache=DescriptionCache(TTL, clock, tmp_path)),
        runtime=Runtime(clock=clock),
    )

    assert (await told(proxy, ASK))[0] == 200
    assert (await told(proxy, ASK))[1] == "oda-proxy; hit"


PERSONAL = (
    ("Content-Type", "application/json"),
    ("Set-Cookie", "session=SECRET"),
    ("X-Request-Id", "17"),
    ("Access-Control-Allow-Origin", "https://site.example"),
    ("Vary", "Origin"),
)


def fields(answer: Answer) -> set[str]:
    return {name for name, _ in answer.headers}


async def test_headers_for_one_client_do_not_reach_another(clock: Clock) -> None:
    upstream = Script().then(["RA"], headers=PERSONAL)
    proxy = Proxy(MemoryStore(), upstream, Policy(description_ttl=TTL), runtime=Runtime(clock=clock))

    first = await proxy.answer(ASK, origin=ORIGIN)
    hit = await proxy.answer(ASK, origin=ORIGIN)

    assert fields(first) >= {"Set-Cookie", "Access-Control-Allow-Origin"}
    assert fields(hit) == {"Content-Type", "Content-Length", "Age", "Vary"}


async def test_headers_for_one_client_do_not_reach_those_who_share_its_fetch(clock: Clock) -> None:
    upstream = Script().then(["RA"], headers=PERSONAL)
    proxy = Proxy(MemoryStore(), upstream, Policy(description_ttl=TTL), runtime=Runtime(clock=clock))

    answers = await asyncio.gather(*(proxy.answer(ASK, origin=ORIGIN) for _ in range(3)))

    assert len(upstream.asked) == 1
    assert ["Set-Cookie" in fields(answer) for answer in answers] == [True, False, False]


@pytest.mark.parametrize(
    ("name", "value", "detail"),
    [
        ("Cache-Control", "private", "upstream-private"),
        ("Cache-Control", "no-store", "upstream-no-store"),
        ("Vary", "*", "upstream-varies"),
    ],
)
async def test_a_description_for_one_client_is_not_cached(clock: Clock, name: str, value: str, detail: str) -> None:
    upstream = Script()
    for number in range(4):
        upstream.then([number], headers=((name, value),))
    proxy = Proxy(MemoryStore(), upstream, Policy(description_ttl=TTL), runtime=Runtime(clock=clock))

    answers = [await told(proxy, ASK) for _ in range(2)]
    answers += await asyncio.gather(told(proxy, ASK), told(proxy, ASK))

    assert {status for _, status, _ in answers} == {f"oda-proxy; fwd=uri-miss; fwd-status=200; detail={detail}"}
    assert sorted(body for _, _, body in answers) == [json_bytes([number]) for number in range(4)]


async def test_a_description_is_cached_for_requests_with_the_same_values_of_vary(clock: Clock, tmp_path: Path) -> None:
    varies = (("Vary", "Accept-Language"),)
    upstream = Script().then(["fr"], headers=varies).then(["de"], headers=varies)
    proxy = persistent(upstream, clock, tmp_path)
    french, german = (replace(ASK, headers=(("Accept-Language", language),)) for language in ("fr", "de"))

    answers = [(await told(proxy, request))[2] for request in (french, french, german, german)]
    hit = await proxy.answer(german, origin=ORIGIN)

    assert ("Vary", "accept-language, accept-datetime") in hit.headers
    assert answers == [json_bytes(["fr"])] * 2 + [json_bytes(["de"])] * 2
    assert not (tmp_path / "descriptions").exists()
