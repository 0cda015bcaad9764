"""Requests that are forwarded to the leader; the workers are servers of this process."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from oda_proxy.errors import RequestIncompleteError, UpstreamUnreachableError
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.message import Request
from oda_proxy.web.server import listening_on
from oda_proxy.workers.channel import Roles
from oda_proxy.workers.forwarding import (
    BASE_URL,
    CLIENT,
    NOT_LEADER,
    REMOTE,
    ForwardedAddresses,
    Forwarder,
    LeaderEndedError,
    NoLeaderError,
    UpstreamOfLeader,
    received,
)
from oda_proxy.workers.membership import Membership
from oda_proxy.workers.socket_folder import private_folder, socket_of
from tests.support.scripted_upstream import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from oda_proxy.http.answer import Answer

ANALYSIS = Request("POST", "/dispatch-data/run_analysis", headers=(("Content-Type", "text/plain"),), body=b"a=1")
REPORT = Request("POST", "/report_incident", body=b"a=1")


@dataclass
class Seen:
    """A request as a worker received it."""

    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Servers:
    """A folder of sockets, and workers that listen there."""

    folder: Path
    seen: list[Seen] = field(default_factory=list)
    received: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def worker(
        self, number: int, respond: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> AsyncIterator[None]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.seen.append(Seen(request.raw_path, dict(request.headers), await request.read()))
            self.received.set()
            return await respond(request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        async with listening_on(app, [socket_of(self.folder, number)], shutdown_timeout=0.1):
            yield


@pytest.fixture
def servers() -> Iterator[Servers]:
    with private_folder() as folder:
        yield Servers(folder)


@pytest.fixture
async def membership() -> Membership:
    return membership_of(leader=0)


def membership_of(leader: int | None) -> Membership:
    membership = Membership(1)
    membership.roles = Roles(leader, (0, 1))
    return membership


@pytest.fixture
async def forwarder(servers: Servers, membership: Membership) -> AsyncIterator[Forwarder]:
    async with Forwarder(servers.folder, membership) as forwarder:
        yield forwarder


async def ok(_: web.Request) -> web.StreamResponse:
    headers = {"Cache-Status": "oda-proxy; hit", "X-Other": "kept", "Connection": "close"}
    return web.Response(body=b"products", headers=headers)


async def breaks(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def is_not_leader(_: web.Request) -> web.StreamResponse:
    return web.Response(status=421, headers={NOT_LEADER: "yes"})


async def body_of(answer: Answer) -> bytes:
    assert not isinstance(answer.body, tuple)
    return b"".join([chunk async for chunk in answer.body])


async def test_the_answer_of_the_leader_is_returned_with_its_headers_and_status(
    servers: Servers, forwarder: Forwarder
) -> None:
    async with servers.worker(0, ok):
        answer = await forwarder.send(ANALYSIS)

        assert await body_of(answer) == b"products"
    assert (answer.status, answer.cache_status) == (200, CacheStatus(hit=True))
    names = [name.casefold() for name, _ in answer.headers]
    assert "x-other" in names
    assert not {"cache-status", "connection"} & set(names)


async def test_a_request_reaches_the_leader_as_the_client_sent_it(servers: Servers, forwarder: Forwarder) -> None:
    sent = (
        ("Host", "proxy.example:8400"),
        ("X-Other", "1"),
        ("Content-Length", "3"),
        ("Connection", "x-hop"),
        ("X-Hop", "1"),
    )
    request = Request("POST", "/a%2Fb//run_analysis", "a=%zz#b&c=d?e", sent, b"abc")
    async with servers.worker(0, ok):
        await body_of(await forwarder.send(request))

    (seen,) = servers.seen
    assert seen.target == "/a%2Fb//run_analysis?a=%zz#b&c=d?e"
    assert seen.headers == {"Host": "proxy.example:8400", "X-Other": "1", "Content-Length": "3", "Connection": "close"}
    assert seen.body == b"abc"


@pytest.mark.parametrize("is_remote", [True, False])
async def test_only_a_worker_says_where_a_request_comes_from(
    servers: Servers, forwarder: Forwarder, *, is_remote: bool
) -> None:
    forged = ((REMOTE.lower(), "forged"), (BASE_URL.upper(), "http://forged"), (CLIENT, "forged"), ("X-Other", "1"))
    request = Request("GET", "/run_analysis", headers=forged, is_remote=is_remote, client_address="192.0.2.7")
    async with servers.worker(0, ok):
        await body_of(await forwarder.send(request, base_url="https://example.org/oda"))

    (seen,) = servers.seen
    incoming = make_mocked_request("GET", "/run_analysis", headers=seen.headers)
    addresses = ForwardedAddresses()
    assert addresses.is_remote(incoming) is is_remote
    assert (addresses.public_url(incoming), addresses.client_address(incoming)) == (
        "https://example.org/oda",
        "192.0.2.7",
    )
    found = dict(received(Request("GET", "/run_analysis", headers=tuple(seen.headers.items()))).headers)
    assert "X-Other" in found
    assert found.keys().isdisjoint({REMOTE, BASE_URL, CLIENT})


async def test_what_no_worker_says_is_not_taken_from_the_client(servers: Servers, forwarder: Forwarder) -> None:
    async with servers.worker(0, ok):
        await body_of(await forwarder.send(Request("GET", "/x", headers=((BASE_URL, "forged"), (CLIENT, "127.0.0.1")))))

    (seen,) = servers.seen
    incoming = make_mocked_request("GET", "/x", headers=seen.headers)
    assert ForwardedAddresses().client_address(incoming) == "unknown"
    assert "forged" not in ForwardedAddresses().public_url(incoming)


async def test_a_streamed_body_is_forwarded_with_its_length(servers: Servers, forwarder: Forwarder) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"c"

    async with servers.worker(0, ok):
        await body_of(
            await forwarder.send(Request("POST", "/upload", headers=(("Content-Length", "3"),), body=pieces()))
        )

    (seen,) = servers.seen
    assert (seen.body, seen.headers["Content-Length"]) == (b"abc", "3")


@pytest.mark.parametrize("old", [breaks, is_not_leader, None], ids=["breaks", "does not lead", "has ended"])
async def test_a_query_is_sent_to_the_next_leader(
    servers: Servers,
    membership: Membership,
    forwarder: Forwarder,
    old: Callable[[web.Request], Awaitable[web.StreamResponse]] | None,
) -> None:
    async with servers.worker(2, ok):
        if old is None:
            sending = asyncio.create_task(forwarder.send(ANALYSIS))
            await asyncio.sleep(0)
        else:
            async with servers.worker(0, old):
                sending = asyncio.create_task(forwarder.send(ANALYSIS))
                await servers.received.wait()
        membership.roles = Roles(2, (1, 2))
        answer = await sending

        assert await body_of(answer) == b"products"


async def test_a_request_with_effects_is_not_sent_twice(servers: Servers, forwarder: Forwarder) -> None:
    async with servers.worker(0, breaks):
        with pytest.raises(LeaderEndedError, match="send the request again"):
            await forwarder.send(REPORT)

    assert len(servers.seen) == 1


async def test_a_client_that_does_not_send_its_whole_request_does_not_mean_that_the_leader_has_ended(
    servers: Servers, forwarder: Forwarder
) -> None:
    async def cut_off() -> AsyncIterator[bytes]:
        yield b"the begin"
        raise ConnectionResetError("Connection lost")

    async with servers.worker(0, ok):
        with pytest.raises(RequestIncompleteError):
            await forwarder.send(Request("POST", "/upload", body=cut_off()))


async def test_a_request_with_effects_waits_for_a_leader_that_has_not_received_it(
    servers: Servers, membership: Membership, forwarder: Forwarder
) -> None:
    membership.roles = Roles(None, ())
    sending = asyncio.create_task(forwarder.send(REPORT))
    await asyncio.sleep(0)
    async with servers.worker(2, ok):
        membership.roles = Roles(2, (1, 2))

        assert await body_of(await sending) == b"products"


async def test_a_body_that_breaks_off_is_an_error(servers: Servers, forwarder: Forwarder) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        return await breaks(request)

    async with servers.worker(0, half):
        answer = await forwarder.send(ANALYSIS)
        with pytest.raises(LeaderEndedError):
            await body_of(answer)


async def test_a_worker_that_stops_still_forwards_its_last_requests(
    servers: Servers, membership: Membership, forwarder: Forwarder
) -> None:
    membership.closing = True

    async with servers.worker(0, ok):
        assert await body_of(await forwarder.send(ANALYSIS)) == b"products"


async def test_a_worker_that_stops_does_not_wait_for_a_leader(membership: Membership, forwarder: Forwarder) -> None:
    membership.closing = True

    with pytest.raises(NoLeaderError):
        await forwarder.send(ANALYSIS)


async def test_a_page_of_a_worker_that_has_ended_is_none(servers: Servers, forwarder: Forwarder) -> None:
    async def page(_: web.Request) -> web.StreamResponse:
        return web.json_response({"pid": 1})

    async with servers.worker(0, page):
        assert await forwarder.page(0, "/-/worker") == {"pid": 1}

    assert await forwarder.page(0, "/-/worker") is None


async def test_descriptions_are_read_through_the_leader(
    servers: Servers, membership: Membership, forwarder: Forwarder
) -> None:
    upstream = UpstreamOfLeader(Script(), forwarder, membership)
    async with servers.worker(0, ok):
        reply = await upstream.send(Request("GET", "/api/meta-data", "instrument=isgri"))

        assert b"".join([chunk async for chunk in reply.body]) == b"products"
    membership.closing = True
    with pytest.raises(UpstreamUnreachableError):
        await upstream.send(Request("GET", "/api/meta-data", "instrument=isgri"))


async def test_the_leader_reads_descriptions_from_the_dispatcher(
    servers: Servers, membership: Membership, forwarder: Forwarder
) -> None:
    script = Script()
    script.then({"of": "the dispatcher"})
    membership.roles = Roles(1, (1,))

    reply = await UpstreamOfLeader(script, forwarder, membership).send(Request("GET", "/api/meta-data"))

    assert b"the dispatcher" in b"".join([chunk async for chunk in reply.body])
    assert servers.seen == []
