"""Clients of the same query share one job; in simulated time."""

from __future__ import annotations

import asyncio
import gc
import warnings
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.http.message import Request
from oda_proxy.http.spool import SpoolError
from oda_proxy.jobs.coalescing import FRESH_TIMEOUT
from oda_proxy.jobs.job import IDLE_PAUSE, Limits
from oda_proxy.query.audience import Sharing
from oda_proxy.store.memory import MemoryStore
from tests.support.dispatcher_responses import answer
from tests.support.examples import examples
from tests.support.scripted import (
    ORIGIN,
    QUERY,
    Client,
    Dispatcher,
    crowd,
    elapsed,
    proxied,
    refusal,
    reply,
    simulate,
    simulated,
    together,
    token,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oda_proxy.proxy import Proxy
    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry
    from tests.support.scripted import DispatcherRequest, Reply, Response

NO_CACHE = (("Cache-Control", "no-cache"),)
OTHER = token("another@example.org")


def numbered(request: DispatcherRequest) -> Mapping[str, Any]:
    """Return products with the number of the request that fetched them."""
    return {"numpy_data_product_list": [], "prod_process_message": f"request {request.number}"}


def number(response: Response) -> str:
    return str(response.json["products"]["prod_process_message"])


# -- one job for all -------------------------------------------------------------------------------


@simulated
async def test_all_clients_of_a_query_share_one_job_and_its_data() -> None:
    dispatcher = Dispatcher(products=numbered)
    async with proxied(dispatcher) as proxy:
        got = await together(crowd(proxy, 200))

        assert len(dispatcher.submissions) == 1
        assert {(response.status, response.state) for response in got} == {(200, "done")}
        assert {number(response) for response in got} == {f"request {len(dispatcher.requests)}"}
        assert (proxy.counts.jobs, proxy.counts.joined, proxy.counts.kept) == (1, 199, 1)


@pytest.mark.parametrize("many", [2, 20, 200])
def test_the_dispatcher_receives_as_many_requests_for_many_clients_as_for_one(many: int) -> None:
    async def asked_for(clients: int) -> list[tuple[float, str]]:
        dispatcher = Dispatcher(reporting=7.0)
        async with proxied(dispatcher) as proxy:
            await together(crowd(proxy, clients))
        return [(round(request.at, 6), request.status) for request in dispatcher.requests]

    assert simulate(asked_for(many)) == simulate(asked_for(1))


@simulated
async def test_the_dispatcher_sees_one_session_only() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        await together(crowd(proxy, 5))

    assert {request.session_id for request in dispatcher.requests} == {"SESSION000000000"}


@simulated
async def test_a_client_that_joins_later_waits_only_for_the_rest() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        first, later = crowd(proxy, 2)

        async def come_later() -> Response:
            await asyncio.sleep(50)
            return await later.get_product()

        got = await asyncio.gather(first.get_product(), come_later())

    assert len(dispatcher.submissions) == 1
    assert got[0].at == pytest.approx(got[1].at, abs=1.0)
    assert later.responses[0].at - 50 < 1, "a job that runs is response of at once"


@simulated
async def test_each_client_keeps_its_job_id_and_its_session() -> None:
    dispatcher = Dispatcher(reporting=5.0)
    async with proxied(dispatcher) as proxy:
        clients = crowd(proxy, 5)
        await together(clients)

    for client in clients:
        assert len(client.job_ids) == 1
        for response in client.responses:
            assert response.session_id == client.session_id
            assert response.json["job_monitor"]["session_id"] == client.session_id
            assert all(report["session_id"] == client.session_id for report in response.reports)
            assert all({report["job_id"]} == client.job_ids for report in response.reports)
        products = client.responses[-1].json["products"]
        assert products["analysis_parameters"]["session_id"] == client.session_id


@simulated
async def test_a_client_polls_with_the_job_id_that_it_sends() -> None:
    async with proxied(Dispatcher()) as proxy:
        first, other = crowd(proxy, 2)
        job_id = (await first.ask()).job_id

        response = await other.ask("submitted", "0123456789abcdef")

        assert job_id != response.job_id == "0123456789abcdef"
        assert (await other.ask("submitted", response.job_id)).job_id == response.job_id
        assert (await first.ask("submitted", job_id)).job_id == job_id


@simulated
async def test_a_job_that_the_dispatcher_renames_keeps_its_first_id() -> None:
    def renaming(request: DispatcherRequest) -> Any:
        if request.number == 1:
            return None
        if request.status == "ready":
            return reply(answer(job_monitor={"job_id": f"{request.number:016}"}, session_id=request.session_id))
        state = "progress" if request.number < 10 else "ready"
        return reply({"query_status": state, "products": {}, "job_monitor": {"job_id": f"{request.number:016}"}})

    dispatcher = Dispatcher(instead=renaming, plan={0.0: "submitted", 1.0: "ready"})
    async with proxied(dispatcher) as proxy:
        await together(clients := crowd(proxy, 2))

    name = dispatcher.submissions[0].name
    assert {request.job_id for request in dispatcher.requests} == {"", name}
    assert [client.job_ids for client in clients] == [{name}] * 2


@simulated
async def test_reports_reach_all_clients_and_name_no_other() -> None:
    dispatcher = Dispatcher(reporting=5.0)
    async with proxied(dispatcher) as proxy:
        mine = token()
        clients = [*crowd(proxy, 3, token=mine), Client(proxy, "WITHANOTHERTOKEN", token(roles="general,"))]
        await together(clients)

    for client in clients:
        counts = [sum(one["node"] != "oda-proxy" for one in response.reports) for response in client.responses[:-1]]
        assert set(counts) == set(range(counts[-1] + 1)), "each is response when it comes"
        assert counts == sorted(counts)
        assert counts[-1] > 5
        last = client.responses[-2].reports[-1]
        assert (last["message"], last["progress"]) == ("processing", counts[-1] - 1)
        others = {other.session_id for other in clients} - {client.session_id}
        for response in client.responses:
            assert not [name for name in others if name in response.body.decode()]
            assert client.token == mine or mine not in response.body.decode()


@simulated
async def test_a_poll_is_held_until_there_is_news_and_never_longer_than_the_client_pauses() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted", 45.0: "progress", 50.0: "ready"})
    async with proxied(dispatcher, long_poll=20.0) as proxy:
        await (client := Client(proxy)).get_product()

    waited = [after.at - before.at for before, after in pairwise(client.responses)]
    assert list(dict.fromkeys(client.states)) == ["submitted", "progress", "done"]
    assert waited[0] == pytest.approx(1.0), "the first poll is not held"
    assert waited[1:20] == [pytest.approx(2.0)] * 19
    assert max(waited) <= 2.0 + 1e-6


@simulated
async def test_polls_of_a_session_that_does_other_things_are_answered_at_once() -> None:
    """As those of `wait=False` in a loop over science windows."""
    async with proxied(Dispatcher(plan={0.0: "submitted"})) as proxy:
        clients = [Client(proxy, query=f"{QUERY}&DEC={number}") for number in range(20)]
        job_ids = [(await client.ask()).job_id for client in clients]
        for pause in (0.0, 1.0, 3.0, 60.0):
            await asyncio.sleep(pause)
            for client, job_id in zip(clients, job_ids, strict=True):
                began = elapsed()
                assert (await client.ask("submitted", job_id)).at - began <= (FRESH_TIMEOUT if pause == 60.0 else 0.0)


@pytest.mark.parametrize("pause", [0.0, 7.0, 60.0])
def test_polls_without_a_pause_or_with_a_long_one_are_answered_at_once(pause: float) -> None:
    async def scenario() -> None:
        async with proxied(Dispatcher(plan={0.0: "submitted"})) as proxy:
            client = Client(proxy)
            job_id = (await client.ask()).job_id
            for _ in range(5):
                await asyncio.sleep(pause)
                began = elapsed()
                assert (await client.ask("submitted", job_id)).at - began < 1.0

    simulate(scenario())


@simulated
async def test_a_poll_of_a_job_that_nobody_watched_has_the_state_of_the_moment() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted"})
    async with proxied(dispatcher) as proxy:
        client = Client(proxy)
        job_id = (await client.ask()).job_id
        await asyncio.sleep(1000)
        dispatcher.plan = {0.0: "ready"}
        began = elapsed()

        response = await client.ask("submitted", job_id)

        assert (response.state, response.at - began < 0.5) == ("done", True)


@pytest.mark.parametrize("session_id", ["SESSIONOFTHEOWNER", "SESSIONOFANOTHER"])
def test_new_for_a_job_that_nobody_watched_has_the_state_of_the_moment(session_id: str) -> None:
    """A client with `wait=False` sends `new` each time it looks for its product."""

    async def scenario() -> None:
        dispatcher = Dispatcher(plan={0.0: "submitted"})
        async with proxied(dispatcher) as proxy:
            await Client(proxy, "SESSIONOFTHEOWNER").ask()
            await asyncio.sleep(1000)
            dispatcher.plan = {0.0: "ready"}
            began = elapsed()

            response = await Client(proxy, session_id).ask()

            assert (response.state, response.at - began < 0.5) == ("done", True)

    simulate(scenario())


@pytest.mark.parametrize("latency", [0.05, 0.4])
def test_a_poll_after_a_call_back_through_the_proxy_has_its_report(latency: float) -> None:
    """Also where a poll was under way that the dispatcher answers without it."""
    reported: list[float] = []

    def instead(request: DispatcherRequest) -> Reply | None:
        if "action" in request.fields:
            reported.append(elapsed())
            return reply({"time_spent_s": 0.0})
        has_it = bool(reported) and request.at > reported[0]
        monitor = {"job_id": request.name, "full_report_dict_list": [{"message": "half of it"}] if has_it else []}
        return reply({"query_status": "progress" if has_it else "submitted", "job_monitor": monitor})

    async def scenario() -> None:
        dispatcher = Dispatcher(instead=instead, latency=latency)
        async with proxied(dispatcher, open_routes=frozenset({"call_back"})) as proxy:
            client = Client(proxy)
            job_id = (await client.ask()).job_id
            await asyncio.sleep(2.05)
            call_back = Request("GET", "/call_back", f"job_id={job_id}&action=progress")
            assert (await proxy.answer(call_back, origin=ORIGIN)).status == 200
            response = await client.ask("submitted", job_id)

            assert (response.state, [report["message"] for report in response.reports]) == ("progress", ["half of it"])
            assert response.at - reported[0] < FRESH_TIMEOUT

    simulate(scenario())


@simulated
async def test_a_poll_after_a_call_back_during_a_resubmission_has_its_report() -> None:
    is_submitted_again = asyncio.Event()

    def instead(request: DispatcherRequest) -> None:
        if request.status == "new" and request.number > 1:
            is_submitted_again.set()

    dispatcher = Dispatcher(plan={0.0: "submitted"}, instead=instead, latency=0.4)
    async with proxied(dispatcher) as proxy:
        client = Client(proxy)
        job_id = (await client.ask()).job_id
        dispatcher.forget()
        await is_submitted_again.wait()
        proxy.jobs.note_report(job_id)
        dispatcher.plan = {0.0: "progress"}

        assert (await client.ask("submitted", job_id)).state == "progress"


@simulated
async def test_a_call_back_through_the_proxy_ends_the_pause_of_a_job_that_nobody_watches() -> None:
    dispatcher = Dispatcher(
        plan={0.0: "submitted"}, instead=lambda request: reply({}) if "action" in request.fields else None
    )
    async with proxied(dispatcher, open_routes=frozenset({"call_back"})) as proxy:
        job_id = (await Client(proxy).ask()).job_id
        await asyncio.sleep(200)
        before = [request for request in dispatcher.polls if request.fields.get("action") is None]
        await proxy.answer(Request("GET", "/call_back", f"job_id={job_id}&action=done"), origin=ORIGIN)
        await asyncio.sleep(2)

        polls = [request for request in dispatcher.polls if request.fields.get("action") is None]
        assert len(polls) == len(before) + 1


@simulated
async def test_waiting_clients_receive_progress_at_once() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        await together(clients := crowd(proxy, 3))

    known = next(request.at for request in dispatcher.requests if request.at >= 10.05) + dispatcher.latency
    for client in clients:
        assert next(response.at for response in client.responses if response.state == "progress") == pytest.approx(
            known
        )


# -- leaving ---------------------------------------------------------------------------------------


@simulated
async def test_the_job_continues_when_its_first_client_disconnects() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        first, other = (asyncio.create_task(client.get_product()) for client in crowd(proxy, 2))
        await asyncio.sleep(5)
        first.cancel()

        assert (await other).state == "done"

    assert len(dispatcher.submissions) == 1
    assert {request.session_id for request in dispatcher.requests} == {"SESSION000000000"}


@pytest.mark.parametrize("after", [0.001, 0.02, 5.0, 30.0])
def test_the_job_continues_and_is_stored_when_all_clients_disconnect(after: float) -> None:
    async def scenario() -> None:
        dispatcher = Dispatcher(products=numbered)
        async with proxied(dispatcher) as proxy:
            waiting = [asyncio.create_task(client.get_product()) for client in crowd(proxy, 3)]
            await asyncio.sleep(after)
            for task in waiting:
                task.cancel()
            await asyncio.sleep(120)
            request = len(dispatcher.requests)

            response = await Client(proxy, "COMESBACKMUCHLATER").ask()

            assert (response.cache_status, number(response)) == ("oda-proxy; hit", f"request {request}")
            assert list(proxy.jobs) == []

    simulate(scenario())


@simulated
async def test_a_job_without_clients_is_polled_seldom_and_at_once_when_a_client_comes() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted"})
    async with proxied(dispatcher) as proxy:
        await (client := Client(proxy)).ask()
        await asyncio.sleep(1001)
        alone = [request.at for request in dispatcher.requests if request.at > 200]
        await asyncio.sleep(alone[-1] + IDLE_PAUSE + 5 - elapsed())
        dispatcher.plan[0.0] = "ready"
        came = elapsed()
        response = await client.ask("submitted", client.responses[0].job_id)

    pauses = [after - before for before, after in pairwise(alone)]
    assert pauses == [pytest.approx(IDLE_PAUSE + dispatcher.latency)] * len(pauses)
    assert (response.state, response.at - came < 1) == ("done", True)


@simulated
async def test_the_owner_receives_the_result_a_second_time_like_other_clients() -> None:
    dispatcher = Dispatcher(products=numbered)
    async with proxied(dispatcher) as proxy:
        client = Client(proxy)
        first = await client.get_product()

        again = await client.ask("submitted", first.job_id)

        assert (first.cache_status, again.cache_status) == (
            "oda-proxy; fwd=uri-miss; fwd-status=200; stored",
            "oda-proxy; fwd=uri-miss",
        )
        assert (again.state, number(again), again.job_id) == ("done", number(first), first.job_id)
        assert len(dispatcher.submissions) == 1


# -- failures --------------------------------------------------------------------------------------


@simulated
async def test_a_failure_is_sent_to_all_clients_with_their_own_ids() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted", 20.0: "failed"})
    async with proxied(dispatcher) as proxy:
        got = await together(clients := crowd(proxy, 5))

        assert {(response.status, response.state) for response in got} == {(200, "failed")}
        for client, response in zip(clients, got, strict=True):
            assert (response.session_id, {response.job_id}) == (client.session_id, client.job_ids)
        assert len(dispatcher.submissions) == 1
        assert list(proxy.store.keys()) == []


@simulated
async def test_a_client_that_comes_when_a_job_has_failed_unnoticed_starts_it_again() -> None:
    """Nobody watched the job, and it was polled every 15 s: directly, that client would have started a new one."""
    dispatcher = Dispatcher(plan={0.0: "submitted", 200.0: "failed"})
    async with proxied(dispatcher) as proxy:
        await Client(proxy, "WENTAWAYATONCE").ask()
        await asyncio.sleep(200)
        await asyncio.sleep(dispatcher.requests[-1].at + IDLE_PAUSE - 2 - elapsed())
        dispatcher.plan = {0.0: "submitted", 20.0: "ready", 100.0: "failed"}

        got = await together(clients := crowd(proxy, 3))

        assert {response.state for response in got} == {"done"}
        assert [len(client.job_ids) for client in clients] == [1] * 3
        assert len(dispatcher.submissions) == 2


@simulated
async def test_a_failure_is_sent_to_a_client_that_polls_shortly_after() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted", 20.0: "failed"})
    async with proxied(dispatcher) as proxy:
        first, later = crowd(proxy, 2)
        job_id = (await later.ask()).job_id
        await first.get_product()
        request = len(dispatcher.requests)
        await asyncio.sleep(60)

        response = await later.ask("submitted", job_id)

        assert (response.state, response.job_id, response.session_id) == ("failed", job_id, later.session_id)
        assert len(dispatcher.requests) == request


@simulated
async def test_the_end_of_a_job_is_not_for_a_session_that_had_not_joined_it() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted", 20.0: "failed"})
    async with proxied(dispatcher) as proxy:
        first, stranger = crowd(proxy, 2)
        await first.get_product()

        response = await stranger.ask("submitted", "0123456789abcdef")

        assert response.cache_status == "oda-proxy; fwd=bypass; fwd-status=400; detail=poll"


@simulated
async def test_a_failed_job_is_started_again_for_the_next_client() -> None:
    dispatcher = Dispatcher(plan={0.0: "failed"})
    async with proxied(dispatcher) as proxy:
        first, later = crowd(proxy, 2)
        assert (await first.get_product()).state == "failed"
        dispatcher.plan = {0.0: "done"}

        assert (await later.get_product()).state == "done"
        assert (await first.get_product()).cache_status == "oda-proxy; hit"
        assert len(dispatcher.submissions) == 2


@simulated
async def test_an_internal_error_ends_the_job_for_all_clients_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(MemoryStore):
        def put(self, recording: Recording, *, same_as: Entry | None = None) -> None:
            raise ZeroDivisionError

    async with proxied(Dispatcher(), store=Faulty()) as proxy:
        got = await together(crowd(proxy, 3))

        assert {(response.status, response.state) for response in got} == {(500, "failed")}
        assert {response.message for response in got} == {
            "internal error of oda-proxy (ZeroDivisionError); its log says where"
        }
        assert list(proxy.jobs) == []
    assert "ZeroDivisionError" in caplog.text


@simulated
async def test_an_error_of_the_proxy_is_sent_to_all_clients() -> None:
    class Unreadable(Dispatcher):
        async def send(self, ask: Request) -> Any:
            raise SpoolError("No space left on device")

    async with proxied(Unreadable()) as proxy:
        got = await together(crowd(proxy, 2))

    assert {response.status for response in got} == {500}
    assert all(
        response.message.endswith("No space left on device; name another folder with TMPDIR") for response in got
    )


@simulated
async def test_a_failure_has_the_message_of_the_dispatcher() -> None:
    dispatcher = Dispatcher(instead=lambda request: refusal("RA is not a number", 400) if request.number == 1 else None)
    async with proxied(dispatcher) as proxy:
        got = await together(crowd(proxy, 3))

    assert [response.status for response in got] == [400] * 3
    for response in got:
        assert response.message == response.json["error_message"] == "RA is not a number"


# -- refresh ---------------------------------------------------------------------------------------


@simulated
async def test_many_refreshes_share_one_job_and_its_answer_replaces_the_recording() -> None:
    dispatcher = Dispatcher(plan={0.0: "done"}, products=numbered)
    async with proxied(dispatcher) as proxy:
        await Client(proxy).get_product()
        dispatcher.plan = {0.0: "submitted", 20.0: "ready"}
        waiting = asyncio.gather(*(client.get_product() for client in crowd(proxy, 10, headers=NO_CACHE)))
        await asyncio.sleep(10)

        meanwhile = await Client(proxy, "DOESNOTCARETHATMUCH").ask()
        assert (meanwhile.cache_status, number(meanwhile)) == ("oda-proxy; hit", "request 1")

        anew = f"request {(await waiting) and len(dispatcher.requests)}"
        assert {number(response) for response in waiting.result()} == {anew}
        assert number(await Client(proxy, "COMESAFTERWARDS").ask()) == anew
        assert len(dispatcher.submissions) == 2


@simulated
async def test_a_refresh_that_fails_leaves_the_recording() -> None:
    dispatcher = Dispatcher(plan={0.0: "done"}, products=numbered)
    async with proxied(dispatcher) as proxy:
        await Client(proxy).get_product()
        dispatcher.plan = {0.0: "failed"}

        assert (await Client(proxy, "WANTSITANEW", headers=NO_CACHE).get_product()).state == "failed"
        assert number(await Client(proxy, "COMESAFTERWARDS").ask()) == "request 1"


@simulated
async def test_a_refresh_joins_the_running_job() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        first, other = crowd(proxy, 2)
        other.headers = NO_CACHE

        await together([first, other])

    assert len(dispatcher.submissions) == 1


@pytest.mark.parametrize("status", ["new", "ready"])
def test_a_resubmission_runs_once_under_the_id_that_was_sent(status: str) -> None:
    async def scenario() -> None:
        dispatcher = Dispatcher(plan={0.0: "done"}, products=numbered)
        async with proxied(dispatcher) as proxy:
            job_id = (await Client(proxy).get_product()).job_id
            await asyncio.sleep(1000)
            clients = crowd(proxy, 3)

            got = await asyncio.gather(*(client.ask(status, job_id) for client in clients))

            assert [(request.status, request.job_id) for request in dispatcher.requests] == [("new", ""), ("new", "")]
            assert {(response.state, number(response)) for response in got} == {("done", "request 2")}
            assert len({response.job_id for response in got}) == 1
            assert got[0].job_id == job_id
            assert number(await Client(proxy, "COMESAFTERWARDS").ask()) == "request 2"

    simulate(scenario())


# -- polls for what we do not know -----------------------------------------------------------------


@simulated
async def test_a_poll_for_an_unknown_job_is_relayed() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        response = await Client(proxy).ask("submitted", "0123456789abcdef")

        assert (response.status, response.cache_status) == (400, "oda-proxy; fwd=bypass; fwd-status=400; detail=poll")
        assert "unable to find any record" in response.message
        assert [(request.status, request.job_id) for request in dispatcher.requests] == [
            ("submitted", "0123456789abcdef")
        ]
        assert list(proxy.jobs) == []


@simulated
async def test_a_poll_for_a_job_that_ended_long_ago_finds_its_recording() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        first, later = crowd(proxy, 2)
        job_id = (await later.ask()).job_id
        await first.get_product()
        await asyncio.sleep(1000)

        response = await later.ask("submitted", job_id)

        assert (response.state, response.job_id, response.cache_status) == ("done", job_id, "oda-proxy; hit")


# -- tokens ----------------------------------------------------------------------------------------


@simulated
async def test_tokens_of_one_audience_share_a_job_and_each_client_sees_its_own() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        clients = crowd(proxy, 3)
        for days, client in enumerate(clients, start=12):
            client.token = token(expires=days * 86400.0)

        got = await together(clients)

    assert len(dispatcher.submissions) == 1
    for client, response in zip(clients, got, strict=True):
        assert response.json["products"]["analysis_parameters"]["token"] == client.token
        assert not [other for other in clients if other is not client and other.token in response.body.decode()]


@pytest.mark.parametrize("other", ["", OTHER, token(roles="general,more")], ids=["none", "of another", "other roles"])
def test_another_audience_has_a_job_of_its_own(other: str) -> None:
    async def scenario() -> None:
        dispatcher = Dispatcher(products=numbered)
        async with proxied(dispatcher) as proxy:
            first, second = crowd(proxy, 2)
            first.token, second.token = token(), other

            got = await together([first, second])

        assert sorted(request.token for request in dispatcher.submissions) == sorted([token(), other])
        assert number(got[0]) != number(got[1])

    simulate(scenario())


@simulated
async def test_a_forged_token_joins_no_job_and_is_refused() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        owner, forger = crowd(proxy, 2)
        owner.token, forger.token = token(), token(key="another key that is just as long as the other one")
        dispatcher.revoked.add(forger.token)
        owners = asyncio.create_task(owner.get_product())
        await asyncio.sleep(5)

        response = await forger.get_product()
        poll = await forger.ask("submitted", owner.responses[0].job_id)

        assert (response.status, response.state, poll.status) == (403, "failed", 403)
        assert (await owners).state == "done"


@simulated
async def test_an_unverified_token_starts_its_own_job_and_can_poll_it() -> None:
    dispatcher = Dispatcher(products=numbered)
    async with proxied(dispatcher, secret_key=None) as proxy:
        clients = crowd(proxy, 3, token=token())
        clients[2].token = token(expires=2e6)

        got = await together(clients)

    assert len(dispatcher.submissions) == 2, "one for each token"
    assert len({number(response) for response in got}) <= 2, "of the two, who joined may be given the later"
    assert {response.state for response in got} == {"done"}


@simulated
async def test_a_client_that_joined_with_a_token_stays_joined_when_its_verification_expires() -> None:
    dispatcher = Dispatcher(plan={0.0: "done"})
    async with proxied(dispatcher, secret_key=None, trust=300.0) as proxy:
        first, second = crowd(proxy, 2)
        first.token, second.token = token(), token(expires=2e6)
        for client in (first, second):  # the dispatcher takes both
            await replace(client, query=QUERY.replace("83.0", "1.0"), responses=[]).get_product()
        dispatcher.plan = {0.0: "submitted", 900.0: "ready"}
        before = len(dispatcher.requests)

        await together([first, second])

        request = dispatcher.requests[before:]
        assert {one.session_id for one in request} == {first.session_id}


@pytest.mark.parametrize("ends", ["ready", "failed"])
def test_a_client_that_joined_with_a_token_receives_an_end_between_two_polls(ends: str) -> None:
    async def scenario() -> None:
        dispatcher = Dispatcher(plan={0.0: "done"})
        async with proxied(dispatcher, secret_key=None, trust=300.0) as proxy:
            first, second = crowd(proxy, 2)
            first.token, second.token = token(), token(expires=2e6)
            for client in (first, second):  # the dispatcher takes both
                await replace(client, query=QUERY.replace("83.0", "1.0"), responses=[]).get_product()
            dispatcher.plan = {0.0: "submitted", 900.0: ends}
            waiting = asyncio.create_task(first.get_product())
            await asyncio.sleep(1)
            job_id = (await second.ask()).job_id
            await waiting
            request = len(dispatcher.requests)

            response = await second.ask("submitted", job_id)

            assert (response.state, response.job_id) == ("done" if ends == "ready" else "failed", job_id)
            assert len(dispatcher.requests) == request

    simulate(scenario())


@simulated
async def test_clients_without_a_session_receive_the_result() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        got = await together([Client(proxy, ""), Client(proxy, ""), Client(proxy, "SESSION000000000")])

        assert [response.state for response in got] == ["done"] * 3
        assert len(dispatcher.submissions) == 1
        assert proxy.counts.kept == 1


@simulated
async def test_the_dispatchers_own_answer_goes_to_no_other_token() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher, sharing=Sharing.TEAM) as proxy:
        first, second = Client(proxy, "", token()), Client(proxy, "", OTHER)
        job_id = (await first.ask()).job_id
        await second.ask()
        await asyncio.sleep(100)

        response = await second.ask("submitted", job_id)

        assert response.state == "done"
        assert first.token not in response.body.decode()


