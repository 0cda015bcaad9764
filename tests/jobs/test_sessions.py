"""Clients without a session, and what the dispatcher says to the owner of a job; in simulated time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from oda_proxy.query.audience import Sharing
from tests.support.dispatcher_responses import answer
from tests.support.scripted import (
    ORIGIN,
    Client,
    Dispatcher,
    DispatcherRequest,
    Reply,
    proxied,
    refusal,
    reply,
    simulate,
    simulated,
    token,
)


def creating(request: DispatcherRequest) -> Reply | None:
    """Answer as a dispatcher that creates a session for a client without one."""
    if request.session_id:
        return None
    monitor = {"job_id": request.name, "session_id": "SESSIONOFTHEDISP", "status": "submitted"}
    return reply(
        {"query_status": "submitted", "products": {}, "session_id": "SESSIONOFTHEDISP", "job_monitor": monitor}
    )


def dispatcher_with_sessions() -> Dispatcher:
    dispatcher = Dispatcher()
    create = dispatcher._reply

    def instead(request: DispatcherRequest) -> Reply | None:
        if not request.session_id:
            create(replace(request, fields={**request.fields, "session_id": "SESSIONOFTHEDISP"}))
        return creating(request)

    dispatcher.instead = instead
    return dispatcher


@simulated
async def test_a_job_without_a_session_is_polled_in_the_session_that_the_dispatcher_created() -> None:
    dispatcher = dispatcher_with_sessions()
    async with proxied(dispatcher) as proxy:
        client = Client(proxy, "")
        first = await client.ask()

        assert first.session_id == first.json["job_monitor"]["session_id"] == "SESSIONOFTHEDISP"
        end = await replace(client, session_id=first.session_id).get_product()

    assert (end.state, end.session_id) == ("done", "SESSIONOFTHEDISP")
    assert [request.session_id for request in dispatcher.requests][:3] == ["", *["SESSIONOFTHEDISP"] * 2]
    assert {request.session_id for request in dispatcher.requests[1:]} == {"SESSIONOFTHEDISP"}


@simulated
async def test_polls_without_a_session_create_no_further_session() -> None:
    dispatcher = dispatcher_with_sessions()
    async with proxied(dispatcher) as proxy:
        client = Client(proxy, "")
        assert (await client.get_product()).state == "done"

    assert [request.session_id for request in dispatcher.requests].count("") == 1


@simulated
async def test_others_without_a_session_have_sessions_of_their_own() -> None:
    dispatcher = dispatcher_with_sessions()
    async with proxied(dispatcher) as proxy:
        sessions = [(await Client(proxy, "").ask()).session_id for _ in range(3)]
        await Client(proxy, "SESSIONOFANOTHER").get_product()
        hit = await Client(proxy, "").ask()

    assert sessions[0] == "SESSIONOFTHEDISP"
    assert len({*sessions, hit.session_id, ""}) == 5


@simulated
async def test_a_client_without_a_session_owns_the_jobs_of_its_token() -> None:
    """A call-back may be lost: `new` from the owner goes to the dispatcher again."""
    dispatcher = Dispatcher(plan={0.0: "submitted"})
    async with proxied(dispatcher) as proxy:
        mine, another = token(), token("another@example.org")
        first = await Client(proxy, "", mine).ask()
        await asyncio.sleep(60)
        dispatcher.plan = {0.0: "done"}

        assert (await Client(proxy, "", another).ask()).session_id != first.session_id
        submissions = len(dispatcher.submissions)
        end = await Client(proxy, "", mine).ask()

    assert (end.state, len(dispatcher.submissions) - submissions) == ("done", 1)


def saying(**members: Any) -> Any:
    """Answer polls with more members of `exit_status`."""

    def instead(request: DispatcherRequest) -> Reply | None:
        monitor = {"job_id": request.name, "session_id": request.session_id, "status": "submitted"}
        status = {**answer()["exit_status"], **members}
        return reply({"query_status": "submitted", "products": {}, "exit_status": status, "job_monitor": monitor})

    return instead


@pytest.mark.parametrize(
    ("name", "text", "is_public"),
    [
        ("comment", "Please note that argument x is not used", True),
        ("warning", "the queue is full", True),
        ("warning", "for somebody@example.org", False),
        ("comment", "session SESSIONOFTHEFIRST", False),
        ("email_status", "email sent", False),
        ("matrix_message_status", "message sent", False),
    ],
)
def test_what_the_dispatcher_says_of_a_running_job_reaches_its_owner_and_others_as_far_as_it_names_no_client(
    name: str, text: str, *, is_public: bool
) -> None:
    async def scenario() -> None:
        async with proxied(Dispatcher(instead=saying(**{name: text}))) as proxy:
            owner = await Client(proxy).ask()
            await asyncio.sleep(1)
            other = await Client(proxy, "SESSIONOFANOTHER").ask()

            assert owner.json["exit_status"][name] == text
            assert (text in str(other.json["exit_status"].get(name))) == is_public
            assert "somebody@" not in other.body.decode()
            assert "SESSIONOFTHEFIRST" not in other.body.decode()

    simulate(scenario())


PROGRAM = "disp=DispatcherAPI(url='{}', instrument='mock')\n"


def submitting(request: DispatcherRequest) -> Reply | None:
    """Answer the submission of a job with comments and what was understood, and polls without."""
    monitor = {"job_id": request.name, "session_id": request.session_id, "status": "submitted"}
    said = {"comment": "a comment", "warning": "a warning", "email_status": "email sent"}
    products = {"api_code": PROGRAM.format("http://dispatcher/"), "analysis_parameters": {"token": "of the owner"}}
    is_new = request.status == "new"
    status = {**answer()["exit_status"], **(said if is_new else {})}
    members = {"exit_status": status, "products": products if is_new else {}, "job_monitor": monitor}
    return reply({"query_status": "submitted", **members})


@simulated
async def test_the_owner_of_a_submitted_job_receives_what_the_dispatcher_understood_and_others_nothing_of_it() -> None:
    async with proxied(Dispatcher(instead=submitting)) as proxy:
        first = await Client(proxy).ask()
        await asyncio.sleep(3)
        other = await Client(proxy, "SESSIONOFANOTHER").ask()
        poll = await Client(proxy).ask("submitted", first.job_id)
        again = await Client(proxy).ask()

    understood = {"api_code": PROGRAM.format(ORIGIN), "analysis_parameters": {"token": "of the owner"}}
    assert first.json["products"] == again.json["products"] == understood
    assert other.json["products"] == poll.json["products"] == {}


@simulated
async def test_who_joins_after_a_poll_receives_the_comments_on_the_submission() -> None:
    async with proxied(Dispatcher(instead=submitting)) as proxy:
        first = await Client(proxy).ask()
        await asyncio.sleep(3)
        other = await Client(proxy, "SESSIONOFANOTHER").ask()
        poll = await Client(proxy).ask("submitted", first.job_id)

    assert first.json["exit_status"]["email_status"] == "email sent"
    for response in (first, other):
        assert response.json["exit_status"]["comment"].startswith("a comment")
        assert response.json["exit_status"]["warning"] == "a warning"
    assert "email_status" not in other.json["exit_status"]
    assert (poll.json["exit_status"]["comment"], poll.json["exit_status"]["warning"]) == ("", "")


@simulated
async def test_the_owner_hears_once_that_mail_was_sent() -> None:
    async with proxied(Dispatcher(instead=submitting)) as proxy:
        first, second = await Client(proxy).ask(), await Client(proxy).ask()
        again = await Client(proxy).ask("new", first.job_id)

    sent = [response.json["exit_status"].get("email_status") for response in (first, second, again)]
    assert sent == ["email sent", None, "email sent"]


@simulated
async def test_the_owner_of_a_job_receives_all_members_of_its_reports_but_for_those_that_name_a_client() -> None:
    report = {"action": "progress", "message": "processing", "stage_of_ours": 3, "token": "ANOTHERONESTOKEN"}

    def instead(request: DispatcherRequest) -> Reply | None:
        monitor = {"job_id": request.name, "session_id": request.session_id, "full_report_dict_list": [report, report]}
        return reply({"query_status": "progress", "products": {}, "job_monitor": monitor})

    async with proxied(Dispatcher(instead=instead)) as proxy:
        owner = await Client(proxy).ask()
        other = await Client(proxy, "SESSIONOFANOTHER").ask()

    for response, members in ((owner, 1), (other, 0)):
        assert [("stage_of_ours" in one) for one in response.reports] == [bool(members)] * 2
        assert response.json["job_monitor"]["full_report_dict"] == response.reports[-1]
        assert response.reports[-1]["session_id"] == response.session_id
        assert b"ANOTHERONESTOKEN" not in response.body


@simulated
async def test_who_takes_over_a_job_receives_nothing_that_the_dispatcher_said_to_the_client_before() -> None:
    def instead(request: DispatcherRequest) -> Reply | None:
        if request.token != first.token:
            return None
        return refusal("the token is expired", 403) if request.at > 30 else submitting(request)

    dispatcher = Dispatcher(instead=instead, plan={0.0: "submitted"}, latency=2.0)
    async with proxied(dispatcher, sharing=Sharing.ROLES) as proxy:
        first, second = Client(proxy, token=token()), Client(proxy, "SESSIONOFANOTHER", token("another@example.org"))
        await first.ask()
        job_id = (await second.ask()).job_id
        for _ in range(1000):
            if dispatcher.requests[-1].token == second.token:
                break  # it is not answered yet
            await asyncio.sleep(0.1)
        got = await second.ask()

    assert got.job_id == job_id
    assert "of the owner" not in got.body.decode()
    assert "email_status" not in got.json["exit_status"]


@pytest.mark.parametrize("given", [1795900993.25, 1795900993, None, "yesterday", float("nan")])
def test_the_owner_of_a_running_job_gets_the_time_of_the_dispatcher_and_others_that_of_the_proxy(given: Any) -> None:
    """The dispatcher files its mail and its call-backs under this time."""

    def instead(request: DispatcherRequest) -> Reply | None:
        monitor = {"job_id": request.name, "session_id": request.session_id, "status": "submitted"}
        return reply({"query_status": "submitted", "products": {}, "job_monitor": monitor, "time_request": given})

    async def scenario() -> None:
        async with proxied(Dispatcher(instead=instead)) as proxy:
            owner = (await Client(proxy).ask()).json["time_request"]
            other = (await Client(proxy, "SESSIONOFANOTHER").ask()).json["time_request"]

            is_time = isinstance(given, int | float) and given == given  # noqa: PLR0124 - NaN is not
            assert (owner == given) == is_time
            assert isinstance(owner, int | float)
            assert other != given

    simulate(scenario())
