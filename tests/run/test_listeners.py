"""Whatever a command asks, by whichever door, comes to the one who is behind them."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import aiohttp
import pytest

from oda_proxy.errors import OdaProxyError
from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.message import Request
from oda_proxy.run.listeners import dispatcher_prefix, doors, public_description

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.run.forward_proxy import ForwardedRequest
    from oda_proxy.run.listeners import Listeners


class CommandHandler:
    """Notes what it is asked, and says who it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str, str]] = []

    async def dispatcher(self, address: str | None, ask: Request, *, origin: str) -> Answer:
        self.asked.append((address, ask.path, origin))
        return Answer(200, (("Content-Type", "text/plain"),), (b"dispatcher",), CacheStatus())

    async def elsewhere(self, asked: ForwardedRequest) -> Answer:
        if asked.request.path == "/refused":
            raise OdaProxyError("not here")
        self.asked.append(("elsewhere", asked.request.path, str(asked.origin)))
        return Answer(200, (("Content-Type", "text/plain"),), (b"elsewhere",), CacheStatus())


async def get(doors: Listeners, url: str) -> str:
    """Ask as a program does whose environment says how."""
    proxy = doors.environment["HTTP_PROXY"]
    async with aiohttp.ClientSession() as session, session.get(url, proxy=proxy) as response:
        return await response.text()


@contextmanager
def server_here() -> Iterator[str]:
    """Run some server on this machine."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def test_our_own_door_is_for_the_dispatcher_whoever_that_is() -> None:
    behind = CommandHandler()

    async with doors(behind) as opened, aiohttp.ClientSession() as session:
        async with session.get(f"{opened.url}/any/path") as response:
            assert await response.text() == "dispatcher"

        assert behind.asked == [(None, "/any/path", opened.url)]


async def test_our_own_door_is_found_through_the_forward_proxy_too() -> None:
    """A program that uses both is asked by neither twice."""
    behind = CommandHandler()

    async with doors(behind) as opened:
        await get(opened, f"{opened.url}/run_analysis?instrument=isgri")

        assert behind.asked == [(None, "/run_analysis", opened.url)]


async def test_a_dispatcher_that_is_named_is_known_by_its_routes() -> None:
    behind = CommandHandler()

    async with doors(behind) as opened:
        await get(opened, "http://Example.ORG:80/mmoda/dispatch-data/run_analysis?instrument=isgri")

    path = "/mmoda/dispatch-data/run_analysis"
    assert behind.asked == [("http://example.org/mmoda/dispatch-data", path, "http://example.org")]


async def test_a_dispatcher_on_this_machine_is_one_as_well() -> None:
    behind = CommandHandler()

    async with doors(behind) as opened:
        await get(opened, "http://127.0.0.1:5000/api/meta-data?instrument=isgri")

    assert behind.asked == [("http://127.0.0.1:5000", "/api/meta-data", "http://127.0.0.1:5000")]


async def test_other_servers_are_elsewhere() -> None:
    behind = CommandHandler()

    async with doors(behind) as opened:
        assert await get(opened, "http://example.org/page") == "elsewhere"

    assert behind.asked == [("elsewhere", "/page", "http://example.org")]


async def test_an_error_is_told_in_plain_text() -> None:
    async with doors(CommandHandler()) as opened:
        assert await get(opened, "http://example.org/refused") == "not here\n"


async def test_other_servers_on_this_machine_are_passed_through() -> None:
    behind = CommandHandler()

    with server_here() as url:
        async with doors(behind) as opened:
            assert await get(opened, f"{url}/page?of=it") == "/page?of=it"

    assert behind.asked == []


async def test_a_server_on_this_machine_that_is_not_there_is_told_as_such() -> None:
    async with doors(CommandHandler()) as opened:
        assert await get(opened, "http://127.0.0.1:1/") == "cannot reach http://127.0.0.1:1: Connection refused\n"


async def test_a_command_has_the_doors_in_its_environment() -> None:
    async with doors(CommandHandler()) as opened:
        within = opened.within({"PATH": "/bin", "NO_PROXY": "*", "HTTPS_PROXY": "http://elsewhere"})

    assert within["PATH"] == "/bin"
    assert within["ODA_PROXY_URL"] == opened.url
    assert within["HTTPS_PROXY"].startswith("http://127.0.0.1:")
    assert "NO_PROXY" not in within


async def test_what_programs_trust_is_gone_with_the_doors() -> None:
    async with doors(CommandHandler()) as opened:
        bundle = opened.within({})["SSL_CERT_FILE"]
        assert await asyncio.to_thread(os.path.exists, bundle)

    assert not await asyncio.to_thread(os.path.exists, bundle)


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("/run_analysis", ""),
        ("/mmoda/dispatch-data/run_analysis?instrument=isgri", "/mmoda/dispatch-data"),
        ("/own/run_analysis", "/own"),
        ("/mmoda/dispatch-data/api/instr-list", "/mmoda/dispatch-data"),
        ("/mmoda/dispatch-data/anything/else", "/mmoda/dispatch-data"),
        ("/mmoda/dispatch-data/call_back", "/mmoda/dispatch-data"),
        ("/mmoda/dispatch-data", "/mmoda/dispatch-data"),
        ("/api/par-names?instrument=isgri&product_type=isgri_image", ""),
        ("/own/meta-data?instrument=isgri", "/own"),
        ("/latest/meta-data", None),
        ("/instr-list?page=2", None),
        ("/download_file", None),
        ("/call_back", None),
        ("/", None),
        ("/a;b/run_analysis", None),
        ("/a%2Fb/page", None),
    ],
)
def test_a_dispatcher_is_known_by_its_routes_below_a_prefix(address: str, prefix: str | None) -> None:
    path, _, query_string = address.partition("?")

    assert dispatcher_prefix(Request("GET", path, query_string)) == prefix


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("/api/instr-list?instrument=mock&token=abc", "instrument=mock"),
        ("/api/meta-data?token=abc&instrument=isgri", "instrument=isgri"),
        ("/api/meta-data?instrument=isgri", None),
        ("/run_analysis?instrument=isgri&token=abc", None),
    ],
)
def test_descriptions_are_asked_for_without_a_token_too(address: str, public: str | None) -> None:
    path, _, query_string = address.partition("?")
    ask = public_description(Request("GET", path, query_string))

    assert (ask and ask.query_string) == public
