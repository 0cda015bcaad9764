"""The account of requests over HTTP: ids, lines of the log, and no secrets in them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlencode

import aiohttp
import jwt
import pytest

from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.http.front_end_headers import TrustedProxies
from oda_proxy.proxy import Proxy
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.schema import read_schema
from oda_proxy.store.memory import MemoryStore
from oda_proxy.web.app import make_app
from oda_proxy.web.front_end import FrontEnd
from oda_proxy.web.log_output import StreamOutput
from oda_proxy.web.log_thread import LogSettings, log_in_thread
from oda_proxy.web.request_log import RequestIds, well_formed
from oda_proxy.web.server import listening
from tests.support.dispatcher_responses import SESSION, answer
from tests.support.sample_descriptions import meta_data
from tests.support.scripted_upstream import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oda_proxy.query.descriptions import Descriptions
    from oda_proxy.query.schema import Schema

QUERY = {
    "instrument": "isgri",
    "product_type": "isgri_image",
    "query_type": "Real",
    "api": "True",
    "query_status": "new",
    "session_id": SESSION,
    "RA": "83.0",
}
KEY = "a key of the dispatcher, of 32 bytes"
SECRET = "eyJhbGciOi.S3cr3tS3cr3t.0123456789"  # noqa: S105 - of a test


class Described:
    """The description of one instrument."""

    def __init__(self) -> None:
        self._schemas = (read_schema(meta_data()),)

    async def schemas(self, instrument: str, *, may_request: bool = True) -> tuple[Schema, ...]:
        return self._schemas if instrument == "isgri" else ()

    def invalidate(self, instrument: str) -> None:
        raise AssertionError(f"the echo contradicts a query of {instrument}")


def token_of(subject: str, *, key: str = KEY) -> str:
    return jwt.encode({"sub": subject, "roles": "general", "exp": 1e12}, key, "HS256")


@dataclass
class Account:
    """A proxy, a client, and what was logged when the block has ended."""

    url: str
    client: aiohttp.ClientSession
    log: io.StringIO

    async def get(self, path: str, method: str = "GET", **options: Any) -> aiohttp.ClientResponse:
        async with self.client.request(method, f"{self.url}{path}", **options) as response:
            await response.read()
            return response

    @property
    def requests(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == "request"]


@asynccontextmanager
async def accounting(
    script: Script | None, front_end: FrontEnd | None = None, *, log_people: bool = False, is_json: bool = True
) -> AsyncIterator[Account]:
    tokens = TokenVerifier(Sharing.SUBJECT, secret_key=KEY, trust=300.0, clock=lambda: 0.0)
    services = Services(instruments=cast("Descriptions", Described()), tokens=tokens)
    proxy, log = Proxy(MemoryStore(), script, Policy(), services=services), io.StringIO()
    async with AsyncExitStack() as stack:
        stack.enter_context(log_in_thread(LogSettings(is_json=is_json, log_people=log_people), StreamOutput(log)))
        stack.push_async_callback(proxy.close)
        app = make_app(proxy, addresses=front_end or FrontEnd())
        url = await stack.enter_async_context(listening(app, "127.0.0.1", 0))
        yield Account(url, await stack.enter_async_context(aiohttp.ClientSession()), log)


async def test_each_answer_has_an_id_of_its_own_that_the_log_has_too() -> None:
    script = Script().then(answer()).then({}, headers=(("X-Request-ID", "of-the-dispatcher"),))
    async with accounting(script) as account:
        paths = (f"/run_analysis?{urlencode(QUERY)}",) * 2 + ("/other", "/-/livez", "/-/missing")
        responses = [await account.get(path) for path in paths]
        ids = [response.headers.getall("X-Request-ID") for response in responses]

    assert all(len(one) == 1 for one in ids)
    flat = [one for (one,) in ids]
    assert len(set(flat)) == len(flat)
    assert [line["request_id"] for line in account.requests] == flat[:3]


async def test_a_line_says_what_became_of_a_query() -> None:
    async with accounting(Script().then(answer())) as account:
        for _ in range(3):
            response = await account.get(f"/run_analysis?{urlencode(QUERY)}")
        size = response.content_length
    first, second, third = account.requests

    assert [line["outcome"] for line in (first, second, third)] == ["miss", "hit_cold", "hit_hot"]
    assert third["cache_status"] == "oda-proxy; hit"
    assert (third["instrument"], third["product"], third["client"]) == ("isgri", "isgri_image", "127.0.0.1")
    assert first["key"] == second["key"] == third["key"]
    assert len(third["key"]) == 64
    assert third["bytes"] == size
    assert third["seconds"] > 0


@pytest.mark.parametrize("log_people", [False, True])
async def test_a_person_is_logged_only_once_the_token_is_verified(*, log_people: bool) -> None:
    async with accounting(Script().then(answer()).then(answer()), log_people=log_people) as account:
        await account.get(f"/run_analysis?{urlencode({**QUERY, 'token': token_of('somebody@example.org')})}")
        forged = token_of("nobody@example.org", key="x" * 32)
        await account.get(f"/run_analysis?{urlencode({**QUERY, 'token': forged})}")
    first, second = account.requests

    assert (first["person"] == "somebody@example.org") == log_people
    assert "person" not in second
    assert "nobody" not in account.log.getvalue()


@pytest.mark.parametrize(
    ("trusted", "sent", "is_taken"),
    [
        (True, "0123-abc", True),
        (False, "0123-abc", False),
        (True, "x" * 65, False),
        (True, "a b", False),
        (True, "", False),
    ],
)
async def test_the_id_of_a_front_end_is_taken_where_it_is_trusted_and_well_formed(
    *, trusted: bool, sent: str, is_taken: bool
) -> None:
    front_end = FrontEnd(trusted=TrustedProxies((ip_network("127.0.0.1/32"),)) if trusted else None)
    async with accounting(Script().then({}), front_end) as account:
        headers = {"X-Request-ID": sent, "X-Forwarded-For": "192.0.2.7"}
        response = await account.get("/other", headers=headers)
    (line,) = account.requests

    assert (response.headers["X-Request-ID"] == sent) == is_taken
    assert line["request_id"] == response.headers["X-Request-ID"]


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x", "a;b", '"', "é", "\x00"])
def test_an_id_that_is_not_well_formed_is_none(text: str) -> None:
    assert well_formed(text) is None


def test_two_processes_make_no_id_twice() -> None:
    one, other = RequestIds(), RequestIds()

    assert len({ids.new() for ids in (one, other) for _ in range(1000)}) == 2000


SPELLINGS = {
    "as it is": SECRET,
    "encoded": quote(SECRET, safe="").replace(".", "%2E"),
    "encoded twice": quote(quote(SECRET, safe=""), safe=""),
    "in base64": base64.b64encode(SECRET.encode()).decode(),
    "in upper case": SECRET.upper(),
    "in hexadecimal digits": SECRET.encode().hex(),
}
FIELDS = ("token", "session_id", "job_id", "instrument", "product_type", "query_type", "query_status", "RA", "any")


@pytest.mark.parametrize("is_json", [False, True], ids=["text", "json"])
async def test_no_line_has_a_secret_wherever_and_however_a_client_sends_it(*, is_json: bool) -> None:
    """Sent as each field of a query string and of a form, as a header, a path, a method, a user, and a body."""
    script = Script()
    async with accounting(script, is_json=is_json) as account:
        for spelling in SPELLINGS.values():
            requests: list[tuple[str, dict[str, Any]]] = []
            for field in FIELDS:
                fields = {**QUERY, field: spelling}
                requests.append((f"/run_analysis?{urlencode(fields)}", {}))
                requests.append(("/run_analysis", {"method": "POST", "data": fields}))
            requests += [
                (f"/{spelling}/x", {}),
                (f"/x?{spelling}", {}),
                (f"/x%3Ftoken={spelling}", {}),
                (f"/-/{spelling}", {}),
                (f"/-/status?token={spelling}", {}),
                (f"/-/recordings/{spelling}", {"headers": {"Authorization": f"Bearer {spelling}"}}),
                ("/x", {"headers": {"Authorization": f"Bearer {spelling}", "Cookie": spelling, "X-Token": spelling}}),
                ("/x", {"headers": dict.fromkeys(("Referer", "User-Agent", "X-Request-ID", "Origin"), spelling)}),
                ("/x", {"method": "POST", "data": spelling.encode()}),
                ("/run_analysis", {"method": "POST", "json": {"token": spelling}}),
            ]
            for path, options in requests:
                script.then({"query_status": "failed", "exit_status": {"message": "no"}}, status=400)
                await account.get(path, **options)
        await asyncio.sleep(0)
    text = account.log.getvalue()

    assert text.count("run_analysis") > 100
    for name, spelling in SPELLINGS.items():
        for found in {spelling, spelling[4:-4], spelling[10:]}:
            assert found.casefold() not in text.casefold(), name
