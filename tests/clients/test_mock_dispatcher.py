"""The mock answers queries of the dummy instrument as the real dispatcher 1.3.3 does.

Not compared is where 1.3.3 differs from 1.3.6, which the mock follows: unknown arguments, and messages for bad values.
"""

from __future__ import annotations

import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import make_app
from mock_server.settings import MockSettings
from mock_server.tokens import make_token
from oda_proxy.fixture.writing import write_manifest
from tests.support.mock_fixtures import ORIGIN, answer_of, write_json
from tests.support.servers import DISPATCHER_SETTINGS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import web

pytestmark = pytest.mark.real

KEY = DISPATCHER_SETTINGS["secret_key"]
NEW = {
    "instrument": "empty",
    "product_type": "parametrical",
    "query_type": "Dummy",
    "query_status": "new",
    "session_id": "SESSIONOFTHEMOCK",
    "api": "True",
    "oda_api_version": "1.3.5",
}
NEW_ASYNC = {**NEW, "instrument": "empty-async", "product_type": "dummy", "query_type": "Real"}
BEGINNING = ["S1 new", "S1 submitted", "S1 ready", "S2 new", "S2 submitted"]
IN_PROGRESS = ["progress", "S1 submitted", "S1 progress", "S2 submitted"]
QUERIES = [
    {},
    {"RA": " 83 ", "DEC": "2.2e1"},
    {"RA": "83.63"},
    {"RA": "38.63"},
    {"T1": "52000", "T2": "52001.5", "T_format": "mjd"},
    {"T1": "2003-03-15", "T2": "2003-03-16T00:03:12.0"},
    {"src_name": " Crab "},
    {"sb": ""},
    {"sb": "12"},
    {"p_list": "b,a"},
    {"p": "10"},
    {"p": "10.0"},
]
TOKENS = {
    "valid": make_token({"sub": "user@example.org", "roles": "general", "exp": time.time() + 3600}, KEY),
    "without subject": make_token({"roles": "general"}, KEY),
    "expired": make_token({"sub": "user@example.org", "exp": 1}, KEY),
    "of another key": make_token({"sub": "user@example.org"}, "another key"),
    "garbage": "xyz",
    "in three parts": "a.b.c",
    "empty": "",
}


def ask(url: str, query: dict[str, Any]) -> tuple[int, Any]:
    """Send a request to the real dispatcher; an argument of None is left out."""
    arguments = {name: value for name, value in query.items() if value is not None}
    try:
        with urllib.request.urlopen(f"{url}?{urlencode(arguments)}") as response:  # noqa: S310 - on this machine
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.fixture(scope="module")
def dispatcher_url(own_dispatcher_url: str) -> str:
    """Use a dispatcher to which no other module sent a query."""
    return own_dispatcher_url


@pytest.fixture
async def mock(dispatcher_url: str, tmp_path: Path) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """Start a mock with the instruments of the real one and a fixture for each query; jobs wait for call-backs."""
    pending = answer_of("", [["submitted", 0.0]])
    pending["exit_status"] |= {"comment": "mock comment", "warning": "mock warning"}  # as its back end reports
    for name in ("empty", "empty-async"):
        _, description = ask(f"{dispatcher_url}/api/meta-data", {"instrument": name})
        write_json(tmp_path / name / "instrument.json", instrument_of(description))
    origins = {f"{name}/instrument.json": ORIGIN for name in ("empty", "empty-async")}
    for common, parameter_sets, answer in ((NEW, QUERIES, answer_of("", [])), (NEW_ASYNC, [{}, {"RA": "1"}], pending)):
        for number, parameters in enumerate(parameter_sets):
            query = {name: common[name] for name in ("instrument", "product_type", "query_type")}
            path = f"{common['instrument']}/{common['product_type']}/{number}"
            write_json(tmp_path / path / "query.json", {"format": 1, **query, "parameters": parameters})
            write_json(tmp_path / path / "answer.json", answer)
            origins[path] = ORIGIN
    write_manifest(tmp_path, origins)
    async with TestClient(TestServer(make_app(MockSettings(fixtures=(tmp_path,), secret_key=KEY)))) as client:
        yield client


def instrument_of(description: list[Any]) -> dict[str, Any]:
    """Convert the description of an instrument by a dispatcher to that of a fixture."""
    [[head, products, *queries]] = description
    described = []
    for items in (json.loads(query) if isinstance(query, str) else query for query in queries):
        names = {
            name: value for item in items for name, value in item.items() if name in ("query_name", "product_name")
        }
        parameters = [
            {"name": item["name"], "units": item["units"], "value": item["value"]} for item in items if "name" in item
        ]
        described.append({**names, "parameters": [item for item in parameters if item["name"] is not None]})
    return {
        "format": 1,
        "instrument": head["instrumet"],
        "prod_dict": products["prod_dict"],
        "queries": described,
    }


