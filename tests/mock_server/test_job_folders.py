"""Folders of jobs for suites that read them, and the records of jobs that routes list."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import make_app
from mock_server.job_id import job_id
from mock_server.settings import MockSettings
from mock_server.tokens import make_token
from oda_proxy.errors import UsageError
from tests.support.mock_fixtures import write_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import web

KEY = "a-test-key"
NEW = {"instrument": "empty-async", "product_type": "dummy", "query_type": "Real", "query_status": "new", "api": "True"}
MANAGER = make_token({"sub": "m@example.org", "roles": "general, job manager", "exp": time.time() + 3600}, KEY)
USER = make_token({"sub": "user@example.org", "roles": "general", "exp": time.time() + 3600}, KEY)


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    folder = tmp_path / "jobs"
    folder.mkdir()
    return folder


@pytest.fixture
async def mock(tmp_path: Path, jobs: Path) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    fixtures = write_folder(tmp_path / "fixtures")
    settings = MockSettings(fixtures=(fixtures,), dummy_instruments=True, secret_key=KEY, job_folders=jobs)
    async with TestClient(TestServer(make_app(settings))) as client:
        yield client


def files_of(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def remove(folder: Path) -> None:
    folder.rmdir()


async def get(mock: Any, path: str, **query: str) -> Any:
    async with mock.get(path, params=query) as response:
        return json.loads(await response.text()) if response.content_type == "application/json" else response.status


async def analyse(mock: Any, **changes: str) -> Any:
    return await get(mock, "/run_analysis", **{**NEW, "session_id": "S1", **changes})


async def test_each_session_has_a_folder_with_its_query_and_its_result(mock: Any, jobs: Path) -> None:
    body = await analyse(mock, instrument="empty", product_type="numerical", query_type="Dummy", token=USER)
    await analyse(mock, instrument="empty", product_type="numerical", query_type="Dummy", token=USER, session_id="S2")
    name = f"scratch_sid_S1_jid_{body['job_monitor']['job_id']}"
    other = name.replace("S1", "S2") + "_aliased"
    assert {folder.name for folder in files_of(jobs)} == {name, other}
    output = json.loads((jobs / name / "query_output.json").read_text())
    assert output == {"status_dictionary": body["exit_status"], "prod_dictionary": body["products"]}
    assert json.loads((jobs / name / "job_monitor.json").read_text()) == body["job_monitor"]
    parameters = json.loads((jobs / name / "analysis_parameters.json").read_text())
    assert parameters == body["products"]["analysis_parameters"]


async def test_reports_of_a_back_end_are_files_and_stay_in_their_folder(mock: Any, jobs: Path) -> None:
    body = await analyse(mock)
    job = {"job_id": body["job_monitor"]["job_id"], "session_id": "S1"}
    of_instrument = {**job, "instrument_name": "empty-async"}
    await get(mock, "/call_back", **of_instrument, action="progress", node_id="node", message="half of it")
    await get(mock, "/call_back", **of_instrument, action="progress", node_id="../../node", message="x" * 999)
    await get(mock, "/call_back", **job, action="done", node_id="node", message="end")
    (folder,) = files_of(jobs)
    report = json.loads((folder / "job_monitor_node_half_of_it_.json").read_text())
    assert (report["status"], report["full_report_dict"]["message"]) == ("progress", "half of it")
    assert json.loads((folder / "job_monitor.json").read_text())["full_report_dict"]["action"] == "done"
    assert len(files_of(folder)) == 5
    assert not [file.name for file in files_of(jobs.parent) if "monitor" in file.name]


async def test_a_folder_that_cannot_be_written_is_logged_and_fails_no_request(
    mock: Any, jobs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remove(jobs)
    assert (await analyse(mock))["query_status"] == "submitted"
    assert "the folder of a job cannot be written" in caplog.text


async def test_a_session_with_a_long_or_odd_name_is_no_error(mock: Any, jobs: Path) -> None:
    assert (await analyse(mock, session_id="S" * 999))["query_status"] == "submitted"
    assert (await analyse(mock, session_id="..", RA="1"))["query_status"] == "submitted"
    assert len(files_of(jobs)) == 2


def test_a_folder_for_jobs_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        MockSettings(job_folders=tmp_path / "jobs")


async def test_records_are_those_of_the_dispatcher_by_session_or_by_job(mock: Any) -> None:
    body = await analyse(mock, token=USER)
    await analyse(mock, token=USER, session_id="S2")
    job_id = body["job_monitor"]["job_id"]
    report = {"job_id": job_id, "session_id": "S1", "instrument_name": "empty-async", "node_id": "n"}
    await get(mock, "/call_back", **report, action="done")
    records = (await get(mock, "/inspect-state", token=MANAGER))["records"]
    assert [(one["session_id"], one["aliased_marker"]) for one in records] == [("S1", ""), ("S2", "_aliased")]
    first = records[0]
    assert (first["request_completed"], first["token_expired"]) == (True, False)
    assert first["analysis_parameters"]["token"]["sub"] == "user@example.org"
    assert [one["fn"].rpartition("/")[2] for one in first["job_monitor"]] == ["job_monitor.json", "job_monitor_n_.json"]
    options = {"group_by_job": "True", "exclude_analysis_parameters": "True", "include_status_query_output": "True"}
    (grouped,) = (await get(mock, "/inspect-state", token=MANAGER, **options))["records"]
    assert grouped["job_id"] == job_id
    assert [one["scratch_dir_fn"].split("_")[2] for one in grouped["job_status_data"]] == ["S1", "S2"]
    content = grouped["job_status_data"][0]["scratch_dir_content"]
    assert "analysis_parameters" not in content
    assert content["status_query_output"]["job_status"] == "done"


async def test_a_user_sees_own_jobs_only(mock: Any) -> None:
    await analyse(mock, token=USER)
    await analyse(mock)
    assert await get(mock, "/inspect-user-state") == 403
    assert len((await get(mock, "/inspect-user-state", token=USER))["records"]) == 1
    assert (await get(mock, "/inspect-user-state", token=MANAGER))["records"] == []
    assert len((await get(mock, "/inspect-state", token=MANAGER))["records"]) == 2


async def download(mock: Any, **query: str) -> tuple[int, bytes]:
    async with mock.get(
        "/download_products", params={"session_id": "S9", "query_status": "ready", **query}
    ) as response:
        return response.status, await response.read()


def put_folder(jobs: Path, job: str) -> None:
    """Make the folder of a job as a suite does, and a file outside."""
    folder = jobs / f"scratch_sid_S9_jid_{job}"
    folder.mkdir()
    (folder / "test.fits.gz").write_bytes(b"content")
    (folder / "analysis_parameters.json").write_text(json.dumps(NEW))
    (jobs / "secret").write_bytes(b"secret")


@pytest.mark.parametrize("subject", [None, "user@example.org"])
async def test_a_file_that_a_suite_put_into_the_folder_of_a_job_is_sent_to_its_owner(
    mock: Any, jobs: Path, subject: str | None
) -> None:
    job = job_id(NEW, subject)
    put_folder(jobs, job)
    query = {"job_id": job, "file_list": "test.fits.gz", "download_file_name": "output test"}
    owner, other = ({"token": USER}, {}) if subject else ({}, {"token": MANAGER})
    status, content = await download(mock, **query, **owner)
    assert (status, gzip.decompress(content)) == (200, b"content")
    assert b"output_test" in content[:30]
    head = await mock.head("/download_products", params={"session_id": "S9", "query_status": "ready", **query, **owner})
    assert head.content_length == len(content)
    status, content = await download(mock, **query, **other)
    assert (status, json.loads(content)["exit_status"]["message"]) == (403, "Request not authorized")


@pytest.mark.parametrize(
    "query",
    [
        {"file_list": "../secret"},
        {"file_list": "/etc/passwd"},
        {"file_list": ".."},
        {"file_list": "nosuch"},
        {"file_list": "test.fits.gz", "download_file_name": "../output"},
        {"file_list": "test.fits.gz", "session_id": "../x"},
    ],
)
async def test_nothing_outside_the_folder_of_a_job_is_sent(mock: Any, jobs: Path, query: dict[str, str]) -> None:
    job = job_id(NEW, None)
    put_folder(jobs, job)
    status, content = await download(mock, job_id=job, **query)
    assert (status, json.loads(content)["exit_status"]["message"]) == (403, "No such file")


async def test_a_job_without_a_folder_is_unknown(mock: Any, jobs: Path) -> None:
    put_folder(jobs, "0")
    for unknown in ("1", "*", "../x"):
        status, content = await download(mock, job_id=unknown, file_list="test.fits.gz")
        assert (status, json.loads(content)["error_message"]) == (400, f"unable to find any record for {unknown}")


async def test_uploaded_files_are_in_a_folder_with_the_users_who_may_read_them(mock: Any, jobs: Path) -> None:
    for token in (USER, MANAGER):
        form = FormData({**NEW, "instrument": "empty", "product_type": "file_dummy", "query_type": "Dummy"})
        form.add_field("token", token)
        form.add_field("dummy_file", b"5", filename="file")
        async with mock.post("/run_analysis", data=form) as response:
            address = (await response.json())["products"]["analysis_parameters"]["dummy_file"]
    digest = hashlib.md5(b"5", usedforsecurity=False).hexdigest()
    assert f"file_list={digest}" in address
    owners = json.loads((jobs / "request_files" / f"{digest}_ownerships.json").read_text())
    assert owners == {"user_emails": ["user@example.org", "m@example.org"], "user_roles": ["general", "job manager"]}


async def test_a_file_that_a_suite_put_among_the_uploaded_ones_is_sent_to_its_users(mock: Any, jobs: Path) -> None:
    folder = jobs / "request_files"
    folder.mkdir()
    for name, owner in (("aa", "public"), ("bb", "user@example.org")):
        (folder / name).write_bytes(name.encode())
        (folder / f"{name}_ownerships.json").write_text(json.dumps({"user_emails": [owner], "user_roles": []}))
    uploaded = {"from_request_files_dir": "True", "return_archive": "False"}
    assert await download(mock, **uploaded, file_list="aa") == (200, b"aa")
    assert (await download(mock, **uploaded, file_list="bb"))[0] == 403
    assert await download(mock, **uploaded, file_list="bb", token=USER) == (200, b"bb")
    assert (await download(mock, **uploaded, file_list="../aa"))[0] == 403
