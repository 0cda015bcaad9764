"""Places for jobs are shared fairly between clients; in simulated time."""

from __future__ import annotations

import asyncio

import pytest

from oda_proxy.jobs.places import Places
from tests.support.scripted import QUERY, Client, Dispatcher, proxied, simulated, token


def jobs_of(proxy: object, session_id: str, number: int, *, first: int = 0, **more: str) -> list[Client]:
    return [
        Client(proxy, session_id, query=f"{QUERY}&DEC={first + index}", **more)  # type: ignore[arg-type]
        for index in range(number)
    ]


@simulated
async def test_eight_jobs_of_one_client_do_not_hold_up_the_one_job_of_another() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted", 10.0: "ready"})
    async with proxied(dispatcher, max_jobs=2) as proxy:
        many = [asyncio.create_task(client.get_product()) for client in jobs_of(proxy, "SESSIONOFTHEFIRST", 8)]
        await asyncio.sleep(1)
        (other,) = jobs_of(proxy, "SESSIONOFANOTHER", 1, first=100)

        response = await other.get_product()

        assert (response.state, response.at < 25) == ("done", True)
        await asyncio.gather(*many)


@simulated
async def test_sessions_of_one_subject_share_their_turns() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted", 10.0: "ready"})
    async with proxied(dispatcher, max_jobs=1) as proxy:
        many = [
            asyncio.create_task(client.get_product())
            for number in range(4)
            for client in jobs_of(proxy, f"SESSION{number:09d}", 1, first=number, token=token())
        ]
        await asyncio.sleep(1)
        (other,) = jobs_of(proxy, "SESSIONOFANOTHER", 1, first=100)

        response = await other.get_product()

        assert response.at < 25
        await asyncio.gather(*many)


@pytest.mark.parametrize("has_run", [False, True])
async def test_a_job_that_is_cancelled_while_it_waits_takes_no_place(*, has_run: bool) -> None:
    places = Places(1)
    place = await places.take("one", None)  # type: ignore[arg-type]
    waiting = [asyncio.create_task(places.take(name, None)) for name in ("two", "three")]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    waiting[0].cancel()
    if has_run:
        await asyncio.sleep(0)

    place.release()

    (await waiting[1]).release()
    assert not places.is_full


async def test_more_places_are_given_to_those_that_wait_and_fewer_end_no_job() -> None:
    places = Places(1)
    first = await places.take("one", None)  # type: ignore[arg-type]
    waiting = [asyncio.create_task(places.take(name, None)) for name in ("two", "three", "four")]  # type: ignore[arg-type]
    await asyncio.sleep(0)

    places.set_limit(3)
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, True, False]

    places.set_limit(1)
    first.release()
    await asyncio.sleep(0)
    assert not waiting[2].done()
    for task in waiting[:2]:
        task.result().release()
    (await waiting[2]).release()
