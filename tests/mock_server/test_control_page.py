"""The page of the mock for people: its buttons are forms that post to the control routes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import make_app
from mock_server.control import ControlError
from mock_server.control_page import body_of_form
from mock_server.settings import MockSettings
from mock_server.tokens import make_token
from tests.support.mock_fixtures import write_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import web

    Client = TestClient[web.Request, web.Application]

QUERY = {"instrument": "empty-async", "product_type": "dummy", "query_type": "Real", "query_status": "new", "api": "1"}
TOKEN = make_token({"sub": "user@example.org", "roles": "general"}, "")


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[Client]:
    app = make_app(MockSettings(fixtures=(write_folder(tmp_path),), dummy_instruments=True))
    async with TestClient(TestServer(app)) as client:
        yield client


async def page(mock: Client, path: str = "/-/") -> str:
    async with mock.get(path) as response:
        assert (response.status, response.content_type) == (200, "text/html")
        return await response.text()


async def post(mock: Client, route: str, **form: str) -> tuple[int, str]:
    origin = {"Origin": str(mock.make_url("/")).rstrip("/")}
    async with mock.post(f"/-/{route}", data=form, headers=origin) as response:
        return response.status, await response.text()


async def analyse(mock: Client, **changes: str) -> str:
    async with mock.get("/run_analysis", params={**QUERY, "session_id": "S1", **changes}) as response:
        body = await response.json()
    job_id: str = body["job_monitor"]["job_id"]
    return job_id


async def test_a_mock_without_requests_says_what_to_do(mock: Client) -> None:
    text = await page(mock, "/prefix/-/")
    assert "No job so far: one begins with a client's first query." in text
    assert 'href="-/"' in await page(mock, "/")


async def test_buttons_set_the_states_of_jobs_and_lead_back_to_the_page(mock: Client) -> None:
    job_id = await analyse(mock)
    assert "Next: progress" in await page(mock)
    status, text = await post(mock, f"jobs/{job_id}", state="progress", message="half of it")
    assert (status, "Next: ready" in text, "half of it" in text) == (200, True, True)
    _, text = await post(mock, f"jobs/{job_id}", state="failed", message="the node died")
    assert "the node died" in text
    assert '<span class="flag failed">failed</span>' in text
    _, text = await post(mock, f"jobs/{job_id}", state="", message="")
    assert '<span class="flag submitted">submitted</span>' in text


async def test_the_page_holds_jobs_and_changes_faults_and_resets(mock: Client) -> None:
    await analyse(mock)
    assert "New jobs stay submitted" in (await post(mock, "jobs", hold="true"))[1]
    assert "New jobs run by themselves" in (await post(mock, "jobs", hold="false"))[1]
    _, text = await post(mock, "faults", do="status", status="503", seconds="", on="1, 3", asked="submitted progress")
    assert "do = status, asked = submitted progress, on = 1 3, status = 503" in text
    assert "off, struck 0 requests" in (await post(mock, "faults/1", active="false"))[1]
    _, text = await post(mock, "reset")
    assert "No job so far" in text
    assert "Every request is answered." in text


@pytest.mark.parametrize(
    ("route", "form", "message"),
    [
        ("faults", {"do": "status", "status": "many"}, "status cannot be &#39;many&#39;"),
        ("faults", {"do": "nosuch"}, "there is no fault"),
        ("jobs/nosuch", {"state": "ready"}, "there is no job"),
        ("jobs", {"hold": "perhaps"}, "hold cannot be"),
    ],
)
async def test_a_form_that_is_refused_says_why_on_the_page(
    mock: Client, route: str, form: dict[str, str], message: str
) -> None:
    status, text = await post(mock, route, **form)
    assert status in (400, 404)
    assert message in re.search(r'role="alert">(.*?)</p>', text)[1]  # type: ignore[index]


async def test_texts_of_clients_are_escaped_and_tokens_are_not_shown(mock: Client) -> None:
    attack = "<script>alert('1')</script>"
    await analyse(mock, src_name=attack, token=TOKEN)
    await (await mock.get(f"/{attack}/resolve_name", params={attack: attack})).read()
    text = await page(mock)
    assert attack not in text
    assert "&lt;script&gt;" in text
    assert TOKEN not in text


async def test_a_form_of_another_site_changes_nothing(mock: Client) -> None:
    await analyse(mock)
    async with mock.post("/-/reset", data={}, headers={"Origin": "http://evil.example"}) as response:
        assert response.status == 403
    assert "No job so far" not in await page(mock)


async def test_the_page_loads_its_style_sheet_and_nothing_else(mock: Client) -> None:
    async with mock.get("/-/pages.css") as response:
        assert response.content_type == "text/css"
        assert ".mock" in await response.text()
    assert re.findall(r'<link[^>]*href="([^"]*)"|src=', await page(mock)) == ["pages.css"]


def test_empty_fields_of_forms_are_left_out() -> None:
    assert body_of_form({"state": "", "message": ""}) == {"state": None, "message": ""}
    assert body_of_form({"do": "drip", "seconds": "1.5", "on": " ", "asked": "new"}) == {
        "do": "drip",
        "seconds": 1.5,
        "asked": ["new"],
    }
    with pytest.raises(ControlError, match="seconds cannot be 'x'"):
        body_of_form({"seconds": "x"})
