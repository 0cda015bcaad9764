"""All requests of a command, on any listener, are passed to one handler."""

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
from oda_proxy.run.dispatcher_requests import dispatcher_prefix, public_description
from oda_proxy.run.listeners import command_listeners

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.run.forwarded_request import ForwardedRequest
    from oda_proxy.run.listeners import Listeners


class CommandHandler:
    """Notes requests, and answers with the kind of server."""

    def __init__(self) -> None:
        self.requests: list[tuple[str | None, str, str]] = []

    async def answer_dispatcher(self, address: str | None, request: Request, *, origin: str) -> Answer:
        self.requests.append((address, request.path, origin))
        return Answer(200, (("Content-Type", "text/plain"),), (b"dispatcher",), CacheStatus())

    async def answer_other(self, forwarded: ForwardedRequest) -> Answer:
        if forwarded.request.path == "/refused":
            raise OdaProxyError("not here")
        self.requests.append(("other", forwarded.request.path, str(forwarded.origin)))
        return Answer(200, (("Content-Type", "text/plain"),), (b"other",), CacheStatus())

    async def observe_local(self, request: Request) -> None:
        self.requests.append(("local", request.path, ""))


async def get(listeners: Listeners, url: str) -> str:
    """Send a request as a program does in the environment of the listeners."""
    proxy = listeners.environment["HTTP_PROXY"]
    async with aiohttp.ClientSession() as session, session.get(url, proxy=proxy) as response:
        return await response.text()


@contextmanager
def server_here() -> Iterator[str]:
    """Run another server on this machine."""

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


async def test_the_dispatcher_listener_is_for_the_default_dispatcher() -> None:
    handler = CommandHandler()

    async with command_listeners(handler) as listeners, aiohttp.ClientSession() as session:
        async with session.get(f"{listeners.url}/any/path") as response:
            assert await response.text() == "dispatcher"

        assert handler.requests == [(None, "/any/path", listeners.url)]


async def test_the_dispatcher_listener_is_reached_through_the_forward_proxy_too() -> None:
    """Its requests are not handled twice."""
    handler = CommandHandler()

    async with command_listeners(handler) as listeners:
        await get(listeners, f"{listeners.url}/run_analysis?instrument=isgri")

        assert handler.requests == [(None, "/run_analysis", listeners.url)]


async def test_a_dispatcher_is_recognised_by_its_routes() -> None:
    handler = CommandHandler()

    async with command_listeners(handler) as listeners:
        await get(listeners, "http://Example.ORG:80/mmoda/dispatch-data/run_analysis?instrument=isgri")

    path = "/mmoda/dispatch-data/run_analysis"
    assert handler.requests == [("http://example.org/mmoda/dispatch-data", path, "http://example.org")]


async def test_a_dispatcher_on_this_machine_is_recognised_too() -> None:
    handler = CommandHandler()

    async with command_listeners(handler) as listeners:
        await get(listeners, "http://127.0.0.1:5000/api/meta-data?instrument=isgri")

    assert handler.requests == [("http://127.0.0.1:5000", "/api/meta-data", "http://127.0.0.1:5000")]


async def test_requests_to_other_servers_are_passed_to_answer_other() -> None:
    handler = CommandHandler()

    async with command_listeners(handler) as listeners:
        assert await get(listeners, "http://example.org/page") == "other"

    assert handler.requests == [("other", "/page", "http://example.org")]


async def test_an_error_is_sent_in_plain_text() -> None:
    async with command_listeners(CommandHandler()) as listeners:
        assert await get(listeners, "http://example.org/refused") == "not here\n"


async def test_other_servers_on_this_machine_are_relayed_to() -> None:
    handler = CommandHandler()

    with server_here() as url:
        async with command_listeners(handler) as listeners:
            assert await get(listeners, f"{url}/page?of=it") == "/page?of=it"

    assert handler.requests == [("local", "/page", "")]


async def test_a_server_on_this_machine_that_does_not_listen_is_reported() -> None:
    async with command_listeners(CommandHandler()) as listeners:
        assert await get(listeners, "http://127.0.0.1:1/") == "cannot reach http://127.0.0.1:1: Connection refused\n"


async def test_a_command_has_the_listeners_in_its_environment() -> None:
    async with command_listeners(CommandHandler()) as listeners:
        within = listeners.program_environment({"PATH": "/bin", "NO_PROXY": "*", "HTTPS_PROXY": "http://elsewhere"})

    assert within["PATH"] == "/bin"
    assert within["ODA_PROXY_URL"] == listeners.url
    assert within["HTTPS_PROXY"].startswith("http://127.0.0.1:")
    assert "NO_PROXY" not in within


async def test_the_certificate_is_removed_with_the_listeners() -> None:
    async with command_listeners(CommandHandler()) as listeners:
        bundle = listeners.program_environment({})["SSL_CERT_FILE"]
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
def test_a_dispatcher_is_recognised_by_its_routes_below_a_prefix(address: str, prefix: str | None) -> None:
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
def test_descriptions_are_requested_without_a_token_too(address: str, public: str | None) -> None:
    path, _, query_string = address.partition("?")
    ask = public_description(Request("GET", path, query_string))

    assert (ask and ask.query_string) == public
