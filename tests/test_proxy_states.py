"""Requests in a state that the dispatcher refuses are refused, whether or not there is a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.jobs.observer import NullObserver
from oda_proxy.proxy import Proxy
from oda_proxy.store.memory import MemoryStore
from tests.support.dispatcher_responses import answer
from tests.support.scripted import QUERY, Client, Dispatcher, crowd, proxied, simulate, simulated
from tests.support.scripted_upstream import Script, request, told

if TYPE_CHECKING:
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.failures import Failure

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


@pytest.mark.parametrize(("status", "failures"), [("failed", 1), ("submitted", 0)])
async def test_the_observer_sees_the_failure_of_a_job_that_was_begun_without_the_proxy(
    status: str, failures: int
) -> None:
    seen: list[Failure | None] = []

    class Observer(NullObserver):
        async def failed(self, resolved: ResolvedQuery, failure: Failure | None) -> None:
            seen.append(failure)

    upstream = Script().then({**answer(query_status=status), "products": {}})
    proxy = Proxy(MemoryStore(), upstream, Policy(), services=Services(observer=Observer()))

    await told(proxy, request(f"{QUERY}&job_id={FOREIGN}", status="ready"))

    assert len([failure for failure in seen if failure]) == failures
