"""The page of jobs, and the command that lists and stops them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

import aiohttp
import pytest

from oda_proxy import cli
from oda_proxy.access.authentication import Authentication, Secret, Tokens
from oda_proxy.access.hosts import HostPolicy
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.in_process import in_thread
from oda_proxy.jobs.replicas import NoReplicas, StopNotConfirmedError
from oda_proxy.jobs.stopping import StoppableJob
from oda_proxy.proxy import Proxy
from oda_proxy.query.cache_key import Key
from oda_proxy.store.memory import MemoryStore
from oda_proxy.web.app import make_app
from oda_proxy.web.own_routes import Guard
from oda_proxy.web.server import listening
from tests.support.dispatcher_responses import answer
from tests.support.scripted import QUERY, Client
from tests.support.scripted_upstream import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator
    from pathlib import Path

    from oda_proxy.http.message import Request
    from tests.support.scripted_upstream import Reply

ADMIN = "the administration token"
GUARD = Guard(Authentication(Tokens(admin=Secret(ADMIN))), HostPolicy())


class Submitting(Script):
    """An upstream whose jobs never end."""

    async def send(self, ask: Request) -> Reply:
        self.then({**answer(query_status="submitted"), "products": {}})
        return await super().send(ask)


@pytest.fixture
def proxy() -> Proxy:
    return Proxy(MemoryStore(), Submitting(), Policy())


@pytest.fixture
async def url(proxy: Proxy) -> AsyncIterator[str]:
    async with listening(make_app(proxy, guard=GUARD), "127.0.0.1", 0) as url:
        yield url
    await proxy.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def delete(url: str, key: str, headers: dict[str, str]) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.delete(f"{url}/-/jobs/{key}", headers=headers) as response:
        return response.status, await response.text()


async def test_a_job_is_stopped_with_the_administration_token_and_its_clients_learn_so(proxy: Proxy, url: str) -> None:
    client = Client(proxy)
    job_id = (await client.ask()).job_id
    (running,) = proxy.jobs

    status, text = await delete(url, running.resolved.key[:8], bearer(ADMIN))

    assert (status, json.loads(text)) == (200, {"stopped": running.resolved.key})
    assert list(proxy.jobs) == []
    end = await client.ask("submitted", job_id)
    assert (end.status, end.state) == (500, "failed")
    assert end.message == "the job was stopped by the administrator; ask again to start it once more"


@pytest.mark.parametrize(
    "headers", [{}, bearer(""), bearer("another"), {"Authorization": f"Basic {ADMIN}"}, {"Oda-Session": "ANOTHER"}]
)
async def test_a_job_is_not_stopped_without_the_token(proxy: Proxy, url: str, headers: dict[str, str]) -> None:
    await Client(proxy).ask()
    (running,) = proxy.jobs

    status, text = await delete(url, running.resolved.key, headers)
    assert (status, "is not one of this server" in text) == (401, "Bearer" in headers.get("Authorization", ""))
    assert list(proxy.jobs) == [running]


async def test_without_an_administration_token_no_token_stops_a_job(proxy: Proxy) -> None:
    await Client(proxy).ask()
    (running,) = proxy.jobs
    async with listening(make_app(proxy), "127.0.0.1", 0) as url:
        assert (await delete(url, running.resolved.key, bearer("")))[0] == 401
        status, text = await delete(url, running.resolved.key, {})

    assert (status, "--admin-token" in text) == (401, True)
    await proxy.close()


@pytest.mark.parametrize(("joined", "status"), [(False, 200), (True, 401)])
async def test_a_client_stops_its_own_job_unless_another_has_joined(
    proxy: Proxy, url: str, status: int, *, joined: bool
) -> None:
    await Client(proxy).ask()
    if joined:
        await Client(proxy, "SESSIONOFANOTHER").ask()
    (running,) = proxy.jobs

    assert (await delete(url, running.resolved.key, {"Oda-Session": "SESSIONOFTHEFIRST"}))[0] == status


async def test_an_unknown_or_ambiguous_key_stops_nothing(proxy: Proxy, url: str) -> None:
    for number in range(20):
        await Client(proxy, query=f"{QUERY}&DEC={number}").ask()
    keys = sorted(running.resolved.key for running in proxy.jobs)
    prefix = next(one[0] for one, other in pairwise(keys) if one[0] == other[0])

    for key in (prefix, "0" * 64):
        assert (await delete(url, key, bearer(ADMIN)))[0] == 404
    assert len(list(proxy.jobs)) == 20


async def test_a_job_that_waits_for_a_place_is_stopped_too(proxy: Proxy) -> None:
    for number in range(40):
        await Client(proxy, query=f"{QUERY}&DEC={number}").ask()
    queued = next(running for running in proxy.jobs if running.is_queued)

    await proxy.jobs.stopper.stop(StoppableJob(queued.resolved.key, queued), "its client")

    assert queued not in list(proxy.jobs)
    assert queued.outcome
    await proxy.close()


# -- jobs of other servers ---------------------------------------------------------------------------


class OtherServer(NoReplicas):
    """Another server that runs one job, and may be suspended."""

    def __init__(self, key: str, *, is_suspended: bool) -> None:
        self.stopped_by = ""
        self._key = Key(key)
        self._is_suspended = is_suspended

    async def jobs(self) -> list[Key]:
        return [self._key]

    async def is_alone(self, key: Key, sessions: Collection[str]) -> bool:
        return key == self._key and "SESSIONOFITSCLIENT" in sessions

    async def stop(self, key: Key, stopped_by: str) -> None:
        assert key == self._key
        if self._is_suspended:
            raise StopNotConfirmedError("the server that runs the job does not respond")
        self.stopped_by = stopped_by


@pytest.mark.parametrize(
    ("headers", "status", "stopped_by"),
    [
        (bearer(ADMIN), 200, "the administrator"),
        ({"Oda-Session": "SESSIONOFITSCLIENT"}, 200, "its client"),
        ({"Oda-Session": "ANOTHER"}, 401, ""),
        ({}, 401, ""),
    ],
)
async def test_a_job_of_another_server_is_stopped_through_this_one(
    headers: dict[str, str], status: int, stopped_by: str
) -> None:
    other = OtherServer("ab" * 32, is_suspended=False)
    proxy = Proxy(MemoryStore(), Submitting(), Policy(), services=Services(replicas=other))
    async with listening(make_app(proxy, guard=GUARD), "127.0.0.1", 0) as url:
        assert (await delete(url, "abab", headers))[0] == status
        assert (await delete(url, "cd", bearer(ADMIN)))[0] == 404
    await proxy.close()

    assert other.stopped_by == stopped_by


async def test_a_server_that_does_not_confirm_a_stop_is_a_problem_in_words() -> None:
    other = OtherServer("ab" * 32, is_suspended=True)
    proxy = Proxy(MemoryStore(), Submitting(), Policy(), services=Services(replicas=other))
    async with listening(make_app(proxy, guard=GUARD), "127.0.0.1", 0) as url:
        status, text = await delete(url, "abab", bearer(ADMIN))
    await proxy.close()

    assert (status, json.loads(text)["detail"]) == (503, "the server that runs the job does not respond")


# -- the command -----------------------------------------------------------------------------------


class Served:
    """A proxy with one job, in a thread."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.listener = listening(make_app(proxy, guard=GUARD), "127.0.0.1", 0, shutdown_timeout=0.1)

    async def __aenter__(self) -> str:
        url = await self.listener.__aenter__()
        await Client(self.proxy).ask()
        return url

    async def __aexit__(self, *_: object) -> None:
        await self.listener.__aexit__(None, None, None)
        await self.proxy.close()


