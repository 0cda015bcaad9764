"""The dispatcher's dummy instruments: results, roles, jobs that wait for reports."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import make_app
from mock_server.settings import MockSettings
from mock_server.tokens import make_token
from tests.support.mock_fixtures import write_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import web

KEY = "a-test-key"
NEW = {"instrument": "empty", "product_type": "dummy", "query_type": "Dummy", "query_status": "new", "api": "True"}
GENERAL = make_token({"sub": "user@example.org", "roles": "general", "exp": time.time() + 3600}, KEY)
FULL = make_token({"sub": "user@example.org", "roles": "unige-hpc-full", "exp": time.time() + 3600}, KEY)


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    settings = MockSettings(fixtures=(write_folder(tmp_path),), dummy_instruments=True, secret_key=KEY, time_scale=0)
    async with TestClient(TestServer(make_app(settings))) as client:
        yield client


async def analyse(mock: Any, **changes: str) -> tuple[int, Any]:
    async with mock.get("/run_analysis", params={**NEW, "session_id": "S1", **changes}) as response:
        return response.status, await response.json()


async def test_the_dummy_instruments_are_listed_beside_the_others(mock: Any) -> None:
    listed = await (await mock.get("/api/instr-list")).json()
    assert listed == ["empty", "empty-async", "empty-semi-async", "isgri", "polar"]


async def test_they_are_not_listed_unless_they_are_switched_on(tmp_path: Path) -> None:
    app = make_app(MockSettings(fixtures=(write_folder(tmp_path),)))
    async with TestClient(TestServer(app)) as client:
        assert await (await client.get("/api/instr-list")).json() == ["isgri", "polar"]


@pytest.mark.parametrize(
    "parameters", [{}, {"RA": "1.5", "DEC": "2"}, {"T1": "52000", "T2": "52001", "T_format": "mjd"}]
)
@pytest.mark.parametrize("instrument", ["empty", "empty-async", "empty-semi-async"])
async def test_a_dummy_query_is_done_whatever_its_parameters(
    mock: Any, instrument: str, parameters: dict[str, str]
) -> None:
    status, body = await analyse(mock, instrument=instrument, **parameters)
    assert (status, body["query_status"], body["job_status"]) == (200, "done", "done")
    assert body["products"]["prod_process_message"] == ""


async def test_the_failing_product_fails_with_the_texts_of_the_plugin(mock: Any) -> None:
    status, body = await analyse(mock, product_type="failing")
    assert (status, body["query_status"]) == (200, "failed")
    assert body["exit_status"]["message"] == "failing query"
    assert body["exit_status"]["error_message"] == "Instrument: empty, product: failing failed!\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 403),
        ({"token": GENERAL}, 200),
        ({"token": GENERAL, "p": "50"}, 200),
        ({"token": GENERAL, "p": "50.5"}, 403),
        ({"token": FULL, "p": "50.5"}, 200),
        ({"token": FULL}, 403),
        ({"token": FULL, "p": "800"}, 200),
        ({"token": FULL, "p": "801"}, 400),
    ],
)
async def test_numerical_needs_a_role_that_depends_on_p(mock: Any, arguments: dict[str, str], expected: int) -> None:
    status, body = await analyse(mock, product_type="numerical", **arguments)
    assert status == expected
    if status == 200:
        [image] = body["products"]["numpy_data_product_list"]
        assert image["data_unit_list"][0]["dt"] == "float64"
    elif status == 403:
        assert "lacking all of the following roles:\n - " in body["exit_status"]["message"]


async def test_echo_returns_the_parameters_of_all_products(mock: Any) -> None:
    _, body = await analyse(mock, product_type="echo", query_type="Real", ang="7", token=GENERAL)
    echo = body["products"]["echo"]
    assert (echo["ang"], echo["p"], echo["sb"], echo["token"]) == (7.0, 10.0, 10.0, GENERAL)


@pytest.mark.parametrize(("action", "state"), [("done", "ready"), ("failed", "failed"), ("progress", "progress")])
async def test_an_asynchronous_job_waits_for_a_report_even_if_jobs_take_no_time(
    mock: Any, action: str, state: str
) -> None:
    query = {"instrument": "empty-async", "query_type": "Real"}
    _, body = await analyse(mock, **query)
    assert body["query_status"] == "submitted"
    job_id = body["job_monitor"]["job_id"]
    poll = {**query, "query_status": "submitted", "job_id": job_id}
    assert (await analyse(mock, **poll))[1]["query_status"] == "submitted"
    report = {"job_id": job_id, "session_id": "S1", "instrument_name": "empty-async", "action": action}
    await (await mock.get("/call_back", params=report)).read()
    assert (await analyse(mock, **poll))[1]["query_status"] == state


@pytest.mark.parametrize(("p", "state"), [("-1", "failed"), ("0", "submitted"), ("3.9", "submitted"), ("4", "done")])
async def test_p_decides_what_the_semi_asynchronous_instrument_does(mock: Any, p: str, state: str) -> None:
    query = {"instrument": "empty-semi-async", "product_type": "numerical", "query_type": "Real"}
    _, body = await analyse(mock, **query, p=p, token=GENERAL)
    assert body["query_status"] == state
    assert body["exit_status"]["warning"] == "mock warning"
