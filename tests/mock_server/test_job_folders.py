"""Folders of jobs for suites that read them, and the records of jobs that routes list."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import make_app
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
