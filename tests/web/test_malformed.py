"""Any request is answered: by the dispatcher, or with a failure in its form."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import threading
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes, urlencode, urlsplit

import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.proxy import Proxy
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.store.memory import MemoryStore
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.web.app import make_app
from oda_proxy.web.server import listening
from tests.support.examples import examples
from tests.support.sample_descriptions import IMAGE_ARGUMENTS, meta_data

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUESTS = int(os.environ.get("ODA_PROXY_MALFORMED", "1000"))
"""Requests that are tried; `make soak` tries more."""

PATIENCE = 60.0
"""Seconds after which an answer counts as missing."""

DISPATCHER_ERROR = b'{"error": "the dispatcher has its own words for it"}'


@dataclass
class Setup:
    """A proxy over a dispatcher that understands nothing, in a thread with a loop of its own."""

    port: int = 0
    received: list[tuple[str, bytes]] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)

    async def dispatcher(self, request: web.Request) -> web.Response:
        if request.path == "/api/meta-data":
            return web.Response(text=meta_data(), content_type="application/json")
        self.received.append((request.raw_path.partition("?")[2], await request.read()))
        return web.Response(status=400, body=DISPATCHER_ERROR, content_type="application/json")

    async def run(self, end: asyncio.Event) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self.dispatcher)
        async with AsyncExitStack() as stack:
            address = await stack.enter_async_context(listening(app, "127.0.0.1", 0))
            upstream = await stack.enter_async_context(Dispatcher(address))
            known = Descriptions(upstream, None, ttl=1e9, clock=time.monotonic)
            app = make_app(Proxy(MemoryStore(), upstream, Policy(), services=Services(instruments=known)))
            self.port = urlsplit(await stack.enter_async_context(listening(app, "127.0.0.1", 0))).port or 0
            self.ready.set()
            await end.wait()


@pytest.fixture(scope="module")
def setup() -> Iterator[Setup]:
    setup, loop, end = Setup(), asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(setup.run(end)))
    thread.start()
    assert setup.ready.wait(PATIENCE)
    yield setup
    loop.call_soon_threadsafe(end.set)
    thread.join(PATIENCE)
    loop.close()


FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=xYz"

names = st.sampled_from(
    ["RA", "T1", "T2", "T_format", "scw_list", "selected_catalog", "flag", "table", "band_units"]
) | (
    st.sampled_from(
        ["instrument", "product_type", "query_type", "query_status", "session_id", "job_id", "token", "api"]
    )
)
TIMES = ["9999-99-99T99:99:99", "mjd", "\u0663"]
NUMBERS = ["nan", "-inf", "1e999999999", "9" * 5000, "0x1", "5h99m", "-1", "1_0"]
TEXTS = ["", "\x00", "\ud800", "\r\n", "\u202e", "../..", "%", "isgri", "new", "ready", "[" * 5000, '{"a":' * 2000]
odd = st.sampled_from([*TIMES, *NUMBERS, *TEXTS])
values = odd | st.text(max_size=20)
pairs = st.lists(st.tuples(names, values), max_size=12)


def encoded(fields: list[tuple[str, str]]) -> str:
    return urlencode(fields, errors="surrogatepass")


asked = st.tuples(st.sampled_from(["", IMAGE_ARGUMENTS]), pairs).map(lambda parts: f"{parts[0]}&{encoded(parts[1])}")
garbage = st.binary(max_size=60)
query_strings = asked | garbage.map(quote_from_bytes) | st.text("%&=;+?/:@!$'()*,~a0", max_size=60)
parts = st.tuples(names, values).map(
    lambda pair: f'--xYz\r\nContent-Disposition: form-data; name="{pair[0]}"\r\n\r\n{pair[1]}\r\n'.encode(
        "utf-8", "surrogatepass"
    )
)
forms = (
    st.tuples(st.just(FORM), asked.map(str.encode) | garbage)
    | st.tuples(st.just(MULTIPART), st.lists(parts, max_size=6).map(lambda parts: b"".join(parts) + b"--xYz--\r\n"))
    | st.tuples(
        st.sampled_from([FORM, MULTIPART, "application/json", "text/plain", "multipart/form-data", ""]), garbage
    )
)


@settings(max_examples=examples(REQUESTS), deadline=None, suppress_health_check=list(HealthCheck))
@given(query_strings, st.none() | forms)
@example(f"{IMAGE_ARGUMENTS}&{encoded([('selected_catalog', '[' * 50_000)])}", None)
@example(IMAGE_ARGUMENTS, (FORM, b"&".join([b"a=1"] * 20_000)))
@example(IMAGE_ARGUMENTS, (MULTIPART, b"--xYz\r\n" * 20_000))
def test_no_request_causes_an_internal_error_or_no_answer(
    setup: Setup, query_string: str, form: tuple[str, bytes] | None
) -> None:
    setup.received.clear()
    connection = http.client.HTTPConnection("127.0.0.1", setup.port, timeout=PATIENCE)
    content_type, body = form or ("", None)
    try:
        connection.request(
            "GET" if form is None else "POST", f"/run_analysis?{query_string}", body, {"Content-Type": content_type}
        )
        response = connection.getresponse()
        body_received = response.read()
    finally:
        connection.close()

    assert response.status == 400
    if body_received == DISPATCHER_ERROR:
        assert setup.received == [(query_string, body or b"")]
    else:
        assert json.loads(body_received)["query_status"] == "failed"
