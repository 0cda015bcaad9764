"""A proxy resumes the jobs of an earlier process; in simulated time."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.jobs.journal import JobJournal, JournalEntry
from oda_proxy.jobs.ownership import STALE
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query, parse_fields, split_query
from oda_proxy.store.memory import MemoryStore
from tests.support.scripted import KEY, QUERY, Client, Dispatcher, Reply, elapsed, now, refusal, reply, simulated, token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

DAY = 86400.0


@asynccontextmanager
async def started(
    folder: Path,
    dispatcher: Dispatcher,
    store: MemoryStore,
    *,
    grace: float = 0.0,
    former: Sequence[Path] = (),
    secret_key: str | None = KEY,
) -> AsyncIterator[Proxy]:
    """Start a proxy on a folder; at the end it is closed without notice."""
    tokens = TokenVerifier(Sharing.SUBJECT, secret_key=secret_key, trust=300.0, clock=now)
    proxy = Proxy(
        store,
        dispatcher,
        Policy(),
        services=Services(tokens=tokens, journal=JobJournal(folder, former)),
        runtime=Runtime(clock=now, new_session=lambda: "SESSIONOFTHEPROXY"),
    )
    await proxy.resume()
    yield proxy
    await proxy.close(grace)


def noted(folder: Path) -> list[str]:
    return sorted(file.read_text() for file in folder.glob("jobs/*.json"))


def locks(folder: Path) -> list[Path]:
    return list(folder.glob("jobs/*.lock"))


@simulated
async def test_a_job_goes_on_after_a_restart_and_is_not_submitted_again(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store) as proxy:
        begun = await Client(proxy).ask()
    await asyncio.sleep(20)
    async with started(tmp_path, dispatcher, store) as proxy:
        client = Client(proxy)
        response = await client.ask("submitted", begun.job_id)
        assert "before the proxy was started again" in response.json["exit_status"]["comment"]
        assert response.job_id == begun.job_id
        assert [running.sessions for running in proxy.jobs] == [1]
        await asyncio.sleep(60)
        assert (await client.ask("progress", begun.job_id)).state == "done"
        assert (await Client(proxy, "SESSIONOFANOTHER").ask()).cache_status == "oda-proxy; hit"

    assert len(dispatcher.submissions) == 1
    assert noted(tmp_path) == []


@simulated
async def test_a_job_that_was_begun_at_a_former_address_goes_on_and_is_not_submitted_again(tmp_path: Path) -> None:
    dispatcher, store, (before, now_) = Dispatcher(), MemoryStore(clock=now), (tmp_path / "before", tmp_path / "now")
    async with started(before, dispatcher, store) as proxy:
        await Client(proxy).ask()
    async with started(now_, dispatcher, store, former=[before]) as proxy:
        await asyncio.sleep(100)
        assert (await Client(proxy, "SESSIONOFANOTHER").ask()).cache_status == "oda-proxy; hit"

    assert len(dispatcher.submissions) == 1
    assert noted(before) == noted(now_) == []


@simulated
async def test_the_result_of_a_job_without_clients_is_stored_too(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store) as proxy:
        await Client(proxy).ask()
    async with started(tmp_path, dispatcher, store) as proxy:
        await asyncio.sleep(100)
        assert (await Client(proxy, "SESSIONOFANOTHER").ask()).cache_status == "oda-proxy; hit"


@simulated
async def test_the_time_before_the_restart_counts(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store) as proxy:
        await Client(proxy).ask()
    await asyncio.sleep(30)
    async with started(tmp_path, dispatcher, store) as proxy:
        await asyncio.sleep(100)
        assert proxy.counts.kept == 1

    (entry,) = store.entries()
    assert 60 < entry.cost < 80


@simulated
async def test_the_journal_holds_nothing_of_the_client(tmp_path: Path) -> None:
    dispatcher = Dispatcher()
    async with started(tmp_path, dispatcher, MemoryStore(clock=now)) as proxy:
        first = await Client(proxy, "SESSIONOFTHEFIRST", token()).ask()
        second = await Client(proxy, "SESSIONOFTHENEXT").ask()
        (private, public) = sorted(noted(tmp_path), key=lambda text: second.job_id in text)

    for secret in ("SESSIONOF", *token().split(".")[1:], "somebody", first.job_id):
        assert secret not in private + public
    assert json.loads(private)["private"] is True
    assert json.loads(public)["private"] is False


@simulated
async def test_a_job_whose_token_is_gone_waits_for_the_next_client(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store) as proxy:
        await Client(proxy, token=token()).ask()
    async with started(tmp_path, dispatcher, store) as proxy:
        await asyncio.sleep(30)
        assert list(proxy.jobs) == []
        response = await Client(proxy, "SESSIONOFTHENEXT", token()).get_product()

    assert response.state == "done"
    assert noted(tmp_path) == []


@simulated
async def test_the_end_of_a_job_for_one_client_leaves_the_entry_of_the_job_of_all(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(plan={0.0: "done"}), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store, secret_key=None) as proxy:
        owner, other = Client(proxy, token=token()), Client(proxy, "SESSIONOFTHENEXT", token(expires=2e6))
        await replace(owner, query=QUERY.replace("83.0", "1.0"), responses=[]).get_product()  # verifies its token
        dispatcher.plan = {0.0: "submitted", 900.0: "ready"}
        await owner.ask()
        (before,) = noted(tmp_path)
        dispatcher.revoked.add(other.token)

        assert (await other.get_product()).state == "failed"

        assert noted(tmp_path) == [before]
        assert (await owner.get_product()).state == "done"
        assert noted(tmp_path) == []


@simulated
async def test_a_job_whose_first_request_is_under_way_is_not_submitted_twice(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(latency=4.0), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store, grace=5.0) as proxy:
        asking = asyncio.create_task(Client(proxy).ask())
        await asyncio.sleep(1)
    begun = await asking
    async with started(tmp_path, dispatcher, store) as proxy:
        assert [running.job.job_id for running in proxy.jobs] == [dispatcher.submissions[0].name]
        assert (await Client(proxy).ask("submitted", begun.job_id)).state in {"submitted", "progress"}
        await asyncio.sleep(100)

    assert len(dispatcher.submissions) == 1
    assert len(list(store.keys())) == 1


@simulated
async def test_a_job_of_a_process_that_died_in_its_first_request_is_in_the_journal(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(latency=4.0), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store) as proxy:
        asking = asyncio.create_task(Client(proxy).ask())
        await asyncio.sleep(1)
        assert len(noted(tmp_path)) == 1
    await asking
    async with started(tmp_path, dispatcher, store) as proxy:
        await asyncio.sleep(100)
        assert proxy.counts.kept == 1

    assert noted(tmp_path) == []


@simulated
async def test_of_two_processes_on_one_folder_one_polls_the_dispatcher(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store) as one:
        await Client(one).ask()
        async with started(tmp_path, dispatcher, store) as other:
            await asyncio.sleep(5)
            response = await Client(other, "SESSIONOFANOTHER").ask()
            assert response.state == "submitted"
            assert "another process of the proxy" in response.json["exit_status"]["comment"]

            end = await Client(other, "SESSIONOFANOTHER").get_product()

            assert end.state == "done"
            assert {request.session_id for request in dispatcher.requests} == {"SESSIONOFTHEFIRST"}
            assert len(dispatcher.submissions) == 1
            assert list(other.jobs) == []
    assert locks(tmp_path) == []


@simulated
async def test_a_job_begun_later_by_another_process_is_joined_too(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store) as one, started(tmp_path, dispatcher, store) as other:
        got = await asyncio.gather(Client(one).get_product(), Client(other, "SESSIONOFANOTHER").get_product())

    assert {response.state for response in got} == {"done"}
    assert len(dispatcher.submissions) == 1


@simulated
async def test_the_job_of_a_process_that_stops_goes_on_in_the_other(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store) as other:
        async with started(tmp_path, dispatcher, store) as one:
            await Client(one).ask()
            asking = asyncio.create_task(Client(other, "SESSIONOFANOTHER").get_product())
            await asyncio.sleep(20)
        assert (await asking).state == "done"

    assert len(dispatcher.submissions) == 1


@pytest.mark.parametrize(
    ("owner", "waits"),
    [
        ({"host": "another.host", "pid": 1, "id": "x"}, True),
        ({"host": socket.gethostname(), "pid": 2**22 + 1, "id": "x"}, False),
        ({"host": socket.gethostname(), "pid": os.getpid(), "id": "of an earlier process with this pid"}, False),
        ({}, True),
    ],
    ids=["another host", "a process that ended", "before a restart", "damaged"],
)
def test_a_lock_is_free_when_its_process_has_ended_or_its_heartbeat_stops(
    tmp_path: Path, owner: dict[str, object], *, waits: bool
) -> None:
    @simulated
    async def scenario() -> None:
        dispatcher, store = Dispatcher(plan={0.0: "done"}), MemoryStore(clock=now)
        async with started(tmp_path, dispatcher, store) as proxy:
            await Client(proxy, query=f"{QUERY}&DEC=1").get_product()
            (tmp_path / "jobs").mkdir(exist_ok=True)
            (key,) = [(await proxy._resolver.resolve(split_query(parse_fields(QUERY))[0])).key]
            (tmp_path / "jobs" / f"{key}.lock").write_text(json.dumps(owner))
            began = elapsed()

            end = await Client(proxy).get_product()

            assert end.state == "done"
            assert (end.at - began > STALE) == waits
            assert end.at - began < 2 * STALE

    scenario()


@simulated
async def test_a_job_that_failed_meanwhile_is_removed_from_the_journal(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store) as proxy:
        begun = await Client(proxy).ask()
    dispatcher.plan = {0.0: "failed"}
    async with started(tmp_path, dispatcher, store) as proxy:
        await asyncio.sleep(10)
        assert list(proxy.jobs) == []
        assert (await Client(proxy, "SESSIONOFANOTHER").ask()).state == "failed"

    assert begun.state == "submitted"
    assert noted(tmp_path) == []


@simulated
async def test_a_job_of_last_week_is_given_up(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(plan={0.0: "submitted"}), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store) as proxy:
        await Client(proxy).ask()
    await asyncio.sleep(7 * DAY)
    async with started(tmp_path, dispatcher, store) as proxy:
        assert list(proxy.jobs) == []

    assert noted(tmp_path) == []


@simulated
async def test_a_folder_that_cannot_be_written_is_logged_once_and_jobs_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "jobs").write_text("no folder")
    async with started(tmp_path, Dispatcher(plan={0.0: "done"}), MemoryStore(clock=now)) as proxy:
        for number in range(3):
            assert (await Client(proxy, query=f"{QUERY}&DEC={number}").get_product()).state == "done"

    messages = [record.getMessage() for record in caplog.records]
    assert sum("cannot lock jobs" in message for message in messages) == 1
    assert sum("cannot write running jobs" in message for message in messages) == 1


DAMAGES = [b"", b"{", b"[]", b"null", b'{"format": 2}', b'{"format": 1, "key": "other"}', b"\xff" * 10, b"[" * 100_000]


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_unreadable_journal_entry_is_skipped(tmp_path: Path, damage: bytes) -> None:
    journal, key = JobJournal(tmp_path), Key("ab" * 32)
    asyncio.run(journal.write(JournalEntry(key, Query("isgri", "isgri_image", "Real", (), api=True), 12.5)))
    good = asyncio.run(journal.load())
    (tmp_path / "jobs" / f"{'cd' * 32}.json").write_bytes(damage)

    assert asyncio.run(journal.load()) == good != []


def test_a_journal_entry_of_another_release_stays(tmp_path: Path) -> None:
    journal, key = JobJournal(tmp_path), Key("ab" * 32)
    job = JournalEntry(key, Query("isgri", "isgri_image", "Real", (), api=True), 12.5)
    (tmp_path / "jobs").mkdir()
    (theirs := tmp_path / "jobs" / f"{key}.json").write_text('{"format": 2}')

    asyncio.run(journal.write(job))
    assert asyncio.run(journal.load()) == [job]
    assert asyncio.run(journal.read(key)) == job
    asyncio.run(journal.remove(key))

    assert asyncio.run(journal.load()) == []
    assert [file.name for file in (tmp_path / "jobs").iterdir()] == [theirs.name]


def test_a_journal_entry_is_read_as_it_was_written(tmp_path: Path) -> None:
    query = Query("isgri", "isgri_image", "Real", (("RA", ("83.0",)), ("scw_list", ("1", "2"))), api=True)
    job = JournalEntry(Key("ab" * 32), query, 12.5, "0123456789abcdef", version="1.3.5")
    asyncio.run(JobJournal(tmp_path).write(job))

    assert asyncio.run(JobJournal(tmp_path).load()) == [job]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("no folder")
    journal = JobJournal(tmp_path)

    asyncio.run(journal.write(JournalEntry(Key("ab" * 32), Query("isgri", "isgri_image", "Real", (), api=True), 12.5)))

    assert asyncio.run(journal.load()) == []


@simulated
async def test_a_resubmitted_job_is_in_the_journal_under_its_new_id(tmp_path: Path) -> None:
    dispatcher = Dispatcher(plan={0.0: "submitted"})
    async with started(tmp_path, dispatcher, MemoryStore(clock=now)) as proxy:
        first = await Client(proxy).ask()
        dispatcher.instead = lambda request: renamed(request.status, request.job_id)
        await asyncio.sleep(20)

        assert first.job_id not in noted(tmp_path)[0]
        assert "0123456789abcdef" in noted(tmp_path)[0]


def renamed(status: str, job_id: str) -> Reply:
    """Answer as a dispatcher that has forgotten its jobs, and names those that begin in another way."""
    if status != "new" and job_id != "0123456789abcdef":
        return refusal(f"unable to find any record for {job_id}", 400)
    monitor = {"job_id": "0123456789abcdef", "session_id": "S", "status": "submitted"}
    return reply({"query_status": "submitted", "products": {}, "exit_status": {}, "job_monitor": monitor})


@simulated
async def test_the_duration_of_a_job_that_ended_between_two_processes_is_not_known(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store) as proxy:
        await Client(proxy).ask()
    await asyncio.sleep(3600)
    async with started(tmp_path, dispatcher, store) as proxy:
        await asyncio.sleep(10)
        assert proxy.counts.kept == 1

    (entry,) = store.entries()
    assert entry.cost == 0.0
