"""Unmodified clients, of 2019 and current, get the shipped fixtures from the mock."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestServer

from mock_server.app import RUNNER_OPTIONS, make_app
from mock_server.settings import MockSettings
from mock_server.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import TypeAlias

    Request: TypeAlias = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.real

VERSIONS = ["1.3.5", "1.0"]
IMAGE = {
    "instrument": "isgri",
    "product": "isgri_image",
    "T1": "2003-03-15T23:27:40.0",
    "T2": "2003-03-16T00:03:15.0",
    "E1_keV": 20.0,
    "E2_keV": 40.0,
    "osa_version": "OSA10.2",
    "RA": 255.986542,
    "DEC": -37.844167,
    "detection_threshold": 5.0,
    "radius": 15.0,
    "product_type": "Real",
}
COMMON = {name: value for name, value in IMAGE.items() if name not in ("E1_keV", "E2_keV", "product")}
HALF_AN_HOUR = {**COMMON, "T2": "2003-03-16T00:03:12.0"}
JEMX = {
    "instrument": "jemx",
    "scw_list": ["010200230010.001"],
    "osa_version": "OSA10.2",
    "detection_threshold": 5.0,
    "radius": 15.0,
}
# The queries of the notebook, and how many products each returns.
NOTEBOOK = [
    (IMAGE, 2),
    ({**HALF_AN_HOUR, "product": "isgri_lc", "time_bin": 70}, 30),
    (
        {
            "instrument": "polar",
            "product": "polar_lc",
            "T1": "2016-12-18T08:32:21.000",
            "T2": "2016-12-18T08:34:01.000",
            "time_bin": 0.5,
            "verbose": True,
            "dry_run": False,
        },
        2,
    ),
    ({**COMMON, "instrument": "spi_acs", "product": "spi_acs_lc", "T2": "2003-03-15T23:57:12.0", "time_bin": 2}, 1),
    ({**HALF_AN_HOUR, "product": "isgri_spectrum", "time_bin": 50}, 93),
    ({**JEMX, "jemx_num": "2", "product": "jemx_image", "product_type": "dummy"}, 2),
    ({**JEMX, "jemx_nume": "2", "product": "jemx_lc", "product_type": "Real"}, 1),
    ({**JEMX, "jemx_num": "2", "product": "jemx_spectrum", "product_type": "Real"}, 3),
]
TOO_FAR = {**IMAGE, "RA": 83.63}
NOT_A_NUMBER = {**IMAGE, "RA": "a"}


@pytest.fixture
async def ask(run_client: Callable[..., Any]) -> AsyncIterator[Request]:
    """Return the function that runs a script with a client against a mock with some settings."""
    servers = []

    async def run(version: str, script: str, *arguments: Any, **settings: Any) -> Any:
        server = TestServer(make_app(MockSettings(**settings)))
        await server.start_server(**RUNNER_OPTIONS)
        servers.append(server)
        texts = [argument if isinstance(argument, str) else json.dumps(argument) for argument in arguments]
        url = str(server.make_url("/dispatch-data"))
        return await asyncio.to_thread(run_client, version, script, url, *texts)

    yield run
    for server in servers:
        await server.close()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_gets_the_lists_and_descriptions(ask: Request, version: str) -> None:
    answer = await ask(version, "describe.py", "isgri", "isgri_image")
    assert answer["instruments"] == ["isgri", "jemx", "polar", "spi_acs"]
    assert "query_name: isgri_image_query" in answer["output"]
    assert "name: detection_threshold,  value: 0.0,  units: sigma" in answer["output"]


async def test_both_generations_of_descriptions_look_the_same_to_the_client_of_2019(ask: Request) -> None:
    today, then = [await ask("1.0", "describe.py", "jemx", "jemx_lc", generation=name) for name in ("today", "2019")]
    assert today["output"] == then["output"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_sees_that_its_job_is_failed_by_hand_in_the_middle(ask: Request, version: str) -> None:
    changes = [{"state": "progress", "message": "half of it"}, {"state": "failed", "message": "the node died"}]
    answer = await ask(version, "play_by_hand.py", IMAGE, changes, time_scale=0)
    assert answer["states"] == ["submitted", "progress", "failed"]
    assert answer["error"]
    assert "the node died" in answer["error"] or version == "1.0"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_gets_the_products_of_a_job_that_is_finished_by_hand(ask: Request, version: str) -> None:
    answer = await ask(version, "play_by_hand.py", IMAGE, [{"state": "progress"}, {"state": "ready"}], time_scale=0)
    assert (answer["states"], answer["products"]) == (["submitted", "progress", "done"], 2), answer["error"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_follows_a_job_to_its_products(ask: Request, version: str) -> None:
    answer = await ask(version, "get_product.py", IMAGE, time_scale=0.1)
    (got,) = answer["answers"]
    image, catalog = got["products"]
    assert [unit["name"] for unit in image["units"]] == ["Primary", "GROUPING", *["ISGR-MOSA-IMA"] * 4]
    assert [unit["data"][:2] for unit in image["units"][2:]] == [[[455, 455], "float32"]] * 4
    assert len(catalog["rows"]) == 4


async def test_both_clients_get_all_products_of_the_notebook_and_the_same_bits(ask: Request) -> None:
    bits = []
    for version in VERSIONS:
        got = (await ask(version, "get_product.py", *(call for call, _ in NOTEBOOK), time_scale=0))["answers"]
        assert [len(answer.get("products", [])) for answer in got] == [number for _, number in NOTEBOOK], got
        products = [product for answer in got for product in answer["products"]]
        bits.append([[unit["data"] for unit in product.get("units", [])] for product in products])
    assert bits[0] == bits[1]


async def test_a_client_that_polls_with_the_job_id_of_its_first_product_gets_the_second(ask: Request) -> None:
    """oda_api 1.1.0 does so: the mock goes by the parameters, as the dispatcher does."""
    calls = [call for call, _ in NOTEBOOK[:2]]
    got = (await ask("1.1.0", "get_product.py", *calls, time_scale=0.1))["answers"]
    assert [len(answer.get("products", [])) for answer in got] == [2, 30], got


async def test_a_query_without_a_fixture_fails_at_once_in_both_clients(ask: Request) -> None:
    message = "no fixture for isgri isgri_image: the nearest is isgri/isgri_image/"
    (today,) = (await ask("1.3.5", "get_product.py", TOO_FAR))["answers"]
    assert today["error"] == "RequestNotUnderstood"
    assert message in today["message"]
    then = await ask("1.0", "get_product.py", TOO_FAR)
    assert then["answers"][0]["error"] == "SystemExit"
    assert message in then["output"]


async def test_the_client_of_2019_shows_a_bad_angle_as_in_the_notebook(ask: Request) -> None:
    answer = await ask("1.0", "get_product.py", {**NOT_A_NUMBER, "dry_run": True}, generation="2019")
    assert (
        "query failed!\n"
        "Remote server message:-> failed: setting form parameters\n"
        "Remote server error_message-> ValueError(u\"Invalid character at col 0 in angle u'a'\",)\n"
        "Remote server debug_message-> \n"
    ) in answer["output"]
    assert answer["answers"][0]["error"] == "SystemExit"


async def test_a_current_client_reports_a_bad_angle(ask: Request) -> None:
    (got,) = (await ask("1.3.5", "get_product.py", NOT_A_NUMBER))["answers"]
    assert got["error"] == "RequestNotUnderstood"
    assert "Parameter RA wrong value a. could not convert string to float: 'a'" in got["message"]


async def test_the_dispatcher_of_2019_gives_all_products_and_repeats_queries_in_their_primary_headers(
    ask: Request,
) -> None:
    calls = [call for call, _ in NOTEBOOK]
    got = (await ask("1.0", "get_product.py", *calls, generation="2019", time_scale=0))["answers"]
    assert [len(answer.get("products", [])) for answer in got] == [number for _, number in NOTEBOOK], got
    header = got[0]["products"][0]["units"][0]["header"]
    assert (header["T1"], header["RA"], header["verbose"]) == ("2003-03-15T23:27:40.0", "255.986542", "False")
    assert len(header["session_id"]) == 16
    assert int(header["job_id"]) != 0
    assert "product_type=isgri_image" in header["url"]


async def test_a_current_client_reports_a_failed_job(ask: Request) -> None:
    (got,) = (await ask("1.3.5", "get_product.py", IMAGE, scenario="failing-job", time_scale=0.1))["answers"]
    assert got["error"] == "RemoteException"


async def test_a_current_client_notices_a_changed_job_id(ask: Request) -> None:
    (got,) = (await ask("1.3.5", "get_product.py", IMAGE, scenario="changed-job-id"))["answers"]
    assert got["error"] == "RuntimeError"


async def test_the_current_client_sees_what_suites_show_of_the_dummy_instruments(ask: Request) -> None:
    claims = {"sub": "a@example.org", "email": "a@example.org", "name": "a", "tem": 0, "exp": time.time() + 3600}
    token = make_token({**claims, "roles": "general, unige-hpc-full, refresh-tokens"}, "")
    answer = await ask("1.3.5", "suite_stories.py", token, dummy_instruments=True, time_scale=0)
    assert answer == {
        "a job that waits": ["submitted", "submitted"],
        "an image and its catalogue": ["done", 2, "Test A"],
        "a structured parameter": "done",
        "the products so far": "submitted",
        "restricted": "RequestNotUnderstood",
        "no role": "Unauthorized",
        "refreshed": 7 * 24 * 3600,
    }