# -- what cannot be shared -------------------------------------------------------------------------


def naming(request: DispatcherRequest) -> Mapping[str, Any]:
    """Return products that name the client."""
    who = request.subject or request.session_id
    return {"text_product_list": [{"text": f"made for {who}"}], "numpy_data_product_list": []}


@pytest.mark.parametrize("mine", ["", token("Somebody Important")], ids=["public", "with a token"])
def test_an_answer_that_names_its_client_is_not_shared(mine: str) -> None:
    async def scenario() -> None:
        dispatcher = Dispatcher(products=naming)
        async with proxied(dispatcher) as proxy:
            clients = crowd(proxy, 4, token=mine)

            got = await together(clients)

            assert list(proxy.store.keys()) == []
        assert len(dispatcher.submissions) == 4
        for client, response in zip(clients, got, strict=True):
            assert response.state == "done"
            assert client.job_ids == {response.job_id}
            made_for = "Somebody Important" if mine else client.session_id
            assert response.json["products"]["text_product_list"] == [{"text": f"made for {made_for}"}]

    simulate(scenario())


@simulated
async def test_later_clients_of_an_unshareable_query_have_their_own_jobs_at_once() -> None:
    dispatcher = Dispatcher(products=naming)
    async with proxied(dispatcher) as proxy:
        await Client(proxy).get_product()
        await together(crowd(proxy, 2))  # one of them waited for nothing
        before = len(dispatcher.submissions)

        began = elapsed()
        got = await together(crowd(proxy, 3))

        assert len(dispatcher.submissions) - before == 3
        assert {response.at - began < 70 for response in got} == {True}


