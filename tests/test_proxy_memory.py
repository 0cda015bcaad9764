"""Hits from memory: they are counted, expire and are refreshed as hits from disk."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from oda_proxy.handlers.policy import Policy
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.freshness import Freshness, Rule
from tests.support.dispatcher_responses import answer
from tests.support.scripted_upstream import Clock, Script, request, told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.query.cache_key import Key

HIT = "oda-proxy; hit"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    with closing(DiskStore(tmp_path)) as store:
        assert store.usage().recordings == 0
        yield store


@pytest.fixture
def upstream() -> Script:
    return Script()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Key]:
    """Return the keys of the recordings that are read from the store."""
    keys: list[Key] = []
    get = DiskStore.get

    def noted(self: DiskStore, key: Key) -> object:
        keys.append(key)
        return get(self, key)

    monkeypatch.setattr(DiskStore, "get", noted)
    return keys


async def test_hits_from_memory_are_counted(store: DiskStore, upstream: Script, clock: Clock, reads: list[Key]) -> None:
    proxy = Proxy(store, upstream, Policy(), runtime=Runtime(clock=clock))
    upstream.then(answer())
    await told(proxy, request())
    reads.clear()

    for _ in range(3):
        assert (await told(proxy, request()))[1] == HIT

    assert len(reads) == 1, "the others are from memory"
    assert proxy.counts.hits == 3


async def test_an_expired_recording_is_not_served_from_memory(store: DiskStore, upstream: Script, clock: Clock) -> None:
    policy = Policy(freshness=Freshness((Rule.parse("isgri/*=1"),)))
    proxy = Proxy(store, upstream, policy, runtime=Runtime(clock=clock))
    upstream.then(answer()).then(answer(products={"catalog": {"new": 1}}))
    await told(proxy, request())
    assert [(await told(proxy, request()))[1] for _ in range(2)] == [HIT] * 2

    clock.now += 86401

    assert (await told(proxy, request()))[1] == "oda-proxy; fwd=stale; fwd-status=200; stored"
    for _ in range(2):
        _, status, body = await told(proxy, request())
        assert (status, b'"new":1' in body) == (HIT, True)


async def test_a_recording_that_was_refreshed_is_served_from_then_on(
    store: DiskStore, upstream: Script, clock: Clock
) -> None:
    proxy = Proxy(store, upstream, Policy(), runtime=Runtime(clock=clock))
    upstream.then(answer()).then(answer(products={"catalog": {"new": 1}}))
    await told(proxy, request())
    assert [(await told(proxy, request()))[1] for _ in range(2)] == [HIT] * 2
    refresh = replace(request(), headers=(("Cache-Control", "no-cache"),))

    assert (await told(proxy, refresh))[1] == "oda-proxy; fwd=request; fwd-status=200; stored"
    for _ in range(2):
        _, status, body = await told(proxy, request())
        assert (status, b'"new":1' in body) == (HIT, True)


async def test_the_same_client_receives_the_same_bytes_from_memory_and_from_disk(
    store: DiskStore, upstream: Script, clock: Clock
) -> None:
    upstream.then(answer())
    held, not_held = (
        Proxy(store, upstream, Policy(memory=memory), runtime=Runtime(clock=clock)) for memory in (1_000_000, 0)
    )
    await told(held, request())
    await told(held, request())

    assert await told(held, request()) == await told(not_held, request())
