"""Behind a front end, answers name the public address, and pages are found below its prefix."""

from __future__ import annotations

import ipaddress
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from oda_proxy.handlers.policy import Policy
from oda_proxy.http.answer import json_answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.front_end_headers import TrustedProxies
from oda_proxy.proxy import Proxy
from oda_proxy.store.memory import MemoryStore
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.web.app import make_app
from oda_proxy.web.front_end import FrontEnd
from oda_proxy.web.server import listening
from tests.support.dispatcher_responses import SESSION, answer, json_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request

PUBLIC = "https://example.org/oda"
LOCAL = TrustedProxies((ipaddress.ip_network("127.0.0.1"),))
ELSEWHERE = TrustedProxies((ipaddress.ip_network("192.0.2.0/24"),))
FORWARDED = {
    "X-Forwarded-For": "198.51.100.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "example.org",
    "X-Forwarded-Prefix": "/oda",
}
QUERY = f"instrument=isgri&product_type=isgri_image&query_type=Real&api=True&query_status=new&session_id={SESSION}"
PROGRAM = 'disp = DispatcherAPI(url="https://dispatcher.example", instrument="mock")\n'


class Client:
    """Sends requests to a server at `url`."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str, aiohttp.ClientResponse]:
        url = f"{self.url}{path}"
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            return response.status, await response.text(), response

    async def seen(self, path: str = "/x", headers: dict[str, str] | None = None) -> Any:
        """Return what the server knows of a request: [public URL, path, address of the client, is remote]."""
        return json.loads((await self.get(path, headers))[1])


async def respond(request: Request, *, origin: str) -> Answer:
    values = [origin, request.path, request.client_address, request.is_remote]
    return json_answer(200, json.dumps(values).encode(), CacheStatus())


@asynccontextmanager
async def server(front_end: FrontEnd) -> AsyncIterator[Client]:
    """Run a server that answers with what it knows of a request."""
    app = make_app(Proxy(MemoryStore(), None, Policy()), answer=respond, addresses=front_end)
    async with listening(app, "127.0.0.1", 0) as url, aiohttp.ClientSession() as session:
        yield Client(url, session)


async def test_without_a_front_end_the_address_is_the_one_requested() -> None:
    async with server(FrontEnd()) as client:
        assert await client.seen("/a/b") == [client.url, "/a/b", "127.0.0.1", False]


async def test_headers_of_front_ends_that_are_not_trusted_are_ignored() -> None:
    """The client is not one of this machine, though: an unknown front end there may have forwarded the request."""
    for front_end in (FrontEnd(), FrontEnd(trusted=ELSEWHERE)):
        async with server(front_end) as client:
            assert await client.seen("/x", FORWARDED) == [client.url, "/x", "unknown", False]
            for headers in ({"Forwarded": "for=127.0.0.1"}, {"Via": "1.1 nginx"}, {"x-real-ip": "192.0.2.7"}):
                assert await client.seen("/x", headers) == [client.url, "/x", "unknown", False]


async def test_a_trusted_front_end_says_where_the_request_went_and_came_from() -> None:
    async with server(FrontEnd(trusted=LOCAL)) as client:
        assert await client.seen("/x", FORWARDED) == [PUBLIC, "/x", "198.51.100.9", True]
        forwarded = {"Forwarded": "for=198.51.100.9;proto=https;host=example.org"}
        assert await client.seen("/x", forwarded) == ["https://example.org", "/x", "198.51.100.9", True]
        assert await client.seen("/x", {"X-Forwarded-For": "127.0.0.1"}) == [client.url, "/x", "127.0.0.1", False]


async def test_a_configured_address_overrides_that_of_the_request() -> None:
    async with server(FrontEnd(PUBLIC)) as client:
        assert await client.seen("/x", {"Host": "evil.example"}) == [PUBLIC, "/x", "127.0.0.1", False]
    async with server(FrontEnd(PUBLIC, LOCAL)) as client:
        headers = {**FORWARDED, "X-Forwarded-Host": "other.example", "X-Forwarded-Prefix": "/other"}
        assert await client.seen("/x", headers) == [PUBLIC, "/x", "198.51.100.9", True]


@pytest.mark.parametrize(("front_end", "headers"), [(FrontEnd(PUBLIC), {}), (FrontEnd(trusted=LOCAL), FORWARDED)])
async def test_a_prefix_may_be_removed_or_left_by_the_front_end(front_end: FrontEnd, headers: dict[str, str]) -> None:
    async with server(front_end) as client:
        assert (await client.seen("/oda/x?y", headers))[:2] == [PUBLIC, "/x"]
        assert (await client.seen("/odax", headers))[:2] == [PUBLIC, "/odax"]
        for path in ("/-/livez", "/oda/-/livez", "/oda/%2D/livez"):
            assert (await client.get(path, headers))[:2] == (200, "ok\n"), path


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/run_analysis", {"Forwarded": "for=127.0.0.1", "X-Forwarded-For": "192.0.2.1"}),
        ("/-/status", {"Forwarded": "="}),
    ],
)
async def test_a_request_that_cannot_be_attributed_is_refused(path: str, headers: dict[str, str]) -> None:
    async with server(FrontEnd(trusted=LOCAL)) as client:
        status, text, response = await client.get(path, headers)

        assert (status, response.headers["Cache-Status"]) == (400, "oda-proxy")
        assert "Forwarded" in text
        assert text.count("\n") == 1


@pytest.mark.parametrize("host", ["[::1", "h'), exec('", 'a"b', "h:port", "u@h", "h/x"])
@pytest.mark.parametrize("path", ["/run_analysis", "/-/status", "/-/livez"])
async def test_a_host_that_can_be_part_of_no_url_is_refused(host: str, path: str, caplog: Any) -> None:
    async with server(FrontEnd()) as client:
        status, text, response = await client.get(path, {"Host": host})

    assert (status, text.count("\n"), response.headers["Cache-Status"]) == (400, 1, "oda-proxy")
    assert not caplog.records


async def test_programs_and_redirects_name_the_public_address_and_the_dispatcher_learns_nothing_of_it() -> None:
    received: list[web.Request] = []

    async def dispatch(request: web.Request) -> web.Response:
        received.append(request)
        if request.path == "/download_file":
            return web.Response(status=302, headers={"Location": "/dispatch-data/download_products?x=1"})
        return web.Response(body=json_bytes(answer(products={"api_code": PROGRAM})), content_type="application/json")

    upstream = web.Application()
    upstream.router.add_route("*", "/{path:.*}", dispatch)
    async with (
        aiohttp.ClientSession() as session,
        listening(upstream, "127.0.0.1", 0) as dispatcher_url,
        Dispatcher(dispatcher_url) as dispatcher,
        listening(
            make_app(Proxy(MemoryStore(), dispatcher, Policy()), addresses=FrontEnd(trusted=LOCAL)), "127.0.0.1", 0
        ) as url,
    ):
        client = Client(url, session)
        statuses = []
        for cookie in ({}, {}, {"Cookie": "a=b"}):  # computed, from the recording, and relayed
            forwarded = {**FORWARDED, "X-Real-IP": "198.51.100.9", **cookie}
            _, text, response = await client.get(f"/run_analysis?{QUERY}", forwarded)
            statuses.append(response.headers["Cache-Status"].split("; ")[1])
            assert json.loads(text)["products"]["api_code"].startswith(f'disp = DispatcherAPI(url="{PUBLIC}"')
        assert statuses == ["fwd=uri-miss", "hit", "fwd=bypass"]
        _, _, response = await client.get("/download_file", FORWARDED)
        assert response.headers["Location"] == f"{PUBLIC}/dispatch-data/download_products?x=1"
    assert len(received) == 3
    assert [
        name for request in received for name in request.headers if name.startswith("X-") or name == "Forwarded"
    ] == []
