"""The dispatcher's dummy instruments: results, roles, jobs that wait for reports."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import make_app
from mock_server.settings import MockSettings
from mock_server.tokens import make_token
from oda_proxy.errors import UsageError
from tests.support.mock_fixtures import write_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import web

KEY = "a-test-key"
NEW = {"instrument": "empty", "product_type": "dummy", "query_type": "Dummy", "query_status": "new", "api": "True"}
VISIBLE = [
    *("empty", "empty-async", "empty-async-return-progress", "empty-semi-async"),
    *("empty-with-conf", "empty-with-posix-path"),
]
GENERAL = make_token({"sub": "user@example.org", "roles": "general", "exp": time.time() + 3600}, KEY)
DEVELOPER = make_token({"sub": "user@example.org", "roles": "oda workflow developer", "exp": time.time() + 3600}, KEY)
FULL = make_token({"sub": "user@example.org", "roles": "unige-hpc-full", "exp": time.time() + 3600}, KEY)


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    settings = MockSettings(fixtures=(write_folder(tmp_path),), dummy_instruments=True, secret_key=KEY, time_scale=0)
    async with TestClient(TestServer(make_app(settings))) as client:
        yield client


async def analyse(mock: Any, **changes: str) -> tuple[int, Any]:
    async with mock.get("/run_analysis", params={**NEW, "session_id": "S1", **changes}) as response:
        return response.status, await response.json()


async def test_the_dummy_instruments_are_listed_beside_the_others(mock: Any) -> None:
    listed = await (await mock.get("/api/instr-list")).json()
    assert listed == [*VISIBLE, "isgri", "polar"]


async def test_they_are_not_listed_unless_they_are_switched_on(tmp_path: Path) -> None:
    app = make_app(MockSettings(fixtures=(write_folder(tmp_path),)))
    async with TestClient(TestServer(app)) as client:
        assert await (await client.get("/api/instr-list")).json() == ["isgri", "polar"]


@pytest.mark.parametrize(
    "parameters", [{}, {"RA": "1.5", "DEC": "2"}, {"T1": "52000", "T2": "52001", "T_format": "mjd"}]
)
@pytest.mark.parametrize("instrument", ["empty", "empty-async", "empty-semi-async"])
async def test_a_dummy_query_is_done_whatever_its_parameters(
    mock: Any, instrument: str, parameters: dict[str, str]
) -> None:
    status, body = await analyse(mock, instrument=instrument, **parameters)
    assert (status, body["query_status"], body["job_status"]) == (200, "done", "done")
    assert body["products"]["prod_process_message"] == ""


async def test_the_failing_product_fails_with_the_texts_of_the_plugin(mock: Any) -> None:
    status, body = await analyse(mock, product_type="failing")
    assert (status, body["query_status"]) == (200, "failed")
    assert body["exit_status"]["message"] == "Error when getting query products"
    assert body["exit_status"]["debug_message"] == "InternalError()"


async def test_the_instruments_of_1_3_3_are_those_of_its_plugin(tmp_path: Path) -> None:
    app = make_app(MockSettings(fixtures=(write_folder(tmp_path),), dummy_instruments=True, dummy_release="1.3.3"))
    async with TestClient(TestServer(app)) as client:
        listed = await (await client.get("/instr-list")).json()
        assert listed == ["empty", "empty-async", "empty-semi-async", "isgri", "polar"]
        _, body = await analyse(client, product_type="failing")
        assert body["exit_status"]["message"] == "failing query"


def test_a_release_whose_instruments_do_not_come_with_the_mock_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no dummy instruments of the release '1.2': choose '1.3.3' or '1.3.6'"):
        MockSettings(dummy_release="1.2")  # type: ignore[arg-type]


async def test_an_instrument_in_development_is_hidden_from_tokens_without_the_role(mock: Any) -> None:
    development = {"instrument": "empty-development"}
    status, body = await analyse(mock, **development)
    assert (status, body["error"].split("(")[0]) == (403, "RequestNotAuthorized")
    assert (await mock.get("/api/meta-data", params=development)).status == 403
    status, body = await analyse(mock, **development, token=DEVELOPER)
    assert (status, body["query_status"]) == (200, "done")
    listed = await (await mock.get("/instr-list", params={"token": DEVELOPER})).json()
    assert set(listed) - set(await (await mock.get("/instr-list")).json()) == {"empty-development"}


async def test_echo_has_values_as_they_were_sent_and_the_parameters_in_their_default_units(mock: Any) -> None:
    sent = {"ang_deg": "2", "energ": "3", "energy_units": "GeV", "T1": "57818.5", "T2": "57819.5", "T_format": "mjd"}
    _, body = await analyse(mock, product_type="echo", query_type="Real", **sent)
    echo, parameters = body["products"]["echo"], body["products"]["analysis_parameters"]
    assert (echo["ang_deg"], echo["energ"], echo["T1"], echo["struct"]) == (2.0, 3.0, 57818.5, {"a": [1, 2]})
    assert (parameters["ang_deg"], parameters["energ"], parameters["energy_units"]) == (7200.0, 3e6, "keV")
    assert parameters["T1"] == "2017-03-06T12:00:00.000"


async def test_structured_and_optional_parameters_are_echoed_as_workflows_get_them(mock: Any) -> None:
    _, body = await analyse(mock, product_type="structured", query_type="Real", struct='{"b": [1], "a": [4.2]}')
    assert body["products"]["echo"]["struct"] == '{"a": [4.2], "b": [1]}'
    assert body["products"]["echo"]["ang_deg"] == 3600.0
    _, body = await analyse(mock, product_type="optional", query_type="Real", optional_def_float="\0")
    assert body["products"]["echo"]["optional_def_float"] is None


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ({"bounded_int_par": "40"}, "Parameter bounded_int_par wrong value 40"),
        ({"string_select_par": "foo"}, "Parameter string_select_par wrong value foo"),
    ],
)
async def test_restricted_parameters_are_checked(mock: Any, argument: dict[str, str], text: str) -> None:
    status, body = await analyse(mock, product_type="restricted", query_type="Real", **argument)
    assert status == 400
    assert body["error_message"].startswith(text)


async def test_the_products_so_far_leave_the_query_submitted(mock: Any) -> None:
    query = {"instrument": "empty-async-return-progress", "query_type": "Real"}
    _, body = await analyse(mock, **query, return_progress="True")
    assert (body["query_status"], body["products"]["p"]) == ("submitted", 0)
    _, body = await analyse(mock, **query)
    assert (body["query_status"], body["products"]["p"]) == ("done", 0)


async def test_the_instrument_with_a_configuration_names_the_address_of_the_dispatcher(mock: Any) -> None:
    _, body = await analyse(mock, instrument="empty-with-conf", query_type="Real")
    assert body["exit_status"]["comment"] == f"dataserver products url: {mock.make_url('/')}"


async def test_files_of_a_suite_command_the_back_end(tmp_path: Path) -> None:
    settings = MockSettings(
        fixtures=(write_folder(tmp_path / "fixtures"),), dummy_instruments=True, job_folders=tmp_path
    )
    async with TestClient(TestServer(make_app(settings))) as client:
        query = {"instrument": "empty-async", "query_type": "Real"}
        assert (await analyse(client, **query))[1]["query_status"] == "submitted"
        (tmp_path / "DataServerQuery-status.state").write_text("done")
        assert (await analyse(client, **query))[1]["query_status"] == "done"
        (tmp_path / "ReturnProgressProductQuery-current_p_value.out").write_text("5")
        _, body = await analyse(client, instrument="empty-async-return-progress")
        assert body["products"]["p"] == 5


async def test_numerical_has_the_selected_sources_of_a_catalogue(mock: Any) -> None:
    columns: list[list[Any]] = [[1, 2], ["A", "B"], [6, 1], [5.5, 2], [4, 3]]
    catalog = {
        "cat_frame": "fk5",
        "cat_coord_units": "deg",
        "cat_lon_name": "ra",
        "cat_lat_name": "dec",
        "cat_column_list": columns,
        "cat_column_names": ["meta_ID", "src_names", "significance", "ra", "dec"],
    }
    query = {"product_type": "numerical", "token": GENERAL, "selected_catalog": json.dumps(catalog)}
    _, body = await analyse(mock, **query, catalog_selected_objects="2,7")
    assert body["products"]["catalog"]["cat_column_list"] == [[2], ["B"], [1], [2], [3]]
    assert [kind for _, kind in body["products"]["catalog"]["cat_column_descr"]] == ["<i8", "<U1", "<i8", "<f8", "<i8"]
    status, body = await analyse(mock, **query, catalog_selected_objects="aaa")
    assert (status, body["error_message"]) == (
        400,
        "Error while setting catalog object : the selected catalog is wrongly formatted, please check your inputs",
    )
    columns[0].append(3)
    status, body = await analyse(mock, **{**query, "selected_catalog": json.dumps(catalog)})
    message = "Error while setting catalog object : Inconsistent data column lengths: {2, 3}"
    assert (status, body["error_message"]) == (400, message)


async def test_an_uploaded_list_becomes_the_input_list_of_the_instrument(mock: Any) -> None:
    form = FormData({**NEW, "session_id": "S1", "use_scws": "user_file"})
    form.add_field("user_scw_list_file", b"5\n6,7\n", filename="list")
    async with mock.post("/run_analysis", data=form) as response:
        body = await response.json()
    assert body["products"]["analysis_parameters"]["p_list"] == ["5", "6", "7"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 403),
        ({"token": GENERAL}, 200),
        ({"token": GENERAL, "p": "50"}, 200),
        ({"token": GENERAL, "p": "50.5"}, 403),
        ({"token": FULL, "p": "50.5"}, 200),
        ({"token": FULL}, 403),
        ({"token": FULL, "p": "800"}, 200),
        ({"token": FULL, "p": "801"}, 400),
    ],
)
async def test_numerical_needs_a_role_that_depends_on_p(mock: Any, arguments: dict[str, str], expected: int) -> None:
    status, body = await analyse(mock, product_type="numerical", **arguments)
    assert status == expected
    if status == 200:
        [image] = body["products"]["numpy_data_product_list"]
        assert image["data_unit_list"][0]["dt"] == "float64"
    elif status == 403:
        assert "lacking all of the following roles:\n - " in body["exit_status"]["message"]


async def test_echo_returns_the_parameters_of_all_products(mock: Any) -> None:
    _, body = await analyse(mock, product_type="echo", query_type="Real", ang="7", token=GENERAL)
    echo = body["products"]["echo"]
    assert (echo["ang"], echo["p"], echo["sb"], echo["token"]) == (7.0, 10.0, 10.0, GENERAL)


@pytest.mark.parametrize(("action", "state"), [("done", "ready"), ("failed", "failed"), ("progress", "progress")])
async def test_an_asynchronous_job_waits_for_a_report_even_if_jobs_take_no_time(
    mock: Any, action: str, state: str
) -> None:
    query = {"instrument": "empty-async", "query_type": "Real"}
    _, body = await analyse(mock, **query)
    assert body["query_status"] == "submitted"
    job_id = body["job_monitor"]["job_id"]
    poll = {**query, "query_status": "submitted", "job_id": job_id}
    assert (await analyse(mock, **poll))[1]["query_status"] == "submitted"
    report = {"job_id": job_id, "session_id": "S1", "instrument_name": "empty-async", "action": action}
    await (await mock.get("/call_back", params=report)).read()
    assert (await analyse(mock, **poll))[1]["query_status"] == state


@pytest.mark.parametrize(("p", "state"), [("-1", "failed"), ("0", "submitted"), ("3.9", "submitted"), ("4", "done")])
async def test_p_decides_what_the_semi_asynchronous_instrument_does(mock: Any, p: str, state: str) -> None:
    query = {"instrument": "empty-semi-async", "product_type": "numerical", "query_type": "Real"}
    _, body = await analyse(mock, **query, p=p, token=GENERAL)
    assert body["query_status"] == state
    assert body["exit_status"]["warning"] == "mock warning"
