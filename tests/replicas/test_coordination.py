"""One job for each query over three replicas; in simulated time."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import StoreUnusableError
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.jobs.policy import JobPolicy
from oda_proxy.jobs.replicas import StopNotConfirmedError
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.replicas.coordination import TIMING, Coordination
from oda_proxy.replicas.news import JobNews
from oda_proxy.replicas.timing import Timing
from oda_proxy.store.base import FencedError
from oda_proxy.store.memory import MemoryStore
from tests.support.lease_table import MemoryJournal, MemoryLeases, Table
from tests.support.scripted import KEY, QUERY, Client, Dispatcher, elapsed, now, simulated, token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oda_proxy.jobs.stopping import StoppableJob
    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry

HEARTBEAT = Timing().heartbeat


@dataclass
class Replica:
    """One server."""

    proxy: Proxy
    leases: MemoryLeases
    coordination: Coordination

    def client(self, session_id: str, *, token: str = "", query: str = QUERY) -> Client:
        return Client(self.proxy, session_id, token, query)

    async def find(self, session_id: str | None = None) -> list[StoppableJob]:
        """Return the jobs that a session, or the administrator, may stop through it."""
        return await self.proxy.jobs.stopper.find("", session_id)

    async def stop(self, session_id: str | None = None) -> None:
        """Stop the only job that a session, or the administrator, may stop through it."""
        (job,) = await self.find(session_id)
        await self.proxy.jobs.stopper.stop(job, "the administrator" if session_id is None else "its client")

    async def kill(self) -> None:
        """End it without notice: what it has in Redis stays."""
        self.leases.is_cut_off = True
        await self.proxy.close()


class FencedMemoryStore(MemoryStore):
    """A store that knows the fencing tokens of leases, as that in Redis does."""

    def __init__(self, table: Table) -> None:
        super().__init__(clock=now)
        self.refused = 0
        self._table = table

    def put_fenced(self, recording: Recording, fence: int, *, same_as: Entry | None = None) -> None:
        if self._table.fences[recording.key] > fence:
            self.refused += 1
            raise FencedError
        self.put(recording, same_as=same_as)


def replica(
    name: str, dispatcher: Dispatcher, store: MemoryStore, table: Table, policy: Policy, *, timing: Timing = TIMING
) -> Replica:
    leases, news = MemoryLeases(table, name), JobNews()
    table.news.append(news)
    runtime = Runtime(clock=now, new_session=lambda: f"SESSIONOFTHE{name}")
    coordination = Coordination(leases, news, runtime, owner=name, limit=lambda: policy.jobs.max_jobs, timing=timing)
    tokens = TokenVerifier(Sharing.SUBJECT, secret_key=KEY, trust=300.0, clock=now)
    services = Services(tokens=tokens, journal=MemoryJournal(leases), replicas=coordination)
    return Replica(Proxy(store, dispatcher, policy, services=services, runtime=runtime), leases, coordination)


@asynccontextmanager
async def replicas(
    dispatcher: Dispatcher,
    *,
    count: int = 3,
    policy: Policy | None = None,
    store: MemoryStore | None = None,
    of_first: Timing = TIMING,
) -> AsyncIterator[list[Replica]]:
    """Run replicas over one store until the block ends."""
    table = Table(now)
    store = store or FencedMemoryStore(table)
    async with AsyncExitStack() as stack:
        every = [
            replica(name, dispatcher, store, table, policy or Policy(), timing=of_first if name == "A" else TIMING)
            for name in "ABC"[:count]
        ]
        for one in every:
            stack.push_async_callback(one.proxy.close)
        yield every


@simulated
async def test_clients_of_all_replicas_share_one_job() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        clients = [every[number % 3].client(f"SESSION{number:09}") for number in range(30)]
        responses = await asyncio.gather(*(client.get_product() for client in clients))
        running = [list(one.proxy.jobs) for one in every]

    assert {response.state for response in responses} == {"done"}
    assert len({response.number for response in responses}) == 1
    assert len(dispatcher.submissions) == 1
    assert running == [[], [], []]


@simulated
async def test_a_job_of_three_replicas_is_polled_as_often_as_that_of_one() -> None:
    alone, shared = Dispatcher(), Dispatcher()
    async with replicas(alone, count=1) as (one,):
        await one.client("SESSIONOFTHEFIRST").get_product()
    async with replicas(shared) as every:
        await every[0].client("SESSIONOFTHEFIRST").ask()  # and leaves: those of other replicas wait
        await asyncio.gather(*(one.client(f"SESSION{number}").get_product() for number, one in enumerate(every[1:])))

    assert abs(len(shared.polls) - len(alone.polls)) <= 10


@simulated
async def test_followers_see_the_state_and_the_reports_of_the_leader() -> None:
    dispatcher = Dispatcher(reporting=5.0)
    async with replicas(dispatcher) as every:
        leader, follower = every[0].client("SESSIONOFTHEFIRST"), every[1].client("SESSIONOFTHENEXT")
        begun = await leader.ask()
        await asyncio.sleep(5)
        joined = await follower.ask()
        await asyncio.sleep(25)
        response = await follower.ask("submitted", joined.job_id)
        late = await every[2].client("SESSIONOFTHELATE").ask()
        await asyncio.sleep(2)
        late = await every[2].client("SESSIONOFTHELATE").ask("submitted", late.job_id)

    assert joined.job_id in {begun.job_id, joined.job_id}
    assert response.state == late.state == "progress"
    assert response.job_id == joined.job_id
    assert len(response.reports) >= 5
    assert len(late.reports) >= 5
    assert "SESSIONOFTHEFIRST" not in json.dumps(response.json)
    assert len(dispatcher.submissions) == 1


@simulated
async def test_a_failure_reaches_the_clients_of_all_replicas() -> None:
    dispatcher = Dispatcher({0.0: "submitted", 30.0: "failed"})
    async with replicas(dispatcher) as every:
        clients = [one.client(f"SESSION{number}") for number, one in enumerate(every)]
        responses = await asyncio.gather(*(client.get_product() for client in clients))
        again = await every[2].client("SESSIONOFANOTHER").ask()

    assert {response.state for response in responses} == {"failed"}
    assert len({response.message for response in responses}) == 1
    assert again.state == "submitted"  # a failure is not stored: the next query starts a job
    assert len(dispatcher.submissions) == 2


@simulated
async def test_a_poll_at_another_replica_finds_the_job_and_its_failure() -> None:
    dispatcher = Dispatcher({0.0: "submitted", 30.0: "failed"})
    async with replicas(dispatcher) as every:
        begun = await every[0].client("SESSIONOFTHEFIRST").ask()
        await asyncio.sleep(10)
        polled = await every[1].client("SESSIONOFTHEFIRST").ask("submitted", begun.job_id)
        await asyncio.sleep(40)
        failed = await every[2].client("SESSIONOFTHEFIRST").ask("submitted", begun.job_id)

    assert polled.state == "submitted"
    assert polled.job_id == failed.job_id == begun.job_id
    assert failed.state == "failed"
    assert len(dispatcher.submissions) == 1


@simulated
async def test_a_leader_that_dies_is_replaced_within_two_heartbeats_and_its_job_goes_on() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        begun = await every[0].client("SESSIONOFTHEFIRST").ask()
        clients = [one.client(f"SESSION{number}") for number, one in enumerate(every[1:])]
        waiting = [asyncio.create_task(client.get_product()) for client in clients]
        await asyncio.sleep(20)
        await every[0].kill()
        killed_at, requests = elapsed(), len(dispatcher.requests)
        await asyncio.sleep(2 * HEARTBEAT)
        resumed = dispatcher.requests[requests:]
        responses = await asyncio.gather(*waiting)

    assert resumed
    assert resumed[0].at - killed_at <= 2 * HEARTBEAT
    assert resumed[0].job_id == begun.job_id
    assert {response.state for response in responses} == {"done"}
    assert len(dispatcher.submissions) == 1


@simulated
async def test_a_job_of_a_replica_that_stops_goes_on_at_once() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        await every[0].client("SESSIONOFTHEFIRST").ask()
        waiting = asyncio.create_task(every[1].client("SESSIONOFTHENEXT").get_product())
        await asyncio.sleep(20)
        await every[0].proxy.close()
        requests = len(dispatcher.requests)
        await asyncio.sleep(2)
        assert len(dispatcher.requests) > requests
        assert (await waiting).state == "done"

    assert len(dispatcher.submissions) == 1


@simulated
async def test_the_next_poll_continues_the_job_of_a_leader_that_has_died() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        begun = await every[0].client("SESSIONOFTHEFIRST").ask()
        await every[0].kill()
        await asyncio.sleep(60)
        response = await every[1].client("SESSIONOFTHEFIRST").ask("submitted", begun.job_id)
        await asyncio.sleep(30)
        stored = await every[2].client("SESSIONOFANOTHER").ask()

    assert response.job_id == begun.job_id
    assert stored.cache_status == "oda-proxy; hit"
    assert len(dispatcher.submissions) == 1


@simulated
async def test_a_job_without_clients_goes_on_at_another_replica() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        await every[0].client("SESSIONOFTHEFIRST").ask()
        await every[0].kill()
        await asyncio.sleep(20)
        await every[1].proxy.resume()
        await every[2].proxy.resume()
        await asyncio.sleep(100)
        response = await every[2].client("SESSIONOFANOTHER").ask()

    assert response.cache_status == "oda-proxy; hit"
    assert len(dispatcher.submissions) == 1


@simulated
async def test_the_job_of_a_token_is_submitted_again_once_where_its_leader_dies() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        await every[0].client("SESSIONOFTHEFIRST", token=token()).ask()
        waiting = [
            asyncio.create_task(one.client(f"SESSION{number}", token=token()).get_product())
            for number, one in enumerate(every[1:])
        ]
        await asyncio.sleep(20)
        table = every[0].leases.table
        published = [*table.states.values(), repr(table.journal).encode()]
        await every[0].kill()
        responses = await asyncio.gather(*waiting)
        job_id = dispatcher.submissions[0].name

    assert {response.state for response in responses} == {"done"}
    assert len(dispatcher.submissions) == 2
    for secret in (token(), "SESSION", "somebody", job_id):
        assert all(secret.encode() not in text for text in published)


@simulated
async def test_a_replica_that_is_cut_off_from_redis_gives_its_job_up_once_another_leads() -> None:
    dispatcher = Dispatcher({0.0: "submitted", 10.0: "progress", 100.0: "ready"})
    async with replicas(dispatcher) as every:
        first = asyncio.create_task(every[0].client("SESSIONOFTHEFIRST").get_product())
        await asyncio.sleep(5)
        other = asyncio.create_task(every[1].client("SESSIONOFTHENEXT").get_product())
        await asyncio.sleep(5)
        every[0].leases.is_cut_off = True
        await asyncio.sleep(20)
        assert [one.coordination.leads for one in every] == [1, 1, 0]
        every[0].leases.is_cut_off = False
        await asyncio.sleep(3)
        assert [one.coordination.leads for one in every] == [0, 1, 0]
        assert [one.coordination.follows for one in every] == [1, 0, 0]
        responses = [await first, await other]

    assert {response.state for response in responses} == {"done"}
    assert len({response.number for response in responses}) == 1
    assert len(dispatcher.submissions) == 1


@simulated
async def test_a_job_goes_on_while_redis_is_away_for_all() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        clients = [one.client(f"SESSION{number}") for number, one in enumerate(every)]
        waiting = [asyncio.create_task(client.get_product()) for client in clients]
        await asyncio.sleep(10)
        every[0].leases.table.is_away = True
        await asyncio.sleep(20)
        every[0].leases.table.is_away = False
        every[0].leases.table.leases.clear()  # they have expired
        responses = await asyncio.gather(*waiting)

    assert {response.state for response in responses} == {"done"}
    assert len(dispatcher.submissions) == 1


@simulated
async def test_a_replica_without_redis_still_answers() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        every[0].leases.table.is_away = True
        responses = await asyncio.gather(*(one.client("SESSIONOFTHEFIRST").get_product() for one in every[:1]))

    assert responses[0].state == "done"
    assert len(dispatcher.submissions) == 1


class FailingStore(MemoryStore):
    """A store to which nothing can be written."""

    def put(self, recording: Recording, *, same_as: Entry | None = None) -> None:
        raise StoreUnusableError("s3://recordings", "it cannot be reached", "look at it")


@simulated
async def test_servers_fetch_a_result_that_cannot_be_stored_once_each_and_submit_no_other_job() -> None:
    dispatcher = Dispatcher({0.0: "submitted", 30.0: "ready"})
    async with replicas(dispatcher, store=FailingStore(clock=now)) as every:
        clients = [every[number % 3].client(f"SESSION{number:09}") for number in range(12)]
        responses = await asyncio.gather(*(client.get_product() for client in clients))

    assert {response.state for response in responses} == {"done"}
    assert len({response.number for response in responses}) == 1
    assert len(dispatcher.submissions) == 1


class AbsentStore(MemoryStore):
    """A store that cannot be read between two times, in s since the beginning."""

    def __init__(self, begin: float, end: float) -> None:
        super().__init__(clock=now)
        self._absence = begin, end

    def get(self, key: Key) -> Recording | None:
        begin, end = self._absence
        if begin <= elapsed() < end:
            raise StoreUnusableError("redis://redis.example", "Redis cannot be reached", "look at it")
        return super().get(key)


@pytest.mark.parametrize(("absence", "submissions"), [(40.0, 1), (200.0, 3)])
def test_clients_wait_a_minute_for_a_recording_that_cannot_be_read_and_then_have_a_job_again(
    absence: float, submissions: int
) -> None:
    dispatcher = Dispatcher({0.0: "submitted", 30.0: "ready"})

    @simulated
    async def scenario() -> None:
        async with replicas(dispatcher, store=AbsentStore(20.0, 20.0 + absence)) as every:
            clients = [one.client(f"SESSION{number}") for number, one in enumerate(every)]
            responses = await asyncio.gather(*(client.get_product() for client in clients))
        assert {response.state for response in responses} == {"done"}

    scenario()

    assert len(dispatcher.submissions) == submissions


@simulated
async def test_jobs_at_once_are_those_of_all_replicas() -> None:
    dispatcher, policy = Dispatcher({0.0: "submitted", 30.0: "ready"}), Policy(jobs=JobPolicy(max_jobs=2))
    async with replicas(dispatcher, policy=policy) as every:
        queries = [QUERY.replace("83.0", f"{number}.0") for number in range(6)]
        waiting = [
            asyncio.create_task(every[number % 3].client(f"SESSION{number}", query=query).get_product())
            for number, query in enumerate(queries)
        ]
        await asyncio.sleep(20)
        assert len(dispatcher.submissions) == 2
        responses = await asyncio.gather(*waiting)

    assert {response.state for response in responses} == {"done"}
    assert len(dispatcher.submissions) == 6


@simulated
async def test_a_job_that_is_stopped_is_stopped_for_the_clients_of_all_replicas() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        await every[0].client("SESSIONOFTHEFIRST").ask()
        waiting = asyncio.create_task(every[1].client("SESSIONOFTHENEXT").get_product())
        await asyncio.sleep(15)
        await every[0].stop()
        response = await waiting

    assert response.state == "failed"
    assert "stopped by the administrator" in response.message
    assert len(dispatcher.submissions) == 1


@simulated
@pytest.mark.parametrize("through", [0, 1, 2], ids=["its leader", "a follower", "one that has no client of it"])
async def test_the_administrator_stops_a_job_through_any_replica(through: int) -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        waiting = [
            asyncio.create_task(one.client(f"SESSION{number}").get_product()) for number, one in enumerate(every[:2])
        ]
        await asyncio.sleep(15)
        begun = elapsed()
        await every[through].stop()
        assert elapsed() - begun < 1
        responses = [await one for one in waiting]
        assert [list(one.proxy.jobs) for one in every] == [[], [], []]
        requests = len(dispatcher.requests)
        await asyncio.sleep(60)

    assert {response.state for response in responses} == {"failed"}
    assert {response.message for response in responses} == {
        "the job was stopped by the administrator; ask again to start it once more"
    }
    assert len(dispatcher.requests) == requests
    assert len(dispatcher.submissions) == 1


@simulated
async def test_a_job_is_stopped_through_a_follower_although_the_message_is_lost() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        waiting = [asyncio.create_task(one.client("SESSION").get_product()) for one in every]
        await asyncio.sleep(15)
        every[0].leases.table.news.clear()
        begun = elapsed()
        await every[2].stop()
        assert elapsed() - begun <= HEARTBEAT + TIMING.look
        responses = [await one for one in waiting]

    assert {response.state for response in responses} == {"failed"}


@simulated
async def test_a_stop_that_the_leader_does_not_hear_of_is_refused_in_words() -> None:
    dispatcher = Dispatcher({0.0: "submitted", 300.0: "ready"})
    async with replicas(dispatcher) as every:
        await every[0].client("SESSIONOFTHEFIRST").ask()
        await every[1].client("SESSIONOFTHENEXT").ask()
        await asyncio.sleep(1)
        every[0].leases.is_cut_off = True
        with pytest.raises(StopNotConfirmedError, match="has not confirmed within 7 s"):
            await every[1].stop()
        every[1].leases.is_cut_off = True
        with pytest.raises(StopNotConfirmedError, match="while Redis is away"):
            await every[1].stop()
        every[1].leases.is_cut_off = False
        await asyncio.sleep(2 * HEARTBEAT)  # the next leader hears of it
        assert list(every[1].proxy.jobs) == []


@simulated
async def test_a_client_stops_its_own_job_through_any_replica() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        await every[0].client("SESSIONOFTHEFIRST").ask()
        await every[1].client("SESSIONOFTHEFIRST").ask()  # as behind a balancer
        await asyncio.sleep(15)
        assert [len(await one.find("SESSIONOFTHEFIRST")) for one in every] == [1, 1, 1]
        assert [len(await one.find("SESSIONOFANOTHER")) for one in every] == [0, 0, 0]
        await every[2].stop("SESSIONOFTHEFIRST")
        await asyncio.sleep(2)
        assert [list(one.proxy.jobs) for one in every] == [[], [], []]


@simulated
@pytest.mark.parametrize("other", [0, 1, 2])
async def test_a_client_does_not_stop_a_job_for_which_another_waits_at_any_replica(other: int) -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        await every[0].client("SESSIONOFTHEFIRST").ask()
        await asyncio.sleep(15)
        await every[other].client("SESSIONOFANOTHER").ask()
        await asyncio.sleep(HEARTBEAT)
        for session_id in ("SESSIONOFTHEFIRST", "SESSIONOFANOTHER"):
            assert [len(await one.find(session_id)) for one in every] == [0, 0, 0]


@simulated
async def test_marks_of_sessions_name_none() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        await every[0].client("SESSIONOFTHEFIRST").ask()
        await asyncio.sleep(1)
        table = every[0].leases.table
        assert [len(mark) for marks in table.sessions.values() for mark in marks] == [16]


@simulated
async def test_a_refresh_at_a_follower_submits_the_job_once_more() -> None:
    """Once in a minute, whichever replicas the clients reach, as on one server."""
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        waiting = [asyncio.create_task(every[0].client("SESSIONOFTHEFIRST").get_product())]
        await asyncio.sleep(10)
        refreshing = [one.client(f"SESSION{number}") for number, one in enumerate(every)]
        for client in refreshing:
            client.headers = (("Cache-Control", "no-cache"),)
        waiting += [asyncio.create_task(client.get_product()) for client in refreshing[1:]]
        await asyncio.sleep(3)
        assert len(dispatcher.submissions) == 2
        waiting += [asyncio.create_task(client.get_product()) for client in refreshing[:1]]
        responses = await asyncio.gather(*waiting)

    assert {response.state for response in responses} == {"done"}
    assert len({response.number for response in responses}) == 1
    assert len(dispatcher.submissions) == 2


@simulated
async def test_refreshes_at_several_replicas_at_once_are_one_submission() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        clients = [one.client(f"SESSION{number}") for number, one in enumerate(every)]
        for client in clients:
            client.headers = (("Cache-Control", "no-cache"),)
        responses = await asyncio.gather(*(client.get_product() for client in clients))

    assert {response.state for response in responses} == {"done"}
    assert len(dispatcher.submissions) == 1


@simulated
async def test_a_refresh_of_which_the_leader_hears_too_late_is_a_job_of_its_own() -> None:
    """Its client never gets the result that was computed before it."""
    dispatcher = Dispatcher({0.0: "submitted", 20.0: "ready"})
    async with replicas(dispatcher, of_first=Timing(lease=1000.0, settle=1000.0)) as every:
        first = asyncio.create_task(every[0].client("SESSIONOFTHEFIRST").get_product())
        await asyncio.sleep(18.5)
        client = every[1].client("SESSIONOFTHENEXT")
        client.headers = (("Cache-Control", "no-cache"),)
        second = asyncio.create_task(client.get_product())
        one = await first
        dispatcher.products = lambda _: {"numpy_data_product_list": ["new"]}
        other = await second

    assert one.number != other.number == '["new"]'
    assert len(dispatcher.submissions) == 2


@simulated
async def test_a_job_is_counted_once_over_all_replicas() -> None:
    dispatcher = Dispatcher()
    async with replicas(dispatcher) as every:
        waiting = [asyncio.create_task(one.client(f"SESSION{at}").get_product()) for at, one in enumerate(every)]
        await asyncio.sleep(10)
        assert [[running.is_elsewhere for running in one.proxy.jobs] for one in every] == [[False], [True], [True]]
        await asyncio.gather(*waiting)
        counts = [one.proxy.jobs.counts for one in every]

    assert [one.started for one in counts] == [1, 0, 0]
    assert [one.ended["stored"] for one in counts] == [1, 0, 0]
    assert [sum(one.ended.values()) for one in counts] == [1, 0, 0]


@simulated
async def test_a_leader_without_a_lease_does_not_take_an_earlier_end_for_that_of_its_job() -> None:
    dispatcher = Dispatcher({0.0: "submitted", 10.0: "failed"})
    async with replicas(dispatcher) as every:
        assert (await every[0].client("SESSIONOFTHEFIRST").get_product()).state == "failed"
        dispatcher.plan = Dispatcher().plan
        every[1].leases.is_cut_off = True
        waiting = [asyncio.create_task(every[1].client("SESSIONOFTHENEXT").get_product())]
        await asyncio.sleep(5)
        waiting.append(asyncio.create_task(every[2].client("SESSIONOFANOTHER").get_product()))
        await asyncio.sleep(5)
        assert [one.coordination.leads for one in every] == [0, 1, 1]
        every[1].leases.is_cut_off = False
        responses = await asyncio.gather(*waiting)

    assert {response.state for response in responses} == {"done"}


@simulated
async def test_a_late_result_of_a_leader_that_was_suspended_is_refused_and_all_get_that_of_its_successor() -> None:
    dispatcher = Dispatcher({0.0: "submitted", 30.0: "ready"})
    dispatcher.products = lambda _: {"numpy_data_product_list": [len(dispatcher.requests)]}
    without_beats = Timing(settle=1000.0)  # as if it were suspended, but for its requests to the dispatcher
    async with replicas(dispatcher, of_first=without_beats, count=2) as every:
        waiting = []
        for number, one in enumerate(every):
            waiting.append(asyncio.create_task(one.client(f"SESSION{number}").get_product()))
            await asyncio.sleep(5)
        await asyncio.sleep(10)
        assert [one.coordination.leads for one in every] == [1, 1]
        responses = [await one for one in waiting]
        hit = await every[0].client("SESSIONOFANOTHER").ask()
        store = every[0].proxy.store

    assert {response.state for response in responses} == {"done"}
    assert len({response.number for response in (*responses, hit)}) == 1
    assert isinstance(store, FencedMemoryStore)
    assert store.refused == 1
    assert len(dispatcher.submissions) == 1


@simulated
async def test_a_new_result_is_served_by_all_replicas_that_waited_for_it() -> None:
    """The recording that a replica has in memory may be the one before."""
    dispatcher = Dispatcher({0.0: "submitted", 10.0: "ready"})
    async with replicas(dispatcher) as every:
        await every[0].client("SESSIONOFTHEFIRST").get_product()
        clients = [one.client(f"SESSION{number}") for number, one in enumerate(every)]
        for client in clients:
            client.headers = (("Cache-Control", "no-cache"),)
        await asyncio.sleep(60)
        dispatcher.products = lambda _: {"numpy_data_product_list": ["new"]}
        responses = await asyncio.gather(*(client.get_product() for client in clients))

    assert {response.number for response in responses} == {'["new"]'}
    assert len(dispatcher.submissions) == 2


@pytest.mark.parametrize(
    "state", [b"{}", b"[]", b"\xff", b'{"format": 2}', b'{"format": 1, "state": "x"}', b"x" * 2**21], ids=range(6)
)
def test_a_state_that_cannot_be_read_is_skipped(state: bytes) -> None:
    dispatcher = Dispatcher({0.0: "submitted", 30.0: "ready"})

    @simulated
    async def scenario() -> None:
        async with replicas(dispatcher) as every:
            waiting = asyncio.create_task(every[0].client("SESSIONOFTHEFIRST").get_product())
            await asyncio.sleep(0.5)
            follower = asyncio.create_task(every[1].client("SESSIONOFTHENEXT").get_product())
            await asyncio.sleep(5)
            table = every[0].leases.table
            for key in table.states:
                table.states[key] = state
            await asyncio.sleep(0.05)
            assert (await waiting).state == (await follower).state == "done"

    scenario()

    assert len(dispatcher.submissions) == 1
