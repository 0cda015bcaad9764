"""Plain pages of the services around a dispatcher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import make_app
from mock_server.pages import Pages
from mock_server.settings import MockSettings
from mock_server.tokens import make_token
from oda_proxy.errors import UsageError
from tests.support.mock_fixtures import write_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import web

OWN = """
[[page]]
path = "resolve_name"
query = {name = "Crab"}
json = {name = "my Crab"}

[[page]]
path = "gw/timesystem/3000"
text = "2008-03-19 of {unit}"
status = 203
"""


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    settings = MockSettings(fixtures=(write_folder(tmp_path),))
    async with TestClient(TestServer(make_app(settings))) as client:
        yield client


async def get(mock: Any, path: str, **query: str) -> tuple[int, Any]:
    async with mock.get(path, params=query) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("name", ["Mrk 421", "mrk_421", " Mrk  421"])
async def test_a_name_is_resolved_however_it_is_spelled(mock: Any, name: str) -> None:
    status, body = await get(mock, "/prefix/resolve_name", name=name, token="")
    assert (status, body["RA"], body["DEC"]) == (200, 166.1138, 38.2088)
    assert body["message"] == f"{name} successfully resolved"
    assert body["entity_portal_link"].endswith(f"?target={quote(name)}")


async def test_other_names_cannot_be_resolved(mock: Any) -> None:
    body = {"name": "fake object", "message": "fake object could not be resolved"}
    assert await get(mock, "/resolve_name", name="fake object") == (200, body)


async def test_a_request_without_a_name_has_an_empty_answer(mock: Any) -> None:
    assert await get(mock, "/resolve_name") == (200, {})


async def test_a_time_without_a_page_is_an_error_that_says_what_to_do(mock: Any) -> None:
    assert await get(mock, "/get_revnum", time_to_convert="2022-03-29T15:51:01") == (200, {"revnum": 2485})
    status, body = await get(mock, "/get_revnum", time_to_convert="2003-01-01")
    assert status == 500
    assert body["drupal_helper_error_message"].startswith("the mock has no page for the time 2003-01-01: add one")


async def test_pages_are_counted_and_only_read(mock: Any) -> None:
    assert (await mock.post("/resolve_name", params={"name": "Crab"})).status == 405
    await get(mock, "/resolve_name", name="Crab")
    assert (await get(mock, "/-/status"))[1]["requests"] == {"resolve_name": 2}
    requests = (await get(mock, "/-/requests"))[1]["requests"]
    assert [(one["method"], one["arguments"], one["status"]) for one in requests] == [
        ("POST", {"name": "Crab"}, 405),
        ("GET", {"name": "Crab"}, 200),
    ]


async def test_pages_of_a_file_come_before_the_shipped_ones(tmp_path: Path) -> None:
    file = tmp_path / "pages.toml"
    file.write_text(OWN)
    app = make_app(MockSettings(fixtures=(write_folder(tmp_path / "fixtures"),), pages=(file,)))
    async with TestClient(TestServer(app)) as client:
        assert await get(client, "/resolve_name", name="crab") == (200, {"name": "my Crab"})
        assert (await get(client, "/resolve_name", name="GX 1+4"))[1]["have_coordinates"] is True
        async with client.get("/gw/timesystem/3000", params={"unit": "<UTC>"}) as response:
            assert (response.status, response.content_type) == (203, "text/html")
            assert await response.text() == "2008-03-19 of &lt;UTC&gt;"
        assert (await client.get("/gw/timesystem/3000")).status == 404


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[page]]\njson = {}", "page 1 has no path"),
        ('[[page]]\npath = "a"', "page 1 should have either json or text"),
        ('[[page]]\npath = "a"\njson = 1\ntext = "b"', "page 1 should have either json or text"),
        ('[[page]]\npath = "a"\ncolour = 1', "has no 'colour'"),
        ('[[page]]\npath = "a"\njson = 1\nstatus = 99', "the status cannot be 99"),
        ('[[page]]\npath = "a"\njson = 1\nstatus = true', "status cannot be True"),
        ('[[page]]\npath = "a"\njson = 1\nquery = {b = 1}', "write every value as text"),
        ('[[page]]\npath = "a"\njson = {t = 2008-03-19}', "cannot have dates"),
        ("[page]\na = 1", "in place of tables"),
        ("colour = 1", "has 'colour' in place of tables"),
        ("page = [1]", "page 1 should be a table"),
        ("[[page", "pages.toml: "),
    ],
)
def test_a_file_that_does_not_follow_the_format_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "pages.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"pages\.toml: ") as caught:
        Pages.read((file,))
    assert message in str(caught.value)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        Pages.read((tmp_path / "pages.toml",))


async def test_terms_of_the_gallery_need_its_role_and_come_from_pages(tmp_path: Path) -> None:
    file = tmp_path / "pages.toml"
    file.write_text('[[page]]\npath = "get_list_terms"\nquery = {group = "instruments"}\njson = ["isgri"]\n')
    app = make_app(MockSettings(fixtures=(write_folder(tmp_path / "fixtures"),), pages=(file,)))
    async with TestClient(TestServer(app)) as client:
        contributor = make_token({"sub": "a", "roles": "gallery contributor"}, "")
        assert (await client.get("/get_list_terms")).status == 403
        assert (
            await client.get("/get_parents_term", params={"token": make_token({"sub": "a", "roles": "x"}, "")})
        ).status == 403
        query = {"token": contributor}
        terms = await client.get("/x/get_list_terms", params={**query, "group": "instruments"})
        assert (terms.status, terms.content_type, await terms.text()) == (200, "text/html", '["isgri"]')
        assert await (await client.get("/get_parents_term", params={**query, "term": "isgri"})).text() == "[]"


async def test_parameters_are_the_arguments_with_a_session(mock: Any) -> None:
    assert (await mock.get("/api/parameters")).status == 400
    status, body = await get(mock, "/api/parameters", instrument="isgri", RA="1")
    assert (status, body["RA"], len(body["session_id"])) == (200, "1", 16)
