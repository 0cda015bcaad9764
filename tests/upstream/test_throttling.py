"""Limits on requests to a dispatcher, with a clock that advances only when all tasks wait for it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import logging
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.errors import LocalLimitError, UpstreamPausedError, UpstreamSlowError, UpstreamUnreachableError
from oda_proxy.handlers.policy import Policy
from oda_proxy.http.message import Request
from oda_proxy.proxy import Proxy
from oda_proxy.store.memory import MemoryStore
from oda_proxy.upstream.breaker import FAILURES
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.upstream.throttling import BURST, MAX_RETRY_AFTER, ThrottledUpstream, UpstreamHealth
from oda_proxy.web.app import make_app
from tests.support.examples import examples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from oda_proxy.http.message import Headers, Reply

PAUSED = "requests to it are paused, and one is tried now and then"
TODAY = 1_700_000_000.0
"""14 November 2023, 22:13:20 UTC."""


class World:
    """A clock that stands until it is advanced."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = itertools.count()

    def clock(self) -> float:
        return self.now

    def today(self) -> float:
        return TODAY + self.now - 1000.0

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._number), woken))
        await woken

    async def settle(self) -> None:
        """Run all tasks until they wait."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def done(self, *tasks: asyncio.Task[Any]) -> None:
        """Advance the clock until these tasks are done."""
        await self.settle()
        while not all(task.done() for task in tasks):
            self.wake()
            await self.settle()

    def wake(self) -> None:
        """Advance the clock to the next wake-up."""
        self.now, _, woken = heapq.heappop(self._sleepers)
        if not woken.done():
            woken.set_result(None)


@dataclass
class SlowBody:
    """A body of two chunks, with time between them."""

    stage: Stage
    number: int
    duration: float

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"1"
        await self.stage.world.sleep(self.duration)
        yield b"2"
        await self.aclose()

    async def aclose(self) -> None:
        self.stage.active.discard(self.number)


@dataclass
class StageReply:
    status: int
    headers: Headers
    body: SlowBody


@dataclass
class Stage:
    """A dispatcher that records its requests, and behaves as their paths say."""

    world: World
    requests: list[Request] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    active: set[int] = field(default_factory=set)
    max_active: int = 0
    url: str = "http://dispatcher.example"

    async def send(self, request: Request) -> Reply:
        number = len(self.requests)
        self.requests.append(request)
        self.times.append(self.world.now)
        self.active.add(number)
        self.max_active = max(self.max_active, len(self.active))
        try:
            return await self._answer(request, SlowBody(self, number, float(request.query_string or 0)))
        except BaseException:
            self.active.discard(number)
            raise

    async def _answer(self, request: Request, body: SlowBody) -> Reply:
        status = 200
        match request.path.split("/")[1:]:
            case ["gone"]:
                raise UpstreamUnreachableError(self.url, "Connection refused")
            case ["slow"]:
                raise UpstreamSlowError(self.url, "no response in time")
            case ["full"]:
                raise LocalLimitError(self.url, "Too many open files")
            case ["broken"]:
                raise RuntimeError("a mistake")
            case ["takes", seconds]:
                await self.world.sleep(float(seconds))
            case ["takes", seconds, number]:
                await self.world.sleep(float(seconds))
                status = int(number)
            case ["status", number]:
                status = int(number)
        return StageReply(status, request.headers, body)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def stage(world: World) -> Stage:
    return Stage(world)


def throttled(stage: Stage, *, max_concurrent: int = 100, rate: float = 1e6) -> ThrottledUpstream:
    world = stage.world
    return ThrottledUpstream(
        stage, max_concurrent=max_concurrent, rate=rate, clock=world.clock, sleep=world.sleep, today=world.today
    )


async def visit(upstream: ThrottledUpstream, path: str = "/", *, body: float = 0.0, **fields: Any) -> int:
    """Send a request, read a body that takes some s, and return the status."""
    reply = await upstream.send(Request("GET", path, str(body), **fields))
    try:
        async for _ in reply.body:
            pass
    finally:
        await reply.body.aclose()
    return reply.status


async def status_of(upstream: ThrottledUpstream, path: str = "/", **fields: Any) -> int:
    """Send a request and return the status, the body unread."""
    reply = await upstream.send(Request("GET", path, **fields))
    await reply.body.aclose()
    return reply.status


# Concurrency and rate


@dataclass(frozen=True)
class Visitor:
    """A client that arrives some s after the one before, and may disconnect."""

    after: float
    takes: float
    body: float
    disconnects_after: float | None


TIMES = st.sampled_from([0.0, 0.0, 0.0, 0.125, 0.5, 1.0, 4.0])
VISITORS = st.lists(st.builds(Visitor, TIMES, TIMES, TIMES, st.none() | TIMES), max_size=30)


@settings(deadline=None, max_examples=examples(200))
@given(visitors=VISITORS, max_concurrent=st.integers(1, 4), rate=st.sampled_from([0.25, 1.0, 2.0, 8.0]))
def test_concurrency_and_rate_are_limited_and_requests_are_sent_first_come_first_served(
    visitors: list[Visitor], max_concurrent: int, rate: float
) -> None:
    async def story() -> None:
        world = World()
        stage = Stage(world)
        upstream = throttled(stage, max_concurrent=max_concurrent, rate=rate)

        async def arrive(name: int, visitor: Visitor) -> None:
            visiting = visit(upstream, f"/takes/{visitor.takes}", body=visitor.body, headers=(("Name", str(name)),))
            task = asyncio.create_task(visiting)
            if visitor.disconnects_after is not None:
                await world.sleep(visitor.disconnects_after)
                task.cancel()
            await asyncio.wait({task})

        arriving = []
        for name, visitor in enumerate(visitors):
            await world.done(asyncio.create_task(world.sleep(visitor.after)))
            arriving.append(asyncio.create_task(arrive(name, visitor)))
        await world.done(*arriving)

        assert stage.max_active <= max_concurrent
        burst = max(1.0, BURST * rate)
        for (first, begin), (last, end) in itertools.combinations(enumerate(stage.times), 2):
            assert last - first + 1 <= burst + rate * (end - begin) + 1e-6
        sent = [int(request.headers[0][1]) for request in stage.requests]
        assert sent == sorted(sent)
        assert {name for name, visitor in enumerate(visitors) if visitor.disconnects_after is None} <= set(sent)
        assert (upstream.health.under_way, upstream.health.waiting) == (0, 0)

    asyncio.run(story())


async def test_a_burst_is_sent_at_once_and_the_rest_at_the_rate(world: World, stage: Stage) -> None:
    upstream = throttled(stage, rate=20.0)

    await world.done(*[asyncio.create_task(visit(upstream)) for _ in range(43)])

    assert [round(at - 1000.0, 6) for at in stage.times] == [*[0.0] * 40, 0.05, 0.1, 0.15]


async def test_a_rate_below_one_admits_one_request_at_a_time(world: World, stage: Stage) -> None:
    upstream = throttled(stage, rate=0.1)

    await world.done(*[asyncio.create_task(visit(upstream)) for _ in range(3)])

    assert [at - 1000.0 for at in stage.times] == pytest.approx([0.0, 10.0, 20.0])


async def test_a_slot_is_held_until_the_body_is_read(world: World, stage: Stage) -> None:
    upstream = throttled(stage, max_concurrent=1)
    first, second = (asyncio.create_task(visit(upstream, body=7.0)) for _ in range(2))
    await world.settle()

    assert (upstream.health.under_way, upstream.health.waiting) == (1, 1)
    await world.done(first, second)
    assert stage.times == [1000.0, 1007.0]


async def test_a_body_that_is_read_to_its_end_releases_its_slot(world: World, stage: Stage) -> None:
    upstream = throttled(stage)
    reply = await upstream.send(Request("GET", "/"))

    async def read() -> list[bytes]:
        return [chunk async for chunk in reply.body]

    reading = asyncio.create_task(read())
    await world.settle()
    assert upstream.health.under_way == 1
    await world.done(reading)
    assert (reading.result(), upstream.health.under_way) == ([b"1", b"2"], 0)


async def test_a_slot_is_released_once(world: World, stage: Stage) -> None:
    upstream = throttled(stage, max_concurrent=1)
    reply = await upstream.send(Request("GET", "/"))
    for _ in range(3):
        await reply.body.aclose()

    await world.done(*[asyncio.create_task(visit(upstream, body=1.0)) for _ in range(3)])

    assert stage.max_active == 1


@pytest.mark.parametrize("path", ["/gone", "/slow", "/broken"])
async def test_a_request_that_fails_releases_its_slot(stage: Stage, path: str) -> None:
    upstream = throttled(stage, max_concurrent=1)
    for _ in range(FAILURES - 1):
        with pytest.raises((UpstreamUnreachableError, RuntimeError)):
            await upstream.send(Request("GET", path))

    assert upstream.health.under_way == 0
    assert await status_of(upstream) == 200


async def test_a_request_that_is_cancelled_while_it_waits_releases_everything() -> None:
    """Two requests are ahead for the slot and one for the rate limit; then it waits for the reply and for the body."""
    seen = set()
    for ticks in itertools.count():
        world = World()
        stage = Stage(world)
        upstream = throttled(stage, max_concurrent=2, rate=0.25)
        before = [asyncio.create_task(visit(upstream, "/takes/1", body=1.0)) for _ in range(3)]
        await world.settle()
        visitor = asyncio.create_task(visit(upstream, "/takes/2", body=1.0))
        for tick in range(ticks):
            await asyncio.sleep(0)
            if tick % 10 == 9:
                world.wake()
        if visitor.done():
            break
        health = upstream.health
        seen.add((health.under_way, health.waiting, "/takes/2" in {request.path for request in stage.requests}))
        visitor.cancel()
        await world.done(*before, visitor)
        after = [asyncio.create_task(visit(upstream, "/takes/99")) for _ in range(3)]
        await world.done(*after)

        assert [task.result() for task in [*before, *after]] == [200] * 6
        assert stage.max_active == 2  # no slot was lost or added
        assert (upstream.health.under_way, upstream.health.waiting) == (0, 0)
    assert seen >= {(2, 3, False), (2, 2, False), (2, 1, False), (1, 1, False), (1, 0, True)}


async def test_time_spent_waiting_counts_towards_the_timeout(world: World, stage: Stage) -> None:
    upstream = throttled(stage, max_concurrent=1)
    first = asyncio.create_task(visit(upstream, body=3.0))
    await world.settle()
    second = asyncio.create_task(visit(upstream, timeout=15.0))
    await world.done(first, second)

    assert [request.timeout for request in stage.requests] == [None, 12.0]


async def test_a_request_whose_timeout_passed_while_it_waited_is_not_sent(world: World, stage: Stage) -> None:
    upstream = throttled(stage, max_concurrent=1)
    first = asyncio.create_task(visit(upstream, body=3.0))
    await world.settle()

    with pytest.raises(UpstreamPausedError, match="too many other requests were waiting for it; retry in 1 s"):
        await upstream.send(Request("GET", "/", timeout=0.0))

    await world.done(first)
    assert len(stage.requests) == 1
    assert (upstream.health.under_way, upstream.health.waiting) == (0, 0)


# A dispatcher that requests a pause


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "pause"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("86400", MAX_RETRY_AFTER),
        ("9" * 5000, MAX_RETRY_AFTER),
        (formatdate(TODAY + 90, usegmt=True), 90.0),
        ("Tuesday, 14-Nov-23 22:14:50 GMT", 90.0),
        ("Tue Nov 14 22:14:50 2023", 90.0),
        (formatdate(TODAY - 90, usegmt=True), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
        ("soon", 0.0),
        ("-5", 0.0),
        ("1.5", 0.0),
        ("", 0.0),
        ("\u0663", 0.0),  # a digit, but not an ASCII one
    ],
)
async def test_retry_after_pauses_all_requests(
    world: World, stage: Stage, status: int, value: str, pause: float
) -> None:
    upstream = throttled(stage)

    assert await status_of(upstream, f"/status/{status}", headers=(("Retry-after", value),)) == status
    if pause:
        with pytest.raises(UpstreamPausedError) as raised:
            await upstream.send(Request("GET", "/"))
        assert raised.value.retry_after == pause
        assert upstream.health.until == TODAY + pause
        assert len(stage.requests) == 1
        world.now += pause
    assert await status_of(upstream) == 200
    assert upstream.health.until is None


async def test_a_response_with_retry_after_is_no_failure(stage: Stage) -> None:
    upstream = throttled(stage)
    for _ in range(FAILURES):
        await status_of(upstream, "/status/503", headers=(("Retry-After", "0"),))

    assert (upstream.health.state, upstream.health.failures) == ("closed", 0)


@given(value=st.text())
def test_a_pause_lasts_an_hour_at_most(value: str) -> None:
    async def story() -> None:
        world = World()
        upstream = throttled(Stage(world))
        await status_of(upstream, "/status/429", headers=(("Retry-After", value),))
        world.now += MAX_RETRY_AFTER
        assert await status_of(upstream) == 200

    asyncio.run(story())


async def test_retry_after_of_other_statuses_is_ignored(stage: Stage) -> None:
    upstream = throttled(stage)
    for status in (200, 301, 413, 500, 502):
        await status_of(upstream, f"/status/{status}", headers=(("Retry-After", "60"),))

    assert await status_of(upstream) == 200


async def test_a_shorter_pause_does_not_end_a_longer_one(world: World, stage: Stage) -> None:
    upstream = throttled(stage)
    pauses = [(("Retry-After", seconds),) for seconds in ("60", "5")]
    await world.done(*[asyncio.create_task(visit(upstream, "/takes/1/503", headers=pause)) for pause in pauses])

    assert upstream.health.until == TODAY + 1 + 60


async def test_the_error_names_the_begin_and_the_end_of_the_pause(stage: Stage) -> None:
    upstream = throttled(stage)
    await status_of(upstream, "/status/503", headers=(("Retry-After", "30"),))

    with pytest.raises(UpstreamPausedError) as raised:
        await upstream.send(Request("GET", "/"))

    assert str(raised.value) == (
        "cannot reach the dispatcher http://dispatcher.example: it responded 503 at 2023-11-14 22:13:20 UTC "
        "and requested a pause; retry in 30 s"
    )


async def test_a_request_that_waits_for_a_slot_when_a_pause_begins_is_not_sent(world: World, stage: Stage) -> None:
    upstream = throttled(stage, max_concurrent=1, rate=0.1)
    first = asyncio.create_task(visit(upstream, "/takes/1/503", headers=(("Retry-After", "60"),)))
    others = [asyncio.create_task(visit(upstream, at_most_once=True)) for _ in range(3)]
    await world.done(first, *others)

    assert world.now == 1001.0  # without waiting for the rate limit first
    assert len(stage.requests) == 1
    assert [type(task.exception()) for task in others] == [UpstreamPausedError] * 3


async def test_a_request_that_waits_for_the_rate_limit_when_a_pause_begins_is_not_sent(
    world: World, stage: Stage
) -> None:
    upstream = throttled(stage, rate=0.5)
    first = asyncio.create_task(visit(upstream, "/takes/1/503", headers=(("Retry-After", "60"),)))
    second = asyncio.create_task(visit(upstream, at_most_once=True))
    await world.done(first, second)

    assert world.now == 1002.0
    assert len(stage.requests) == 1
    assert isinstance(second.exception(), UpstreamPausedError)


# A dispatcher that is down


async def fail(upstream: ThrottledUpstream, times: int = FAILURES, path: str = "/gone") -> None:
    for _ in range(times):
        with pytest.raises(UpstreamUnreachableError):
            await upstream.send(Request("GET", path))


async def test_a_dispatcher_that_failed_repeatedly_gets_one_trial_after_a_pause(
    world: World, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    upstream = throttled(stage)
    await fail(upstream)

    with pytest.raises(UpstreamPausedError) as raised:
        await upstream.send(Request("GET", "/"))

    assert str(raised.value) == (
        "cannot reach the dispatcher http://dispatcher.example: it has failed since 2023-11-14 22:13:20 UTC, "
        "5 times in a row (Connection refused); retry in 1 s"
    )
    assert (raised.value.retry_after, raised.value.http_status) == (1.0, 503)
    assert upstream.health == UpstreamHealth("open", 5, TODAY, "Connection refused", TODAY + 1, 0, 0)
    assert len(stage.requests) == FAILURES
    world.now += 1.0
    assert await status_of(upstream) == 200
    assert upstream.health == UpstreamHealth("closed", 0, None, "", None, 0, 0)
    summary = "since 2023-11-14 22:13:20 UTC, 5 times in a row (Connection refused)"
    assert [record.message for record in caplog.records] == [
        f"the dispatcher http://dispatcher.example has failed {summary}; {PAUSED}",
        f"the dispatcher http://dispatcher.example responds again; it had failed {summary}",
    ]


async def test_during_a_trial_other_requests_are_not_sent(world: World, stage: Stage) -> None:
    upstream = throttled(stage)
    await fail(upstream)
    world.now += 1.0
    trial = asyncio.create_task(visit(upstream, "/takes/5"))
    await world.settle()

    assert upstream.health.state == "half-open"
    with pytest.raises(UpstreamPausedError, match="retry in 1 s"):
        await upstream.send(Request("GET", "/"))
    await world.done(trial)
    assert (upstream.health.state, len(stage.requests)) == ("closed", FAILURES + 1)


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_gateway_error_is_a_failure_and_is_returned(stage: Stage, status: int) -> None:
    upstream = throttled(stage)
    for _ in range(FAILURES):
        assert await status_of(upstream, f"/status/{status}") == status

    with pytest.raises(UpstreamPausedError, match=rf"5 times in a row \(it responds {status}\)"):
        await upstream.send(Request("GET", "/"))


@pytest.mark.parametrize("path", ["/status/500", "/status/404", "/status/429"])
async def test_any_other_status_is_no_failure(stage: Stage, path: str) -> None:
    upstream = throttled(stage)
    await fail(upstream, FAILURES - 1)
    await status_of(upstream, path)
    await fail(upstream, FAILURES - 1)

    assert upstream.health.state == "closed"


async def test_a_dispatcher_that_is_only_slow_does_not_open_the_circuit(stage: Stage) -> None:
    """With the short time-out of descriptions, a slow dispatcher would seem to be down."""
    upstream = throttled(stage)
    await fail(upstream, 3 * FAILURES, "/slow")

    assert (upstream.health.state, upstream.health.failures) == ("closed", 0)


async def test_a_limit_of_this_process_does_not_open_the_circuit(stage: Stage) -> None:
    upstream = throttled(stage)
    await fail(upstream, 3 * FAILURES, "/full")

    assert (upstream.health.state, upstream.health.failures) == ("closed", 0)


async def test_a_request_that_is_cancelled_is_no_failure(world: World, stage: Stage) -> None:
    upstream = throttled(stage)
    await fail(upstream, FAILURES - 1)
    task = asyncio.create_task(visit(upstream, "/takes/9"))
    await world.settle()
    task.cancel()
    await world.done(task)

    assert (upstream.health.state, upstream.health.failures) == ("closed", FAILURES - 1)


async def test_after_a_cancelled_trial_the_next_request_is_the_trial(world: World, stage: Stage) -> None:
    upstream = throttled(stage)
    await fail(upstream)
    world.now += 1.0
    task = asyncio.create_task(visit(upstream, "/takes/9"))
    await world.settle()
    task.cancel()
    await world.done(task)

    assert await status_of(upstream) == 200


# A real server


@pytest.fixture
async def pausing_server() -> AsyncIterator[tuple[TestServer, list[str]]]:
    """Serve one that requests a pause in response to /busy."""
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        if request.path == "/busy":
            return web.Response(status=429, headers={"Retry-After": "120"}, text="too many")
        return web.Response(text="[]")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(app)
    await server.start_server()
    yield server, seen
    await server.close()


async def test_the_proxy_observes_a_pause_and_the_status_page_shows_it(
    pausing_server: tuple[TestServer, list[str]],
) -> None:
    server, seen = pausing_server
    async with Dispatcher(str(server.make_url(""))) as dispatcher:
        upstream = ThrottledUpstream(dispatcher, max_concurrent=4, rate=100.0, today=lambda: TODAY)
        async with (
            TestServer(make_app(Proxy(MemoryStore(), upstream, Policy()))) as proxy,
            ClientSession(str(proxy.make_url(""))) as client,
        ):
            responses = [
                await fetch(client, path) for path in ("/busy", "/api/par-names?instrument=isgri", "/-/status")
            ]

    assert (responses[0].status, responses[0].text, responses[0].headers["Retry-After"]) == (429, "too many", "120")
    assert (responses[1].status, "requested a pause" in responses[1].text) == (503, True)
    assert json.loads(responses[2].text)["asking"] == {
        "state": "closed",
        "failures": 0,
        "since": None,
        "reason": "it responded 429 at 2023-11-14 22:13:20 UTC and requested a pause",
        "until": pytest.approx(TODAY + 120, abs=60),
        "under_way": 0,
        "waiting": 0,
    }
    assert seen == ["/busy"]


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    text: str


async def fetch(client: ClientSession, path: str) -> Response:
    async with client.get(path) as response:
        return Response(response.status, response.headers, await response.text())


# Other limits while it runs


async def test_a_new_number_of_requests_holds_for_those_that_wait(world: World, stage: Stage) -> None:
    upstream = throttled(stage, max_concurrent=1)
    visits = [asyncio.create_task(visit(upstream, body=1.0)) for _ in range(5)]
    await world.settle()
    assert upstream.health.under_way == 1

    upstream.set_limits(max_concurrent=3, rate=1e6)
    await world.settle()
    assert (upstream.health.under_way, upstream.health.waiting, upstream.max_concurrent) == (3, 2, 3)
    upstream.set_limits(max_concurrent=1, rate=1e6)
    await world.done(*visits)

    assert stage.times == [1000.0, 1000.0, 1000.0, 1001.0, 1002.0]


async def test_a_new_rate_holds_for_the_next_request(world: World, stage: Stage) -> None:
    upstream = throttled(stage, rate=0.1)
    upstream.set_limits(max_concurrent=10, rate=0.5)

    await world.done(*[asyncio.create_task(visit(upstream)) for _ in range(3)])

    assert [at - 1000.0 for at in stage.times] == pytest.approx([0.0, 2.0, 4.0])
