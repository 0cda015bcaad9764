"""Manners towards a dispatcher, with a time that passes only when everybody waits for it."""

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

from oda_proxy.errors import UpstreamPausedError, UpstreamSlowError, UpstreamUnreachableError
from oda_proxy.http.message import Request
from oda_proxy.proxy import Policy, Proxy
from oda_proxy.store.memory import MemoryStore
from oda_proxy.upstream.breaker import FAILURES
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.upstream.throttling import BURST, LONGEST_REST, ThrottledUpstream, UpstreamHealth
from oda_proxy.web.app import make_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from oda_proxy.http.message import Headers, Reply

TODAY = 1_700_000_000.0
"""14 November 2023, 22:13:20 UTC."""


class World:
    """A clock that stands, until time is let go by."""

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
        """Let everybody go on until they wait."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def done(self, *tasks: asyncio.Task[Any]) -> None:
        """Let time go by until these tasks are done."""
        await self.settle()
        while not all(task.done() for task in tasks):
            self.wake()
            await self.settle()

    def wake(self) -> None:
        """Let time go by until the next one wakes."""
        self.now, _, woken = heapq.heappop(self._sleepers)
        if not woken.done():
            woken.set_result(None)


@dataclass
class Text:
    """A body of two pieces, with time between them."""

    stage: Stage
    number: int
    lasts: float

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"1"
        await self.stage.world.sleep(self.lasts)
        yield b"2"
        await self.aclose()

    async def aclose(self) -> None:
        self.stage.under_way.discard(self.number)


@dataclass
class Told:
    status: int
    headers: Headers
    body: Text


@dataclass
class Stage:
    """A dispatcher that takes note of what it is asked, and does what the path says."""

    world: World
    asked: list[Request] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    under_way: set[int] = field(default_factory=set)
    most_under_way: int = 0
    url: str = "http://dispatcher.example"

    async def send(self, ask: Request) -> Reply:
        number = len(self.asked)
        self.asked.append(ask)
        self.times.append(self.world.now)
        self.under_way.add(number)
        self.most_under_way = max(self.most_under_way, len(self.under_way))
        try:
            return await self._answer(ask, Text(self, number, float(ask.query_string or 0)))
        except BaseException:
            self.under_way.discard(number)
            raise

    async def _answer(self, ask: Request, body: Text) -> Reply:
        status = 200
        match ask.path.split("/")[1:]:
            case ["gone"]:
                raise UpstreamUnreachableError(self.url, "Connection refused")
            case ["slow"]:
                raise UpstreamSlowError(self.url, "no answer in time")
            case ["broken"]:
                raise RuntimeError("a mistake")
            case ["takes", seconds]:
                await self.world.sleep(float(seconds))
            case ["takes", seconds, number]:
                await self.world.sleep(float(seconds))
                status = int(number)
            case ["status", number]:
                status = int(number)
        return Told(status, ask.headers, body)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def stage(world: World) -> Stage:
    return Stage(world)


def mannerly(stage: Stage, *, max_concurrent: int = 100, rate: float = 1e6) -> ThrottledUpstream:
    world = stage.world
    return ThrottledUpstream(
        stage, max_concurrent=max_concurrent, rate=rate, clock=world.clock, sleep=world.sleep, today=world.today
    )


async def visit(upstream: ThrottledUpstream, path: str = "/", *, body: float = 0.0, **ask: Any) -> int:
    """Ask, read a body that takes so long, and give the status."""
    reply = await upstream.send(Request("GET", path, str(body), **ask))
    try:
        async for _ in reply.body:
            pass
    finally:
        await reply.body.aclose()
    return reply.status


async def status_of(upstream: ThrottledUpstream, path: str = "/", **ask: Any) -> int:
    """Ask, and give the status, the body unread."""
    reply = await upstream.send(Request("GET", path, **ask))
    await reply.body.aclose()
    return reply.status


# How many at once, how many a second


@dataclass(frozen=True)
class Visitor:
    """Somebody who comes some s after the one before, and whose patience may end."""

    after: float
    takes: float
    body: float
    patience: float | None


TIMES = st.sampled_from([0.0, 0.0, 0.0, 0.125, 0.5, 1.0, 4.0])
VISITORS = st.lists(st.builds(Visitor, TIMES, TIMES, TIMES, st.none() | TIMES), max_size=30)


@settings(deadline=None, max_examples=200)
@given(visitors=VISITORS, max_concurrent=st.integers(1, 4), rate=st.sampled_from([0.25, 1.0, 2.0, 8.0]))
def test_never_more_than_allowed_at_once_or_in_any_time_and_first_come_first_served(
    visitors: list[Visitor], max_concurrent: int, rate: float
) -> None:
    async def story() -> None:
        world = World()
        stage = Stage(world)
        upstream = mannerly(stage, max_concurrent=max_concurrent, rate=rate)

        async def come(name: int, visitor: Visitor) -> None:
            ask = visit(upstream, f"/takes/{visitor.takes}", body=visitor.body, headers=(("Name", str(name)),))
            task = asyncio.create_task(ask)
            if visitor.patience is not None:
                await world.sleep(visitor.patience)
                task.cancel()
            await asyncio.wait({task})

        coming = []
        for name, visitor in enumerate(visitors):
            await world.done(asyncio.create_task(world.sleep(visitor.after)))
            coming.append(asyncio.create_task(come(name, visitor)))
        await world.done(*coming)

        assert stage.most_under_way <= max_concurrent
        burst = max(1.0, BURST * rate)
        for (first, begin), (last, end) in itertools.combinations(enumerate(stage.times), 2):
            assert last - first + 1 <= burst + rate * (end - begin) + 1e-6
        sent = [int(ask.headers[0][1]) for ask in stage.asked]
        assert sent == sorted(sent)
        assert {name for name, visitor in enumerate(visitors) if visitor.patience is None} <= set(sent)
        assert (upstream.health.under_way, upstream.health.waiting) == (0, 0)

    asyncio.run(story())


async def test_a_burst_goes_at_once_and_then_one_after_the_other(world: World, stage: Stage) -> None:
    upstream = mannerly(stage, rate=20.0)

    await world.done(*[asyncio.create_task(visit(upstream)) for _ in range(43)])

    assert [round(at - 1000.0, 6) for at in stage.times] == [*[0.0] * 40, 0.05, 0.1, 0.15]


async def test_a_rate_below_one_lets_one_through_at_a_time(world: World, stage: Stage) -> None:
    upstream = mannerly(stage, rate=0.1)

    await world.done(*[asyncio.create_task(visit(upstream)) for _ in range(3)])

    assert [at - 1000.0 for at in stage.times] == pytest.approx([0.0, 10.0, 20.0])


async def test_a_place_is_held_until_the_body_was_read(world: World, stage: Stage) -> None:
    upstream = mannerly(stage, max_concurrent=1)
    first, second = (asyncio.create_task(visit(upstream, body=7.0)) for _ in range(2))
    await world.settle()

    assert (upstream.health.under_way, upstream.health.waiting) == (1, 1)
    await world.done(first, second)
    assert stage.times == [1000.0, 1007.0]


async def test_a_body_that_was_read_to_its_end_needs_no_more_to_give_its_place_back(world: World, stage: Stage) -> None:
    upstream = mannerly(stage)
    reply = await upstream.send(Request("GET", "/"))

    async def read() -> list[bytes]:
        return [piece async for piece in reply.body]

    reading = asyncio.create_task(read())
    await world.settle()
    assert upstream.health.under_way == 1
    await world.done(reading)
    assert (reading.result(), upstream.health.under_way) == ([b"1", b"2"], 0)


async def test_a_place_is_given_back_once(world: World, stage: Stage) -> None:
    upstream = mannerly(stage, max_concurrent=1)
    reply = await upstream.send(Request("GET", "/"))
    for _ in range(3):
        await reply.body.aclose()

    await world.done(*[asyncio.create_task(visit(upstream, body=1.0)) for _ in range(3)])

    assert stage.most_under_way == 1


@pytest.mark.parametrize("path", ["/gone", "/slow", "/broken"])
async def test_a_request_that_fails_gives_its_place_back(stage: Stage, path: str) -> None:
    upstream = mannerly(stage, max_concurrent=1)
    for _ in range(FAILURES - 1):
        with pytest.raises((UpstreamUnreachableError, RuntimeError)):
            await upstream.send(Request("GET", path))

    assert upstream.health.under_way == 0
    assert await status_of(upstream) == 200


async def test_whoever_is_cancelled_wherever_it_waits_leaves_no_trace() -> None:
    """Two are before the visitor for its place, one for its turn; then it waits for the reply, and for the body."""
    seen = set()
    for ticks in itertools.count():
        world = World()
        stage = Stage(world)
        upstream = mannerly(stage, max_concurrent=2, rate=0.25)
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
        seen.add((health.under_way, health.waiting, "/takes/2" in {ask.path for ask in stage.asked}))
        visitor.cancel()
        await world.done(*before, visitor)
        after = [asyncio.create_task(visit(upstream, "/takes/99")) for _ in range(3)]
        await world.done(*after)

        assert [task.result() for task in [*before, *after]] == [200] * 6
        assert stage.most_under_way == 2  # no place was lost, and none was made
        assert (upstream.health.under_way, upstream.health.waiting) == (0, 0)
    assert seen >= {(2, 3, False), (2, 2, False), (2, 1, False), (1, 1, False), (1, 0, True)}


async def test_time_spent_waiting_is_taken_from_the_patience(world: World, stage: Stage) -> None:
    upstream = mannerly(stage, max_concurrent=1)
    first = asyncio.create_task(visit(upstream, body=3.0))
    await world.settle()
    second = asyncio.create_task(visit(upstream, timeout=15.0))
    await world.done(first, second)

    assert [ask.timeout for ask in stage.asked] == [None, 12.0]


async def test_who_has_no_patience_left_was_not_sent(world: World, stage: Stage) -> None:
    upstream = mannerly(stage, max_concurrent=1)
    first = asyncio.create_task(visit(upstream, body=3.0))
    await world.settle()

    with pytest.raises(UpstreamPausedError, match="too many other requests were waiting for it; retry in 1 s"):
        await upstream.send(Request("GET", "/", timeout=0.0))

    await world.done(first)
    assert len(stage.asked) == 1
    assert (upstream.health.under_way, upstream.health.waiting) == (0, 0)


# A dispatcher that wants to be left alone


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "rest"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("86400", LONGEST_REST),
        ("9" * 5000, LONGEST_REST),
        (formatdate(TODAY + 90, usegmt=True), 90.0),
        ("Tuesday, 14-Nov-23 22:14:50 GMT", 90.0),
        ("Tue Nov 14 22:14:50 2023", 90.0),
        (formatdate(TODAY - 90, usegmt=True), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_REST),
        ("soon", 0.0),
        ("-5", 0.0),
        ("1.5", 0.0),
        ("", 0.0),
        ("\u0663", 0.0),  # a digit, elsewhere
    ],
)
async def test_a_dispatcher_that_wants_to_be_left_alone_is_for_so_long(
    world: World, stage: Stage, status: int, value: str, rest: float
) -> None:
    upstream = mannerly(stage)

    assert await status_of(upstream, f"/status/{status}", headers=(("Retry-after", value),)) == status
    if rest:
        with pytest.raises(UpstreamPausedError) as raised:
            await upstream.send(Request("GET", "/"))
        assert raised.value.retry_after == rest
        assert upstream.health.until == TODAY + rest
        assert len(stage.asked) == 1
        world.now += rest
    assert await status_of(upstream) == 200
    assert upstream.health.until is None


async def test_a_dispatcher_that_says_when_to_come_back_is_not_away(stage: Stage) -> None:
    upstream = mannerly(stage)
    for _ in range(FAILURES):
        await status_of(upstream, "/status/503", headers=(("Retry-After", "0"),))

    assert (upstream.health.state, upstream.health.failures) == ("closed", 0)


@given(value=st.text())
def test_whatever_a_dispatcher_wants_it_is_left_alone_for_an_hour_at_most(value: str) -> None:
    async def story() -> None:
        world = World()
        upstream = mannerly(Stage(world))
        await status_of(upstream, "/status/429", headers=(("Retry-After", value),))
        world.now += LONGEST_REST
        assert await status_of(upstream) == 200

    asyncio.run(story())


async def test_other_answers_may_say_what_they_want(stage: Stage) -> None:
    upstream = mannerly(stage)
    for status in (200, 301, 413, 500, 502):
        await status_of(upstream, f"/status/{status}", headers=(("Retry-After", "60"),))

    assert await status_of(upstream) == 200


async def test_a_shorter_rest_does_not_end_a_longer_one(world: World, stage: Stage) -> None:
    upstream = mannerly(stage)
    wishes = [(("Retry-After", seconds),) for seconds in ("60", "5")]
    await world.done(*[asyncio.create_task(visit(upstream, "/takes/1/503", headers=wish)) for wish in wishes])

    assert upstream.health.until == TODAY + 1 + 60


async def test_it_is_said_since_when_and_how_long_a_dispatcher_is_left_alone(stage: Stage) -> None:
    upstream = mannerly(stage)
    await status_of(upstream, "/status/503", headers=(("Retry-After", "30"),))

    with pytest.raises(UpstreamPausedError) as raised:
        await upstream.send(Request("GET", "/"))

    assert str(raised.value) == (
        "cannot reach the dispatcher http://dispatcher.example: it answered 503 at 2023-11-14 22:13:20 UTC "
        "and wants to be left alone; retry in 30 s"
    )


async def test_who_waits_for_a_place_when_the_dispatcher_wants_to_be_left_alone_is_not_sent(
    world: World, stage: Stage
) -> None:
    upstream = mannerly(stage, max_concurrent=1, rate=0.1)
    first = asyncio.create_task(visit(upstream, "/takes/1/503", headers=(("Retry-After", "60"),)))
    others = [asyncio.create_task(visit(upstream, at_most_once=True)) for _ in range(3)]
    await world.done(first, *others)

    assert world.now == 1001.0  # nobody waits for a turn first
    assert len(stage.asked) == 1
    assert [type(task.exception()) for task in others] == [UpstreamPausedError] * 3


async def test_who_waits_for_a_turn_when_the_dispatcher_wants_to_be_left_alone_is_not_sent(
    world: World, stage: Stage
) -> None:
    upstream = mannerly(stage, rate=0.5)
    first = asyncio.create_task(visit(upstream, "/takes/1/503", headers=(("Retry-After", "60"),)))
    second = asyncio.create_task(visit(upstream, at_most_once=True))
    await world.done(first, second)

    assert world.now == 1002.0
    assert len(stage.asked) == 1
    assert isinstance(second.exception(), UpstreamPausedError)


# A dispatcher that is away


async def fail(upstream: ThrottledUpstream, times: int = FAILURES, path: str = "/gone") -> None:
    for _ in range(times):
        with pytest.raises(UpstreamUnreachableError):
            await upstream.send(Request("GET", path))


async def test_a_dispatcher_that_failed_often_is_left_alone_and_tried_again(
    world: World, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    upstream = mannerly(stage)
    await fail(upstream)

    with pytest.raises(UpstreamPausedError) as raised:
        await upstream.send(Request("GET", "/"))

    assert str(raised.value) == (
        "cannot reach the dispatcher http://dispatcher.example: it has failed since 2023-11-14 22:13:20 UTC, "
        "5 times in a row (Connection refused); retry in 1 s"
    )
    assert (raised.value.retry_after, raised.value.http_status) == (1.0, 503)
    assert upstream.health == UpstreamHealth("open", 5, TODAY, "Connection refused", TODAY + 1, 0, 0)
    assert len(stage.asked) == FAILURES
    world.now += 1.0
    assert await status_of(upstream) == 200
    assert upstream.health == UpstreamHealth("closed", 0, None, "", None, 0, 0)
    trouble = "since 2023-11-14 22:13:20 UTC, 5 times in a row (Connection refused)"
    assert [record.message for record in caplog.records] == [
        f"the dispatcher http://dispatcher.example has failed {trouble}; it is asked now and then",
        f"the dispatcher http://dispatcher.example answers again; it had failed {trouble}",
    ]


async def test_while_one_tries_others_are_not_sent(world: World, stage: Stage) -> None:
    upstream = mannerly(stage)
    await fail(upstream)
    world.now += 1.0
    trial = asyncio.create_task(visit(upstream, "/takes/5"))
    await world.settle()

    assert upstream.health.state == "half-open"
    with pytest.raises(UpstreamPausedError, match="retry in 1 s"):
        await upstream.send(Request("GET", "/"))
    await world.done(trial)
    assert (upstream.health.state, len(stage.asked)) == ("closed", FAILURES + 1)


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_gateway_that_finds_nobody_is_a_failure_and_passed_on(stage: Stage, status: int) -> None:
    upstream = mannerly(stage)
    for _ in range(FAILURES):
        assert await status_of(upstream, f"/status/{status}") == status

    with pytest.raises(UpstreamPausedError, match=rf"5 times in a row \(it answers {status}\)"):
        await upstream.send(Request("GET", "/"))


@pytest.mark.parametrize("path", ["/status/500", "/status/404", "/status/429"])
async def test_any_other_answer_is_no_failure(stage: Stage, path: str) -> None:
    upstream = mannerly(stage)
    await fail(upstream, FAILURES - 1)
    await status_of(upstream, path)
    await fail(upstream, FAILURES - 1)

    assert upstream.health.state == "closed"


async def test_a_dispatcher_that_is_only_slow_is_not_left_alone(stage: Stage) -> None:
    """With a short patience, as for descriptions, slow ones would always seem to be away."""
    upstream = mannerly(stage)
    await fail(upstream, 3 * FAILURES, "/slow")

    assert (upstream.health.state, upstream.health.failures) == ("closed", 0)


async def test_a_request_that_is_cancelled_is_no_failure(world: World, stage: Stage) -> None:
    upstream = mannerly(stage)
    await fail(upstream, FAILURES - 1)
    task = asyncio.create_task(visit(upstream, "/takes/9"))
    await world.settle()
    task.cancel()
    await world.done(task)

    assert (upstream.health.state, upstream.health.failures) == ("closed", FAILURES - 1)


async def test_after_a_trial_that_is_cancelled_another_comes_at_once(world: World, stage: Stage) -> None:
    upstream = mannerly(stage)
    await fail(upstream)
    world.now += 1.0
    task = asyncio.create_task(visit(upstream, "/takes/9"))
    await world.settle()
    task.cancel()
    await world.done(task)

    assert await status_of(upstream) == 200


# A real server


@pytest.fixture
async def restless() -> AsyncIterator[tuple[TestServer, list[str]]]:
    """Serve one that wants to be left alone whenever it is asked for /busy."""
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


async def test_through_the_whole_proxy_a_dispatcher_is_left_alone_and_the_status_page_says_so(
    restless: tuple[TestServer, list[str]],
) -> None:
    server, seen = restless
    async with Dispatcher(str(server.make_url(""))) as dispatcher:
        upstream = ThrottledUpstream(dispatcher, max_concurrent=4, rate=100.0, today=lambda: TODAY)
        async with (
            TestServer(make_app(Proxy(MemoryStore(), upstream, Policy()))) as house,
            ClientSession(str(house.make_url(""))) as client,
        ):
            answers = [await told(client, path) for path in ("/busy", "/api/par-names?instrument=isgri", "/-/status")]

    assert (answers[0].status, answers[0].text, answers[0].headers["Retry-After"]) == (429, "too many", "120")
    assert (answers[1].status, "wants to be left alone" in answers[1].text) == (503, True)
    assert json.loads(answers[2].text)["asking"] == {
        "state": "closed",
        "failures": 0,
        "since": None,
        "reason": "it answered 429 at 2023-11-14 22:13:20 UTC and wants to be left alone",
        "until": pytest.approx(TODAY + 120, abs=60),
        "under_way": 0,
        "waiting": 0,
    }
    assert seen == ["/busy"]


@dataclass(frozen=True)
class Heard:
    status: int
    headers: Mapping[str, str]
    text: str


async def told(client: ClientSession, path: str) -> Heard:
    async with client.get(path) as response:
        return Heard(response.status, response.headers, await response.text())
