"""A waiting client receives the products as soon as the proxy has them."""

from __future__ import annotations

import pytest

from tests.support.scripted import Client, Dispatcher, proxied, simulate


@pytest.mark.parametrize("reporting", [0.0, 30.0])
def test_products_reach_a_waiting_client_as_soon_as_they_are_fetched(reporting: float) -> None:
    """Also where the last report comes with `ready`: a client that received it would sleep first."""

    async def scenario() -> None:
        dispatcher = Dispatcher(plan={0.0: "submitted", 10.0: "progress", 30.0: "ready"}, reporting=reporting)
        async with proxied(dispatcher) as proxy:
            end = await Client(proxy).get_product()

        fetched = dispatcher.requests[-1]
        assert (fetched.status, end.state) == ("ready", "done")
        assert end.at - fetched.at < 1.1, "at most one pause of the client later"

    simulate(scenario())