@pytest.mark.parametrize("status", [200, 500])
def test_a_failure_that_names_its_client_is_sent_to_no_other(status: int) -> None:
    def failing(request: DispatcherRequest) -> Any:
        if request.status == "new":
            return None
        said = {"query_status": "failed", "products": {}, "owner": request.session_id.lower()}
        return reply({**said, "exit_status": {"status": 1, "message": "no data"}}, status=status)

    async def scenario() -> None:
        dispatcher = Dispatcher(instead=failing)
        limits = Limits(max_unreadable=0)
        async with proxied(dispatcher, limits=limits) as proxy:
            got = await together(clients := crowd(proxy, 3))

        assert {response.state for response in got} == {"failed"}
        for client, response in zip(clients, got, strict=True):
            others = {other.session_id for other in clients if other is not client}
            assert not [name for name in others if name in response.body.decode().upper()]

    simulate(scenario())


# -- the end of the program ------------------------------------------------------------------------


@simulated
async def test_waiting_clients_are_released_when_the_server_stops() -> None:
    async with proxied(Dispatcher(plan={0.0: "submitted"}), long_poll=60.0) as proxy:
        clients = crowd(proxy, 3)
        for client in clients:
            await client.ask()
        await asyncio.sleep(4)
        for client in clients:
            await client.ask("submitted", client.responses[0].job_id)
        await asyncio.sleep(4)
        held = [asyncio.create_task(client.ask("submitted", client.responses[0].job_id)) for client in clients]
        await asyncio.sleep(1)

        woken = elapsed()
        proxy.jobs.release_waiters()
        response = await asyncio.gather(*held)

        assert {(one.state, one.at) for one in response} == {("submitted", woken)}
        assert (await clients[0].ask("submitted", response[0].job_id)).at == woken, "and held no more"


