"""Calls of Redis end when they are cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from oda_proxy.replicas.connection import Connection, not_swallowing_cancellation
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.clients import async_client
from oda_proxy.store.redis.keyspace import Keyspace

if TYPE_CHECKING:
    from tests.support.redis_server import RedisServer


async def test_a_cancellation_that_a_call_drops_is_raised() -> None:
    started = asyncio.Event()

    async def drops_it(result: object) -> object:
        try:
            started.set()
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if isinstance(result, Exception):
                raise result from None
        return result

    for result in (1, OSError("broken")):
        task = asyncio.create_task(not_swallowing_cancellation(drops_it(result)))
        await started.wait()
        started.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.real
async def test_a_call_of_redis_can_be_cancelled_at_each_step(redis_server: RedisServer) -> None:
    address = StoreAddress.parse(f"{redis_server.url}?bodies=file:///unused").redis
    client = async_client(address)
    connection = Connection(client, Keyspace.of("https://example.org"), name=str(address))
    await connection.call("return 1")
    for steps in range(20):
        task = asyncio.create_task(connection.call("return 1"))
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
    assert await connection.call("return 1") == 1
    await client.aclose()
