"""Servers with two workers, real processes: one job for each query, whichever worker is asked, and whichever dies."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mock_server.tokens import make_token
from tests.support.crowds import page, wait_until
from tests.support.servers import PATIENCE, running
from tests.support.worker_servers import (
    MANY,
    Client,
    follower,
    is_alive,
    kill,
    leader,
    wait_for_workers,
    workers,
    workers_running,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import Server

pytestmark = pytest.mark.slow

FIRST_HANGS = """
[first-hangs]
summary = "The first submission is never answered"
[[first-hangs.faults]]
do = "hang"
seconds = 3600.0
asked = ["new"]
on = [1]
"""
KEY = "a key of more than thirty-two bytes"
ADMIN = "the administration token"


@contextmanager
def mock_running(folder: Path, *arguments: str, time_scale: float = 0.0) -> Iterator[Server]:
    with running(folder / "mock.log", "mock", "--port", "0", "--time-scale", str(time_scale), *arguments) as mock:
        yield mock


def clients(proxy: Server, count: int = MANY) -> list[Client]:
    return [Client(proxy.url, f"SESSIONOFCLIENT{number:02}") for number in range(count)]


def asked(mock: Server, query_status: str) -> int:
    return int(page(mock, "status")["asked"].get(query_status, 0))


def joined(proxy: Server) -> int:
    return sum(job["sessions"] for job in page(proxy, "jobs")["jobs"])


def products_of(answers: list[dict[str, Any]]) -> set[str]:
    assert {answer["query_status"] for answer in answers} == {"done"}, answers
    return {json.dumps(answer["products"]["numpy_data_product_list"]) for answer in answers}


def test_first_requests_at_the_same_time_to_both_workers_start_one_job(tmp_path: Path) -> None:
    with mock_running(tmp_path, time_scale=0.2) as mock, workers_running(tmp_path, mock.url) as proxy:
        crowd = clients(proxy)
        with ThreadPoolExecutor(MANY) as pool:
            answers = list(pool.map(Client.get_product, crowd))

        assert len(products_of(answers)) == 1
        assert (asked(mock, "new"), page(mock, "status")["jobs"]) == (1, 1)
        assert [len(client.job_ids - {""}) for client in crowd] == [1] * MANY
        assert [answer["session_id"] for answer in answers] == [client.fields["session_id"] for client in crowd]
        counts = page(proxy, "status")["run_analysis"]
        assert (counts["jobs"], counts["kept"], counts["joined"]) == (1, 1, MANY - 1)


def test_hits_come_from_both_workers_and_are_added_up(tmp_path: Path) -> None:
    with mock_running(tmp_path) as mock, workers_running(tmp_path, mock.url) as proxy:
        Client(proxy.url, "SESSIONOFTHEFIRST").get_product()
        before = page(proxy, "status")["run_analysis"]["hits"]

        for client in clients(proxy):
            assert client.send()["query_status"] == "done"
            assert client.cache_statuses == ["oda-proxy; hit"]

        assert page(proxy, "status")["run_analysis"]["hits"] == before + MANY
        assert all(worker["hits"] for worker in workers(proxy))
        assert asked(mock, "new") == 1


def test_the_job_of_a_leader_that_is_killed_goes_on_in_the_other_worker(tmp_path: Path) -> None:
    with mock_running(tmp_path, time_scale=0.5) as mock, workers_running(tmp_path, mock.url) as proxy:
        crowd = clients(proxy)
        with ThreadPoolExecutor(MANY) as pool:
            running_clients = [pool.submit(client.get_product) for client in crowd]
            wait_until(lambda: joined(proxy) == MANY and asked(mock, "submitted") > 0)
            killed = leader(proxy)
            kill(killed)
            answers = [one.result() for one in running_clients]

        assert len(products_of(answers)) == 1
        assert asked(mock, "new") == 1
        assert [len(client.job_ids - {""}) for client in crowd] == [1] * MANY
        wait_for_workers(proxy, without=killed)
        assert {client.send()["query_status"] for client in clients(proxy)} == {"done"}
        assert asked(mock, "new") == 1


def test_a_leader_that_is_killed_in_the_first_request_of_a_job_is_replaced(tmp_path: Path) -> None:
    """The dispatcher has not named the job: it is submitted once more."""
    (scenarios := tmp_path / "scenarios.toml").write_text(FIRST_HANGS)
    faults = ("--scenarios", str(scenarios), "--scenario", "first-hangs")
    with mock_running(tmp_path, *faults) as mock, workers_running(tmp_path, mock.url) as proxy:
        with ThreadPoolExecutor(MANY) as pool:
            running_clients = [pool.submit(client.get_product) for client in clients(proxy)]
            wait_until(lambda: joined(proxy) == MANY and asked(mock, "new") == 1)
            kill(leader(proxy))
            answers = [one.result() for one in running_clients]

        assert len(products_of(answers)) == 1
        assert asked(mock, "new") == 2


def test_a_worker_that_is_killed_is_started_again_and_nobody_else_notices(tmp_path: Path) -> None:
    with mock_running(tmp_path, time_scale=0.5) as mock, workers_running(tmp_path, mock.url) as proxy:
        with ThreadPoolExecutor(MANY) as pool:
            running_clients = [pool.submit(client.get_product) for client in clients(proxy)]
            wait_until(lambda: joined(proxy) == MANY)
            killed, leading = follower(proxy), leader(proxy)
            kill(killed)
            answers = [one.result() for one in running_clients]

        wait_for_workers(proxy, without=killed)
        assert leader(proxy) == leading
        assert len(products_of(answers)) == 1
        assert asked(mock, "new") == 1
        assert f"(pid {killed}) ended by SIGKILL: it is started again" in (tmp_path / "proxy.log").read_text()


def test_no_acknowledged_recording_is_lost_when_workers_are_killed(tmp_path: Path) -> None:
    with mock_running(tmp_path, "--synthetic") as mock, workers_running(tmp_path, mock.url) as proxy:
        for number in range(6):
            query = {"RA": f"{10 + number}.0"}
            assert Client(proxy.url, "SESSIONOFTHEFIRST", **query).get_product()["query_status"] == "done"
            kill(killed := leader(proxy) if number % 2 else follower(proxy))
            wait_for_workers(proxy, without=killed)
            before = asked(mock, "new")
            for session in range(4):
                client = Client(proxy.url, f"SESSIONOFTHENEXT{session}", **query)
                assert client.send()["query_status"] == "done"
                assert client.cache_statuses == ["oda-proxy; hit"]
            assert asked(mock, "new") == before


def test_the_failure_of_a_job_reaches_the_clients_of_all_workers(tmp_path: Path) -> None:
    with (
        mock_running(tmp_path, "--scenario", "failing-job", time_scale=0.2) as mock,
        workers_running(tmp_path, mock.url) as proxy,
        ThreadPoolExecutor(MANY) as pool,
    ):
        answers = list(pool.map(Client.get_product, clients(proxy)))

        assert {answer["query_status"] for answer in answers} == {"failed"}
        assert asked(mock, "new") == 1


def test_a_job_is_stopped_through_any_worker(tmp_path: Path) -> None:
    env = {"ODA_PROXY_ADMIN_TOKEN": ADMIN}
    with mock_running(tmp_path, time_scale=60.0) as mock, workers_running(tmp_path, mock.url, env=env) as proxy:
        for _ in range(8):
            Client(proxy.url, "SESSIONOFTHEFIRST").send()
            (job,) = page(proxy, "jobs")["jobs"]
            request = urllib.request.Request(f"{proxy.url}/-/jobs/{job['key']}", method="DELETE")  # noqa: S310 - on this machine
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(request, timeout=PATIENCE)  # noqa: S310 - as above
            request.add_header("Authorization", f"Bearer {ADMIN}")
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310 - as above
                assert json.load(response) == {"stopped": job["key"]}
            assert page(proxy, "jobs") == {"jobs": []}


def test_no_cache_computes_again_whichever_worker_receives_it(tmp_path: Path) -> None:
    with mock_running(tmp_path) as mock, workers_running(tmp_path, mock.url) as proxy:
        Client(proxy.url, "SESSIONOFTHEFIRST").get_product()
        for number in range(8):
            before = asked(mock, "new")
            client = Client(proxy.url, f"SESSIONOFTHENEXT{number}")
            assert client.get_product(**{"Cache-Control": "no-cache"})["query_status"] == "done"
            assert asked(mock, "new") == before + 1


@pytest.mark.parametrize("has_key", [True, False], ids=["with the key", "without it"])
def test_a_private_result_is_for_its_audience_whichever_worker_is_asked(tmp_path: Path, *, has_key: bool) -> None:
    owner, other = (make_token({"sub": name, "roles": "general"}, KEY) for name in ("a@example.org", "b@example.org"))
    forged = make_token({"sub": "a@example.org", "roles": "general"}, f"not {KEY}")
    env = {"ODA_PROXY_SECRET_KEY": KEY} if has_key else {}
    with (
        mock_running(tmp_path, "--secret-key", KEY) as mock,
        workers_running(tmp_path, mock.url, env=env) as proxy,
    ):
        Client(proxy.url, "SESSIONOFTHEFIRST", token=owner).get_product()
        for number in range(8):
            hit = Client(proxy.url, f"SESSIONOFTHENEXT{number}", token=owner)
            assert hit.send()["query_status"] == "done"
            assert hit.cache_statuses == ["oda-proxy; hit"]
            refused = Client(proxy.url, f"SESSIONOFATHIEF{number}", token=forged)
            assert "hit" not in str(refused.send().get("Cache-Status", "")) + "".join(refused.cache_statuses)
        before = asked(mock, "new")
        assert Client(proxy.url, "SESSIONOFANOTHER", token=other).get_product()["query_status"] == "done"
        assert asked(mock, "new") == before + 1
        for secret in (owner, other, owner.split(".")[2], "a@example.org"):
            files = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
            assert not [file for file in files if secret.encode() in file.read_bytes()]


def test_one_job_where_the_folder_cannot_have_locks(tmp_path: Path) -> None:
    with mock_running(tmp_path, time_scale=0.2) as mock:
        with workers_running(tmp_path, mock.url) as proxy:
            folder = next((tmp_path / "cache").iterdir())
        (folder / "jobs").write_text("no folder")
        with workers_running(tmp_path, mock.url) as proxy, ThreadPoolExecutor(MANY) as pool:
            answers = list(pool.map(Client.get_product, clients(proxy)))

            assert len(products_of(answers)) == 1
            assert asked(mock, "new") == 1


def test_clients_that_wait_are_answered_when_the_server_is_stopped(tmp_path: Path) -> None:
    (scenarios := tmp_path / "scenarios.toml").write_text(FIRST_HANGS)
    faults = ("--scenarios", str(scenarios), "--scenario", "first-hangs")
    with mock_running(tmp_path, *faults) as mock, workers_running(tmp_path, mock.url) as proxy:
        processes = [worker["pid"] for worker in workers(proxy)]
        with ThreadPoolExecutor(MANY) as pool:
            waiting = [pool.submit(client.send) for client in clients(proxy)]
            wait_until(lambda: joined(proxy) == MANY)
            log = proxy.end()
            answers = [one.result() for one in waiting]

        assert {answer["query_status"] for answer in answers} == {"submitted"}
        assert not any(map(is_alive, processes))
        assert "is killed" not in log
        assert log.count("stopping on SIGTERM") == 1


def test_an_interrupt_stops_all_workers_as_well(tmp_path: Path) -> None:
    with mock_running(tmp_path) as mock, workers_running(tmp_path, mock.url) as proxy:
        proxy.process.send_signal(signal.SIGINT)

        assert proxy.process.wait(PATIENCE) == 0
        assert (tmp_path / "proxy.log").read_text().count("stopping on SIGINT") == 1


def test_the_metrics_of_the_server_do_not_fall_when_a_worker_is_killed(tmp_path: Path) -> None:
    with mock_running(tmp_path) as mock, workers_running(tmp_path, mock.url) as proxy:
        Client(proxy.url, "SESSIONOFTHEFIRST").get_product()
        for client in clients(proxy):
            client.send()
        before = queries(proxy)
        for killed in (follower(proxy), leader(proxy)):
            kill(killed)
            wait_for_workers(proxy, without=killed)
            assert queries(proxy) == before

        assert before["hit_cold"] + before["hit_hot"] == MANY
        assert before["miss"] == 1
        for client in clients(proxy, 3):
            client.send()
        assert sum(queries(proxy).values()) == sum(before.values()) + 3


def queries(proxy: Server) -> dict[str, float]:
    """Return the numbers of queries by outcome, from any worker."""
    with urllib.request.urlopen(f"{proxy.url}/-/metrics", timeout=PATIENCE) as response:  # noqa: S310 - on this machine
        text = response.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    counts: dict[str, float] = {}
    for sample in families["oda_proxy_queries"].samples:
        counts[sample.labels["outcome"]] = counts.get(sample.labels["outcome"], 0.0) + sample.value
    return counts


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as sockets,  # the path of a socket is short
        mock_running(tmp_path) as mock,
        workers_running(tmp_path, mock.url, env={"TMPDIR": sockets}) as proxy,
    ):
        processes = [worker["pid"] for worker in workers(proxy)]
        proxy.process.kill()
        proxy.process.wait(PATIENCE)

        wait_until(lambda: not any(map(is_alive, processes)))
        assert not list(Path(sockets).iterdir())


def test_a_worker_that_hangs_is_killed_and_another_leads(tmp_path: Path) -> None:
    program = tmp_path / "impatient.py"
    program.write_text(
        "import sys\n"
        "from oda_proxy import cli\n"
        "from oda_proxy.workers import membership, supervisor\n"
        "membership.HEARTBEAT = supervisor.HEARTBEAT = 0.1\n"
        "sys.exit(cli.main())\n"
    )
    with (
        mock_running(tmp_path) as mock,
        workers_running(tmp_path, mock.url, program=[str(program)]) as proxy,
    ):
        hanging = leader(proxy)
        os.kill(hanging, signal.SIGSTOP)
        wait_for_workers(proxy, without=hanging)

        assert Client(proxy.url, "SESSIONOFTHEFIRST").get_product()["query_status"] == "done"
        assert f"(pid {hanging}) does not respond and is killed" in (tmp_path / "proxy.log").read_text()


def test_descriptions_are_cached_by_each_worker_and_fetched_once(tmp_path: Path) -> None:
    with mock_running(tmp_path) as mock, workers_running(tmp_path, mock.url) as proxy:
        bodies, statuses = set(), []
        for _ in range(MANY):
            with urllib.request.urlopen(f"{proxy.url}/api/meta-data?instrument=isgri", timeout=PATIENCE) as response:  # noqa: S310 - on this machine
                bodies.add(response.read())
                statuses.append(response.headers["Cache-Status"])

        assert len(bodies) == 1
        assert statuses.count("oda-proxy; hit") >= MANY - 2
        assert page(mock, "status")["requests"]["api/meta-data"] == 1


def test_a_download_is_explained_whichever_worker_served_the_session(tmp_path: Path) -> None:
    """The dispatcher has no files for the session of a hit."""
    with mock_running(tmp_path) as mock, workers_running(tmp_path, mock.url) as proxy:
        Client(proxy.url, "SESSIONOFTHEFIRST").get_product()
        for client in clients(proxy, 12):
            client.send()
            query = f"session_id={client.fields['session_id']}&job_id=0123456789abcdef&file_list=a.fits"
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{proxy.url}/download_products?{query}", timeout=PATIENCE)  # noqa: S310 - on this machine
            with caught.value as error:
                assert "received a recording of the proxy" in error.read().decode()
