"""The limits of several replicas, with a real Redis."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.errors import UpstreamPausedError, UpstreamUnreachableError
from oda_proxy.http.message import Request
from oda_proxy.replicas.limits import SharedLimits
from oda_proxy.store.redis.keyspace import Keyspace
from oda_proxy.upstream.throttling import ThrottledUpstream
from tests.replicas.test_leases import connection_to
from tests.support.scripted_upstream import Body, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.real
MANY = 1e6
_numbers = count()


@dataclass
class Dispatcher:
    """A dispatcher whose responses wait until they are released."""

    replies: list[Reply | Exception] = field(default_factory=list)
    is_released: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: int = 0
    most: int = 0
    received: int = 0
    url: str = "http://dispatcher.example/dispatch-data"

    async def send(self, _: Request) -> Reply:
        self.received += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.is_released.wait()
        finally:
            self.under_way -= 1
        reply = self.replies.pop(0) if self.replies else Reply(200, (), Body(b"{}"))
        if isinstance(reply, Exception):
            raise reply
        return reply


@asynccontextmanager
async def two(
    server: RedisServer, dispatcher: Dispatcher, *, most: int = 1000, rate: float = MANY
) -> AsyncIterator[list[SharedLimits]]:
    """Yield the limits of two replicas, whose pauses take no time but that of Redis."""
    keys = Keyspace.of(f"http://dispatcher.example/limits/{next(_numbers)}")
    async with AsyncExitStack() as stack:
        each = []
        for _ in range(2):
            connection = connection_to(server, keys)
            stack.push_async_callback(connection.client.aclose)
            each.append(SharedLimits(dispatcher, connection, max_concurrent=most, rate=rate))
        yield each


async def fetched(limits: SharedLimits | ThrottledUpstream, seconds: float | None = None) -> int:
    reply = await limits.send(Request("GET", "/run_analysis", "", timeout=seconds))
    assert [chunk async for chunk in reply.body]
    return reply.status


async def test_requests_at_once_are_those_of_all_replicas(redis_server: RedisServer) -> None:
    dispatcher = Dispatcher()
    async with two(redis_server, dispatcher, most=3) as each:
        waiting = [asyncio.create_task(fetched(each[number % 2])) for number in range(8)]
        while dispatcher.under_way < 3:  # noqa: ASYNC110 - Redis has no event
            await asyncio.sleep(0.01)
        with pytest.raises(UpstreamPausedError, match="too many other requests"):
            await fetched(each[0], seconds=0.05)
        dispatcher.is_released.set()
        assert await asyncio.gather(*waiting) == [200] * 8

    assert dispatcher.most <= 3
    assert dispatcher.received == 8


async def test_the_rate_is_that_of_all_replicas(redis_server: RedisServer) -> None:
    dispatcher, waits = Dispatcher(), []
    dispatcher.is_released.set()

    async def note(seconds: float) -> None:
        waits.append(seconds)

    async with two(redis_server, dispatcher, rate=0.001) as each:
        for limits in each:
            limits._sleep = note
        for number in range(4):
            await fetched(each[number % 2])

    assert [round(wait, -2) for wait in waits] == [1000, 2000, 3000]


async def test_a_pause_that_the_dispatcher_requests_holds_for_all_replicas(redis_server: RedisServer) -> None:
    dispatcher = Dispatcher([Reply(429, (("Retry-After", "100"),), Body(b"{}"))])
    dispatcher.is_released.set()
    async with two(redis_server, dispatcher) as each:
        assert await fetched(each[0]) == 429
        for limits in each:
            with pytest.raises(UpstreamPausedError) as error:
                await fetched(limits)
            assert 90 < error.value.retry_after <= 100
            assert not error.value.is_down

    assert dispatcher.received == 1


async def test_failures_of_all_replicas_open_the_circuit_for_all_and_a_response_closes_it(
    redis_server: RedisServer,
) -> None:
    down = UpstreamUnreachableError("http://dispatcher.example", "connection refused")
    dispatcher = Dispatcher([down] * 5)
    dispatcher.is_released.set()
    async with two(redis_server, dispatcher) as each:
        for number in range(5):
            with pytest.raises(UpstreamUnreachableError):
                await fetched(each[number % 2])
        for limits in each:
            with pytest.raises(UpstreamPausedError, match="connection refused") as error:
                await fetched(limits)
            assert error.value.is_down
        while dispatcher.received < 6:  # after the pause one request is the trial
            try:
                await fetched(each[1])
            except UpstreamPausedError:
                await asyncio.sleep(0.05)
        assert [await fetched(limits) for limits in each] == [200, 200]


async def test_a_refusal_of_the_shared_limits_is_no_failure_of_the_dispatcher(redis_server: RedisServer) -> None:
    dispatcher = Dispatcher([Reply(429, (("Retry-After", "100"),), Body(b"{}"))])
    dispatcher.is_released.set()
    async with two(redis_server, dispatcher) as each:
        upstream = ThrottledUpstream(each[1], max_concurrent=10, rate=MANY)
        await fetched(each[0])
        for _ in range(10):
            with pytest.raises(UpstreamPausedError):
                await fetched(upstream)

        assert upstream.health.failures == 0


async def test_the_limits_of_each_replica_hold_while_redis_is_away(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = Dispatcher()
    dispatcher.is_released.set()
    async with two(redis_server, dispatcher, most=0) as each:
        redis_server.stop()
        try:
            assert [await fetched(limits) for limits in each] == [200, 200]
        finally:
            redis_server.start()

    assert "is away" in caplog.text


async def test_new_limits_are_those_of_the_shared_ones_too(redis_server: RedisServer) -> None:
    dispatcher = Dispatcher()
    dispatcher.is_released.set()
    async with two(redis_server, dispatcher, most=0) as each:
        upstream = ThrottledUpstream(each[0], max_concurrent=1, rate=MANY)
        upstream.set_limits(max_concurrent=1, rate=MANY)
        assert await fetched(upstream) == 200


@pytest.mark.parametrize("value", ["another type", "the clock of Redis was set back"])
async def test_what_is_damaged_in_redis_delays_no_request(redis_server: RedisServer, value: str) -> None:
    dispatcher = Dispatcher()
    dispatcher.is_released.set()
    async with two(redis_server, dispatcher, most=2, rate=10) as [limits, _]:
        assert await fetched(limits) == 200
        client: Any = limits._connection.client
        key = limits._connection.keys.key
        later = 3e6 + (await client.time())[0] * 1e3
        if value == "another type":
            for name in ("slots", "due", "pause", "breaker"):
                await client.delete(key("limits", name))
                await client.rpush(key("limits", name), "x")
        else:
            await client.set(key("limits", "due"), later)
            await client.zadd(key("limits", "slots"), {"a": later, "b": later})
            await client.hset(key("limits", "breaker"), mapping={"pause": 1000, "failures": 5, "until": later})

        assert set(await asyncio.gather(fetched(limits, seconds=20), fetched(limits, seconds=20))) == {200}
        assert limits._connection.away_since is None
