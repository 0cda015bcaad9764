"""Each change by an administrator is in the log, with what was changed, and without the query."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query
from oda_proxy.web.log_formats import MEMBERS
from tests.support.access_servers import ADMIN, READ, AccessServer, api_server, bearer
from tests.support.recordings import recording

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUERY = Query("isgri", "isgri_image", "Real", (("src_name", ("GX 1+4",)),), api=True)


@pytest.fixture
async def server(caplog: pytest.LogCaptureFixture) -> AsyncIterator[AccessServer]:
    caplog.set_level(logging.INFO)
    async with api_server() as server:
        for letter in "abcde":
            server.store.put(recording(Key(letter * 64), query=QUERY))
        yield server


def changes(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    return [
        (record.getMessage(), getattr(record, MEMBERS))
        for record in caplog.records
        if record.name.endswith("change_log")
    ]


async def test_a_change_names_what_was_changed_and_by_whom(
    server: AccessServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.send("POST", "/-/api/recordings/aa/pin", bearer(ADMIN))
    await server.send("DELETE", "/-/api/recordings?source=GX*&confirm=yes", bearer(ADMIN))

    (pinned, members), (removed, _) = changes(caplog)
    assert members.pop("request_id")
    assert pinned == "exempt a recording from eviction (aaaaaaaaaaaa): 200, for the administrator at 127.0.0.1"
    assert members == {
        "action": "exempt a recording from eviction",
        "status": 200,
        "client": "127.0.0.1",
        "number": 1,
        "keys": ["a" * 64],
    }
    assert " and 2 others): 200, for the administrator at 127.0.0.1" in removed
    assert "GX" not in caplog.text
    assert ADMIN not in caplog.text


async def test_a_change_that_is_refused_is_logged_under_the_id_of_its_response(
    server: AccessServer, caplog: pytest.LogCaptureFixture
) -> None:
    for headers, status in (({}, 401), (bearer(READ), 403), (bearer("wrong"), 401), ({"Origin": "http://a.b"}, 403)):
        caplog.clear()
        url = f"{server.url}/-/api/recordings/aa"
        async with server.client.delete(url, headers=headers) as response:
            assert response.status == status
        ((text, members),) = changes(caplog)

        assert text == f"refused to remove a recording: {status}, for a client at 127.0.0.1"
        assert members["request_id"] == response.headers["X-Request-ID"]
        assert "wrong" not in caplog.text


async def test_what_changes_nothing_is_not_logged(server: AccessServer, caplog: pytest.LogCaptureFixture) -> None:
    for method, path, token in (
        ("GET", "/-/api/recordings", ADMIN),
        ("DELETE", "/-/api/recordings?source=*", ADMIN),
        ("DELETE", "/-/api/recordings/ff", ADMIN),
        ("GET", "/-/status", "wrong"),
    ):
        await server.send(method, path, bearer(token))

    assert changes(caplog) == []
