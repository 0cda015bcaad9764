"""The mock compared with the real dispatcher 1.3.3: hundreds of requests to both, and a list of all differences."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestServer

import mock_server
from mock_server.app import RUNNER_OPTIONS, make_app
from mock_server.settings import MockSettings
from oda_proxy.fixture.writing import write_manifest
from oda_proxy.servers.instruments_like import instruments_like
from tests.support.mock_differences import DIFFERENCES, DUMMY_INSTRUMENTS
from tests.support.mock_differences_of_instruments import OF_INSTRUMENTS
from tests.support.mock_requests import KEY, parameters_of_queries, request_to, requests
from tests.support.mock_requests_of_instruments import requests_of_instruments
from tests.support.response_comparison import INSTRUMENTS, Client, differences, instrument_of, write_folder

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.support.mock_requests import Request
    from tests.support.response_comparison import Answer

pytestmark = pytest.mark.real

DOCUMENT = "docs/mock.md"
DUMMIES = Path(mock_server.__file__).parent / "dummy_instruments" / "1.3.3"


@dataclass(frozen=True)
class Exchanges:
    """The real dispatcher's answers to all requests, what they are compared by, and its descriptions."""

    answers: list[tuple[Request, Answer]]
    facts: list[dict[str, Any]]
    descriptions: list[Any]

    async def differences(self, settings: MockSettings, names: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Send requests to a mock; return the names of the facts that differ by the name of the request."""
        server = TestServer(make_app(settings))
        await server.start_server(**RUNNER_OPTIONS)
        found = {}
        try:
            mock = Client(str(server.make_url("/")))
            for (request, _), facts in zip(self.answers, self.facts, strict=True):
                if request.name not in names:
                    continue
                answer = await asyncio.to_thread(mock.ask, request)
                if differing := differences(facts, mock.facts(request, answer)):
                    found[request.name] = differing
        finally:
            await server.close()
        return found


@pytest.fixture(scope="module")
def exchanges(own_dispatcher_url: str) -> Exchanges:
    real = Client(own_dispatcher_url)
    answers = [(request, real.ask(request)) for request in (*requests(), *for_instruments())]
    described = [request_to(name, "/api/meta-data", instrument=name) for name in INSTRUMENTS]
    descriptions = [json.loads(real.ask(request).body) for request in described]
    return Exchanges(answers, [real.facts(request, answer) for request, answer in answers], descriptions)


def for_instruments() -> list[Request]:
    """Return the requests for the dummy instruments other than `empty`, and for numbers of all."""
    return list(requests_of_instruments(parameters_of_queries()))


def listed(*tables: dict[str, dict[tuple[str, ...], tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    """Return the facts that differ by the name of the request; later tables replace earlier ones."""
    facts = {name: facts for table in tables for of in table.values() for facts, names in of.items() for name in names}
    return {name: names for name, names in facts.items() if names}


async def test_the_differences_are_exactly_those_in_the_list(exchanges: Exchanges, tmp_path: Path) -> None:
    """The mock has the instruments of the real one from their descriptions, and the final response to each query."""
    names = {request.name for request in requests()}
    write_folder(tmp_path, exchanges.descriptions, [pair for pair in exchanges.answers if pair[0].name in names])
    settings = MockSettings(fixtures=(tmp_path,), secret_key=KEY)
    assert await exchanges.differences(settings, names) == listed(DIFFERENCES)


async def test_the_dummy_instruments_of_the_mock_differ_exactly_as_listed(exchanges: Exchanges, tmp_path: Path) -> None:
    write_manifest(tmp_path, {})
    settings = MockSettings(fixtures=(tmp_path,), dummy_instruments=True, dummy_release="1.3.3", secret_key=KEY)
    names = {request.name for request, _ in exchanges.answers}
    expected = listed(DIFFERENCES, DUMMY_INSTRUMENTS, OF_INSTRUMENTS)
    assert await exchanges.differences(settings, names) == expected


def test_the_dummy_instruments_are_described_as_by_the_real_dispatcher(exchanges: Exchanges) -> None:
    described = {document["instrument"]: document for document in map(instrument_of, exchanges.descriptions)}
    assert described == {name: json.loads((DUMMIES / name / "instrument.json").read_text()) for name in INSTRUMENTS}


def test_there_are_many_requests_and_each_has_a_name_of_its_own() -> None:
    names = [request.name for request in (*requests(), *for_instruments())]
    assert len(names) == len(set(names)) > 700


def test_no_difference_is_listed_twice(pytestconfig: pytest.Config) -> None:
    tables = DIFFERENCES | OF_INSTRUMENTS
    names = [name for table in tables.values() for requests_of in table.values() for name in requests_of]
    assert len(names) == len(set(names))
    assert set(names) <= {request.name for request in (*requests(), *for_instruments())}
    document = (pytestconfig.rootpath / DOCUMENT).read_text("utf-8")
    for reason, table in tables.items():
        assert f"| {sum(map(len, table.values()))} | {reason} |" in document
    assert f"{len(listed(DIFFERENCES, DUMMY_INSTRUMENTS))} differences" in document
    assert f"{len(listed(OF_INSTRUMENTS))} more" in document


async def test_a_mock_like_the_real_dispatcher_has_its_instruments(own_dispatcher_url: str) -> None:
    instruments = await instruments_like(own_dispatcher_url)
    assert [instrument.name for instrument in instruments] == sorted(INSTRUMENTS)
    server = TestServer(make_app(MockSettings(described=instruments)))
    await server.start_server(**RUNNER_OPTIONS)
    try:
        for name in INSTRUMENTS:
            request = request_to(name, "/api/par-names", instrument=name)
            real, mock = (Client(url).ask for url in (own_dispatcher_url, str(server.make_url("/"))))
            answers = [json.loads((await asyncio.to_thread(ask, request)).body) for ask in (real, mock)]
            assert {one for one in answers[0] if one is not None} <= set(answers[1])  # 1.3.3 names one null
    finally:
        await server.close()
