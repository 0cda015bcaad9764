"""The mock serves instruments that are only described: the checks of their parameters, and uploaded files."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import FormData
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


@pytest.mark.parametrize("restrictions", [{"min_value": "low"}, {"max_value": [1]}, {"allowed_values": 5}])
async def test_restrictions_that_make_no_sense_are_named_in_the_response(restrictions: dict[str, Any]) -> None:
    source = [SOURCE[0], {"name": "n", "units": None, "value": 1.0, "restrictions": restrictions}]
    described = [[*META_DATA[0][:2], source, PRODUCT]]
    settings = MockSettings(described=(read_instrument(json.dumps(described)),), time_scale=0)
    async with TestClient(TestServer(make_app(settings))) as client:
        status, answer = await sent(client, n="1")
    assert status == 400
    assert answer["error_message"].startswith("Wrong restrictions of parameter n in its description: ")


async def test_values_are_echoed_in_the_units_of_the_description(mock: TestClient[Any, Any]) -> None:
    _, answer = await sent(mock, Emin="2000", Emin_units="GeV", table='{"a": [2, 1]}')
    echo = answer["products"]["analysis_parameters"]
    assert (echo["Emin"], echo["Emin_units"], echo["table"]) == (pytest.approx(2.0), "TeV", '{"a": [2, 1]}')


async def test_an_argument_without_a_name_is_no_unit(mock: TestClient[Any, Any]) -> None:
    status, answer = await sent(mock, **{"Emin": "2", "": "nothing"})
    assert (status, answer["products"]["analysis_parameters"]["Emin"]) == (200, 2.0)


async def test_defaults_are_filled_in_and_unknown_arguments_named(mock: TestClient[Any, Any]) -> None:
    _, answer = await sent(mock, colour="green")
    echo = answer["products"]["analysis_parameters"]
    assert (echo["Emin"], echo["site"], echo["table"], echo["T_format"]) == (1.0, "North", {"a": [1]}, "isot")
    assert answer["exit_status"]["comment"] == "Please note that argument colour is not used"


async def test_an_uploaded_file_is_echoed_as_an_address_that_answers_head_and_get(mock: TestClient[Any, Any]) -> None:
    form = FormData(QUERY)
    form.add_field("events", b"1 2 3\n", filename="events.txt")
    answer = await (await mock.post("/run_analysis", data=form)).json()
    address = answer["products"]["analysis_parameters"]["events"]
    assert address.endswith(
        "/dispatch-data/download_file?file_list=f2b33fb7b3d0eb95090a16060e6a24f9&_is_mmoda_url=True&return_archive=False"
    )
    address = address.removeprefix(str(mock.make_url("/dispatch-data")).removesuffix("/dispatch-data"))
    for method in ("GET", "HEAD"):
        response = await mock.request(method, address, allow_redirects=True)
        assert (response.status, response.headers["Content-Length"]) == (200, "6")
        assert await response.read() == (b"1 2 3\n" if method == "GET" else b"")
    assert (await mock.get(address.replace("f2b3", "0000"))).status == 403


async def test_a_slow_check_against_a_schema_holds_up_no_other_request(
    mock: TestClient[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    others_are_answered = threading.Event()

    def check(*_: Any) -> str:
        return "valid" if others_are_answered.wait(10) else "too long"

    monkeypatch.setattr("mock_server.parameter_values.check_with_schema", check)
    slow = asyncio.create_task(sent(mock, table='{"a": [2]}'))
    await asyncio.sleep(0)
    assert (await mock.get("/instr-list")).status == 200
    others_are_answered.set()
    status, _ = await slow
    assert status == 200
