"""Who may use which own route: the table of docs/access.md, tried for every route and every kind of visitor."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from yarl import URL

from tests.support.access_servers import (
    ADMIN,
    METRICS,
    READ,
    AccessServer,
    access_server,
    bearer,
    name_of,
    person,
)
from tests.support.paths import DOCS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from oda_proxy.web.own_routes import OwnRoute

PAGE: Final = (DOCS / "access.md").read_text()
REFUSED: Final = {401, 403, 421}
OTHER_SITE: Final = {"Origin": "https://example.org", "Sec-Fetch-Site": "cross-site"}
VISITORS: Final = {
    "nobody": {},
    "reader": bearer(READ),
    "person A": bearer(person("a")),
    "person B": bearer(person("b")),
    "metrics token": bearer(METRICS),
    "administrator": bearer(ADMIN),
    "wrong token": bearer("another token"),
    "other origin": bearer(ADMIN) | OTHER_SITE,
    "other host": bearer(ADMIN) | {"Host": "rebound.example.org"},
}
VALUES: Final = {
    "name": "SPECTRUM",
    "n": "0",
    "m": "0",
    "number": "0",
    "unit": "0",
    "file": "style.css",
    "collection": "my-paper",
    "new": "another",
}
"""What stands for the variables in the path of a route, beside the key of a recording."""


def rows() -> dict[str, dict[str, str]]:
    """Return the table: what each visitor gets, by method and path."""
    heading, *lines = [
        line.strip("| ").split(" | ") for line in re.findall(r"(?m)^\| (?:route|`[A-Z]+ /-/).*\|$", PAGE)
    ]
    assert heading[1:] == ["what it does", *VISITORS]
    return {line[0].strip("`"): dict(zip(heading[1:], line[1:], strict=True)) for line in lines}


def path_of(route: OwnRoute, key: str) -> str:
    """Return a path of a route, for the recording with a key."""
    return re.sub(r"[A-Z]+", lambda found: {**VALUES, "key": key}[found[0].lower()], name_of(route).split(" ")[1])


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[AccessServer]:
    async with access_server(tmp_path) as server:
        yield server


async def test_every_own_route_that_a_page_names_exists(server: AccessServer) -> None:
    paths = {name_of(route).split(" ")[1] for route in server.routes}
    named = {path for page in DOCS.glob("*.md") for path in re.findall(r"`(/-/[\w./-]*\w)[`?]", page.read_text())}

    assert len(named) > 5
    assert sorted(named - paths) == []


async def test_every_own_route_is_in_the_table(server: AccessServer) -> None:
    table, actions = rows(), {name_of(route): route.action for route in server.routes}
    missing = [route for route in server.routes if name_of(route) not in table]

    def proposed(route: OwnRoute) -> str:
        """Return the row of a route, as that of another one with the same action."""
        same = next((row for name, row in table.items() if actions.get(name) is route.action), {})
        return f"| `{name_of(route)}` | {' | '.join([route.summary, *(same.get(name, '?') for name in VISITORS)])} |"

    rows_to_add = "\n".join(map(proposed, missing))
    assert not missing, f"add these rows to the table in docs/access.md, if they are right:\n{rows_to_add}"
    assert {name: row["what it does"] for name, row in table.items()} == {
        name_of(route): route.summary for route in server.routes
    }


async def test_each_visitor_is_refused_what_the_table_says(server: AccessServer) -> None:
    found: dict[str, dict[str, str]] = {name_of(route): {} for route in server.routes}
    for route in sorted(server.routes, key=lambda route: route.method == "DELETE"):
        accept = {"Accept": "text/html"} if route.is_html else {}
        for visitor, headers in VISITORS.items():
            status, _ = await server.send(route.method, path_of(route, server.public), headers | accept)
            assert status < 500, (route, status)
            found[name_of(route)][visitor] = str(status) if status in REFUSED else "yes"

    expected = {name: {visitor: row[visitor] for visitor in VISITORS} for name, row in rows().items()}
    assert found == expected


async def test_no_other_method_is_taken(server: AccessServer) -> None:
    by_path: dict[str, set[str]] = {}
    for route in server.routes:
        by_path.setdefault(path_of(route, server.public), set()).add(route.method)
    for path, methods in by_path.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - methods:
            assert (await server.send(method, path, bearer(ADMIN)))[0] == 405, (method, path)


async def test_a_private_recording_exists_for_its_person_and_the_administrator_alone(server: AccessServer) -> None:
    table = rows()
    for route in (route for route in server.routes if route.method == "GET"):
        accept = {"Accept": "text/html"} if route.is_html else {}
        found = {}
        for visitor in ("reader", "person A", "person B", "administrator"):
            if table[name_of(route)][visitor] != "yes":
                continue
            headers = VISITORS[visitor] | accept
            status, text = await server.send("GET", path_of(route, server.private), headers)
            found[visitor] = status
            if "{key" in route.path:
                assert (await server.send("GET", path_of(route, "0" * 64), headers))[0] == 404, route
            elif visitor not in {"person A", "administrator"}:
                assert server.private[:12] not in text, (route, visitor)
        if "{key" in route.path and "reader" in found:
            assert found["reader"] == found["person B"] == 404, route
            assert found["person A"] == found["administrator"], route


async def test_a_list_counts_what_a_visitor_may_see(server: AccessServer) -> None:
    for visitor, number in {"reader": 1, "person A": 2, "person B": 1, "administrator": 2}.items():
        _, text = await server.send("GET", "/-/api/recordings", VISITORS[visitor])
        assert text.count('"private"') == number, visitor


async def test_a_host_that_is_none_is_no_internal_error(server: AccessServer) -> None:
    for host in ("", "[::1", "[]", "a@b", "a b", "127.0.0.1:x", "\N{SNOWMAN}"):
        status, _ = await server.send("GET", "/-/status", bearer(ADMIN) | {"Host": host})
        assert status in {200, 400, 403, 421}, host


async def test_no_other_spelling_leads_around_the_guard_or_to_the_pages_of_the_dispatcher(server: AccessServer) -> None:
    for path in ("//-/status", "///-/jobs", "/%2D/status", "//%2D/status", "/-//status"):
        status, _ = await server.send("GET", URL(server.url + path, encoded=True), {})
        assert status in {401, 404}, path


async def test_queries_are_answered_under_any_name_unless_names_are_given(tmp_path: Path) -> None:
    host = {"Host": "rebound.example.org"}
    async with access_server(tmp_path) as server:
        assert (await server.send("GET", "/api/instr-list", host))[0] == 200
    async with access_server(tmp_path, allowed_host="oda.example.org") as server:
        for path in ("/api/instr-list", "/run_analysis", "//-/status"):
            assert (await server.send("GET", path, host))[0] == 421
            assert (await server.send("GET", path, {"Host": "oda.example.org"}))[0] != 421
        assert (await server.send("GET", "/-/livez", host))[0] == 200
        assert (await server.send("GET", "/-/status", bearer(ADMIN) | {"Host": "oda.example.org"}))[0] == 200
