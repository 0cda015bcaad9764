"""A dispatcher that has moved: reads follow its redirect, and other requests fail once, with the new address."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from oda_proxy.handlers.policy import Policy
from oda_proxy.http.message import Request
from oda_proxy.proxy import Proxy
from oda_proxy.store.memory import MemoryStore
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.upstream.moved import UpstreamMovedError, may_follow, new_address
from tests.support.scripted_upstream import ORIGIN, body_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OLD, READ = "http://old.example/cdci", Request("GET", "/api/meta-data", "instrument=isgri")


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://new.example/mmoda/api/meta-data?instrument=isgri", "http://new.example/mmoda"),
        ("https://old.example/cdci/api/meta-data", "https://old.example/cdci"),
        ("/mmoda/dispatch-data/api/meta-data", "http://old.example/mmoda/dispatch-data"),
        ("//new.example:8000/api/meta-data", "http://new.example:8000"),
        ("http://old.example/cdci/api/meta-data", None),
        ("http://public.example/dispatch-data/meta-data", None),
        ("http://login.example/?next=/api/meta-data", None),
        ("/cdci/api/meta-data/", None),
        ("http://bob:secret@new.example/api/meta-data", None),
        ("ftp://new.example/api/meta-data", None),
        ("http://new.example:port/api/meta-data", None),
        ("http://[new/api/meta-data", None),
    ],
)
def test_the_same_path_below_another_address_is_a_move(location: str, expected: str | None) -> None:
    assert new_address(301, (("Location", location),), READ, OLD) == expected
    assert new_address(200, (("Location", location),), READ, OLD) is None
    assert new_address(301, (), READ, OLD) is None


@pytest.mark.parametrize(
    ("request_", "new_url", "expected"),
    [
        (READ, "http://new.example", True),
        (Request("HEAD", "/api/meta-data"), "http://new.example", True),
        (Request("POST", "/api/meta-data"), "http://new.example", False),
        (Request("GET", "/run_analysis", at_most_once=True), "http://new.example", False),
        (Request("GET", "/instr-list", "a=1&token=x"), "http://new.example", False),
        (Request("GET", "/instr-list", "a=1&token=x"), "https://old.example/mmoda", True),
        (Request("GET", "/instr-list", headers=(("authorization", "x"),)), "http://new.example", False),
        (Request("GET", "/instr-list", headers=(("Cookie", "x"),)), "http://new.example", False),
    ],
)
def test_reads_follow_and_credentials_do_not_go_to_another_server(
    request_: Request, new_url: str, *, expected: bool
) -> None:
    assert may_follow(request_, OLD, new_url) is expected
    assert not may_follow(request_, OLD.replace("http:", "https:"), "http://old.example")


@dataclass
class Site:
    """A dispatcher at a new address, and a server at the old one that redirects to it."""

    old: str = ""
    new: str = ""
    requests: list[str] = field(default_factory=list)

    async def at_new(self, request: web.Request) -> web.Response:
        self.requests.append(f"new {request.rel_url}")
        return web.json_response(["RA"])

    async def at_old(self, request: web.Request) -> web.Response:
        self.requests.append(f"old {request.rel_url}")
        target = self.old if "loop" in request.query else self.new
        prefix = "/cdci" + "/again" * len(self.requests) if "loop" in request.query else "/mmoda/dispatch-data"
        path = request.path[request.path.index("/", 1) :].replace("/again", "")
        return web.Response(status=301, headers={"Location": f"{target}{prefix}{path}?{request.query_string}"})


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with AsyncExitStack() as stack:
        for name, handler in (("old", site.at_old), ("new", site.at_new)):
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", handler)
            server = await stack.enter_async_context(TestServer(app))
            setattr(site, name, str(server.make_url("")).rstrip("/"))
        yield site


async def test_a_description_is_read_at_the_new_address(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with Dispatcher(f"{site.old}/cdci") as dispatcher:
        proxy = Proxy(MemoryStore(), dispatcher, Policy())
        for instrument in ("isgri", "jemx"):
            request = Request("GET", "/api/par-names", f"instrument={instrument}")
            answer = await proxy.answer(request, origin=ORIGIN)
            assert (answer.status, await body_of(answer)) == (200, b'["RA"]')

    assert site.requests[:2] == [
        "old /cdci/api/par-names?instrument=isgri",
        "new /mmoda/dispatch-data/api/par-names?instrument=isgri",
    ]
    (record,) = caplog.records
    assert f"has moved to {site.new}/mmoda/dispatch-data: start the proxy with that --upstream" in record.getMessage()


async def test_a_query_fails_once_with_the_new_address(site: Site) -> None:
    query = "instrument=isgri&product_type=isgri_image&query_type=Real&api=True&query_status=new&session_id=ABCDEFGH"
    async with Dispatcher(f"{site.old}/cdci") as dispatcher:
        proxy = Proxy(MemoryStore(), dispatcher, Policy())
        answer = await proxy.answer(Request("GET", "/run_analysis", query), origin=ORIGIN)
        body = json.loads(await body_of(answer))

    assert (answer.status, body["query_status"]) == (500, "failed")
    assert f"has moved to {site.new}/mmoda/dispatch-data; start the proxy with --upstream" in body["error_message"]
    assert not any(name.casefold() == "location" for name, _ in answer.headers)
    assert [request.partition("?")[0] for request in site.requests] == ["old /cdci/run_analysis"]


async def test_redirects_without_end_are_an_error(site: Site) -> None:
    async with Dispatcher(f"{site.old}/cdci") as dispatcher:
        with pytest.raises(UpstreamMovedError, match="it has moved to"):
            await dispatcher.send(Request("GET", "/api/par-names", "loop=1"))

    assert len(site.requests) == 4
