"""Queries with uploaded files are jobs like others; in simulated time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from oda_proxy.store.memory import MemoryStore
from tests.jobs.test_resuming import noted, started
from tests.support.scripted import Client, Dispatcher, crowd, now, proxied, simulated, together

if TYPE_CHECKING:
    from pathlib import Path


@simulated
async def test_clients_that_upload_the_same_file_share_one_job_and_its_recording() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        clients = [*crowd(proxy, 3, file=b"a file"), Client(proxy, "WITHANOTHERFILE", file=b"another")]

        got = await together(clients)

        assert {response.state for response in got} == {"done"}
        assert len(dispatcher.submissions) == 2
        assert (await Client(proxy, "COMESLATER", file=b"a file").ask()).cache_status == "oda-proxy; hit"


@simulated
async def test_files_are_sent_with_submissions_and_fetches_and_not_with_polls() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        await Client(proxy, file=b"a file").get_product()

    assert {(request.status, bool(request.files)) for request in dispatcher.requests} == {
        ("new", True),
        ("submitted", False),
        ("progress", False),
        ("ready", True),
    }
    assert len({request.files for request in dispatcher.requests if request.files}) == 1
    assert {request.session_id for request in dispatcher.requests} == {"SESSIONOFTHEFIRST"}


@simulated
async def test_a_job_with_a_file_continues_when_its_client_disconnects() -> None:
    dispatcher = Dispatcher()
    async with proxied(dispatcher) as proxy:
        asking = asyncio.create_task(Client(proxy, file=b"a file").get_product())
        await asyncio.sleep(5)
        asking.cancel()
        await asyncio.sleep(120)

        assert (await Client(proxy, "COMESLATER", file=b"a file").ask()).cache_status == "oda-proxy; hit"


@simulated
async def test_a_job_with_a_file_is_resumed_for_a_client_with_the_same_file(tmp_path: Path) -> None:
    dispatcher, store = Dispatcher(), MemoryStore(clock=now)
    async with started(tmp_path, dispatcher, store) as proxy:
        first = await Client(proxy, file=b"a file").ask()
    async with started(tmp_path, dispatcher, store) as proxy:
        await asyncio.sleep(20)
        assert list(proxy.jobs) == []
        client = Client(proxy, file=b"a file")
        assert (await client.ask("submitted", first.job_id)).state in {"submitted", "progress"}
        assert (await client.get_product()).state == "done"

    assert len(dispatcher.submissions) == 1
    assert [bool(request.files) for request in dispatcher.requests if request.status == "ready"] == [True]
    assert noted(tmp_path) == []