@pytest.fixture
def address(proxy: Proxy) -> Iterator[str]:
    with in_thread(Served(proxy)) as url:
        yield url


def test_the_command_lists_and_stops_jobs(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODA_PROXY_ADMIN_TOKEN", ADMIN)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    assert cli.main(["jobs", "--proxy", address, "--json"]) == 0
    (job,) = json.loads(capsys.readouterr().out)
    assert cli.main(["jobs", "--proxy", address]) == 0
    assert f"{job['key'][:12]}  submitted" in capsys.readouterr().out
    assert cli.main(["jobs", "stop", job["key"][:12], "--proxy", address]) == 0
    assert capsys.readouterr().out.startswith(f"stopped {job['key'][:12]}")
    assert cli.main(["jobs", "--proxy", address]) == 0
    assert "runs no jobs" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - an option that is not used to listen
def test_the_command_finds_the_proxy_that_the_configuration_describes(
    address: str, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oda-proxy.toml").write_text(f'host = "{host}"\nport = {address.rpartition(":")[2]}\n')

    assert cli.main(["jobs", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


def test_the_command_says_in_one_line_what_is_missing(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ODA_PROXY_ADMIN_TOKEN", raising=False)
    for arguments, status in (
        (["jobs", "stop", "--proxy", address], 2),
        (["jobs", "stop", "ab", "--proxy", address], 2),
        (["jobs", "stop", "ab", "--proxy", address, "--admin-token", "wrong"], 1),
        (["jobs", "--proxy", "http://127.0.0.1:9"], 1),
    ):
        assert cli.main(arguments) == status
        message = capsys.readouterr().err
        assert message.startswith("oda-proxy: ")
        assert message.count("\n") == 1
        assert "[Errno" not in message
