"""Requests that differ only in their session are answered without aiohttp, with the same bytes and counts."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import re
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager, closing, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import jwt
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.handlers.policy import Compress, Policy
from oda_proxy.handlers.services import Services
from oda_proxy.http.cors import CorsPolicy
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.metrics.outcomes import Outcome
from oda_proxy.proxy import Proxy
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.store import heads
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.freshness import Freshness, Rule
from oda_proxy.web import connection, server
from oda_proxy.web.app import make_app
from oda_proxy.web.connection import Connection
from oda_proxy.web.front_end import DIRECT
from oda_proxy.web.log_output import StreamOutput
from oda_proxy.web.log_thread import LogSettings, log_in_thread
from oda_proxy.web.mounts import MountedAddresses, mounted
from oda_proxy.web.repeated_requests import (
    MAX_REQUEST,
    MAX_REQUESTS,
    RepeatedRequests,
    candidate_of,
    is_only_session,
)
from oda_proxy.web.server import listening
from oda_proxy.web.whole_response import SMALL
from tests.support.dispatcher_responses import answer
from tests.support.examples import examples
from tests.support.raw_http import RawConnection
from tests.support.sample_descriptions import meta_data
from tests.support.scripted_upstream import Body, Clock, Reply, Script, at_once

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request

QUERY = "instrument=isgri&product_type=isgri_image&query_type=Real&RA=83.0&api=True&oda_api_version=1.3.5"
DAY = 86400.0
MANY = 100
"""More requests than a test sends."""
POLICY = Policy(freshness=Freshness((Rule.parse("isgri/*=1"),)))
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
SECRET = "secret of the dispatcher, of 32 bytes"  # noqa: S105 - of this test
ORIGIN = ("http", "127.0.0.1", "127.0.0.1")


@dataclass
class Upstream(Script):
    """A dispatcher that has each answer ready; they are numbered."""

    products: dict[str, Any] = field(default_factory=dict)
    description: str = field(default_factory=meta_data)
    answers: int = 0

    async def send(self, ask: Request) -> Any:
        if ask.path == "/api/meta-data":
            self.asked.append(ask)
            return Reply(200, (), Body(self.description.encode()))
        self.then(answer(products={"catalog": {"answer": self.answers}, **self.products}))
        self.answers += 1
        return await super().send(ask)


@dataclass
class Deployment:
    """A proxy over a folder, another store over it as that of another process, and a connection of a client."""

    proxy: Proxy
    upstream: Upstream
    other: DiskStore
    clock: Clock
    connection: RawConnection
    ordinary: list[str]
    """The query strings of the requests that were answered by the proxy, and not repeated."""

    async def get(self, session_id: str = "A" * 16, **parts: str) -> bytes:
        return await self.connection.exchange(message(session_id, **parts))

    async def is_repeated(self, session_id: str = "Z" * 16, **parts: str) -> bool:
        """Request the recording, and return whether the response is repeated."""
        before = len(self.ordinary)
        assert b"; hit\r\n" in await self.get(session_id, **parts)
        return len(self.ordinary) == before

    async def heat(self, **parts: str) -> None:
        """Have the recording stored, and the request for it memoised."""
        await self.get(**parts)
        while not await self.is_repeated(**parts):  # a thread may still index the recording
            assert len(self.ordinary) < MANY


def message(session_id: str, *, method: str = "GET", query: str = QUERY, headers: str = "", body: str = "") -> bytes:
    target = f"/run_analysis?{query}&query_status=new&session_id={session_id}"
    head = f"{method} {target} HTTP/1.1\r\nHost: proxy.example\r\nUser-Agent: python-requests/2.31\r\n{headers}"
    return f"{head}\r\n{body}".encode()


@asynccontextmanager
async def deployed(
    folder: Path, policy: Policy = POLICY, *, is_repeating: bool = True, is_online: bool = True
) -> AsyncIterator[Deployment]:
    """Run a proxy; if it is not `is_repeating`, all requests take the ordinary way."""
    upstream, clock, ordinary = Upstream(), Clock(), []
    async with AsyncExitStack() as stack:
        store, other = (stack.enter_context(closing(DiskStore(folder, clock=clock))) for _ in range(2))
        for one in (store, other):
            assert one.usage().recordings <= 1  # opens the index, which would count as a change later
        runtime = Runtime(clock=clock, sleep=at_once, new_session=lambda: "NEWSESSION000000")
        services = Services(
            instruments=Descriptions(upstream, folder, ttl=100 * DAY, clock=clock),
            tokens=TokenVerifier(Sharing.SUBJECT, secret_key=SECRET, trust=0.0, clock=clock),
        )
        proxy = Proxy(store, upstream if is_online else None, policy, services=services, runtime=runtime)
        stack.push_async_callback(proxy.close)

        async def counted(request: Request, *, origin: str) -> Answer:
            ordinary.append(request.query_string)
            return await proxy.answer(request, origin=origin)

        app = make_app(proxy, answer=counted)
        with nullcontext() if is_repeating else mock.patch.object(server, "ConnectionServer", lambda plain, _: plain):
            url = await stack.enter_async_context(listening(app, "127.0.0.1", 0))
        connection = await stack.enter_async_context(RawConnection(url))
        yield Deployment(proxy, upstream, other, clock, connection, ordinary)


async def received() -> None:
    """Let the server, which runs in the same event loop, take what was sent."""
    for _ in range(20):
        await asyncio.sleep(0)


def undated(response: bytes) -> bytes:
    """Return a response without the values that no two have."""
    return re.sub(rb"\r\n(Date|X-Request-ID): [^\r]*", rb"\r\n\1", response)


# -- what is the same ------------------------------------------------------------------------------

VARIANTS: dict[str, Callable[[str], bytes]] = {
    "plain": message,
    "plain again": message,
    "another client": lambda s: message(s, headers="Accept: */*\r\nConnection: keep-alive\r\n"),
    "another query": lambda s: message(s, query=QUERY.replace("83", "84")),
    "an older client": lambda s: message(s, query=f"{QUERY}&dry_run=False&verbose=True".replace("1.3.5", "1.0.5")),
    "session first": lambda s: message("X").replace(b"&session_id=X", b"").replace(b"?", f"?session_id={s}&".encode()),
    "session in the middle": lambda s: message("X", query=f"session_id={s}&{QUERY}").replace(b"&session_id=X", b""),
    "session twice": lambda s: message(s, query=f"{QUERY}&session_id={s}"),
    "two sessions": lambda s: message(s, query=f"{QUERY}&session_id=FIXED"),
    "session within a value": lambda s: message("FIXED", query=f"{QUERY}&x=1?session_id={s}"),
    "encoded name": lambda s: message(s).replace(b"session_id", b"session%5Fid"),
    "in another header": lambda s: message("FIXED", headers=f"Referer: http://a/?session_id={s}&b=1\r\n"),
    "no session": lambda s: message(s).replace(b"&session_id=", b"&x="),
    "refresh": lambda s: message(s, headers="Cache-Control: no-cache\r\n"),
    "max-age": lambda s: message(s, headers="Cache-Control: max-age=1000\r\n"),
    "only if cached": lambda s: message(s, headers="Cache-Control: only-if-cached\r\n"),
    "pragma": lambda s: message(s, headers="Pragma: no-cache\r\n"),
    "no store": lambda s: message(s, headers="Cache-Control: no-store\r\n"),
    "poll": lambda s: message(s).replace(b"query_status=new", b"query_status=ready"),
    "of a job": lambda s: message(s, query=f"{QUERY}&job_id=abc"),
    "empty job": lambda s: message(s, query=f"{QUERY}&job_id="),
    "with a token": lambda s: message(s, query=f"{QUERY}&token=a.b.c"),
    "empty token": lambda s: message(s, query=f"{QUERY}&token="),
    "credentials": lambda s: message(s, headers="Cookie: a=b\r\n"),
    "from a page": lambda s: message(s, headers="Origin: https://notebook.example\r\n"),
    "compressed": lambda s: message(s, headers="Accept-Encoding: gzip\r\n"),
    "conditional": lambda s: message(s, headers='If-None-Match: "x"\r\n'),
    "a part": lambda s: message(s, headers="Range: bytes=0-10\r\n"),
    "HEAD": lambda s: message(s, method="HEAD"),
    "OPTIONS": lambda s: message(s, method="OPTIONS"),
    "old HTTP": lambda s: message(s).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "last": lambda s: message(s, headers="Connection: close\r\n"),
    "form": lambda s: message(s, method="POST", headers=f"{FORM}Content-Length: 5\r\n", body="DEC=1"),
    "bad": lambda s: message(s, query="instrument=isgri"),
    "prefix": lambda s: message(s).replace(b"/run_analysis", b"/mmoda/run_analysis"),
    "another host": lambda s: message(s).replace(b"proxy.example", b"proxy.example:8400"),
}
SESSIONS = ["A" * 16, "B" * 16, "short", "S-1_2", "new", "", "a%2Fb", "a+b", "x" * 101, "%C3%A9"]


async def change(deployment: Deployment, event: str) -> None:
    """Have something happen to the recordings, mostly by another process."""
    other = deployment.other
    for key in list(other.keys()):
        if event == "removed":
            other.remove(key)
        elif event == "removed by the proxy":
            deployment.proxy.store.remove(key)
        elif event == "replaced" and (recording := other.get(key)):
            other.put(replace(recording, other_members={"replaced": deployment.clock()}, stored_at=deployment.clock()))
            recording.head.close()
        elif event in {"pinned", "unpinned"}:
            other.pin(key, pinned=event == "pinned")
        elif event == "evicted" and (entry := other.entry(key)):
            other.evict(entry)
    steps = {"an hour later": 3600.0, "a day later": DAY, "clock set back": -10.0, "clock set far back": -7200.0}
    deployment.clock.now += steps.get(event, 0.0)
    if event == "descriptions expire":
        deployment.proxy.expire_descriptions()
    if event == "another description":
        deployment.upstream.description = meta_data().replace("15.0", f"{len(deployment.upstream.asked)}.5")
        deployment.proxy.expire_descriptions()


EVENTS = [
    *["removed", "removed by the proxy", "replaced", "pinned", "unpinned", "evicted"],
    *[
        "an hour later",
        "a day later",
        "clock set back",
        "clock set far back",
        "descriptions expire",
        "another description",
    ],
]
requests = st.tuples(
    st.sampled_from(["plain"] * 40 + list(VARIANTS)), st.sampled_from(SESSIONS[:2] * 10 + SESSIONS), st.integers(1, 4)
)


def counted(deployment: Deployment) -> list[Any]:
    """Return all counts; of durations only how many there are."""
    proxy = deployment.proxy
    durations = [(route, outcome, sum(one.buckets)) for route, outcome, one in proxy.request_counts.durations()]
    requests = [durations, proxy.request_counts.sent, proxy.request_counts.received]
    queries = [list(proxy.query_counts.outcomes()), list(proxy.query_counts.saved())]
    return [asdict(proxy.counts), proxy.outcomes, requests, queries]


async def compare(steps: list[Any], policy: Policy, folders: tuple[Path, Path]) -> None:
    """Take the same steps with a proxy that repeats responses and with one that does not."""
    async with deployed(folders[0], policy) as one, deployed(folders[1], policy, is_repeating=False) as two:
        for step in steps:
            if isinstance(step, str):
                await change(one, step)
                await change(two, step)
                continue
            variant, session_id, times = step
            for _ in range(times):
                data = VARIANTS[variant](session_id)
                responses = [undated(await deployment.connection.exchange(data)) for deployment in (one, two)]
                assert responses[0] == responses[1]
            assert counted(one) == counted(two)
            assert one.proxy.has_served(session_id) == two.proxy.has_served(session_id)
            assert len(one.upstream.asked) == len(two.upstream.asked)
            uses = [{use.key: use.used_at for use in deployment.proxy.store.entries()} for deployment in (one, two)]
            assert uses[0] == uses[1]


policies = st.builds(
    Policy,
    freshness=st.sampled_from([Freshness(), POLICY.freshness]),
    compress=st.sampled_from(Compress),
    cors=st.sampled_from(
        [CorsPolicy(), CorsPolicy(frozenset({"*"})), CorsPolicy(frozenset({"https://notebook.example"}))]
    ),
    memory=st.sampled_from([0, 1_000_000]),
)


@pytest.mark.slow
@given(st.lists(requests | st.sampled_from(EVENTS), min_size=1, max_size=25), policies)
@settings(max_examples=examples(40), deadline=None)
def test_a_repeated_response_has_the_bytes_and_the_counts_of_an_ordinary_one(steps: list[Any], policy: Policy) -> None:
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(compare(steps, policy, (Path(name) / "one", Path(name) / "two")))


@pytest.mark.parametrize("variant", VARIANTS)
async def test_requests_of_each_kind_are_answered_as_ever(tmp_path: Path, variant: str) -> None:
    steps = [(one, session_id, 4) for session_id in ("FIRST", "SECOND") for one in ("plain", variant)]

    await compare(steps, POLICY, (tmp_path / "one", tmp_path / "two"))


# -- what is repeated ------------------------------------------------------------------------------


async def test_a_repeated_response_is_for_its_session_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.heat()
        ordinary = await deployment.get("ORDINARY", headers="X: y\r\n")
        caplog.clear()

        with caplog.at_level(logging.INFO):
            repeated = [await deployment.get(f"SESSION{number}") for number in range(5)]

        assert deployment.ordinary[-1].endswith("=ORDINARY")
        for number, response in enumerate(repeated):
            session_id = f"SESSION{number}".encode()
            assert undated(response) == undated(ordinary.replace(b"ORDINARY", session_id))
        lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
        assert {line.rpartition(" 0.")[0] for line in lines} == {"GET /run_analysis 200 oda-proxy; hit"}
        ids = [re.findall(rb"\r\nX-Request-ID: ([^\r]*)", response) for response in repeated]
        assert [[line.rpartition(" ")[2].encode()] for line in lines] == ids
        assert len({one for (one,) in ids}) == len(lines) == 5


async def test_each_connection_repeats_what_another_one_memoised(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.heat()

        deployment.connection.close()

        assert await deployment.is_repeated()


async def test_a_recording_that_does_not_stay_in_memory_is_repeated_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_cached(path: str, size: int) -> bytes:
        return Path(path).read_bytes()[:size]

    monkeypatch.setattr(heads, "read_cached", read_cached)
    async with deployed(tmp_path, replace(POLICY, memory=0)) as deployment:
        await deployment.heat()
        (head_file,) = (tmp_path / "heads").glob("*/*")
        content = head_file.read_bytes()
        outcomes = {outcome for _, outcome, count in deployment.proxy.query_counts.outcomes() if count}
        assert outcomes == {"miss", Outcome.HIT_COLD.label}

        head_file.write_bytes(content[::-1])

        response = await deployment.get()
        assert b"fwd=" in response
        assert deployment.upstream.answers == 2


@pytest.mark.parametrize(
    "event", ["removed", "removed by the proxy", "replaced", "evicted", "a day later", "another description"]
)
async def test_what_changed_since_then_is_not_repeated(tmp_path: Path, event: str) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.heat()
        ordinary = len(deployment.ordinary)

        await change(deployment, event)

        response = await deployment.get()
        assert len(deployment.ordinary) == ordinary + 1
        assert (b"fwd=" in response) == (event not in {"replaced", "another description"})
        assert (b'"replaced":' in response) == (event == "replaced")


async def test_a_refreshed_recording_is_repeated_from_then_on(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.heat()
        assert b'"answer":0' in await deployment.get()

        await deployment.get(headers="Cache-Control: no-cache\r\n")

        for _ in range(4):
            assert b'"answer":1' in await deployment.get()
        assert await deployment.is_repeated()


@pytest.mark.parametrize(
    "parts",
    [
        {"headers": "Cache-Control: max-age=1000\r\n"},
        {"query": f"{QUERY}&token={jwt.encode({'sub': 'me', 'roles': 'user'}, SECRET)}"},
    ],
    ids=["max-age", "token"],
)
async def test_what_depends_on_more_than_the_recording_is_not_repeated(tmp_path: Path, parts: dict[str, str]) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.get(**parts)

        for _ in range(6):
            assert not await deployment.is_repeated(**parts)


async def test_an_expired_recording_is_repeated_offline(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.get()
    async with deployed(tmp_path, is_online=False) as deployment:
        deployment.clock.now += 100 * DAY
        await deployment.heat()

        deployment.clock.now += DAY

        assert await deployment.is_repeated()
        await change(deployment, "removed")
        assert b"HTTP/1.1 400 " in await deployment.get()


async def test_a_compressed_answer_is_repeated(tmp_path: Path) -> None:
    async with deployed(tmp_path, replace(POLICY, compress=Compress.ALWAYS)) as deployment:
        deployment.upstream.products = {"text": "an image " * 5000}
        accepting = "Accept-Encoding: gzip\r\n"
        await deployment.heat(headers=accepting)
        deployment.proxy._cache._compression.wait()

        ordinary = [await deployment.get(f"S{number}", headers=accepting) for number in range(2)]
        assert await deployment.is_repeated(headers=accepting)
        repeated = await deployment.get("S1", headers=accepting)

        assert b"\r\nContent-Encoding: gzip\r\n" in ordinary[0]
        assert undated(repeated) == undated(ordinary[1])
        assert b'"S1"' in gzip.decompress(repeated.partition(b"\r\n\r\n")[2])


async def test_a_large_answer_is_repeated_without_copies(tmp_path: Path, writes: list[list[bytes]]) -> None:
    async with deployed(tmp_path) as deployment:
        deployment.upstream.products = {"text": "x" * 2_000_000}
        await deployment.heat()
        ordinary = await deployment.get(headers="X: y\r\n")
        writes.clear()

        repeated = [await deployment.get() for _ in range(2)]

        assert [undated(response) for response in repeated] == [undated(ordinary)] * 2
        one, other = ([id(part) for part in write if len(part) > SMALL] for write in writes)
        assert one == other


async def test_the_largest_answers_are_left_to_the_ordinary_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_RESPONSE", 100_000)
    async with deployed(tmp_path) as deployment:
        deployment.upstream.products = {"text": "x" * 100_000}
        await deployment.get()

        for _ in range(5):
            assert not await deployment.is_repeated()


# -- the connection --------------------------------------------------------------------------------


async def test_requests_in_one_piece_are_all_answered_in_order(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.heat()

        await deployment.connection.send(b"".join(message(f"PIPELINED{number}") for number in range(3)))
        await deployment.connection.send(message("PIPELINED3"))

        for number in range(4):
            assert b'"PIPELINED%d"' % number in await deployment.connection.receive()


async def test_requests_that_follow_at_once_are_answered_in_order(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.get(query=f"{QUERY}&DEC=1")
        await deployment.heat()

        for number in range(50):
            query = QUERY if number % 3 else f"{QUERY}&DEC=1"
            await deployment.connection.send(message(f"SENT{number}", query=query))

        for number in range(50):
            assert b'"SENT%d"' % number in await deployment.connection.receive()


@pytest.mark.parametrize("cut", [1, 40, -3, -1])
async def test_a_request_in_pieces_is_answered_once(tmp_path: Path, cut: int) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.heat()
        data = message("PIECES")

        for piece in (data[:cut], data[cut:], message("NEXT")):
            await deployment.connection.send(piece)
            await received()

        assert b'"PIECES"' in await deployment.connection.receive()
        assert b'"NEXT"' in await deployment.connection.receive()


async def test_what_looks_like_a_request_within_a_body_is_none(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.heat()
        inner = message("INNER")
        outer = message("OUTER", method="POST", headers=f"{FORM}Content-Length: {len(inner)}\r\n")

        await deployment.connection.send(outer)
        await received()
        await deployment.connection.send(inner)

        assert b'"INNER"' not in await deployment.connection.receive()
        await received()
        assert not await deployment.is_repeated("AFTER")


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """Return the parts of the responses that are repeated."""
    parts: list[list[bytes]] = []
    write = connection._write

    def noted(transport: asyncio.Transport, response: list[bytes], size: int) -> None:
        parts.append(response)
        write(transport, response, size)

    monkeypatch.setattr(connection, "_write", noted)
    return parts


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Return the connections that are made."""
    made: list[Connection] = []
    connection_made = Connection.connection_made

    def noted(self: Connection, transport: asyncio.BaseTransport) -> None:
        made.append(self)
        connection_made(self, transport)

    monkeypatch.setattr(Connection, "connection_made", noted)
    return made


