"""Clients without a session, and what the dispatcher says to the owner of a job; in simulated time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.support.dispatcher_responses import answer
from tests.support.scripted import Client, Dispatcher, DispatcherRequest, Reply, proxied, reply, simulate, simulated


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
