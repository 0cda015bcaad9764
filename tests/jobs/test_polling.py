"""A job is polled to its end, through errors of the dispatcher; in simulated time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest

from oda_proxy.errors import UpstreamPausedError, UpstreamSlowError, UpstreamUnreachableError
from oda_proxy.http.message import Request
from oda_proxy.jobs.job import Limits
from oda_proxy.query.audience import Sharing
from oda_proxy.store.freshness import Freshness, Rule
from tests.support.scripted import (
    HTML,
    ORIGIN,
    QUERY,
    Body,
    Client,
    Dispatcher,
    Reply,
    bad_gateway,
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
    from collections.abc import Callable

    from tests.support.scripted import DispatcherRequest, Response

URL = Dispatcher.url
UNREACHABLE = UpstreamUnreachableError(URL, "Connection refused")
PAGE = reply(b"<html>Maintenance", headers=HTML)


def between(
    begin: float, end: float, answer: Reply | Exception
) -> Callable[[DispatcherRequest], Reply | Exception | None]:
    """Return an answer to requests between two times."""
    return lambda request: answer if begin <= request.at < end else None


def on_polls(answer: Reply | Exception, *, every: int = 1) -> Callable[[DispatcherRequest], Reply | Exception | None]:
    """Return an answer to requests other than the first."""
    return lambda request: answer if request.number > 1 and request.number % every == 0 else None


async def got(dispatcher: Dispatcher, many: int = 2, **policy: Any) -> list[Client]:
    """Have clients get a product."""
    async with proxied(dispatcher, **policy) as proxy:
        clients = crowd(proxy, many)
        await together(clients)
    return clients


def ends(clients: list[Client]) -> set[tuple[int, str]]:
    """Say how it ended for all."""
    return {(client.responses[-1].status, client.responses[-1].state) for client in clients}


def assert_readable(response: Response, words: str) -> None:
    """Every generation of the client ends with these words: before 1.1.46 they read the one, later the others."""
    assert response.state == "failed"
    assert response.json["exit_status"]["status"] == 1
    for where in (response.json["exit_status"], response.json):
        assert words in where["error_message"]
    assert words in response.message
    assert words in response.json["error"]
    assert response.json["products"] == {}
    assert response.json["job_status"] == response.json["job_monitor"]["status"] == "failed"


# -- requests ---------------------------------------------------------------------------------------


@simulated
async def test_a_poll_has_the_last_state_and_job_id() -> None:
    dispatcher = Dispatcher()
    await got(dispatcher)

    job_id = dispatcher.submissions[0].name
    request = [(one.status, one.job_id) for one in dispatcher.requests]
    assert list(dict.fromkeys(request)) == [("new", ""), ("submitted", job_id), ("progress", job_id), ("ready", job_id)]
    assert [status for status, _ in request].count("ready") == 1


@simulated
async def test_submissions_and_fetches_are_sent_at_most_once_and_polls_may_be_repeated() -> None:
    dispatcher = Dispatcher()
    await got(dispatcher)

    assert {(one.status, one.at_most_once) for one in dispatcher.requests} == {
        ("new", True),
        ("submitted", False),
        ("progress", False),
        ("ready", True),
    }
    assert {one.timeout for one in dispatcher.polls} == {60.0}


@simulated
async def test_a_form_is_relayed_as_a_form() -> None:
    asks: list[Request] = []

    class Listening(Dispatcher):
        async def send(self, ask: Request) -> Reply:
            asks.append(ask)
            return await super().send(ask)

    content_type = (("Content-Type", "application/x-www-form-urlencoded"),)
    form = f"{QUERY}&query_status=new&session_id=S&selected_catalog=%7B%22a%22%3A%20%22%2B%22%7D".encode()
    async with proxied(Listening(plan={0.0: "ready"})) as proxy:
        await proxy.answer(Request("POST", "/run_analysis", "", content_type, form), origin=ORIGIN)

    assert [(ask.method, ask.query_string) for ask in asks] == [("POST", "")] * 2
    new, ready = [dict(parse_qsl(ask.body.decode())) for ask in asks if isinstance(ask.body, bytes)]
    assert new["selected_catalog"] == '{"a": "+"}'
    assert ready == {**new, "query_status": "ready", "job_id": ready["job_id"]}


@simulated
async def test_pauses_grow_with_the_job_while_somebody_waits_up_to_those_of_patient_clients() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted", 300.0: "ready"})
    await got(dispatcher)

    times = [request.at for request in dispatcher.polls]
    pauses = [after - before - dispatcher.latency for before, after in pairwise(times)]
    assert all(after > before - 1e-6 for before, after in pairwise(pauses))
    assert pauses[0] == pytest.approx(0.5)
    assert pauses[-1] == pytest.approx(1.0)


@simulated
async def test_the_recording_says_how_the_job_went() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        await Client(proxy).get_product()
        [key] = proxy.store.keys()
        recording = proxy.store.get(key)

    assert recording
    assert [state for state, _ in recording.timeline] == ["submitted", "progress", "ready", "done"]
    times = [at for _, at in recording.timeline]
    assert times == sorted(times)
    assert times[0] == pytest.approx(0.05)
    assert 60 < times[-1] == pytest.approx(recording.cost)


# -- trouble ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_errors_of_a_gateway_between_polls_change_no_answer(status: int) -> None:
    async def scenario() -> None:
        dispatcher = Dispatcher(instead=on_polls(bad_gateway(status), every=3), reporting=5.0)
        clients = await got(dispatcher)

        for client in clients:
            counts = [len(response.reports) for response in client.responses[:-1]]
            assert counts == sorted(counts)
        assert ends(clients) == {(200, "done")}
        assert len(dispatcher.submissions) == 1
        assert {response.status for client in clients for response in client.responses} == {200}

    simulate(scenario())


@pytest.mark.parametrize(
    "trouble",
    [
        UNREACHABLE,
        UpstreamSlowError(URL, "no answer"),
        UpstreamPausedError(URL, "it fails", 5.0),
        bad_gateway(),
        Reply(200, (), Body(b"{" * 200, breaks=UpstreamUnreachableError(URL, "the connection broke"))),
    ],
    ids=["refused", "slow", "paused", "gateway", "broken off"],
)
@pytest.mark.parametrize("at", [5.0, 58.0])
def test_an_outage_in_mid_job_changes_no_answer(trouble: Reply | Exception, at: float) -> None:
    async def scenario() -> None:
        dispatcher = Dispatcher(instead=between(at, at + 600, trouble))
        clients = await got(dispatcher)

        assert ends(clients) == {(200, "done")}
        assert len(dispatcher.submissions) == 1
        assert all(len(client.job_ids) == 1 for client in clients)
        assert clients[0].responses[-1].at < at + 600 + 35
        assert len([one for one in dispatcher.requests if at <= one.at < at + 600]) < 40

    simulate(scenario())


@simulated
async def test_products_that_break_off_are_fetched_again() -> None:
    broken = Reply(200, (), Body(b"{" * 200, breaks=UpstreamUnreachableError(URL, "the connection broke")))
    fetched: list[int] = []

    def instead(request: DispatcherRequest) -> Reply | None:
        if request.status != "ready":
            return None
        fetched.append(request.number)
        return broken if len(fetched) < 3 else None

    clients = await got(Dispatcher(instead=instead))

    assert ends(clients) == {(200, "done")}
    assert len(fetched) == 3


@simulated
async def test_the_state_never_goes_back_while_products_are_fetched_and_errors_are_reported_at_once() -> None:
    dispatcher = Dispatcher(instead=lambda one: bad_gateway() if one.status == "ready" and one.at < 90 else None)
    clients = await got(dispatcher, long_poll=200.0)

    for client in clients:
        assert client.states == sorted(client.states, key=["submitted", "progress", "done"].index)
        assert client.responses[-1].at > 90
        assert "the dispatcher has not answered" in client.responses[-2].json["exit_status"]["comment"]


@simulated
async def test_no_request_is_sent_before_retry_after() -> None:
    dispatcher = Dispatcher(instead=between(5, 6, UpstreamPausedError(URL, "too many requests", 120.0)))
    clients = await got(dispatcher)

    times = [request.at for request in dispatcher.requests]
    assert max(after - before for before, after in pairwise(times)) >= 120
    assert ends(clients) == {(200, "done")}


@simulated
async def test_a_dispatcher_that_never_comes_back_is_given_up() -> None:
    clients = await got(Dispatcher(instead=between(5, 1e9, UNREACHABLE)), limits=Limits(max_outage=600.0))

    assert ends(clients) == {(500, "failed")}
    assert_readable(clients[1].responses[-1], "the dispatcher has not answered for 10 min; ask again when it is back")


@simulated
async def test_waiting_clients_learn_of_an_outage_at_once_and_of_its_end() -> None:
    clients = await got(Dispatcher(instead=between(20, 100, UNREACHABLE)), long_poll=60.0)

    for client in clients:
        remarks = {response.at: response.json["exit_status"]["comment"] for response in client.responses}
        troubled = [at for at, remark in remarks.items() if "the dispatcher has not answered for" in remark]
        assert troubled[0] < 23
        assert "not answered" not in remarks[client.responses[-1].at]


@pytest.mark.parametrize(
    "trouble", [UNREACHABLE, UpstreamPausedError(URL, "it fails", 5.0, is_down=True)], ids=["refused", "left alone"]
)
@simulated
async def test_an_unreachable_dispatcher_fails_a_new_job_at_once(trouble: Exception) -> None:
    dispatcher = Dispatcher(instead=lambda _: trouble)
    clients = await got(dispatcher)

    assert ends(clients) == {(500, "failed")}
    assert len(dispatcher.requests) == 1
    for client in clients:
        assert client.responses[-1].at < 1
        assert_readable(client.responses[-1], f"cannot reach the dispatcher {URL}: ")


@pytest.mark.parametrize(
    "trouble", [bad_gateway(), UpstreamPausedError(URL, "it wants peace", 20.0)], ids=["gateway", "wants peace"]
)
@simulated
async def test_a_submission_waits_for_a_busy_dispatcher(trouble: Reply | Exception) -> None:
    clients = await got(Dispatcher(instead=between(0, 100, trouble)))

    assert ends(clients) == {(200, "done")}
    assert all(len(client.job_ids) == 1 for client in clients)


@pytest.mark.parametrize(
    "answer",
    [PAGE, reply({"error": "x"}, status=500), reply({"query_status": ["done"], "products": {}})],
    ids=["a page", "500", "a list as state"],
)
def test_an_unreadable_first_answer_is_relayed(answer: Reply, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        dispatcher = Dispatcher(instead=lambda _: answer)
        async with proxied(dispatcher) as proxy:
            results = await asyncio.gather(*(client.ask() for client in crowd(proxy, 2)))

        assert {response.status for response in results} <= {answer.status, 500}
        assert len(dispatcher.requests) <= 2
        assert not caplog.messages

    simulate(scenario())


@simulated
async def test_unreadable_answers_to_polls_change_no_answer() -> None:
    clients = await got(Dispatcher(instead=on_polls(PAGE, every=3)))

    assert ends(clients) == {(200, "done")}


@simulated
async def test_unreadable_answers_have_a_limit() -> None:
    dispatcher = Dispatcher(instead=on_polls(PAGE))
    clients = await got(dispatcher)

    assert ends(clients) == {(500, "failed")}
    assert len(dispatcher.requests) == 1 + Limits().max_unreadable + 1
    assert_readable(clients[1].responses[-1], "the last 6 answers of the dispatcher were errors or cannot be read")


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (
            reply({"error": "InternalError():the disk is full", "error_message": "the disk is full"}, status=500),
            "the disk is full",
        ),
        (reply({"error_message": "no folder scratch_sid_SESSION000000000_x"}, status=500), "no folder (removed)"),
    ],
    ids=["about the job", "names its client"],
)
def test_a_job_that_is_given_up_has_the_last_error_of_the_dispatcher(trouble: Reply, message: str) -> None:
    async def scenario() -> None:
        clients = await got(Dispatcher(instead=on_polls(trouble)))

        assert ends(clients) == {(500, "failed")}
        for client in clients:
            assert_readable(client.responses[-1], f"ask again later; its last error: {message}")

    simulate(scenario())


@simulated
async def test_a_job_that_the_dispatcher_does_not_know_is_submitted_again_under_its_id() -> None:
    dispatcher = Dispatcher()

    def forget_once(request: DispatcherRequest) -> None:
        if request.at > 30 and len(dispatcher.submissions) == 1:
            dispatcher.forget()

    dispatcher.instead = forget_once
    clients = await got(dispatcher)

    assert ends(clients) == {(200, "done")}
    assert len(dispatcher.submissions) == 2
    assert all(len(client.job_ids) == 1 for client in clients)
    assert 90 < clients[0].responses[-1].at < 95


@simulated
async def test_a_job_that_is_forgotten_again_and_again_is_given_up() -> None:
    dispatcher = Dispatcher(instead=on_polls(refusal("unable to find any record", 400), every=1))
    dispatcher.instead = lambda request: refusal("unable to find any record", 400) if request.job_id else None
    clients = await got(dispatcher)

    assert ends(clients) == {(500, "failed")}
    assert len(dispatcher.submissions) == 1 + Limits().max_resubmissions
    assert_readable(clients[1].responses[-1], "the dispatcher has forgotten the job 4 times")


@simulated
async def test_products_that_stay_ready_and_cannot_be_fetched_are_given_up() -> None:
    def instead(request: DispatcherRequest) -> Reply | None:
        response = {"query_status": "ready", "products": {}, "job_monitor": {"job_id": request.name}}
        return reply(response) if request.status == "ready" else None

    clients = await got(Dispatcher(instead=instead))

    assert ends(clients) == {(500, "failed")}
    assert_readable(clients[1].responses[-1], "the products are ready, and did not send them")


@simulated
async def test_a_job_that_never_ends_is_given_up_with_a_message_that_all_clients_read() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted"})
    clients = await got(dispatcher, limits=Limits(max_duration=7200.0))

    assert ends(clients) == {(500, "failed")}
    for client in clients:
        assert_readable(client.responses[-1], "the job has run for 2.0 h and is given up")
        assert client.job_ids == {client.responses[0].job_id}
        assert 7200 <= client.responses[-1].at < 7210


@simulated
async def test_a_job_that_was_given_up_is_not_stored_and_starts_again() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted"})
    async with proxied(dispatcher, limits=Limits(max_duration=600.0)) as proxy:
        assert (await Client(proxy).get_product()).status == 500
        dispatcher.plan = {0.0: "done"}

        assert (await Client(proxy).get_product()).state == "done"
        assert len(dispatcher.submissions) == 2


@simulated
async def test_a_job_whose_first_request_is_never_answered_is_given_up_too() -> None:
    dispatcher = Dispatcher(latency=3 * 3600.0)
    clients = await got(dispatcher, limits=Limits(max_duration=7200.0))

    assert ends(clients) == {(500, "failed")}
    assert_readable(clients[1].responses[-1], "no answer")
    assert 7200 <= clients[1].responses[-1].at < 7300


@pytest.mark.parametrize(
    "trouble",
    [
        UNREACHABLE,
        UpstreamPausedError(URL, "it fails", 5.0, is_down=True),
        bad_gateway(),
    ],
    ids=["refused", "left alone", "gateway"],
)
@simulated
async def test_a_stale_recording_serves_while_the_dispatcher_is_away(trouble: Reply | Exception) -> None:
    dispatcher = Dispatcher(plan={0.0: "done"})
    async with proxied(dispatcher, freshness=Freshness((Rule.parse("isgri/*=1"),))) as proxy:
        await Client(proxy).get_product()
        await asyncio.sleep(90_000)
        dispatcher.instead = lambda _: trouble

        response = await Client(proxy, "COMESAFTERADAY").get_product()

        assert (response.state, response.cache_status) == ("done", "oda-proxy; hit; detail=stale")
        assert response.at - 90_000 < 1


@simulated
async def test_a_stale_recording_serves_while_its_job_is_queued_and_the_dispatcher_is_away() -> None:
    dispatcher = Dispatcher(plan={0.0: "done"})
    async with proxied(dispatcher, max_jobs=1, freshness=Freshness((Rule.parse("isgri/*=1"),))) as proxy:
        await Client(proxy).get_product()
        await asyncio.sleep(90_000)
        dispatcher.plan = {0.0: "submitted", 60.0: "ready"}
        waiting = asyncio.create_task(Client(proxy, "HOLDSTHEPLACE", query=f"{QUERY}&DEC=1").get_product())
        await asyncio.sleep(20)
        dispatcher.instead = between(elapsed(), elapsed() + 40, UNREACHABLE)
        await asyncio.sleep(10)

        response = await Client(proxy, "COMESAFTERADAY").get_product()

        assert (response.state, response.cache_status) == ("done", "oda-proxy; hit; detail=stale")
        assert response.at - 90_030 < 1
        assert (await waiting).state == "done"


@simulated
async def test_a_client_with_a_stale_recording_joins_a_submitted_job_during_an_outage() -> None:
    dispatcher = Dispatcher(plan={0.0: "done"})
    async with proxied(dispatcher, freshness=Freshness((Rule.parse("isgri/*=1"),))) as proxy:
        await Client(proxy).get_product()
        await asyncio.sleep(90_000)
        dispatcher.plan = {0.0: "submitted", 60.0: "ready"}
        waiting = asyncio.create_task(Client(proxy).get_product())
        await asyncio.sleep(20)
        dispatcher.instead = between(elapsed(), elapsed() + 20, bad_gateway())
        await asyncio.sleep(10)

        response = await (other := Client(proxy, "COMESWHILEINTROUBLE")).get_product()

        assert (response.state, other.states[0]) == ("done", "submitted")
        assert (await waiting).state == "done"
        assert len(dispatcher.submissions) == 2


# -- places ----------------------------------------------------------------------------------------


@simulated
async def test_at_most_max_jobs_run_at_once_and_others_wait_in_order() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted", 30.0: "ready"})
    async with proxied(dispatcher, max_jobs=2) as proxy:
        clients = [Client(proxy, f"SESSION{number:09d}", query=f"{QUERY}&DEC={number}") for number in range(6)]
        waiting = []
        for client in clients:
            waiting.append(asyncio.create_task(client.get_product()))
            await asyncio.sleep(0.5)

        await asyncio.sleep(20)
        assert len(dispatcher.submissions) == 2
        assert [running.is_queued for running in proxy.jobs] == [False, False, True, True, True, True]
        await asyncio.sleep(20)
        assert [running.is_queued for running in proxy.jobs] == [False, False, True, True]
        await asyncio.gather(*waiting)

    assert [request.fields["DEC"] for request in dispatcher.submissions] == list("012345")
    assert ends(clients) == {(200, "done")}
    begun = [request.at for request in dispatcher.submissions]
    finished = sorted(request.at for request in dispatcher.requests if request.status == "ready")
    assert all(later >= sooner for later, sooner in zip(begun[2:], finished, strict=False))


@simulated
async def test_a_queued_job_is_submitted_for_its_clients_and_keeps_its_id() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted", 50.0: "ready"})
    async with proxied(dispatcher, max_jobs=1) as proxy:
        first, other = crowd(proxy, 2)
        joins_later = Client(proxy, "COMESLATER", query=f"{QUERY}&DEC=1")
        other.query = joins_later.query

        waiting = asyncio.gather(first.get_product(), other.get_product())
        await asyncio.sleep(70)
        await joins_later.get_product()
        await waiting

    assert other.states[0] == "submitted"
    assert other.responses[0].at < 1
    assert len(other.job_ids) == 1
    assert joins_later.job_ids == other.job_ids
    assert other.job_ids != {dispatcher.submissions[1].name}, "the dispatcher had not named it yet"
    assert other.responses[-1].state == "done"


@simulated
async def test_a_job_that_fails_frees_its_place() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted", 10.0: "failed"})
    async with proxied(dispatcher, max_jobs=1) as proxy:
        clients = [Client(proxy, f"SESSION{number:09d}", query=f"{QUERY}&DEC={number}") for number in range(3)]
        await together(clients)

    assert ends(clients) == {(200, "failed")}
    assert len(dispatcher.submissions) == 3


# -- tokens ----------------------------------------------------------------------------------------


@simulated
async def test_another_token_takes_over_when_the_first_expires_and_the_job_keeps_its_id() -> None:
    dispatcher = Dispatcher()
    first, second = token(expires=30.0), token(expires=1e6)
    dispatcher.instead = lambda request: (
        refusal("The token provided is expired", 403) if request.token == first and request.at > 30 else None
    )
    async with proxied(dispatcher) as proxy:
        one, other = crowd(proxy, 2)
        one.token, other.token = first, second

        ends_of_both = await together([one, other])

    taken_over = [request for request in dispatcher.requests if request.token == second]
    assert len(dispatcher.submissions) == 1
    assert {request.job_id for request in taken_over} == {dispatcher.submissions[0].name}
    assert {request.session_id for request in taken_over} == {other.session_id}
    assert len(other.job_ids) == 1
    assert (ends_of_both[1].status, ends_of_both[1].state) == (200, "done")
    assert ends_of_both[0].status == 403, "who has no good token any more is response so by the dispatcher"
    assert first not in other.responses[-1].body.decode()


@simulated
async def test_in_a_team_the_token_of_another_member_takes_over() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher, sharing=Sharing.TEAM) as proxy:
        one, other = crowd(proxy, 2)
        one.token, other.token = token(), token("another@example.org")
        waiting = [asyncio.create_task(client.get_product()) for client in (one, other)]
        await asyncio.sleep(20)
        dispatcher.revoked.add(one.token)

        assert (await waiting[1]).state == "done"
        await waiting[0]


@simulated
async def test_without_another_token_all_clients_receive_the_refusal() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        clients = crowd(proxy, 3, token=token())
        waiting = asyncio.gather(*(client.get_product() for client in clients))
        await asyncio.sleep(20)
        dispatcher.revoked.add(token())
        before = len(dispatcher.requests)
        refused = await waiting

        assert len(dispatcher.requests) == before + 1
    assert {(response.status, response.state) for response in refused} == {(403, "failed")}
    assert {response.message for response in refused} == {"The token provided is not valid"}
    assert len(dispatcher.submissions) == 1


@simulated
async def test_refused_tokens_take_over_once_each() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher, long_poll=0.5, limits=Limits(max_duration=7200.0)) as proxy:
        clients = crowd(proxy, 2)
        clients[0].token, clients[1].token = token(), token(expires=2e6)
        waiting = [asyncio.create_task(client.get_product()) for client in clients]
        await asyncio.sleep(20)
        dispatcher.revoked = {client.token for client in clients}
        before = len(dispatcher.requests)

        await asyncio.wait(waiting, timeout=600)

        assert len(dispatcher.requests) - before < 10
        assert [task.done() and task.result().status for task in waiting] == [403, 403]


@simulated
async def test_the_token_of_a_client_that_disconnected_can_take_over() -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted", 400.0: "ready"})
    async with proxied(dispatcher) as proxy:
        one, other, third = crowd(proxy, 3)
        one.token, other.token, third.token = token(expires=2e6), token(expires=3e6), token(expires=2e6)
        await one.ask()
        await other.ask()
        waiting = asyncio.create_task(replace(third, responses=[]).get_product())
        await asyncio.sleep(100)
        dispatcher.revoked.add(one.token)

        response = await waiting

    assert response.state == "done"
    assert {request.token for request in dispatcher.requests if request.at > 110} == {other.token}
    assert elapsed() < 450


@simulated
async def test_a_redirect_of_a_submission_reaches_the_owner_with_its_location() -> None:
    location = "http://other.example/run_analysis/"
    moved = reply(b"<p>moved", status=301, headers=(*HTML, ("Location", location), ("Set-Cookie", "a=b")))
    async with proxied(Dispatcher(instead=lambda _: moved)) as proxy:
        request = Request("GET", "/run_analysis", f"{QUERY}&query_status=new&session_id=S")

        answer = await proxy.answer(request, origin=ORIGIN)

    assert (answer.status, dict(answer.headers)["Location"]) == (301, location)
    assert "Set-Cookie" not in dict(answer.headers)