async def test_a_client_that_does_not_read_is_sent_no_more(tmp_path: Path, connections: list[Connection]) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.heat()
        (accepted,) = connections
        ordinary = len(deployment.ordinary)

        accepted.pause_writing()
        for _ in range(5):
            await deployment.connection.send(message("READSNOTHING"))
            await received()

        assert len(deployment.ordinary) == ordinary + 1  # which waits until the client reads
        accepted.resume_writing()
        for _ in range(5):
            assert b"; hit\r\n" in await deployment.connection.receive()


async def test_a_repeated_response_keeps_the_connection_open(tmp_path: Path, connections: list[Connection]) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.heat()
        (accepted,) = connections
        accepted._next_keepalive_close_time = 0.0

        assert await deployment.is_repeated()

        assert accepted._next_keepalive_close_time > 0.0


async def test_a_server_that_stops_answers_no_more(tmp_path: Path, connections: list[Connection]) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.heat()
        connections[0].close()
        hits = deployment.proxy.outcomes.hits

        await deployment.connection.send(message("TOOLATE"))
        await received()
        connections[0].force_close()
        with pytest.raises(asyncio.IncompleteReadError):
            await deployment.connection.receive()

        assert deployment.proxy.outcomes.hits == hits


def test_all_that_is_needed_of_aiohttp_is_checked() -> None:
    source = (
        Path(connection.__file__).read_text().partition("class Connection(")[2].partition("class ConnectionServer")[0]
    )
    own = {*Connection.__slots__, *(name for name in vars(Connection) if name.startswith("_"))}

    assert set(re.findall(r"self\.(_\w+)", source)) - own == connection._INTERNAL
    assert connection.can_repeat()


