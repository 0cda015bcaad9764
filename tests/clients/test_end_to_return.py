"""Who waits for a job gets its products in the moment in which they are there."""

from __future__ import annotations

import pytest

from tests.support.scripted import Client, Dispatcher, play, proxied


@pytest.mark.parametrize("reporting", [0.0, 30.0])
def test_products_reach_who_waits_as_soon_as_they_are_fetched(reporting: float) -> None:
    """Also where a last report comes with the word that they are ready: a client that is told of it sleeps first."""

    async def story() -> None:
        dispatcher = Dispatcher(plan={0.0: "submitted", 10.0: "progress", 30.0: "ready"}, reporting=reporting)
        async with proxied(dispatcher) as proxy:
            end = await Client(proxy).get_product()

        fetched = dispatcher.asked[-1]
        assert (fetched.status, end.state) == ("ready", "done")
        assert end.at - fetched.at < 0.2

    play(story())
