"""The pages of a server with several upstreams that belong to none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import TestClient, TestServer

from oda_proxy.access.authentication import Authentication
from oda_proxy.access.hosts import HostPolicy
from oda_proxy.web.directory import make_directory
from oda_proxy.web.front_end import DIRECT
from oda_proxy.web.own_routes import Guard
from oda_proxy.web.place import NamedUpstream, Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UPSTREAMS = [NamedUpstream("one", "/one", "http://one.example"), NamedUpstream("two", "/two", "http://two.example")]


class Obstacle:
    text = ""

    async def __call__(self) -> str:
        return self.text


@pytest.fixture
def obstacle() -> Obstacle:
    return Obstacle()


@pytest.fixture
async def client(obstacle: Obstacle) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    app = make_directory(UPSTREAMS, Guard(Authentication(), HostPolicy()), DIRECT, obstacle)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_the_server_is_ready_while_one_upstream_is(client: TestClient, obstacle: Obstacle) -> None:  # type: ignore[type-arg]
    assert (await client.get("/-/readyz")).status == 200

    obstacle.text = "the server is stopping"
    response = await client.get("/-/readyz")

    assert (response.status, await response.text()) == (503, "the server is stopping\n")
    assert (await client.get("/-/livez")).status == 200


async def test_the_upstreams_are_listed(client: TestClient) -> None:  # type: ignore[type-arg]
    status = await (await client.get("/-/status")).json()

    assert [one["prefix"] for one in status["upstreams"]] == ["/one", "/two"]


async def test_a_page_leads_to_those_of_each_upstream(client: TestClient) -> None:  # type: ignore[type-arg]
    response = await client.get("/-/", headers={"Accept": "text/html"})

    assert (response.status, response.content_type) == (200, "text/html")
    text = await response.text()
    assert '<a href="../one/-/">one</a> <small>http://one.example</small>' in text
    assert 'href="../one/-/static/pages.css"' in text


async def test_any_other_path_names_the_prefixes(client: TestClient) -> None:  # type: ignore[type-arg]
    response = await client.post("/run_analysis")

    assert response.status == 404
    assert response.headers["Cache-Status"] == "oda-proxy"
    assert (await response.text()).endswith(": /one, /two\n")


@pytest.mark.parametrize(
    ("own", "url"),
    [
        (NamedUpstream("root", "/", "http://x.example"), "https://example.org/oda"),
        (NamedUpstream("one", "/one", "http://one.example"), "https://example.org/oda/one"),
    ],
)
def test_links_lead_from_the_pages_of_one_upstream_to_those_of_the_others(own: NamedUpstream, url: str) -> None:
    place = Place(own, [NamedUpstream("root", "/", "http://x.example"), *UPSTREAMS])

    assert place.links(url) == [
        ("root", "https://example.org/oda/-/"),
        ("one", "https://example.org/oda/one/-/"),
        ("two", "https://example.org/oda/two/-/"),
    ]