@simulated
async def test_a_client_that_waits_for_the_first_answer_is_released_when_the_server_stops() -> None:
    async with proxied(Dispatcher(latency=50.0), long_poll=60.0) as proxy:
        asking = asyncio.create_task(Client(proxy).ask())
        await asyncio.sleep(5)
        proxy.jobs.release_waiters()
        comes_now = await Client(proxy, query=QUERY.replace("83.0", "1.0")).ask()

        assert [(response.state, response.at) for response in (await asking, comes_now)] == [("submitted", 5.0)] * 2


@simulated
async def test_a_closed_proxy_sends_no_further_request() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted"})
    async with proxied(dispatcher) as proxy:
        waiting = asyncio.create_task(Client(proxy).ask())
        await asyncio.sleep(5)
        await proxy.close()
        request = len(dispatcher.requests)
        await asyncio.sleep(100)

        assert len(dispatcher.requests) == request
        assert list(proxy.jobs) == []
        assert (await waiting).state == "submitted"


@simulated
async def test_a_job_whose_task_has_not_run_is_cancelled_too() -> None:
    dispatcher = Dispatcher()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with proxied(dispatcher) as proxy:
            asking = asyncio.create_task(Client(proxy).ask())
            for _ in range(100):
                if not list(proxy.jobs):
                    await asyncio.sleep(0)
            await proxy.close()
            response, left = await asking, list(proxy.jobs)
        del proxy, asking
        gc.collect()

    assert (response.state, dispatcher.requests, left) == ("submitted", [], [])
    assert [str(warning.message) for warning in warned] == []


