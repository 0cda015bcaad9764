"""The leases in Redis, and those in memory that other tests use: the same rules."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.jobs.journal import JournalEntry
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query
from oda_proxy.replicas.connection import Connection, RedisAwayError
from oda_proxy.replicas.journal import RedisJournal
from oda_proxy.replicas.leases import Beat, RedisLeases
from oda_proxy.replicas.news import JobNews
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.clients import async_client
from oda_proxy.store.redis.keyspace import Keyspace
from tests.support.lease_table import MemoryJournal, MemoryLeases, Table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from oda_proxy.jobs.journal import Journal
    from oda_proxy.replicas.leases import LeaseTable
    from tests.support.redis_server import RedisServer

KEY = Key("ab" * 32)
ENTRY = JournalEntry(KEY, Query("isgri", "isgri_image", "Real", (("RA", ("83.0",)),), api=True), 1_700_000_000.0, "a1")
LONG = 60.0

_numbers = count()


@dataclass
class Owner:
    """One replica."""

    leases: LeaseTable
    journal: Journal
    news: JobNews


def connection_to(server: RedisServer, keys: Keyspace) -> Connection:
    address = StoreAddress.parse(f"{server.url}?bodies=file:///unused").redis
    return Connection(async_client(address, timeout=1.0), keys, name=str(address))


def is_away(connection: Connection) -> bool:
    return connection.away_since is not None


@asynccontextmanager
async def owners(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Owner, Owner]]:
    if kind == "memory":
        table = Table(time.time)
        each = [MemoryLeases(table, name) for name in "AB"]
        yield (
            Owner(each[0], MemoryJournal(each[0]), JobNews()),
            Owner(each[1], MemoryJournal(each[1]), JobNews()),
        )
        return
    keys = Keyspace.of(f"http://dispatcher.example/{next(_numbers)}")
    async with AsyncExitStack() as stack:
        found = []
        for name in "AB":
            connection = connection_to(request.getfixturevalue("redis_server"), keys)
            stack.push_async_callback(connection.client.aclose)
            found.append(Owner(RedisLeases(connection, name), RedisJournal(connection, name, LONG), JobNews()))
        yield found[0], found[1]


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so that only Redis can tell."""
    while not await is_so():  # noqa: ASYNC110 - another program has no event
        await asyncio.sleep(0.01)


async def _is_held(acquired: Awaitable[tuple[bool, int]]) -> bool:
    return (await acquired)[0]


async def _is_free(leases: LeaseTable) -> bool:
    return not (await leases.read(KEY, is_watched=False)).is_led


KINDS = pytest.mark.parametrize("kind", ["memory", pytest.param("redis", marks=pytest.mark.real)])


@KINDS
async def test_one_of_two_holds_a_lease(kind: str, request: pytest.FixtureRequest) -> None:
    async with owners(kind, request) as (one, other):
        held, fence = await one.leases.acquire(KEY, LONG)
        assert held
        assert await other.leases.acquire(KEY, LONG) == (False, fence)
        assert not (await other.leases.publish(KEY, fence, LONG, b"")).is_held
        assert await one.leases.publish(KEY, fence, LONG, b"state") == Beat(is_held=True)
        found = await other.leases.read(KEY, is_watched=True)
        assert (found.is_led, found.fence, found.state) == (True, fence, b"state")
        assert await one.leases.publish(KEY, fence, LONG, b"") == Beat(is_held=True, is_watched=True)


