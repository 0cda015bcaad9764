"""The mock beside the real dispatcher 1.3.3: hundreds of requests to both, and every difference is listed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import TestServer

from mock_server.app import RUNNER_OPTIONS, make_app
from mock_server.settings import MockSettings
from tests.support.mock_differences import DIFFERENCES
from tests.support.mock_requests import KEY, request_to, requests
from tests.support.response_comparison import INSTRUMENTS, Client, differences, write_folder

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

DOCUMENT = "docs/mock.md"


async def test_all_differences_are_listed_and_all_that_are_listed_occur(
    own_dispatcher_url: str, tmp_path: Path
) -> None:
    """The mock knows the real one's instruments from their descriptions, and from the end of each query."""
    real = Client(own_dispatcher_url)
    asked = requests()
    answers = [await asyncio.to_thread(real.ask, request) for request in asked]
    described = [request_to(name, "/api/meta-data", instrument=name) for name in INSTRUMENTS]
    descriptions = [json.loads((await asyncio.to_thread(real.ask, request)).body) for request in described]
    write_folder(tmp_path, descriptions, zip(asked, answers, strict=True))
    server = TestServer(make_app(MockSettings(fixtures=(tmp_path,), secret_key=KEY)))
    await server.start_server(**RUNNER_OPTIONS)
    found = {}
    try:
        mock = Client(str(server.make_url("/")))
        for request, answer in zip(asked, answers, strict=True):
            mocked = await asyncio.to_thread(mock.ask, request)
            facts = differences(real.facts(request, answer), mock.facts(request, mocked))
            if facts:
                found[request.name] = facts
    finally:
        await server.close()
    listed = {name: facts for table in DIFFERENCES.values() for facts, names in table.items() for name in names}
    assert found == listed


def test_there_are_many_requests_and_each_has_a_name_of_its_own() -> None:
    names = [request.name for request in requests()]
    assert len(names) == len(set(names)) > 400


def test_no_difference_is_listed_twice(pytestconfig: pytest.Config) -> None:
    names = [name for table in DIFFERENCES.values() for listed in table.values() for name in listed]
    assert len(names) == len(set(names))
    assert set(names) <= {request.name for request in requests()}
    document = (pytestconfig.rootpath / DOCUMENT).read_text("utf-8")
    for reason, table in DIFFERENCES.items():
        assert f"| {sum(map(len, table.values()))} | {reason} |" in document