async def ask_mock(mock: TestClient[web.Request, web.Application], query: dict[str, Any]) -> tuple[int, Any]:
    arguments = {name: value for name, value in query.items() if value is not None}
    async with mock.get("/run_analysis", params=arguments) as response:
        return response.status, await response.json()


async def both(mock: Any, dispatcher_url: str, **changes: Any) -> list[tuple[int, Any]]:
    query = {**NEW, **changes}
    return [ask(f"{dispatcher_url}/run_analysis", query), await ask_mock(mock, query)]


@pytest.mark.parametrize("query", QUERIES)
async def test_a_query_has_the_same_parameters_and_job_id(
    mock: Any, dispatcher_url: str, query: dict[str, str]
) -> None:
    (_, real), (_, mocked) = await both(mock, dispatcher_url, **query)
    assert mocked["products"]["analysis_parameters"] == real["products"]["analysis_parameters"]
    assert mocked["job_monitor"] == real["job_monitor"]
    assert mocked["query_status"] == real["query_status"] == "done"


@pytest.mark.parametrize("name", TOKENS)
async def test_a_token_is_accepted_or_refused_with_the_same_message(mock: Any, dispatcher_url: str, name: str) -> None:
    (status, real), (mock_status, mocked) = await both(mock, dispatcher_url, token=TOKENS[name])
    assert mock_status == status
    assert mocked.get("error") == real.get("error")
    assert mocked.get("job_monitor") == real.get("job_monitor")


@pytest.mark.parametrize(
    "changes",
    [
        {"product_type": None},
        {"query_type": None},
        {"query_status": None},
        {"instrument": None},
        {"query_status": "submitted"},
        {"query_status": "ready", "job_id": "0123456789abcdef"},
        {"query_status": "new", "job_id": "0123456789abcdef"},
        {"selected_catalog": "no catalogue"},
        {"use_scws": "user_file"},
        {"use_scws": "form_list"},
    ],
)
async def test_a_faulty_request_is_refused_with_the_same_message(
    mock: Any, dispatcher_url: str, changes: dict[str, Any]
) -> None:
    (status, real), (mock_status, mocked) = await both(mock, dispatcher_url, **changes)
    assert mock_status == status == 400
    assert mocked["error"] == real["error"]
    assert mocked["error_message"] == real["error_message"]


async def test_a_synchronous_job_goes_through_the_same_states(mock: Any, dispatcher_url: str) -> None:
    (_, real), _ = await both(mock, dispatcher_url)
    job_id = real["job_monitor"]["job_id"]
    for query_status in ("submitted", "ready", "submitted", "failed"):
        (_, real), (_, mocked) = await both(mock, dispatcher_url, query_status=query_status, job_id=job_id)
        assert mocked["query_status"] == real["query_status"]
        assert mocked["job_status"] == real["job_status"]
        assert mocked["exit_status"] == real["exit_status"]
        assert bool(mocked["products"]) == bool(real["products"])


async def test_a_users_job_is_refused_without_the_token_with_the_same_message(mock: Any, dispatcher_url: str) -> None:
    (_, real), _ = await both(mock, dispatcher_url, token=TOKENS["valid"])
    job_id = real["job_monitor"]["job_id"]
    (status, real), (mock_status, mocked) = await both(mock, dispatcher_url, query_status="ready", job_id=job_id)
    assert mock_status == status == 403
    assert mocked["exit_status"] == real["exit_status"]
    assert mocked["job_monitor"] == real["job_monitor"]


@pytest.mark.parametrize(("query", "end", "state"), [({}, "done", "ready"), ({"RA": "1"}, "failed", "failed")])
async def test_an_asynchronous_job_goes_through_the_same_states(
    mock: Any, dispatcher_url: str, query: dict[str, str], end: str, state: str
) -> None:
    """Session S1 starts the job, S2 requests it too, and the back end reports in between."""
    new = {**NEW_ASYNC, **query}
    job_id = ask(f"{dispatcher_url}/run_analysis", {**new, "session_id": "S1"})[1]["job_monitor"]["job_id"]
    seen = []
    for step in [*BEGINNING, *IN_PROGRESS, end, "S1 progress"]:
        if " " not in step:
            report = {"job_id": job_id, "session_id": "S1", "instrument_name": "empty-async", "action": step}
            ask(f"{dispatcher_url}/call_back", report)
            await (await mock.get("/call_back", params=report)).read()
            continue
        session_id, query_status = step.split()
        changes = {**new, "session_id": session_id, "query_status": query_status}
        if query_status != "new":
            changes["job_id"] = job_id
        (_, real), (_, mocked) = await both(mock, dispatcher_url, **changes)
        for answer in (real, mocked):
            for name in ("full_report_dict", "full_report_dict_list"):
                answer["job_monitor"].pop(name, None)
            answer["products"].pop("api_code", None)  # contains the URL
            answer.pop("time_request")
        assert mocked == real, step
        seen.append(mocked["query_status"])
    assert seen[0] == "submitted"
    assert seen[-1] == state
