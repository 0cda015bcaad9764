"""What a worker answers alone, and what it forwards; both workers are of this process, with one store."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import pytest

from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.http.message import Request
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.store.freshness import Freshness, Rule
from oda_proxy.store.hot_tier import DEFAULT_LIMIT
from oda_proxy.store.memory import MemoryStore
from oda_proxy.web.app import make_app
from oda_proxy.web.metrics_page import snapshot_of
from oda_proxy.web.server import listening_on
from oda_proxy.web.server_state import ServerState
from oda_proxy.workers.channel import Roles
from oda_proxy.workers.forwarding import Forwarder, UpstreamOfLeader
from oda_proxy.workers.membership import Membership
from oda_proxy.workers.routing import ClientRouting, Others, WorkerRouting
from oda_proxy.workers.saved_metrics import SavedMetrics
from oda_proxy.workers.socket_folder import private_folder, socket_of
from tests.support.dispatcher_responses import answer
from tests.support.scripted import token
from tests.support.scripted_upstream import ORIGIN, QUERY, Clock, Script, body_of, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LEADER, FOLLOWER = 0, 1
SECONDS_OF_TWO_DAYS = 2 * 86400.0
POLICY = Policy(open_routes=frozenset({"reload-plugin"}), freshness=Freshness((Rule.parse("*/*=1"),)))
DESCRIPTION = Request("GET", "/api/par-names", "instrument=isgri")


class Unused(Script):
    """The dispatcher, to which a worker that does not lead sends nothing."""

    async def send(self, ask: Request) -> NoReturn:
        raise AssertionError(f"{ask.path} was sent to the dispatcher")


class Worker:
    """A worker, which listens for the other until its stack is closed."""

    def __init__(self, number: int, upstream: Script, store: MemoryStore, clock: Clock) -> None:
        self.membership = Membership(number)
        self.membership.roles = Roles(LEADER, (LEADER, FOLLOWER))
        if number == LEADER:
            self.membership.leading.set()
        self.upstream = upstream
        self.store = store
        self.clock = clock

    async def start(self, folder: Path, stack: AsyncExitStack) -> None:
        forwarder = await stack.enter_async_context(Forwarder(folder, self.membership))
        self.others = Others(self.membership, forwarder)
        describing = UpstreamOfLeader(self.upstream, forwarder, self.membership)
        services = Services(describing=describing, others=self.others)
        self.proxy = Proxy(self.store, self.upstream, POLICY, services=services, runtime=Runtime(clock=self.clock))
        stack.push_async_callback(self.proxy.close)
        self.routing = ClientRouting(self.proxy, self.membership, forwarder)
        server, number = ServerState(started_at=0.0), self.membership.number
        self.status = partial(self.others.status, self.proxy, server)
        saved = SavedMetrics(folder, number, 2, partial(snapshot_of, self.proxy, server))
        self.metrics = partial(self.others.metrics, saved)
        between = WorkerRouting(self.proxy, self.membership, server, saved)
        app = make_app(self.proxy, answer=between.answer, page_middlewares=[between.pages])
        await stack.enter_async_context(listening_on(app, [socket_of(folder, self.membership.number)]))

    async def answer(self, sent: Request) -> tuple[str, bytes]:
        found = await self.routing.answer(sent, origin=ORIGIN)
        return str(found.cache_status), await body_of(found)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dispatcher() -> Script:
    return Script()


@pytest.fixture
async def pair(dispatcher: Script, clock: Clock) -> AsyncIterator[tuple[Worker, Worker]]:
    """Start the leader and a follower."""
    store = MemoryStore(clock=clock)
    pair = Worker(LEADER, dispatcher, store, clock), Worker(FOLLOWER, Unused(), store, clock)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(private_folder())
        for worker in pair:
            await worker.start(folder, stack)
        yield pair


@pytest.fixture
async def follower(pair: tuple[Worker, Worker], dispatcher: Script) -> Worker:
    """Return the follower; the answer to `request()` is recorded."""
    dispatcher.then(answer())
    await pair[LEADER].answer(request())
    dispatcher.asked.clear()
    return pair[FOLLOWER]


async def test_a_recorded_query_is_answered_alone(follower: Worker, pair: tuple[Worker, Worker]) -> None:
    status, body = await follower.answer(request(who="SESSIONOFANOTHER"))

    assert status == "oda-proxy; hit"
    assert b"SESSIONOFANOTHER" in body
    assert (follower.proxy.counts.hits, pair[LEADER].proxy.counts.hits) == (1, 0)


@pytest.mark.parametrize(
    "sent",
    [
        request(f"{QUERY}&DEC=1"),
        request(status="submitted"),
        Request("GET", "/run_analysis", request().query_string, (("Cache-Control", "no-cache"),)),
        Request("GET", "/run_analysis", request().query_string, (("Cache-Control", "max-age=0"),)),
        Request("GET", "/run_analysis", f"{request().query_string}&job_id=0123456789abcdef"),
        Request("GET", "/run_analysis", f"{request().query_string}&token={token()}"),
        Request("GET", "/run_analysis", "what=ever"),
        Request("GET", "/resolve_name", "name=Crab"),
    ],
    ids=["unrecorded", "a poll", "no-cache", "max-age=0", "with a job", "with a token", "no query", "another route"],
)
async def test_what_needs_the_dispatcher_or_a_job_is_forwarded(
    follower: Worker, dispatcher: Script, sent: Request
) -> None:
    dispatcher.then(answer(query_status="failed"))
    status, body = await follower.answer(sent)

    assert len(dispatcher.asked) == 1
    assert "fwd=" in status
    assert b"failed" in body
    assert follower.proxy.counts.hits == 0


async def test_a_recording_that_has_expired_is_renewed_by_the_leader(
    follower: Worker, dispatcher: Script, clock: Clock
) -> None:
    clock.now += SECONDS_OF_TWO_DAYS
    dispatcher.then(answer())

    assert (await follower.answer(request()))[0] == "oda-proxy; fwd=stale; fwd-status=200; stored"


async def test_a_description_is_fetched_through_the_leader_and_cached(follower: Worker, dispatcher: Script) -> None:
    dispatcher.then(["RA"])
    statuses = [await follower.answer(DESCRIPTION) for _ in range(3)]

    assert statuses == [
        ("oda-proxy; fwd=uri-miss; fwd-status=200; stored", b'["RA"]\n'),
        *[("oda-proxy; hit", b'["RA"]\n')] * 2,
    ]
    assert len(dispatcher.asked) == 1


async def test_a_plugin_that_is_reloaded_expires_the_descriptions_of_all_workers(
    follower: Worker, pair: tuple[Worker, Worker], dispatcher: Script, clock: Clock
) -> None:
    dispatcher.then(["RA"]).then({}).then(["DEC"])
    await follower.answer(DESCRIPTION)
    clock.now += 1
    await pair[LEADER].answer(Request("GET", "/reload-plugin/isgri"))
    clock.now += 1

    assert (await follower.answer(DESCRIPTION))[1] == b'["DEC"]\n'


async def test_the_leader_knows_which_sessions_another_worker_has_served(
    follower: Worker, pair: tuple[Worker, Worker]
) -> None:
    await follower.answer(request(who="SESSIONOFANOTHER"))

    assert await pair[LEADER].others.have_served("SESSIONOFANOTHER")
    assert not await pair[LEADER].others.have_served("SESSIONOFATHIRD1")


async def test_the_state_of_both_workers_is_added_up(follower: Worker, pair: tuple[Worker, Worker]) -> None:
    for worker in (*pair, follower):
        await worker.answer(request())
    status = await pair[LEADER].status()

    assert status["run_analysis"]["hits"] == 3
    assert status["hot_tier"]["hits"] == 1
    assert status["limits"]["memory"] == 2 * DEFAULT_LIMIT
    assert [(worker["leads"], worker["hits"]) for worker in status["workers"]] == [(True, 1), (False, 2)]


async def test_the_metrics_of_both_workers_are_added_up(follower: Worker, pair: tuple[Worker, Worker]) -> None:
    for worker in (*pair, follower):
        await worker.answer(request())
    snapshot = await pair[LEADER].metrics()

    queries = {outcome: value for (_, outcome), (value,) in snapshot["queries_total"].items() if value}
    assert queries == {"miss": 1, "hit_cold": 2, "hit_hot": 1}
    assert [snapshot[name][()][0] for name in ("workers", "cache_entries")] == [2, 1]


async def test_the_counters_of_a_worker_that_does_not_answer_are_as_it_last_reported_them(
    follower: Worker, pair: tuple[Worker, Worker]
) -> None:
    await follower.answer(request())
    before = await pair[LEADER].metrics()
    pair[LEADER].membership.roles = Roles(LEADER, (LEADER,))
    after = await pair[LEADER].metrics()

    assert after["queries_total"] == before["queries_total"]
    assert (before["workers"][()], after["workers"][()]) == ((2,), (1,))