async def test_another_release_of_aiohttp_answers_in_the_ordinary_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "_INTERNAL", frozenset({"_no_longer_there"}))
    async with deployed(tmp_path) as deployment:
        await deployment.get()

        for _ in range(5):
            assert not await deployment.is_repeated()

    assert "this release of aiohttp" in caplog.text


async def test_an_internal_error_leaves_the_answer_to_the_ordinary_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.heat()
        monkeypatch.setattr(RepeatedRequests, "find", mock.Mock(side_effect=RuntimeError("secret")))

        assert not await deployment.is_repeated()

    (error,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert error.startswith("internal error: RuntimeError in ")
    assert "secret" not in caplog.text


# -- the memo --------------------------------------------------------------------------------------


def test_the_session_is_cut_out_of_a_request() -> None:
    one, other = (candidate_of(ORIGIN, message(session_id)) for session_id in ("ONE", "ANOTHER"))

    assert one is not None
    assert other is not None
    assert one.key == other.key
    assert (one.session_id, other.session_id) == ("ONE", "ANOTHER")
    assert candidate_of(("https", *ORIGIN[1:]), message("ONE")) != one


@pytest.mark.parametrize(
    "data",
    [
        message("new"),
        message(""),
        message("a%20b"),
        message("x" * 101),
        message("a").replace(b"session_id", b"session"),
        message("a", headers=f"X: {'x' * MAX_REQUEST}\r\n"),
    ],
)
def test_a_request_whose_session_is_not_plain_is_not_memoised(data: bytes) -> None:
    assert candidate_of(ORIGIN, data) is None


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/run_analysis?a=b&session_id=S", True),
        ("/run_analysis?session_id=S&a=b", True),
        ("/run_analysis?session_id=S&session_id=S", False),
        ("/run_analysis?session_id=S&session%5Fid=S", False),
        ("/run_analysis?a=b?session_id=S", False),
        ("/run_analysis?a=b?session_id=S&session_id=S", False),
        ("/run&session_id=S&/run_analysis?a=b", False),
        ("/run&session_id=S&/run_analysis?session_id=S", False),
        ("/run_analysis?a=b&session_id=S#&session_id=S", False),
    ],
)
def test_only_the_value_of_the_field_may_be_cut_out(target: str, expected: bool) -> None:
    candidate = candidate_of(ORIGIN, f"GET {target} HTTP/1.1\r\n\r\n".encode())

    assert candidate is not None
    assert is_only_session(candidate, target) is expected
    assert not is_only_session(candidate, f"{target}x")


