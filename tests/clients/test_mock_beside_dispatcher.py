"""The mock compared with the real dispatcher 1.3.3: hundreds of requests to both, and a list of all differences."""

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


async def test_the_differences_are_exactly_those_in_the_list(own_dispatcher_url: str, tmp_path: Path) -> None:
    """The mock has the instruments of the real one from their descriptions, and the final response to each query."""
    real = Client(own_dispatcher_url)
    sent = requests()
    answers = [await asyncio.to_thread(real.ask, request) for request in sent]
    described = [request_to(name, "/api/meta-data", instrument=name) for name in INSTRUMENTS]
    descriptions = [json.loads((await asyncio.to_thread(real.ask, request)).body) for request in described]
    write_folder(tmp_path, descriptions, zip(sent, answers, strict=True))
    server = TestServer(make_app(MockSettings(fixtures=(tmp_path,), secret_key=KEY)))
    await server.start_server(**RUNNER_OPTIONS)
    found = {}
    try:
        mock = Client(str(server.make_url("/")))
        for request, answer in zip(sent, answers, strict=True):
            mocked = await asyncio.to_thread(mock.ask, request)
            facts = differences(real.facts(request, answer), mock.facts(request, mocked))
            if facts:
                found[request.name] = facts
    finally:
        await server.close()
    expected = {name: facts for table in DIFFERENCES.values() for facts, names in table.items() for name in names}
    assert found == expected


def test_there_are_many_requests_and_each_has_a_name_of_its_own() -> None:
    names = [request.name for request in requests()]
    assert len(names) == len(set(names)) > 400


def test_no_difference_is_listed_twice(pytestconfig: pytest.Config) -> None:
    names = [name for table in DIFFERENCES.values() for requests_of in table.values() for name in requests_of]
    assert len(names) == len(set(names))
    assert set(names) <= {request.name for request in requests()}
    document = (pytestconfig.rootpath / DOCUMENT).read_text("utf-8")
    for reason, table in DIFFERENCES.items():
        assert f"| {sum(map(len, table.values()))} | {reason} |" in document
