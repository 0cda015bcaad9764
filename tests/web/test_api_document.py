"""docs/api.md describes each route of the HTTP API, and its response."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.query.cache_key import Key, key_of
from oda_proxy.query.query import Query
from tests.support.access_servers import ADMIN, AccessServer, api_server, bearer, name_of
from tests.support.dispatcher_responses import answer
from tests.support.fixture_folders import copy_fixtures, zipped
from tests.support.paths import DOCS
from tests.support.recordings import recording
from tests.support.scripted_upstream import Script

if TYPE_CHECKING:
    from pathlib import Path

PAGE: Final = (DOCS / "api.md").read_text()
SECTIONS: Final = {
    name: json.loads(found[1]) if (found := re.search(r"(?s)```json\n(.*?)```", text)) else None
    for name, text in re.findall(r"(?ms)^### `(.*?)`$(.*?)(?=^##|\Z)", PAGE)
}
"""The routes, each with its response."""
QUERY: Final = Query("isgri", "isgri_image", "Real", (("RA", ("83.0",)),), api=True)
RUNNING: Final = {**answer(query_status="submitted"), "products": {}}


def shape(value: Any) -> Any:
    """Return the names and types in a response; of a list, those of its first element."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shape(member) for member in value[:1]]
    return type(value).__name__


async def test_every_route_of_the_api_has_a_section() -> None:
    async with api_server() as server:
        routes = {name_of(route) for route in server.routes if re.match(r"/-/(api|jobs)\b", route.path)}

    assert set(SECTIONS) == routes


async def test_the_responses_are_as_described(tmp_path: Path) -> None:
    fixtures = copy_fixtures(tmp_path, "polar/polar_lc/2016-12-18")
    files = {str(one.relative_to(fixtures)): one.read_bytes() for one in fixtures.rglob("*") if one.is_file()}
    first, second = key_of(QUERY), Key("a" * 64)
    async with api_server(Script().then(RUNNING)) as server:
        for key in (first, second):
            timeline = (("submitted", 0.0), ("ready", 1.0))
            server.store.put(recording(key, query=QUERY, timeline=timeline))
        send = Sender(server)

        server.store.put(recording(first, b'"n":2', query=QUERY, timeline=timeline, stored_at=time.time() + 1))
        await send.check("GET /-/api/recordings/KEY/versions", key=first)
        await send.check("DELETE /-/api/recordings/KEY/versions", "?at=all", key=first)
        await send.check("GET /-/api/recordings", "?limit=1")
        await send.check("GET /-/api/recordings/KEY", key=first)
        await send.check("POST /-/api/recordings/KEY/pin", key=first)
        await send.check("POST /-/api/recordings/KEY/unpin", key=first)
        await send.check("POST /-/api/recordings/pin", "?instrument=isgri")
        await send.check("POST /-/api/recordings/unpin", "?instrument=isgri")
        await send.check("POST /-/api/recordings/KEY/refresh", key=first)
        await send.check("GET /-/jobs")
        await send.check("DELETE /-/jobs/KEY", key=first)
        await send.check("DELETE /-/api/recordings", "?instrument=isgri")
        await send.check("DELETE /-/api/recordings/KEY", key=second)
        await send.check("POST /-/api/import", data=zipped(files))

    assert send.checked == set(SECTIONS)


class Sender:
    """Sends requests of the administrator, and compares the responses with those in the document."""

    def __init__(self, server: AccessServer) -> None:
        self.server = server
        self.checked: set[str] = set()

    async def check(self, name: str, query: str = "", *, key: str = "", data: bytes | None = None) -> None:
        method, _, path = name.partition(" ")
        headers = bearer(ADMIN) | ({} if data is None else {"Content-Type": "application/zip"})
        status, text = await self.server.send(method, path.replace("KEY", key) + query, headers, data=data)

        assert status in {200, 202}, text
        expected, found = shape(SECTIONS[name]), shape(json.loads(text))
        for members in (expected, found):  # their names differ
            for one in (members, *members.get("recordings", []), *members.get("versions", [])):
                if isinstance(one, dict) and isinstance(one.get("query"), dict):
                    one["query"]["parameters"] = {}
            if isinstance(members.get("stored"), dict):
                members["stored"] = list(members["stored"].values())
        if found.get("collections") == []:  # the recording is in none; the document shows one that is
            found["collections"] = expected.get("collections")
        assert found == expected, name
        self.checked.add(name)