def test_what_a_header_has_in_place_of_the_session_is_not_cut_out() -> None:
    target = "/run_analysis?a=b"
    candidate = candidate_of(ORIGIN, f"GET {target} HTTP/1.1\r\nReferer: /?session_id=S&a\r\n\r\n".encode())

    assert candidate is not None
    assert not is_only_session(candidate, target)


async def test_a_client_without_a_session_does_not_receive_that_of_a_header(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        for number in range(5):
            target = f"/run_analysis?{QUERY}&query_status=new"
            header = f"Referer: /?session_id=OFHEADER{number}&a"
            request = f"GET {target} HTTP/1.1\r\nHost: proxy.example\r\n{header}\r\n\r\n"
            response = await deployment.connection.exchange(request.encode())

            assert b"OFHEADER" not in response


def test_few_requests_are_memoised() -> None:
    repeated = RepeatedRequests()
    for number in range(2 * MAX_REQUESTS):
        candidate = candidate_of(ORIGIN, message("S", query=f"RA={number}"))
        assert candidate is not None
        assert not repeated.is_wanted(candidate)

    assert len(repeated._responses) == MAX_REQUESTS


async def test_a_repeated_response_is_logged_with_what_is_known_of_its_query(tmp_path: Path) -> None:
    log = io.StringIO()
    async with deployed(tmp_path) as deployment:
        with log_in_thread(LogSettings(is_json=True), StreamOutput(log)):
            await deployment.heat()
            before = len(deployment.ordinary)
            await deployment.get("REPEATED")
            assert len(deployment.ordinary) == before
    *_, ordinary, repeated = [json.loads(line) for line in log.getvalue().splitlines() if "run_analysis" in line]

    changing = {"time", "request_id", "seconds", "bytes"}
    assert {name: value for name, value in ordinary.items() if name not in changing} == {
        name: value for name, value in repeated.items() if name not in changing
    }
    assert (repeated["instrument"], repeated["outcome"]) == ("isgri", "hit_hot")
    assert "REPEATED" not in log.getvalue()


async def test_a_request_that_has_an_id_is_answered_in_the_ordinary_way(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.heat()
        before = len(deployment.ordinary)
        for number in range(4):
            await deployment.get(f"SESSION{number}", headers="X-Request-ID: of-a-front-end\r\n")

        assert len(deployment.ordinary) == before + 4


async def test_requests_for_several_upstreams_are_repeated_and_counted_for_each(
    tmp_path: Path, writes: list[list[bytes]]
) -> None:
    async with AsyncExitStack() as stack:
        proxies, apps = {}, {}
        for prefix in ("/one", "/two"):
            store = stack.enter_context(closing(DiskStore(tmp_path / prefix[1:])))
            upstream = Upstream(products={"text": f"of {prefix}"})
            proxies[prefix] = Proxy(store, upstream, Policy(), runtime=Runtime(clock=Clock(), sleep=at_once))
            stack.push_async_callback(proxies[prefix].close)
            apps[prefix] = make_app(proxies[prefix], addresses=MountedAddresses(DIRECT, prefix))
        app = await stack.enter_async_context(mounted(apps, web.Application(), DIRECT))
        url = await stack.enter_async_context(listening(app, "127.0.0.1", 0))
        connection = await stack.enter_async_context(RawConnection(url))

        for number in range(20):
            for prefix in proxies:
                data = message(f"S{number}").replace(b"/run_analysis", f"{prefix}/run_analysis".encode())
                assert f'"of {prefix}"'.encode() in await connection.exchange(data)

    assert len(writes) > 20
    assert [proxy.outcomes.hits for proxy in proxies.values()] == [19, 19]
    counted = [sum(sum(one.buckets) for *_, one in proxy.request_counts.durations()) for proxy in proxies.values()]
    assert counted == [20, 20]
