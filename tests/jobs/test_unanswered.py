"""Submissions that are never answered, and jobs of which nothing new is heard; in simulated time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.jobs.exchange import SUBMIT_TIMEOUT
from oda_proxy.jobs.job import Limits
from oda_proxy.jobs.polling import STALLED
from tests.support.dispatcher_responses import answer, json_bytes
from tests.support.scripted import (
    QUERY,
    Body,
    Client,
    Dispatcher,
    DispatcherRequest,
    Reply,
    crowd,
    elapsed,
    proxied,
    reply,
    simulate,
    simulated,
    together,
)

if TYPE_CHECKING:
    from oda_proxy.http.message import Request

NO_CACHE = (("Cache-Control", "no-cache"),)


class Hanging(Dispatcher):
    """A dispatcher that never answers its first requests, and counts those that are given up."""

    hangs = 1
    given_up = 0

    async def send(self, sent: Request) -> Reply:
        if len(self.requests) >= self.hangs:
            return await super().send(sent)
        self.requests.append(DispatcherRequest(len(self.requests) + 1, elapsed(), {"query_status": "new"}, None, None))
        try:
            await asyncio.Event().wait()
        finally:
            self.given_up += 1
        raise AssertionError


@simulated
async def test_a_submission_without_an_answer_is_repeated_after_the_time_out_of_clients() -> None:
    dispatcher = Hanging(plan={0.0: "done"})
    async with proxied(dispatcher) as proxy:
        responses = await together(crowd(proxy, 3))

    assert {response.state for response in responses} == {"done"}
    assert max(response.at for response in responses) < SUBMIT_TIMEOUT + 3
    assert [request.at for request in dispatcher.requests] == [0.0, SUBMIT_TIMEOUT]
    assert dispatcher.given_up == 1


@simulated
async def test_submissions_without_an_answer_are_repeated_each_time_the_wait_doubles() -> None:
    dispatcher = Hanging()
    dispatcher.hangs = 1000
    async with proxied(dispatcher, limits=Limits(max_duration=7200.0)) as proxy:
        asking = asyncio.create_task(Client(proxy).get_product())
        await asyncio.sleep(4000)

        times = [request.at / SUBMIT_TIMEOUT for request in dispatcher.requests]
        assert times == [pytest.approx(time) for time in (0, 1, 2, 4, 8, 16, 32)]
        assert len(dispatcher.requests) - dispatcher.given_up == 2, "the first, which may be a long job, and the last"
        asking.cancel()


@simulated
async def test_a_long_synchronous_job_answers_although_it_was_submitted_again() -> None:
    class Slow(Dispatcher):
        async def send(self, sent: Request) -> Reply:
            self.latency = 400.0 if not self.requests else 1000.0
            return await super().send(sent)

    async with proxied(Slow(plan={0.0: "done"})) as proxy:
        assert (await Client(proxy).get_product()).at < 403


@simulated
async def test_an_answer_that_takes_long_to_arrive_is_not_requested_again() -> None:
    class Trickling(Body):
        async def __aiter__(self) -> Any:
            for at in range(0, len(self.content), 100):
                await asyncio.sleep(60)
                yield self.content[at : at + 100]

    slow = Reply(200, (("Content-Type", "application/json"),), Trickling(json_bytes(answer())))
    dispatcher = Dispatcher(instead=lambda _: slow)
    async with proxied(dispatcher) as proxy:
        assert (await Client(proxy).get_product()).state == "done"

    assert elapsed() > 2 * SUBMIT_TIMEOUT
    assert len(dispatcher.requests) == 1


@simulated
async def test_a_submission_that_hangs_holds_no_place() -> None:
    dispatcher = Hanging(plan={0.0: "submitted", 10.0: "ready"})
    dispatcher.hangs = 2
    async with proxied(dispatcher, max_jobs=2) as proxy:
        clients = [Client(proxy, f"SESSION{number:09d}", query=f"{QUERY}&DEC={number}") for number in range(3)]
        asking = [asyncio.create_task(client.get_product()) for client in clients]

        response = await asking[2]

        assert (response.state, response.at < SUBMIT_TIMEOUT + 15) == ("done", True)
        await asyncio.gather(*asking)


@simulated
async def test_a_first_answer_that_breaks_off_is_requested_again() -> None:
    broken = Reply(200, (), Body(b"{" * 200, breaks=UpstreamUnreachableError("url", "the connection broke")))
    cut = reply(json_bytes(answer())[:-20])
    dispatcher = Dispatcher(plan={0.0: "done"}, instead=lambda request: {1: broken, 2: cut}.get(request.number))
    async with proxied(dispatcher) as proxy:
        assert {response.state for response in await together(crowd(proxy, 2))} == {"done"}

    assert [request.status for request in dispatcher.requests] == ["new"] * 3


@simulated
async def test_first_answers_that_always_break_off_are_given_up() -> None:
    dispatcher = Dispatcher(instead=lambda _: reply(b'{"query_status": "done", '))
    async with proxied(dispatcher) as proxy:
        response = await Client(proxy).get_product()

    assert (response.status, response.state) == (500, "failed")
    assert "cannot be read" in response.message
    assert len(dispatcher.requests) == Limits().max_unreadable + 1


@simulated
async def test_a_dispatcher_with_too_many_requests_holds_up_no_client() -> None:
    dispatcher = Dispatcher(instead=lambda request: reply({}, status=429) if request.at < 60 else None)
    async with proxied(dispatcher) as proxy:
        client = Client(proxy)
        response = await client.get_product()

    assert (client.states[0], client.responses[0].at < 1) == ("submitted", True)
    assert response.state == "done"


# -- jobs that are lost ----------------------------------------------------------------------------


@simulated
async def test_a_refresh_submits_a_running_job_again_once_for_all_who_want_it() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted"})
    async with proxied(dispatcher) as proxy:
        await Client(proxy).ask()
        await asyncio.sleep(100)
        dispatcher.plan = {0.0: "done"}

        got = await asyncio.gather(*(client.ask() for client in crowd(proxy, 5, headers=NO_CACHE)))

        assert {response.state for response in got} == {"done"}
        assert len(dispatcher.submissions) == 2


@pytest.mark.parametrize(("session_id", "submissions"), [("SESSIONOFTHEFIRST", 4), ("SESSIONOFANOTHER", 2)])
def test_the_owner_of_a_running_job_may_submit_it_again_as_often_as_it_likes_and_others_once_a_minute(
    session_id: str, submissions: int
) -> None:
    """The dispatcher sends mail again, if that is wanted, only where it sees the request."""

    async def scenario() -> None:
        dispatcher = Dispatcher(plan={0.0: "submitted"})
        async with proxied(dispatcher) as proxy:
            job_id = (await Client(proxy).ask()).job_id
            for _ in range(3):
                await asyncio.sleep(5)
                assert (await Client(proxy, session_id).ask("new", job_id)).state == "submitted"

            assert len(dispatcher.submissions) == submissions
            assert len({request.session_id for request in dispatcher.requests}) == 1

    simulate(scenario())


@simulated
async def test_a_job_that_the_dispatcher_lost_is_submitted_again_once_after_a_long_time_without_news() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted"})
    async with proxied(dispatcher) as proxy:
        await Client(proxy).ask()  # and leaves: without clients a job has fewer polls, which makes this test fast
        await asyncio.sleep(3 * STALLED)

        assert [round(request.at / STALLED, 1) for request in dispatcher.submissions] == [0.0, 1.0]
        assert len({request.session_id for request in dispatcher.requests}) == 1


@pytest.mark.parametrize(("returns", "submissions"), [(True, 1), (False, 2)])
def test_a_job_without_a_record_at_the_dispatcher_is_submitted_again_once(*, returns: bool, submissions: int) -> None:
    """The dispatcher repeats the state that it is sent where the file with the state of the job is gone."""

    def instead(request: DispatcherRequest) -> Reply | None:
        if request.status == "new" or request.at < 5 or (returns and request.at > 9):
            return None
        monitor = {"job_id": request.name, "session_id": request.session_id, "status": "unaccessible"}
        status = {**answer()["exit_status"], "job_status": "unaccessible"}
        return reply({"query_status": request.status, "products": {}, "exit_status": status, "job_monitor": monitor})

    async def scenario() -> None:
        dispatcher = Dispatcher(plan={0.0: "submitted"}, instead=instead)
        async with proxied(dispatcher) as proxy:
            asking = asyncio.create_task(Client(proxy).get_product())
            await asyncio.sleep(STALLED / 2)

            assert [request.at < 30 for request in dispatcher.submissions] == [True] * submissions
            assert not asking.done()
            asking.cancel()

    simulate(scenario())


@simulated
async def test_a_job_with_news_is_not_submitted_again_and_one_after_short_runs_sooner() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted", 3 * STALLED: "ready"}, reporting=STALLED / 2)
    async with proxied(dispatcher) as proxy:
        await Client(proxy).ask()  # and leaves
        await asyncio.sleep(3 * STALLED + 600)
        assert (await Client(proxy).ask()).state == "done"
    assert len(dispatcher.submissions) == 1

    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        await Client(proxy).get_product()  # takes a minute
        dispatcher.plan = {0.0: "submitted"}
        started = elapsed()
        await Client(proxy, query=f"{QUERY}&DEC=1").ask()
        await asyncio.sleep(STALLED)

        assert [round(request.at - started, -2) for request in dispatcher.submissions[1:]] == [0.0, 300.0]


@pytest.mark.parametrize(("session_id", "submissions"), [("SESSIONOFTHEFIRST", 2), ("SESSIONOFANOTHER", 1)])
def test_new_from_the_owner_of_a_silent_job_goes_to_the_dispatcher(session_id: str, submissions: int) -> None:
    """A call-back that was lost is not noticed by polls; a second `get_product` gets the data."""

    async def scenario() -> None:
        dispatcher = Dispatcher(plan={0.0: "submitted"})
        async with proxied(dispatcher) as proxy:
            await Client(proxy).ask()
            await asyncio.sleep(60)
            dispatcher.instead = lambda request: reply(answer()) if request.status == "new" else None

            response = await Client(proxy, session_id).ask()

            assert len(dispatcher.submissions) == submissions
            assert response.state == ("done" if submissions == 2 else "submitted")

    simulate(scenario())


@simulated
async def test_new_from_the_owner_of_a_job_with_news_joins_it() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted"}, reporting=10.0)
    async with proxied(dispatcher) as proxy:
        for _ in range(5):
            assert (await Client(proxy).ask()).state == "submitted"
            await asyncio.sleep(20)

    assert len(dispatcher.submissions) == 1
