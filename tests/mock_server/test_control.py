"""People and tests control a running mock through its routes below `/-/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import DISPATCHER, RUNNER_OPTIONS, make_app
from mock_server.request_log import MAX_REQUESTS, RequestLog, public_arguments
from mock_server.settings import MockSettings
from mock_server.tokens import make_token
from tests.support.mock_fixtures import IMAGE, write_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import web

QUERY = {
    **IMAGE,
    "instrument": "isgri",
    "product_type": "isgri_image",
    "query_type": "Real",
    "off_line": "False",
    "session_id": "S1",
    "api": "True",
    "oda_api_version": "1.3.5",
}
FAULT = {"do": "status", "status": 503}


class Mock:
    """A mock whose jobs take no time, and a client of it."""

    def __init__(self, client: TestClient[web.Request, web.Application]) -> None:
        self.client = client

    async def get(self, route: str) -> Any:
        async with self.client.get(f"/-/{route}") as response:
            assert response.status == 200
            return await response.json()

    async def post(self, route: str, body: Any, **headers: str) -> tuple[int, Any]:
        async with self.client.post(f"/-/{route}", json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def analyse(self, status: str = "new", **changes: Any) -> tuple[int, Any]:
        query = {**QUERY, "query_status": status, **changes}
        async with self.client.get("/run_analysis", params=query) as response:
            is_json = response.content_type == "application/json"
            return response.status, await response.json() if is_json else await response.text()

    async def held_job(self) -> str:
        """Start a job that waits, and return its job_id."""
        await self.post("jobs", {"hold": True})
        _, answer = await self.analyse()
        assert answer["query_status"] == "submitted"
        return str(answer["job_monitor"]["job_id"])


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[Mock]:
    settings = MockSettings(fixtures=(write_folder(tmp_path / "fixtures"),), time_scale=0)
    server = TestServer(make_app(settings))
    await server.start_server(**RUNNER_OPTIONS)
    async with TestClient(server) as client:
        yield Mock(client)


# -- jobs


async def test_a_held_job_goes_through_the_states_that_are_set_by_hand(mock: Mock) -> None:
    job_id = await mock.held_job()
    states = []
    for state in ("progress", "submitted", "progress", "ready"):
        await mock.post(f"jobs/{job_id}", {"state": state})
        states.append((await mock.analyse("submitted", job_id=job_id))[1]["query_status"])
    assert states == ["progress", "submitted", "progress", "ready"]
    _, answer = await mock.analyse("ready", job_id=job_id)
    assert answer["query_status"] == "done"
    assert answer["products"]["text_product_list"][0]["value"] == "an image"
    assert (await mock.get(f"jobs/{job_id}"))["state"] == "done"


async def test_a_job_that_is_failed_by_hand_shows_the_message_to_a_poll(mock: Mock) -> None:
    job_id = await mock.held_job()
    assert (await mock.post(f"jobs/{job_id}", {"state": "failed", "message": "the node died"}))[0] == 200
    _, answer = await mock.analyse("submitted", job_id=job_id)
    assert answer["query_status"] == "failed"
    assert (answer["exit_status"]["status"], answer["exit_status"]["message"]) == (1, "the node died")
    assert answer["job_monitor"]["full_report_dict_list"][-1]["action"] == "failed"


async def test_the_message_of_a_job_in_progress_is_a_report_of_its_back_end(mock: Mock) -> None:
    job_id = await mock.held_job()
    await mock.post(f"jobs/{job_id}", {"state": "progress", "message": "half of it"})
    _, answer = await mock.analyse("progress", job_id=job_id)
    (report,) = answer["job_monitor"]["full_report_dict_list"]
    assert (report["message"], report["action"]) == ("half of it", "progress")


async def test_a_job_without_a_state_set_by_hand_follows_its_timeline_again(mock: Mock) -> None:
    job_id = await mock.held_job()
    await mock.post(f"jobs/{job_id}", {"state": None})
    assert (await mock.analyse("submitted", job_id=job_id))[1]["query_status"] == "ready"


async def test_jobs_are_listed_with_their_parameters_and_without_tokens(mock: Mock) -> None:
    token = make_token({"sub": "user@example.org", "exp": 4e9}, "a key")
    await mock.analyse(token=token)
    listed = await mock.get("jobs")
    (job,) = listed["jobs"]
    assert (job["state"], job["instrument"], job["product"], job["by_hand"]) == ("done", "isgri", "isgri_image", False)
    assert float(job["parameters"]["RA"]) == float(str(IMAGE["RA"]))
    assert token not in str(listed)


async def test_jobs_with_the_same_job_id_have_names_of_their_own(mock: Mock) -> None:
    job_id = await mock.held_job()
    jobs = mock.client.app[DISPATCHER].analysis.jobs
    (first,) = jobs.jobs.values()
    jobs.jobs["another query"] = type(first)(**{**vars(first), "messages": []})
    assert [job["id"] for job in (await mock.get("jobs"))["jobs"]] == [job_id, f"{job_id}.2"]
    await mock.post(f"jobs/{job_id}.2", {"state": "failed"})
    assert [job["state"] for job in (await mock.get("jobs"))["jobs"]] == ["submitted", "failed"]


# -- faults


async def test_a_fault_strikes_while_it_is_switched_on(mock: Mock) -> None:
    statuses = [(await mock.analyse())[0]]
    _, fault = await mock.post("faults", FAULT)
    statuses.append((await mock.analyse())[0])
    await mock.post(f"faults/{fault['number']}", {"active": False})
    statuses.append((await mock.analyse())[0])
    await mock.post(f"faults/{fault['number']}", {"active": True})
    statuses.append((await mock.analyse())[0])
    assert statuses == [200, 503, 200, 503]
    assert (await mock.get("faults"))["faults"] == [{"number": 1, "fault": FAULT, "active": True, "struck": 1}]


async def test_the_requests_of_a_fault_are_counted_from_when_it_is_switched_on(mock: Mock) -> None:
    await mock.analyse()
    for _ in range(2):  # the second time, it is the same fault, which is not added again
        await mock.post("faults", {**FAULT, "on": [2]})
        assert [(await mock.analyse())[0] for _ in range(3)] == [200, 503, 200]
    assert len((await mock.get("faults"))["faults"]) == 1


async def test_a_job_does_not_wait_for_a_fault_that_is_switched_off(mock: Mock) -> None:
    await mock.post("faults", {**FAULT, "asked": ["submitted"]})
    await mock.post("faults/1", {"active": False})
    assert (await mock.analyse())[1]["query_status"] == "done"


# -- requests


async def test_requests_are_listed_with_arguments_statuses_and_faults(mock: Mock) -> None:
    await mock.analyse()
    await mock.post("faults", FAULT)
    await mock.analyse()
    async with mock.client.get("/nowhere"):
        pass
    listed = (await mock.get("requests"))["requests"]
    assert [(one["method"], one["path"], one["status"], one["fault"]) for one in listed] == [
        ("GET", "/run_analysis", 200, None),
        ("GET", "/run_analysis", 503, "status"),
        ("GET", "/nowhere", 404, None),
    ]
    assert listed[0]["arguments"]["query_status"] == "new"
    assert listed[0]["arguments"]["RA"] == str(IMAGE["RA"])


async def test_requests_are_listed_without_tokens(mock: Mock) -> None:
    token = make_token({"sub": "user@example.org", "exp": 4e9}, "a key")
    await mock.analyse(token=token)
    await mock.analyse(token=token, T_format=token, Token=token, comment=f"see {token}")
    async with mock.client.get(f"/nowhere/{token}", params={"a": token}):
        pass
    async with mock.client.post("/run_analysis", data={"token": "opaque", "b": "x=opaque"}):
        pass
    text = str(await mock.get("requests")) + str(await mock.get("jobs"))
    for secret in (token, token.split(".")[1], "opaque"):
        assert secret not in text


def test_the_list_of_requests_is_bounded() -> None:
    log = RequestLog()
    for _ in range(MAX_REQUESTS + 5):
        log.add("GET", "/run_analysis", {}, {})
    assert (len(log.requests), log.requests[0].number, log.count) == (MAX_REQUESTS, 6, MAX_REQUESTS + 5)
    entry = log.add("POST", "/a" * 9000, {"selected_catalog": "x" * 10**6, "y" * 9000: "1"}, {"z" * 9000: b"123"})
    assert len(str(entry)) < 20_000
    assert len(public_arguments({str(number): "" for number in range(1000)})) < 1000


# -- a new beginning


async def test_a_reset_forgets_jobs_and_requests_and_restores_the_faults_of_the_start(mock: Mock) -> None:
    job_id = await mock.held_job()
    await mock.post("faults", FAULT)
    assert (await mock.post("reset", {}))[0] == 200
    assert await mock.get("jobs") == {"hold": False, "jobs": []}
    assert await mock.get("requests") == {"dropped": 0, "requests": []}
    assert await mock.get("faults") == {"faults": []}
    status = await mock.get("status")
    assert (status["jobs"], status["runs"], status["requests"], status["served"]) == (0, 0, {}, {})
    assert (await mock.analyse("submitted", job_id=job_id))[0] == 400
    assert (await mock.analyse())[1]["query_status"] == "done"


# -- what is refused


@pytest.mark.parametrize(
    ("route", "body", "status", "text"),
    [
        ("jobs", {}, 400, "'hold' is missing"),
        ("jobs", {"hold": "yes"}, 400, "hold can be true or false, not 'yes'"),
        ("jobs", {"hold": True, "old": 1}, 400, "there is no 'old'"),
        ("jobs/none", {"state": "failed"}, 404, "there is no job 'none'"),
        ("jobs/JOB", {"state": "lost"}, 400, "a job cannot be 'lost': use submitted"),
        ("jobs/JOB", {"state": ["failed"]}, 400, "a job cannot be"),
        ("jobs/JOB", {"state": "failed", "message": 1}, 400, "the message should be a text"),
        ("faults", {"do": "explode"}, 400, "there is no fault 'explode'"),
        ("faults/1", {"active": True}, 404, "there is no fault '1'"),
        ("nothing", {}, 404, "the mock has no page /-/nothing"),
        ("reset", [], 400, "the body should be a JSON object"),
        ("reset", {"x": "y" * 2**17}, 413, "the body is larger than"),
    ],
)
async def test_a_change_that_cannot_be_made_is_a_problem_of_one_line(
    mock: Mock, route: str, body: Any, status: int, text: str
) -> None:
    job_id = await mock.held_job()
    got, problem = await mock.post(route.replace("JOB", job_id), body)
    assert (got, problem["status"]) == (status, status)
    assert problem["title"].startswith(text) or text in problem["title"]


@pytest.mark.parametrize("data", ["{", "[" * 50_000, "\xff"])
async def test_a_body_that_is_not_json_is_a_problem(mock: Mock, data: str) -> None:
    headers = {"Content-Type": "application/json"}
    async with mock.client.post("/-/reset", data=data.encode("latin-1"), headers=headers) as response:
        assert response.status == 400
        assert response.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://example.org"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_pages_of_other_sites_change_nothing(mock: Mock, headers: dict[str, str], status: int) -> None:
    assert (await mock.post("reset", {}, **headers))[0] == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8401", 200),
        ("[::1]:8401", 200),
        ("localhost", 200),
        ("mock:8401", 200),
        ("notebook.localhost", 200),
        ("rebound.example.org:8401", 421),
        ("127.0.0.1.example.org", 421),
        ("127.0.0.1]x.org", 421),
    ],
)
async def test_a_name_of_another_site_that_resolves_to_the_mock_is_refused(mock: Mock, host: str, status: int) -> None:
    assert (await mock.post("reset", {}, Host=host))[0] == status
    async with mock.client.get("/-/requests", headers={"Host": host}) as response:
        assert response.status == status


async def test_a_form_of_another_site_is_refused_by_its_content_type(mock: Mock) -> None:
    async with mock.client.post("/-/reset", data={"a": "b"}) as response:
        assert response.status == 415
