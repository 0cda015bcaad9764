"""Requests in a state that the dispatcher refuses are refused, whether or not there is a recording."""

from __future__ import annotations

import pytest

from oda_proxy.proxy import Policy, Proxy
from tests.support.scripted import Client, Dispatcher, crowd, proxied, simulate, simulated

FOREIGN = "f" * 16


@pytest.mark.parametrize(
    ("status", "job_id"), [("nonsense", ""), ("nonsense", FOREIGN), ("", ""), ("submitted", ""), ("ready", "")]
)
@pytest.mark.parametrize("with_recording", [False, True])
def test_a_state_that_the_dispatcher_refuses_is_refused(status: str, job_id: str, *, with_recording: bool) -> None:
    async def scenario() -> None:
        dispatcher = Dispatcher(plan={0.0: "done"})
        async with proxied(dispatcher) as proxy:
            if with_recording:
                await Client(proxy).get_product()

            response = await Client(proxy, "SESSIONOFANOTHER").ask(status, job_id)

            assert (response.status, response.json["error"]) == (400, "bad request: no such state, or no job_id()")
            assert response.cache_status == "oda-proxy; fwd=bypass; fwd-status=400; detail=state"
            assert len(dispatcher.submissions) == with_recording

    simulate(scenario())


@simulated
async def test_a_new_job_with_a_foreign_job_id_is_refused_and_replaces_no_recording() -> None:
    dispatcher = Dispatcher(plan={0.0: "done"})
    async with proxied(dispatcher) as proxy:
        first, other = crowd(proxy, 2)
        number = (await first.get_product()).number

        refused = await other.ask("new", FOREIGN)

        assert (refused.status, dispatcher.requests[-1].job_id) == (400, FOREIGN)
        hit = await other.ask()
        assert (hit.cache_status, hit.number) == ("oda-proxy; hit", number)


@simulated
async def test_products_of_a_job_that_was_begun_without_the_proxy_are_fetched_and_stored() -> None:
    dispatcher = Dispatcher(plan={0.0: "ready"})
    async with proxied(Dispatcher(plan={0.0: "ready"}, jobs=dispatcher.jobs)) as before:
        await Client(before).ask()
    async with proxied(dispatcher) as proxy:
        (job_id,) = dispatcher.jobs

        response = await Client(proxy).ask("ready", job_id)

        assert (response.state, dispatcher.requests[-1].status) == ("done", "ready")
        assert (await Client(proxy, "SESSIONOFANOTHER").ask()).cache_status == "oda-proxy; hit"


@pytest.mark.parametrize(("status", "job_id"), [("nonsense", FOREIGN), ("submitted", "")])
def test_offline_such_a_state_is_refused_too(status: str, job_id: str) -> None:
    async def scenario() -> None:
        async with proxied(Dispatcher(plan={0.0: "done"})) as proxy:
            await Client(proxy).get_product()
            offline = Proxy(proxy.store, None, Policy())

            response = await Client(offline).ask(status, job_id)

            assert (response.status, response.state) == (400, "failed")
            assert "query_status" in response.message

    simulate(scenario())


@simulated
async def test_a_hit_has_the_job_id_of_the_first_answer() -> None:
    async with proxied(Dispatcher(plan={0.0: "done"})) as proxy:
        first = await Client(proxy).get_product()

        hit = await Client(proxy, "SESSIONOFANOTHER").ask()

        assert (hit.cache_status, hit.job_id) == ("oda-proxy; hit", first.job_id)
        assert hit.json["products"]["job_id"] == first.job_id
