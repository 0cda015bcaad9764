"""The mock serves instruments that are only described: the checks of their parameters, and uploaded files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import make_app
from mock_server.settings import MockSettings
from oda_proxy.fixture.meta_data import read_instrument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ONTOLOGY = "http://odahub.io/ontology#"
SOURCE = [
    {"query_name": "src_query"},
    {
        "name": "T1",
        "units": "isot",
        "value": "2017-03-06T13:26:48.000",
        "restrictions": {"is_optional": False},
        "owl_uri": [f"{ONTOLOGY}TimeInstant"],
    },
    {"name": "T_format", "units": "str", "value": "isot"},
    {"name": "token", "units": "str", "value": None, "restrictions": {"is_optional": True}},
]
SCHEMA = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}, "required": ["a"]}
PRODUCT: list[dict[str, Any]] = [
    {"query_name": "spectrum_query"},
    {"product_name": "spectrum"},
    {
        "name": "Emin",
        "units": "TeV",
        "value": 1.0,
        "restrictions": {"is_optional": False, "min_value": 0.1, "max_value": 100.0},
        "extra_metadata": {"label": "Lowest energy"},
        "owl_uri": [f"{ONTOLOGY}Energy"],
    },
    {
        "name": "site",
        "units": "str",
        "value": "North",
        "restrictions": {"is_optional": False, "allowed_values": ["North", "South"]},
        "owl_uri": [f"{ONTOLOGY}String"],
    },
    {
        "name": "table",
        "units": None,
        "value": {"a": [1]},
        "restrictions": {"is_optional": False, "schema": SCHEMA},
        "owl_uri": [f"{ONTOLOGY}StructuredParameter"],
    },
    {
        "name": "events",
        "units": "str",
        "value": "",
        "restrictions": {"is_optional": False},
        "owl_uri": [f"{ONTOLOGY}String", f"{ONTOLOGY}FileReference"],
    },
]
META_DATA = [[{"instrumet": "tel"}, {"prod_dict": {"spectrum": "spectrum_query"}}, SOURCE, PRODUCT]]
PAR_NAMES = ["T1", "T_format", "token", "Emin", "Emin_units", "site", "table", "events"]
QUERY = {
    "instrument": "tel",
    "product_type": "spectrum",
    "query_type": "Real",
    "query_status": "new",
    "session_id": "S" * 16,
    "api": "True",
}


@pytest.fixture
async def mock() -> AsyncIterator[TestClient[Any, Any]]:
    instrument = read_instrument(json.dumps(META_DATA), PAR_NAMES)
    settings = MockSettings(described=(instrument,), synthetic=True, time_scale=0)
    async with TestClient(TestServer(make_app(settings))) as client:
        yield client


async def sent(mock: TestClient[Any, Any], **arguments: str) -> tuple[int, Any]:
    response = await mock.get("/run_analysis", params={**QUERY, **arguments})
    return response.status, await response.json()


async def test_descriptions_are_served_as_they_were_read(mock: TestClient[Any, Any]) -> None:
    text = await (await mock.get("/api/meta-data?instrument=tel")).text()
    assert text == json.dumps(META_DATA, separators=(",", ":")) + "\n"
    assert await (await mock.get("/api/par-names?instrument=tel")).json() == PAR_NAMES
    assert "tel" in await (await mock.get("/instr-list")).json()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"Emin": "x"}, "Parameter Emin wrong value x. could not convert string to float: 'x'"),
        ({"Emin": "0.01"}, "Parameter Emin wrong value 0.01TeV: should be greater or equal than 0.1"),
        (
            {"Emin": "1e15", "Emin_units": "eV"},
            "Parameter Emin wrong value 1000.0TeV: should be lower or equal than 100.0",
        ),
        ({"Emin": "1", "Emin_units": "sheep"}, "wrong units for par: Emin, found: sheep, allowed: ['keV', "),
        ({"site": "West"}, "Parameter site wrong value West: not in allowed ['North', 'South']"),
        ({"site": "\0"}, "Non-optional parameter site is set to None"),
        ({"table": '{"b": 1}'}, "Wrong value of structured parameter table"),
        ({"table": "text"}, "Wrong value of structured parameter table"),
    ],
)
async def test_a_value_that_the_description_forbids_is_refused_with_the_dispatchers_words(
    mock: TestClient[Any, Any], arguments: dict[str, str], message: str
) -> None:
    status, answer = await sent(mock, **arguments)
    assert status == 400
    assert message in answer["error_message"]