# -- in whatever order -----------------------------------------------------------------------------

DELAYS = st.sampled_from([0.0, 0.0, 0.001, 0.01, 0.05, 0.1])
VISIT = st.tuples(
    st.sampled_from([0.0, 0.05, 0.1, 0.15, 0.3, 1.0, 1.6, 2.1, 3.0]),  # when they come
    st.one_of(st.none(), st.sampled_from([0.0, 0.05, 0.2, 1.0, 1.6])),  # after how long they leave
)
PLANS = st.sampled_from(
    [{0.0: "done"}, {0.0: "submitted", 1.0: "ready"}, {0.0: "submitted", 1.0: "failed"}, {0.0: "failed"}]
)


def turns(delays: list[float]) -> Iterator[float]:
    """Give one after the other, over and over."""
    while True:
        yield from delays


async def visited(visits: list[tuple[float, float | None]], plan: dict[float, str]) -> None:
    """Let clients come and go, and check that all receive the same."""
    dispatcher = Dispatcher(plan=plan, products=numbered)
    running: list[int] = []

    async def visit(client: Client, comes: float, leaves: float | None) -> Response | None:
        await asyncio.sleep(comes)
        try:
            async with asyncio.timeout(leaves):
                return await client.get_product()
        except TimeoutError:
            return None

    async def watch(proxy: Proxy) -> None:
        while True:
            running.append(len(list(proxy.jobs)))
            await asyncio.sleep(0.01)

    async with proxied(dispatcher) as proxy:
        watching = asyncio.create_task(watch(proxy))
        clients = crowd(proxy, len(visits))
        got = await asyncio.gather(*(visit(client, *when) for client, when in zip(clients, visits, strict=True)))
        watching.cancel()
        await asyncio.sleep(60)  # their jobs go on

        ends = "failed" if "failed" in plan.values() else "done"
        assert max(running) <= 1
        assert {response.state for response in got if response} <= {ends}
        assert all(len(client.job_ids) <= 1 for client in clients)
        assert all(response.session_id == client.session_id for client in clients for response in client.responses)
        assert list(proxy.jobs) == []
        assert len(list(proxy.store.keys())) == (ends == "done" and len(dispatcher.submissions) > 0)
    if ends == "done":
        assert len({number(response) for response in got if response}) <= len(dispatcher.submissions)


@settings(deadline=None, max_examples=examples(200))
@given(visits=st.lists(VISIT, min_size=1, max_size=6), plan=PLANS, delays=st.lists(DELAYS, min_size=1, max_size=12))
def test_one_job_at_a_time_for_all_clients_in_any_order(
    visits: list[tuple[float, float | None]], plan: dict[float, str], delays: list[float]
) -> None:
    simulate(visited(visits, plan), turns(delays).__next__)


def test_a_lookup_that_misses_a_recording_just_stored_starts_no_second_job() -> None:
    late: list[float] = []

    class Slow(MemoryStore):
        """Its answer to the second lookup arrives when the job has ended."""

        gets = 0

        def get(self, key: Key) -> Recording | None:
            self.gets += 1
            if self.gets == 2:
                late.append(1.0)
            return super().get(key)

    async def scenario() -> None:
        dispatcher = Dispatcher(plan={0.0: "done"})
        async with proxied(dispatcher, store=Slow()) as proxy:
            first, other = crowd(proxy, 2)
            await asyncio.gather(first.ask(), other.ask())

        assert len(dispatcher.submissions) == 1

    simulate(scenario(), lambda: late.pop() if late else 0.0)
