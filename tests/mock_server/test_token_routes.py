"""The routes that return a changed token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
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

KEY = "a-test-key-that-is-long-enough-for-hs256"
NOW = 1_795_000_000
CLAIMS = {"sub": "user@example.org", "name": "user", "roles": "refresh-tokens", "exp": NOW + 500, "tem": 0}


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    settings = MockSettings(fixtures=(write_folder(tmp_path),), secret_key=KEY)
    async with TestClient(TestServer(make_app(settings, wall_clock=lambda: float(NOW)))) as client:
        yield client


async def refresh(mock: Any, claims: dict[str, Any] = CLAIMS, **arguments: str) -> tuple[int, str]:
    query = {"query_status": "new", "token": make_token(claims, KEY), **arguments}
    async with mock.post("/refresh_token", params=query) as response:
        return response.status, await response.text()


async def test_a_refreshed_token_expires_later_and_is_signed_as_by_pyjwt(mock: Any) -> None:
    status, text = await refresh(mock, refresh_interval="500000")
    assert status == 200
    assert text == jwt.encode({**CLAIMS, "exp": NOW + 500 + 500000}, KEY, algorithm="HS256")


async def test_a_token_is_refreshed_by_a_week_unless_the_request_has_an_interval(mock: Any) -> None:
    _, text = await refresh(mock)
    assert text == jwt.encode({**CLAIMS, "exp": NOW + 500 + 604800}, KEY, algorithm="HS256")


async def test_an_interval_of_more_than_a_week_is_refused(mock: Any) -> None:
    status, text = await refresh(mock, refresh_interval="604801")
    assert status == 403
    assert "please provide a value which is lower than 604800 seconds" in text


async def test_an_expiry_that_is_no_date_becomes_the_last_one_of_the_dispatcher(mock: Any) -> None:
    _, text = await refresh(mock, {**CLAIMS, "exp": 25340229700000}, refresh_interval="1")
    assert jwt.decode(text, KEY, algorithms=["HS256"])["exp"] == 2177449199


@pytest.mark.parametrize(
    ("claims", "arguments", "expected", "words"),
    [
        ({**CLAIMS, "roles": "general"}, {}, 403, "to refresh your token.\nYour privilege roles include ['general']"),
        ({**CLAIMS, "exp": NOW - 1}, {}, 403, "The token provided is expired."),
        (CLAIMS, {"token": "a.b.c"}, 403, "The token provided is not valid."),
        (CLAIMS, {"query_status": "ready"}, 400, "job_id must be present"),
        (CLAIMS, {"refresh_interval": "a day"}, 500, "Internal Server Error"),
        (CLAIMS, {"refresh_interval": ""}, 500, "Internal Server Error"),
        ({"roles": "refresh-tokens"}, {}, 500, "Internal Server Error"),
    ],
)
async def test_a_token_that_cannot_be_refreshed_is_refused(
    mock: Any, claims: dict[str, Any], arguments: dict[str, str], expected: int, words: str
) -> None:
    status, text = await refresh(mock, claims, **arguments)
    assert status == expected
    assert words in text


async def test_options_of_emails_are_added_to_the_token(mock: Any) -> None:
    query = {"query_status": "new", "token": make_token(CLAIMS, KEY), "tem": "10", "mssub": "False"}
    async with mock.get("/update_token_email_options", params=query) as response:
        assert response.status == 200
        text = await response.text()
    assert text == jwt.encode({**CLAIMS, "mssub": False, "tem": 10.0}, KEY, algorithm="HS256")


async def test_options_that_are_not_valid_are_named_all(mock: Any) -> None:
    query = {"query_status": "new", "token": make_token(CLAIMS, KEY), "tem": "x", "colour": "green"}
    async with mock.get("/update_token_email_options", params=query) as response:
        assert response.status == 400
        body = await response.json()
    assert "{'tem': ['Not a valid number.'], 'colour': ['Unknown field.']}" in body["error_message"]


async def test_a_token_in_a_form_is_read_for_options_and_not_for_a_refresh(mock: Any) -> None:
    form = {"query_status": "new", "token": make_token(CLAIMS, KEY)}
    async with mock.post("/refresh_token", data=form) as response:
        assert (response.status, await response.text()) == (403, "A token must be provided.")
    async with mock.post("/update_token_email_options", data=form) as response:
        assert response.status == 200
