"""Browsers sign in with a token, and use a cookie from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oda_proxy.web.own_routes import COOKIE
from tests.support.access_servers import ADMIN, READ, AccessServer, access_server, person

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BROWSER = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[AccessServer]:
    async with access_server(tmp_path) as server:
        yield server


async def sign_in(server: AccessServer, token: str, target: str = "") -> tuple[int, str, dict[str, str]]:
    """Sign in, and return the status, where to go on, and the headers of further requests."""
    form = {"token": token, "next": target}
    async with server.client.post(
        f"{server.url}/-/sign-in", data=form, headers=BROWSER, allow_redirects=False
    ) as response:
        cookie = response.cookies.get(COOKIE)
        if cookie is not None:
            assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "")
        headers = BROWSER | ({"Cookie": f"{COOKIE}={cookie.value}"} if cookie is not None else {})
        server.client.cookie_jar.clear()
        return response.status, response.headers.get("Location", ""), headers


async def test_a_browser_without_a_session_gets_the_form_which_leads_back(server: AccessServer) -> None:
    path = f"/-/api/recordings/{server.public}?a=%22b"

    status, text = await server.send("GET", path, BROWSER)

    assert status == 401
    assert 'action="../../sign-in"' in text
    assert f'name="next" type="hidden" value="{path.removeprefix("/-/")}"' in text
    assert (await server.send("GET", "/-/sign-in", BROWSER))[0] == 200


async def test_the_administrator_signs_in_changes_something_and_signs_out(server: AccessServer) -> None:
    status, location, session = await sign_in(server, ADMIN, "api/recordings?limit=2")
    assert (status, location) == (303, "./api/recordings?limit=2")

    pin = f"/-/api/recordings/{server.public}/pin"
    assert (await server.send("POST", pin, session))[0] == 200
    assert (await server.send("POST", pin, session | {"Origin": server.url}))[0] == 200
    assert (await server.send("POST", "/-/sign-out", session))[0] == 303
    assert (await server.send("POST", pin, session))[0] == 401


async def test_a_session_changes_nothing_for_another_site(server: AccessServer) -> None:
    _, _, session = await sign_in(server, ADMIN)
    cookie = {"Cookie": session["Cookie"]}

    for headers in (
        cookie,
        cookie | {"Origin": "https://example.org"},
        cookie | {"Origin": "null"},
        cookie | {"Sec-Fetch-Site": "cross-site"},
        cookie | {"Sec-Fetch-Site": "same-site"},
    ):
        assert (await server.send("DELETE", f"/-/api/recordings/{server.public}", headers))[0] == 403
    assert (await server.send("GET", f"/-/api/recordings/{server.public}", cookie))[0] == 200


@pytest.mark.parametrize(("who", "status"), [("a", 200), ("b", 404)])
async def test_a_person_signs_in_with_the_token_of_the_dispatcher(server: AccessServer, who: str, status: int) -> None:
    signed_in, _, session = await sign_in(server, person(who))

    assert signed_in == 303
    assert (await server.send("GET", f"/-/api/recordings/{server.private}", session))[0] == status


@pytest.mark.parametrize("token", ["", "wrong", person("a", expires=-1)])
async def test_a_wrong_token_leads_to_the_form_again(server: AccessServer, token: str) -> None:
    """It is a page of its own: loading it again sends no token."""
    status, location, session = await sign_in(server, token, "status?a=b")
    assert (status, location, "Cookie" in session) == (303, "./sign-in?refused=&next=status%3Fa%3Db", False)

    _, text = await server.send("GET", f"/-{location.removeprefix('.')}", BROWSER)
    assert "not accepted it" in text
    assert 'value="status?a=b"' in text


async def test_a_program_that_signs_in_with_a_wrong_token_is_refused(server: AccessServer) -> None:
    assert (await server.send("POST", "/-/sign-in", {"Sec-Fetch-Site": "none"}, data={"token": "wrong"}))[0] == 401


@pytest.mark.parametrize(
    "target", ["https://example.org/", "//example.org", "/", "../../x", "a:b", "\\example.org", "x\r\nSet-Cookie: y=1"]
)
async def test_signing_in_leads_to_no_other_site(server: AccessServer, target: str) -> None:
    assert (await sign_in(server, READ, target))[:2] == (303, "./")


async def test_a_form_that_is_none_is_refused(server: AccessServer) -> None:
    large = BROWSER | {"Content-Type": "application/x-www-form-urlencoded"}

    assert (await server.send("POST", "/-/sign-in", large, data=b"x" * 40000))[0] == 400
    assert (await server.send("POST", "/-/sign-in", BROWSER, json={"token": READ}))[0] == 400


async def test_names_in_the_form_are_escaped(server: AccessServer) -> None:
    _, text = await server.send("GET", '/-/api/recordings?source="><script>', BROWSER)

    assert "<script>" not in text
