"""Services behind the dispatcher: tokens, roles, methods, and what is returned without them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import make_app
from mock_server.service_routes import SERVICES
from mock_server.settings import MockSettings
from mock_server.tokens import make_token
from tests.support.mock_fixtures import write_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import web

KEY = "a-test-key"


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    settings = MockSettings(fixtures=(write_folder(tmp_path),), dummy_instruments=True, secret_key=KEY)
    async with TestClient(TestServer(make_app(settings))) as client:
        yield client


async def request(mock: Any, route: str, roles: str | None = None, **query: str) -> tuple[int, str, str]:
    method = "GET" if "GET" in SERVICES[route].methods else "POST"
    if roles is not None:
        query["token"] = make_token({"sub": "a@example.org", "roles": roles, "exp": time.time() + 3600}, KEY)
    async with mock.request(method, f"/x/{route}", params=query) as response:
        return response.status, response.content_type, await response.text()


@pytest.mark.parametrize("route", SERVICES)
async def test_a_service_checks_its_token_and_returns_an_empty_result(mock: Any, route: str) -> None:
    service = SERVICES[route]
    status, _, text = await request(mock, route)
    assert (status, text) == (403, "A token must be provided.") if service.authentication == "needed" else status == 200
    invalid = {"token": "x"}
    status, _, text = await request(mock, route, **invalid)
    assert status == 200 if service.authentication == "ignored" else text == "The token provided is not valid."
    if service.role is not None:
        status, _, text = await request(mock, route, "general")
        message = f"Unfortunately, your privileges are not sufficient {service.purpose}.\n"
        message += f"Your privilege roles include ['general'], but the following roles are missing: {service.role}."
        assert (status, text) == (403, message)
        no_roles = make_token({"sub": "a@example.org", "exp": time.time() + 3600}, KEY)
        without_roles = {"token": no_roles}
        assert (await request(mock, route, **without_roles))[0] == 500
    status, kind, text = await request(mock, route, service.role or "")
    assert (status, kind) == (200, "text/html" if isinstance(service.result, list) else "application/json")
    assert text.strip()[0] in "[{"


async def test_a_token_in_a_form_is_read_where_the_dispatcher_reads_it(mock: Any) -> None:
    form = {"token": make_token({"sub": "a", "roles": "gallery contributor, space manager"}, KEY)}
    assert (await mock.post("/post_product_to_gallery", data=form)).status == 200
    assert (await mock.post("/free-up-space", data=form)).status == 403
    assert (await mock.post("/report_incident", data=form)).status == 403


async def test_a_service_that_changes_something_takes_no_get(mock: Any) -> None:
    assert (await mock.get("/post_product_to_gallery")).status == 405


async def test_plugins_are_reloaded_by_name(mock: Any) -> None:
    for name, expected in (("dummy_plugin", (200, "reloaded")), ("x", (400, "not found"))):
        response = await mock.get(f"/reload-plugin/{name}")
        assert (response.status, await response.text()) == (expected[0], f"Plugin {name} {expected[1]}\n")


async def test_files_of_other_sites_are_not_fetched(mock: Any) -> None:
    assert (await mock.get("/load_frontend_fits_file_url")).status == 403
    query = {"token": make_token({"sub": "a"}, KEY)}
    response = await mock.get("/load_frontend_fits_file_url", params=query)
    assert (response.status, await response.text()) == (400, "fits_file_url arg not provided")
    response = await mock.get("/load_frontend_fits_file_url", params={**query, "fits_file_url": "http://a.example/x"})
    assert (response.status, "fetches no file" in await response.text()) == (404, True)


async def test_codes_are_not_exchanged_for_tokens(mock: Any) -> None:
    for query, words in (
        ({}, "in this request."),
        (dict.fromkeys(("client_id", "code", "redirect_uri"), "x"), "in this instance."),
    ):
        response = await mock.get("/oauth_access_token_request", params=query)
        assert response.status == 400
        assert (await response.text()).endswith(words)