@KINDS
async def test_a_released_lease_can_be_taken_with_a_higher_fencing_token(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with owners(kind, request) as (one, other):
        _, fence = await one.leases.acquire(KEY, LONG)
        await other.leases.release(KEY, fence, b"not the end")
        assert (await other.leases.read(KEY, is_watched=False)).is_led
        await one.leases.release(KEY, fence, b"the end")
        found = await other.leases.read(KEY, is_watched=False)
        assert (found.is_led, found.ended_fence, found.ended) == (False, fence, b"the end")
        held, next_fence = await other.leases.acquire(KEY, LONG)
        assert held
        assert next_fence > fence


@KINDS
async def test_a_lease_that_has_expired_is_lost_once_another_one_was_taken(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with owners(kind, request) as (one, other):
        _, fence = await one.leases.acquire(KEY, 0.02)
        await until(lambda: _is_held(other.leases.acquire(KEY, LONG)))
        assert await one.leases.publish(KEY, fence, LONG, b"late") == Beat(is_held=False)
        assert not await one.leases.release(KEY, fence, b"late")
        found = await other.leases.read(KEY, is_watched=False)
        assert (found.is_led, found.state, found.ended) == (True, b"", b"")


@KINDS
async def test_a_lease_that_has_expired_is_extended_where_no_other_was_taken(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with owners(kind, request) as (one, other):
        _, fence = await one.leases.acquire(KEY, 0.02)
        await until(lambda: _is_free(one.leases))
        assert await one.leases.publish(KEY, fence, LONG, b"") == Beat(is_held=True)
        assert await other.leases.acquire(KEY, LONG) == (False, fence)


@KINDS
async def test_what_others_request_reaches_the_leader_once(kind: str, request: pytest.FixtureRequest) -> None:
    async with owners(kind, request) as (one, other):
        assert not await other.leases.request(KEY, "refresh")
        _, fence = await one.leases.acquire(KEY, LONG)
        assert await other.leases.request(KEY, "refresh")
        assert await other.leases.request(KEY, "stop", "the administrator")
        assert (await other.leases.read(KEY, is_watched=False)).is_refresh_requested
        beat = await one.leases.publish(KEY, fence, LONG, b"")
        assert beat == Beat(is_held=True, is_refresh_requested=True, stopped_by="the administrator")
        assert await one.leases.publish(KEY, fence, LONG, b"") == Beat(is_held=True)


@KINDS
async def test_what_was_requested_of_an_ended_job_is_not_of_the_next_one(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with owners(kind, request) as (one, other):
        _, fence = await one.leases.acquire(KEY, LONG)
        await one.journal.write(ENTRY)
        await other.leases.request(KEY, "refresh")
        await other.leases.request(KEY, "stop", "its client")
        await one.leases.release(KEY, fence)  # it continues elsewhere
        _, fence = await other.leases.acquire(KEY, LONG)
        beat = await other.leases.publish(KEY, fence, LONG, b"")
        assert (beat.is_refresh_requested, beat.stopped_by) == (True, "its client")
        await one.leases.request(KEY, "refresh")
        await other.leases.release(KEY, fence, b"the end")
        assert (await other.leases.read(KEY, is_watched=False)).is_refresh_requested
        _, fence = await other.leases.acquire(KEY, LONG)
        assert await other.leases.publish(KEY, fence, LONG, b"") == Beat(is_held=True)


@KINDS
async def test_marks_of_sessions_are_those_of_all_under_one_lease(kind: str, request: pytest.FixtureRequest) -> None:
    async with owners(kind, request) as (one, other):
        _, fence = await one.leases.acquire(KEY, LONG)
        await one.leases.publish(KEY, fence, LONG, b"", ["a", "b"])
        await other.leases.read(KEY, is_watched=False, fence=fence, marks=["b", "c"])
        await other.leases.read(KEY, is_watched=False, fence=fence + 1, marks=["of another lease"])
        assert await one.leases.sessions(KEY) == await other.leases.sessions(KEY) == {"a", "b", "c"}
        await one.journal.write(ENTRY)
        assert await other.leases.led() == [KEY]
        await one.leases.release(KEY, fence)
        assert await one.leases.sessions(KEY) == set()
        assert await other.leases.led() == []


@KINDS
async def test_places_are_those_of_all(kind: str, request: pytest.FixtureRequest) -> None:
    async with owners(kind, request) as (one, other):
        assert await one.leases.take_place("jobs", "a", 2, LONG)
        assert await one.leases.take_place("jobs", "a", 2, LONG)
        assert await other.leases.take_place("jobs", "b", 2, 0.02)
        assert not await other.leases.take_place("jobs", "c", 1, LONG)
        await until(lambda: other.leases.take_place("jobs", "c", 2, LONG))  # the place of one that has died is free
        await one.leases.leave_place("jobs", "a")
        assert await other.leases.take_place("jobs", "d", 2, LONG)


@KINDS
async def test_a_job_that_nobody_leads_any_more_is_in_the_journal(kind: str, request: pytest.FixtureRequest) -> None:
    async with owners(kind, request) as (one, other):
        await one.journal.write(ENTRY)
        assert await one.journal.read(KEY) is None, "without a lease, it is for one client alone"
        _, fence = await one.leases.acquire(KEY, LONG)
        await one.journal.write(ENTRY)
        await other.journal.write(JournalEntry(KEY, ENTRY.query, 0.0))
        await other.journal.remove(KEY)
        assert await other.journal.read(KEY) == ENTRY
        assert await other.journal.load() == []
        assert await one.journal.load() == [ENTRY], "its next process continues it"
        await one.leases.release(KEY, fence)
        assert await other.leases.exists(KEY)
        assert await other.journal.load() == [ENTRY]
        _, fence = await other.leases.acquire(KEY, LONG)
        await other.leases.release(KEY, fence, b"the end")
        assert await one.journal.load() == []


@pytest.mark.real
async def test_a_message_wakes_who_waits_for_a_job(redis_server: RedisServer) -> None:
    connection = connection_to(redis_server, Keyspace.of("http://dispatcher.example/news"))
    news, leases = JobNews(), RedisLeases(connection, "A")
    listening = asyncio.create_task(news.listen(connection))
    try:
        waiting = asyncio.create_task(news.wait(KEY, float("inf")))
        async with asyncio.timeout(LONG):
            while not waiting.done():
                _, fence = await leases.acquire(KEY, LONG)
                await leases.release(KEY, fence)
                await asyncio.sleep(0.01)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await connection.client.aclose()


@pytest.mark.real
async def test_a_call_fails_soon_while_redis_does_not_respond_and_it_is_logged_once(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    connection, now = connection_to(redis_server, Keyspace.of("http://dispatcher.example/away")), [0.0]
    connection = Connection(connection.client, connection.keys, name="redis://redis.example/0", clock=lambda: now[0])
    leases = RedisLeases(connection, "A")
    redis_server.stop()
    for _ in range(3):
        with pytest.raises(RedisAwayError):
            await leases.acquire(KEY, LONG)
    redis_server.start()
    assert is_away(connection)
    now[0] += 10.0
    assert (await leases.acquire(KEY, LONG))[0]
    assert not is_away(connection)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "redis://redis.example/0" in caplog.text
    await connection.client.aclose()


@pytest.mark.real
async def test_an_entry_that_is_damaged_is_skipped(redis_server: RedisServer) -> None:
    connection = connection_to(redis_server, Keyspace.of("http://dispatcher.example/damaged"))
    journal = RedisJournal(connection, "A", LONG)
    await journal.write(ENTRY)
    for content in (b"{}", b"\xff", b"[]", b'{"format": 1}', b'{"format": 1, "key": 3}'):
        await connection.client.set(connection.keys.key("journal", KEY), content)
        assert await journal.read(KEY) is None
        assert await journal.load() == []
    await connection.client.aclose()


@pytest.mark.real
async def test_keys_that_somebody_else_wrote_end_with_the_next_lease(redis_server: RedisServer) -> None:
    keys = Keyspace.of("http://dispatcher.example/damaged")
    connection = connection_to(redis_server, keys)
    leases, journal, client = RedisLeases(connection, "A"), RedisJournal(connection, "A", LONG), connection.client
    any_client: Any = client
    names = [keys.key(name, KEY) for name in ("lease", "fence", "state", "ended", "watched", "journal")]
    wrong: list[Callable[[str], Awaitable[object]]] = [
        lambda name: any_client.sadd(name, "x"),
        lambda name: any_client.set(name, "abc"),
        lambda name: any_client.set(name, "9 somebody"),  # and it does not expire
    ]
    try:
        for write in wrong:
            for name in [*names, keys.key("jobs"), keys.key("place", "jobs")]:
                await any_client.delete(name)
                await write(name)

            held, fence = await leases.acquire(KEY, LONG)
            assert held
            assert (await leases.publish(KEY, fence, LONG, b"state")).is_held
            await journal.write(ENTRY)
            assert await journal.read(KEY) == ENTRY
            assert await leases.led() == [KEY]
            assert (await leases.read(KEY, is_watched=True)).state == b"state"
            assert await leases.take_place("jobs", "one", 1, LONG)
            assert await leases.release(KEY, fence, b"ended")
            assert not is_away(connection)
    finally:
        await client.aclose()


@pytest.mark.real
async def test_places_are_free_again_after_the_clock_of_redis_was_set_back(redis_server: RedisServer) -> None:
    keys = Keyspace.of("http://dispatcher.example/clock")
    connection = connection_to(redis_server, keys)
    any_client: Any = connection.client
    try:
        later = 3e6 + (await any_client.time())[0] * 1e3
        await any_client.zadd(keys.key("place", "jobs"), {"dead": later})
        assert await RedisLeases(connection, "A").take_place("jobs", "one", 1, LONG)
    finally:
        await connection.client.aclose()
