"""The mock dispatcher over HTTP: routes, jobs, errors, tokens and faults."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import FormData, web
from aiohttp.client_exceptions import ClientError
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import RUNNER_OPTIONS, make_app
from mock_server.settings import MockSettings
from mock_server.tokens import make_token
from tests.support.mock_fixtures import IMAGE, LIGHT_CURVE, answer_of, write_folder, write_json, write_manifest_again

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path
    from typing import TypeAlias

    Start: TypeAlias = Callable[..., Awaitable["Mock"]]

KEY = "a-test-key"
NOW = 1_795_000_000.0
TAIL = {"query_type": "Real", "off_line": "False", "session_id": "S1", "api": "True", "oda_api_version": "1.3.5"}
NEW_IMAGE = {**IMAGE, "instrument": "isgri", "product_type": "isgri_image", "query_status": "new", **TAIL}
NEW_LIGHT_CURVE = {**LIGHT_CURVE, "instrument": "polar", "product_type": "polar_lc", "query_status": "new", **TAIL}


class Mock:
    """A mock dispatcher with a clock that tests set, and a client."""

    def __init__(
        self, client: TestClient[web.Request, web.Application], times: list[float], pauses: list[float]
    ) -> None:
        self.client = client
        self.times = times
        self.pauses = pauses

    def wait(self, seconds: float) -> None:
        self.times[0] += seconds

    async def get(self, path: str, **query: Any) -> tuple[int, Any]:
        """Get a path; return the status, and the JSON or text of the body."""
        async with self.client.get(path, params=query, allow_redirects=False) as response:
            if response.content_type == "application/json":
                return response.status, await response.json()
            return response.status, await response.text()

    async def analyse(self, query: dict[str, Any], **changes: Any) -> tuple[int, Any]:
        """Request an analysis; a change to None removes an argument."""
        changed = {name: value for name, value in {**query, **changes}.items() if value is not None}
        return await self.get("/run_analysis", **changed)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    folder = write_folder(tmp_path / "fixtures")
    clients = []

    async def begin(**settings: Any) -> Mock:
        times, pauses = [0.0], []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)

        app = make_app(
            MockSettings(**{"fixtures": (folder,), **settings}),
            clock=lambda: times[0],
            wall_clock=lambda: NOW,
            sleep=sleep,
        )
        server = TestServer(app)
        await server.start_server(**RUNNER_OPTIONS)
        clients.append(TestClient(server))
        return Mock(clients[-1], times, pauses)

    yield begin
    for client in clients:
        await client.close()


@pytest.fixture
async def mock(start: Start) -> Mock:
    return await start()


def token(**claims: Any) -> str:
    return make_token({"sub": "user@example.org", "exp": NOW + 3600, **claims}, KEY)


# -- routes


@pytest.mark.parametrize("path", ["/instr-list", "/api/instr-list", "/mmoda/dispatch-data/instr-list"])
async def test_the_instruments_are_listed_under_any_prefix(mock: Mock, path: str) -> None:
    assert await mock.get(path, instrument="mock") == (200, ["isgri", "polar"])


async def test_a_base_address_that_ends_in_a_slash_is_no_mistake(mock: Mock) -> None:
    async with mock.client.session.get(f"{mock.client.make_url('/')}/instr-list") as response:
        assert await response.json() == ["isgri", "polar"]


@pytest.mark.parametrize("path", ["/nosuch", "/run_analysis/", "/xinstr-list"])
async def test_an_unknown_path_is_a_404_page(mock: Mock, path: str) -> None:
    status, page = await mock.get(path)
    assert status == 404
    assert "<title>404 Not Found</title>" in page


async def test_the_list_of_instruments_can_redirect_to_the_public_site_with_the_query(start: Start) -> None:
    mock = await start(redirect_instr_list="https://example.org/dispatch-data/instr-list")
    async with mock.client.get("/api/instr-list?instrument=mock&token=a", allow_redirects=False) as response:
        assert response.status == 302
        assert response.headers["Location"] == "https://example.org/dispatch-data/instr-list?instrument=mock&token=a"
    assert await mock.get("/instr-list") == (200, ["isgri", "polar"])


async def test_a_description_lists_the_shared_queries_and_that_of_the_product(mock: Mock) -> None:
    _, [[head, products, *queries]] = await mock.get("/api/meta-data", instrument="isgri", product_type="isgri_lc")
    assert head == {"instrumet": "isgri"}
    assert list(products["prod_dict"]) == ["isgri_image", "isgri_lc"]
    assert [query[0]["query_name"] for query in queries] == ["src_query", "isgri_parameters", "isgri_lc_query"]
    assert queries[2][2] == {
        "name": "time_bin",
        "units": "sec",
        "value": 1000.0,
        "restrictions": {"is_optional": False},
    }


async def test_the_description_of_2019_holds_each_query_as_text(start: Start) -> None:
    mock = await start(generation="2019")
    _, [[_, _, *queries]] = await mock.get("/api/meta-data", instrument="polar")
    assert json.loads(queries[2])[1:] == [
        {"product_name": "polar_lc"},
        {"units": "sec", "name": "time_bin", "value": 1.0},
    ]
    assert "false" not in "".join(queries)


async def test_an_unknown_instrument_is_refused_with_the_known_ones(mock: Mock) -> None:
    status, body = await mock.get("/api/meta-data", instrument="nosuch")
    assert status == 400
    assert body["error"] == "InstrumentNotRecognized():instrument: \"nosuch\", known: ['isgri', 'polar']"
    assert body["config"]["dispatcher-config"]


@pytest.mark.parametrize("query", [{"instrument": "mock"}, {"instrument": "isgri", "product_type": "nosuch"}])
async def test_a_description_that_does_not_exist_is_a_500_page(mock: Mock, query: dict[str, str]) -> None:
    status, page = await mock.get("/api/meta-data", **query)
    assert status == 500
    assert "Internal Server Error" in page


async def test_the_names_of_parameters_begin_with_those_of_the_source(mock: Mock) -> None:
    _, names = await mock.get("/api/par-names", instrument="isgri", product_type="isgri_image")
    assert names[:7] == ["src_name", "RA", "DEC", "T1", "T_format", "T2", "token"]
    assert "user_catalog" not in names
    assert "time_bin" not in names


async def test_only_get_is_allowed_for_descriptions(mock: Mock) -> None:
    async with mock.client.post("/api/meta-data", data={"instrument": "isgri"}) as response:
        assert response.status == 405


async def test_the_status_counts_jobs_and_requests(mock: Mock) -> None:
    await mock.analyse(NEW_IMAGE)
    await mock.analyse(NEW_IMAGE, session_id="S2")
    await mock.analyse(NEW_LIGHT_CURVE)
    _, status = await mock.get("/-/status")
    assert (status["jobs"], status["runs"]) == (2, 3)
    assert status["requests"] == {"run_analysis": 3}
    assert status["asked"] == {"new": 3}
    assert status["served"] == {"polar/polar_lc/one": 1}


# -- the life of a job


async def test_a_job_goes_from_submitted_to_done_and_returns_its_products_once_it_is_ready(mock: Mock) -> None:
    _, first = await mock.analyse(NEW_IMAGE)
    assert first["query_status"] == "submitted"
    assert list(first["products"]) == ["input_prod_list", "analysis_parameters", "api_code"]
    job_id = first["job_monitor"]["job_id"]
    seen = []
    for seconds in (1, 2, 2, 2):
        mock.wait(seconds)
        _, poll = await mock.analyse(NEW_IMAGE, query_status="submitted", job_id=job_id)
        assert poll["products"] == {}
        seen.append((poll["query_status"], len(poll["job_monitor"]["full_report_dict_list"])))
    assert [state for state, _ in seen] == ["submitted", "progress", "progress", "ready"]
    assert sorted(number for _, number in seen) == [number for _, number in seen]
    _, last = await mock.analyse(NEW_IMAGE, query_status="ready", job_id=job_id)
    assert last["query_status"] == "done"
    assert last["products"]["text_product_list"][0]["value"] == "an image"
    assert last["products"]["job_id"] == job_id


async def test_the_first_report_occurs_twice_once_there_are_others(mock: Mock) -> None:
    _, first = await mock.analyse(NEW_IMAGE)
    poll = {**NEW_IMAGE, "query_status": "submitted", "job_id": first["job_monitor"]["job_id"]}
    mock.wait(2)
    _, one = await mock.analyse(poll)
    assert [report["node_id"] for report in one["job_monitor"]["full_report_dict_list"]] == ["node_1"]
    mock.wait(1)
    _, two = await mock.analyse(poll)
    assert [report["node_id"] for report in two["job_monitor"]["full_report_dict_list"]] == [
        "node_1",
        "node_1",
        "node_2",
    ]
    assert two["job_monitor"]["full_report_dict"]["node_id"] == "node_2"


async def test_members_of_a_response_are_in_the_order_of_the_dispatcher(mock: Mock) -> None:
    async with mock.client.get("/run_analysis", params=NEW_LIGHT_CURVE) as response:
        text = await response.text()
    answer = json.loads(text)
    assert text == json.dumps(answer, separators=(",", ":")) + "\n"
    assert list(answer) == [
        "query_status", "products", "exit_status", "job_monitor", "job_status", "session_id", "time_request",
    ]  # fmt: skip
    assert list(answer["products"]) == [
        "text_product_list", "prod_process_message", "session_id", "job_id", "input_prod_list", "analysis_parameters",
        "api_code",
    ]  # fmt: skip
    assert list(answer["exit_status"]) == [
        "job_status", "status", "message", "error_message", "debug_message", "comment", "warning",
    ]  # fmt: skip


async def test_a_synchronous_product_is_done_at_once_and_ready_when_polled(mock: Mock) -> None:
    _, answer = await mock.analyse(NEW_LIGHT_CURVE)
    assert answer["query_status"] == "done"
    job_id = answer["job_monitor"]["job_id"]
    _, poll = await mock.analyse(NEW_LIGHT_CURVE, query_status="submitted", job_id=job_id)
    assert (poll["query_status"], poll["products"]) == ("ready", {})
    _, again = await mock.analyse(NEW_LIGHT_CURVE, query_status="ready", job_id=job_id)
    assert again["products"]["text_product_list"]


async def test_a_request_with_query_status_done_returns_the_state_and_no_products(mock: Mock) -> None:
    _, answer = await mock.analyse(NEW_LIGHT_CURVE)
    job_id = answer["job_monitor"]["job_id"]
    _, answer = await mock.analyse(NEW_LIGHT_CURVE, query_status="done", job_id=job_id)
    assert (answer["query_status"], answer["products"]) == ("done", {})


async def test_with_a_time_scale_of_zero_a_job_is_done_at_once(start: Start) -> None:
    mock = await start(time_scale=0)
    _, answer = await mock.analyse(NEW_IMAGE)
    assert answer["query_status"] == "done"


async def test_another_session_gets_the_owners_session_and_the_products_when_the_job_is_done(mock: Mock) -> None:
    _, first = await mock.analyse(NEW_IMAGE)
    job_id = first["job_monitor"]["job_id"]
    mock.wait(3)
    _, other = await mock.analyse(NEW_IMAGE, session_id="S2")
    assert (other["query_status"], other["job_status"]) == ("progress", "submitted")
    assert other["job_monitor"]["session_id"] == "S1"
    assert other["session_id"] == "S2"
    mock.wait(4)
    _, last = await mock.analyse(NEW_IMAGE, session_id="S2", query_status="progress", job_id=job_id)
    assert last["query_status"] == "done"
    assert last["products"]["session_id"] == "S1"
    assert last["products"]["analysis_parameters"]["session_id"] == "S2"


async def test_a_finished_job_is_done_at_once_for_a_new_session(mock: Mock) -> None:
    await mock.analyse(NEW_IMAGE)
    mock.wait(7)
    _, answer = await mock.analyse(NEW_IMAGE, session_id="S2")
    assert answer["query_status"] == "done"


async def test_a_failed_job_has_no_reason_and_starts_again_with_a_new_query(mock: Mock) -> None:
    query = {**NEW_IMAGE, "product_type": "isgri_lc", "RA": 83.0}
    query = {name: value for name, value in query.items() if name not in IMAGE or name == "RA"}
    _, first = await mock.analyse(query)
    mock.wait(4)
    status, failed = await mock.analyse(query, query_status="submitted", job_id=first["job_monitor"]["job_id"])
    assert (status, failed["query_status"]) == (200, "failed")
    assert (failed["exit_status"]["status"], failed["exit_status"]["message"]) == (0, "")
    _, again = await mock.analyse(query)
    assert again["query_status"] == "submitted"


async def test_a_poll_with_the_job_id_of_another_query_is_answered_for_its_parameters(mock: Mock) -> None:
    """oda_api 1.1.0 polls its second product with the job_id of the first."""
    _, first = await mock.analyse(NEW_LIGHT_CURVE)
    await mock.analyse(NEW_IMAGE)
    job_id = first["job_monitor"]["job_id"]
    _, poll = await mock.analyse(NEW_IMAGE, query_status="submitted", job_id=job_id)
    assert (poll["query_status"], poll["job_monitor"]["job_id"]) == ("submitted", job_id)
    mock.wait(7)
    _, last = await mock.analyse(NEW_IMAGE, query_status="ready", job_id=job_id)
    assert last["products"]["text_product_list"][0]["value"] == "an image"


async def test_a_poll_may_leave_out_the_parameters_of_its_query(mock: Mock) -> None:
    _, first = await mock.analyse(NEW_IMAGE)
    bare = {name: value for name, value in NEW_IMAGE.items() if name not in IMAGE}
    _, poll = await mock.analyse(bare, query_status="submitted", job_id=first["job_monitor"]["job_id"])
    assert poll["query_status"] == "submitted"


async def test_a_reported_state_overrides_the_timeline_of_the_fixture(mock: Mock) -> None:
    _, first = await mock.analyse(NEW_IMAGE)
    job_id = first["job_monitor"]["job_id"]
    call_back = {"job_id": job_id, "session_id": "S1", "instrument_name": "isgri"}
    for action, expected in (("progress", "progress"), ("done", "ready")):
        assert await mock.get("/call_back", **call_back, action=action, message=action) == (200, {"time_spent_s": 0.0})
        _, poll = await mock.analyse(NEW_IMAGE, query_status="submitted", job_id=job_id)
        assert poll["query_status"] == expected
        assert poll["job_monitor"]["full_report_dict"]["message"] == action


async def test_a_call_back_without_a_job_is_refused_and_one_of_an_unknown_job_is_not(mock: Mock) -> None:
    status, body = await mock.get("/call_back")
    assert (status, body["error_message"]) == (400, "job_id must be present during a call_back")
    assert (await mock.get("/call_back", job_id="0123456789abcdef", action="done"))[0] == 200


# -- what requests say


async def test_get_and_post_are_the_same_query(mock: Mock) -> None:
    _, by_get = await mock.analyse(NEW_LIGHT_CURVE)
    async with mock.client.post("/run_analysis", data={**NEW_LIGHT_CURVE, "time_bin": "0.50"}) as response:
        by_post = await response.json()
    assert by_post["job_monitor"]["job_id"] == by_get["job_monitor"]["job_id"]
    assert by_post["products"]["text_product_list"] == by_get["products"]["text_product_list"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"\xff\xfe"),
        ("application/x-www-form-urlencoded; charset=nosuch", b"instrument=isgri"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\n"),
    ],
)
async def test_a_form_that_cannot_be_read_is_taken_as_empty(mock: Mock, content_type: str, body: bytes) -> None:
    async with mock.client.post("/run_analysis", data=body, headers={"Content-Type": content_type}) as response:
        assert response.status == 400
        assert (await response.json())["error"].startswith("NoInstrumentSpecified()")


async def test_a_request_line_of_a_megabyte_is_read(mock: Mock) -> None:
    status, answer = await mock.analyse(NEW_LIGHT_CURVE, nonsense="x" * 2**20)
    assert status == 200
    assert answer["exit_status"]["comment"] == "Please note that argument nonsense is not used"


async def test_a_list_of_science_windows_can_be_a_file(mock: Mock) -> None:
    form = FormData({name: str(value) for name, value in NEW_IMAGE.items()} | {"use_scws": "user_file"})
    form.add_field("user_scw_list_file", b"A\nB,C\n", filename="list.txt")
    async with mock.client.post("/run_analysis", data=form) as response:
        body = await response.json()
    assert "scw_list is given (A,B,C)" in body["error"]


async def test_a_file_that_is_not_announced_is_refused(mock: Mock) -> None:
    form = FormData({name: str(value) for name, value in NEW_IMAGE.items()})
    form.add_field("user_scw_list_file", b"A", filename="list.txt")
    async with mock.client.post("/run_analysis", data=form) as response:
        assert (await response.json())["error_message"] == (
            "scw_list file was found despite use_scws was indicating this was not provided, please check the inputs"
        )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"RA": "a"}, "RequestNotUnderstood():Parameter RA wrong value a. could not convert string to float: 'a'"),
        (
            {"T1": "yesterday"},
            "RequestNotUnderstood():Parameter T1 wrong value yesterday: can't be parsed as Time of isot format",
        ),
        ({"product_type": None}, "MissingRequestParameter():KeyError('product_type')"),
        ({"query_type": None}, "MissingRequestParameter():KeyError('query_type')"),
        (
            {"query_status": None},
            "RequestNotUnderstood():[ InstrumentQueryBackEnd : isgri ] constructor failed: 'query_status'",
        ),
        (
            {"product_type": "nosuch"},
            (
                "RequestNotUnderstood():[ InstrumentQueryBackEnd : isgri ] constructor failed: product type nosuch "
                "not in query_dictionary {'isgri_image': 'isgri_image_query', 'isgri_lc': 'isgri_lc_query'}"
            ),
        ),
        (
            {"query_status": "ready"},
            'RequestNotUnderstood():job_id must be present if query_status != "new" (it is "ready")',
        ),
        (
            {"query_status": "ready", "job_id": "0123456789abcdef"},
            "InvalidJobIDProvided():unable to find any record for 0123456789abcdef",
        ),
        (
            {"session_id": "../../x"},
            (
                "RequestNotUnderstood():[ InstrumentQueryBackEnd : isgri ] constructor failed: ('!Error error ', "
                "FileNotFoundError(2, 'No such file or directory'), 'in creating dir', 'scratch_sid_../../x_jid_"
            ),
        ),
        (
            {"token": "xyz"},
            (
                "RequestNotUnderstood():[ InstrumentQueryBackEnd : instrument-not-set ] constructor failed: "
                "Not enough segments"
            ),
        ),
        (
            {"token": ""},
            "RequestNotUnderstood():[ InstrumentQueryBackEnd : isgri ] constructor failed: Not enough segments",
        ),
        (
            {"use_scws": "form_list"},
            (
                "RequestNotUnderstood():scw_list parameter was expected to be passed, but it has not been found, "
                "please check the inputs"
            ),
        ),
    ],
)
async def test_an_invalid_request_gets_the_message_of_dispatcher_1_3_6(
    mock: Mock, changes: dict[str, Any], reason: str
) -> None:
    status, body = await mock.analyse(NEW_IMAGE, **changes)
    assert status == 400
    assert body["error"].startswith(reason)
    assert "query_status" not in body


async def test_a_missing_instrument_is_refused_with_the_names_of_the_arguments(mock: Mock) -> None:
    _, body = await mock.get("/run_analysis", query_status="new", RA="1")
    assert body["error"] == "NoInstrumentSpecified():have parameters: ['query_status', 'RA', 'session_id'] "


async def test_a_new_query_with_a_job_id_that_is_not_its_own_is_refused(mock: Mock) -> None:
    status, body = await mock.analyse(NEW_IMAGE, job_id="0123456789abcdef")
    assert status == 400
    assert body["error_message"].startswith(
        'during query_status == "new", provided (unnecessarily) job_id 0123456789abcdef did not match self.job_id '
    )


async def test_a_query_without_a_fixture_gets_the_nearest_fixture_and_the_differences(mock: Mock) -> None:
    status, body = await mock.analyse(NEW_IMAGE, RA=83.0)
    assert status == 400
    message = (
        "no fixture for isgri isgri_image: the nearest is isgri/isgri_image/one; "
        "in your query RA is 172.987 deg smaller"
    )
    assert body["error"] == body["error_message"] == body["exit_status"]["message"] == message
    assert (body["query_status"], body["session_id"], body["products"]) == ("failed", "S1", {})


async def test_a_missing_session_gets_one_of_sixteen_capitals_and_digits(mock: Mock) -> None:
    _, answer = await mock.analyse(NEW_LIGHT_CURVE, session_id=None)
    assert len(answer["session_id"]) == 16
    assert answer["session_id"].isalnum()
    assert answer["session_id"].upper() == answer["session_id"]


async def test_binary_products_have_the_shape_that_the_release_reads(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "fixtures" / "polar" / "polar_lc" / "one"
    (folder / "lc.root").write_bytes(b"root")
    answer = answer_of("", [])
    answer["products"] = {"binary_data_product_list": [{"name": "lc", "file": "lc.root"}]}
    write_json(folder / "answer.json", answer)
    write_manifest_again(tmp_path / "fixtures")
    mock = await start()
    of_1_0 = {"oda_api_version": None, "verbose": "False", "dry_run": "False"}
    script: dict[str, str | None] = {"oda_api_version": None}
    for sent, shape in (({"oda_api_version": "1.3.5"}, dict), (of_1_0, str), (script, dict)):
        _, body = await mock.analyse(NEW_LIGHT_CURVE, **sent)
        (product,) = body["products"]["binary_data_product_list"]
        assert isinstance(product, shape)
        assert base64.urlsafe_b64decode(product["data"] if isinstance(product, dict) else product) == b"root"


@pytest.mark.parametrize(
    ("recorded", "expected"), [("a remark", "a remark"), ("Please note that argument verbose is not used", "")]
)
async def test_recorded_messages_are_returned_except_those_about_arguments_of_the_recorded_request(
    start: Start, tmp_path: Path, recorded: str, expected: str
) -> None:
    answer = answer_of("", [])
    answer["exit_status"] |= {"comment": recorded, "warning": "a warning"}
    write_json(tmp_path / "fixtures" / "polar" / "polar_lc" / "one" / "answer.json", answer)
    write_manifest_again(tmp_path / "fixtures")
    mock = await start()
    _, body = await mock.analyse(NEW_LIGHT_CURVE)
    assert (body["exit_status"]["comment"], body["exit_status"]["warning"]) == (expected, "a warning")
    _, body = await mock.analyse(NEW_LIGHT_CURVE, nonsense="1")
    assert body["exit_status"]["comment"] == "Please note that argument nonsense is not used"


# -- tokens


async def test_a_token_is_echoed_where_the_dispatcher_echoes_it(start: Start) -> None:
    mock = await start(secret_key=KEY)
    text = token(roles="general")
    _, first = await mock.analyse(NEW_IMAGE, token=text)
    assert first["products"]["analysis_parameters"]["token"] == text
    assert text in first["products"]["api_code"]
    mock.wait(3)
    _, poll = await mock.analyse(NEW_IMAGE, token=text, query_status="submitted", job_id=first["job_monitor"]["job_id"])
    assert poll["job_monitor"]["full_report_dict"]["token"] == text


async def test_each_user_has_separate_jobs(start: Start) -> None:
    mock = await start(secret_key=KEY)
    ids = {
        (await mock.analyse(NEW_IMAGE, token=text))[1]["job_monitor"]["job_id"]
        for text in (None, token(), token(sub="other@example.org"))
    }
    assert len(ids) == 3


async def test_a_job_of_a_user_is_closed_to_the_public(start: Start) -> None:
    mock = await start(secret_key=KEY)
    _, public = await mock.analyse(NEW_IMAGE)
    _, first = await mock.analyse(NEW_IMAGE, token=token())
    job_id = first["job_monitor"]["job_id"]
    status, body = await mock.analyse(NEW_IMAGE, query_status="ready", job_id=job_id)
    assert (status, body["status_code"], body["query_status"]) == (403, 403, "failed")
    assert body["exit_status"]["message"] == "Request not authorized"
    assert body["exit_status"]["debug_message"] == (
        f"The provided job_id={job_id} does not match with the job_id={public['job_monitor']['job_id']} derived from "
        "the request parameters; parameters are derived from recorded job state"
    )


@pytest.mark.parametrize(
    ("text", "reason"), [(token(exp=NOW - 1), "is expired"), (make_token({"sub": "a"}, "another key"), "is not valid")]
)
async def test_a_bad_token_is_refused_everywhere(start: Start, text: str, reason: str) -> None:
    mock = await start(secret_key=KEY)
    for path in ("/run_analysis", "/api/meta-data", "/api/par-names"):
        status, body = await mock.get(path, instrument="isgri", product_type="isgri_image", token=text)
        assert status == 403
        assert body["error"].startswith(f"RequestNotAuthorized():The token provided {reason}, please try")
        assert body["debug_message"] == ""
    status, page = await mock.get("/instr-list", token=text)
    assert (status, page) == (403, f"The token provided {reason}.")


async def test_too_many_pointings_need_a_role(start: Start) -> None:
    mock = await start(secret_key=KEY)
    status, body = await mock.analyse(NEW_IMAGE, max_pointings=100, token=token(roles="general"))
    assert status == 403
    assert body["exit_status"]["message"] == (
        "Unfortunately, your priviledges are not sufficient to make the request for this particular product and "
        "parameter combination.\n- Your priviledge roles include ['general']\n- You are lacking all of the following "
        "roles:\n - unige-hpc-full: it is needed to request > 50 ScW, you requested max_pointings=100\nYou can request "
        "support if you think you should be able to make this request."
    )
    status, _ = await mock.analyse(NEW_IMAGE, max_pointings=100, token=token(roles=["unige-hpc-full"]))
    assert status == 400  # allowed, but there is no fixture


async def test_records_of_jobs_need_a_role_and_hold_no_token(start: Start) -> None:
    mock = await start(secret_key=KEY)
    text = token(roles="job manager")
    _, first = await mock.analyse(NEW_IMAGE, token=text)
    assert await mock.get("/inspect-state") == (403, "A token must be provided.")
    status, page = await mock.get("/inspect-state", token=token(roles="general"))
    assert status == 403
    assert page.endswith("but the following roles are missing: job manager.")
    job_id = first["job_monitor"]["job_id"]
    _, records = await mock.get("/inspect-state", token=text, job_id=job_id[:8])
    assert [record["job_id"] for record in records["records"]] == [job_id]
    assert text not in json.dumps(records)
    assert await mock.get("/inspect-state", token=text, job_id=job_id) == (200, {"records": []})


# -- files and links


async def download(mock: Mock, job_id: str, **query: str) -> tuple[int, bytes]:
    arguments = {"session_id": "S1", "job_id": job_id, "query_status": "ready", "download_file_name": "a.gz", **query}
    async with mock.client.get("/download_products", params=arguments) as response:
        return response.status, await response.read()


async def test_files_of_a_job_are_packed_for_the_session_that_began_it(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "fixtures" / "polar" / "polar_lc" / "one"
    (folder / "a.fits").write_bytes(b"A")
    (folder / "b.fits").write_bytes(b"B")
    write_manifest_again(tmp_path / "fixtures")
    mock = await start()
    _, answer = await mock.analyse(NEW_LIGHT_CURVE)
    job_id = answer["job_monitor"]["job_id"]
    _, content = await download(mock, job_id, file_list="a.fits")
    assert gzip.decompress(content) == b"A"
    assert await download(mock, job_id, file_list="a.fits", return_archive="False") == (200, b"A")
    _, content = await download(mock, job_id, file_list="a.fits,b.fits")
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        assert archive.getnames() == ["a/a.fits", "a/b.fits"]
    outside = {"file_list": "a.fits", "download_file_name": "../a"}
    for refused in (
        outside,
        {"file_list": "nosuch"},
        {"file_list": "query.json"},
        {"file_list": "a.fits", "session_id": "S2"},
    ):
        status, body = await download(mock, job_id, **refused)
        assert status == 403
        assert json.loads(body)["exit_status"]["message"] == "No such file"


async def test_links_lead_to_the_public_site(start: Start) -> None:
    mock = await start(products_url="https://example.org/mmoda/")
    _, answer = await mock.analyse(NEW_LIGHT_CURVE)
    for path, location in (
        (
            "/download_file",
            (
                "https://example.org/mmoda/dispatch-data/download_products&from_request_files_dir=True"
                "&download_file=True&download_products=False"
            ),
        ),
        (
            "/download_file?file_list=x.fits",
            (
                "https://example.org/mmoda/dispatch-data/download_products?file_list=x.fits&from_request_files_dir=True"
                "&download_file=True&download_products=False"
            ),
        ),
        (
            "/resolve-job-url?job_id=1&session_id=S1",
            (
                "https://example.org/mmoda/?error_message=NOT+found+expected+parameters%3A+%5B%27token%27%5D%2C+expected+only"
                "+and+only+these+%5B%27job_id%27%2C+%27session_id%27%2C+%27token%27%5D&status_code=400"
            ),
        ),
    ):
        async with mock.client.get(path, allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (302, location)
    query = {"job_id": answer["job_monitor"]["job_id"], "session_id": "S1", "token": ""}
    async with mock.client.get("/resolve-job-url", params=query, allow_redirects=False) as response:
        assert "time_bin=0.5" in response.headers["Location"]
        assert "session_id" not in response.headers["Location"]


# -- the dispatcher of 2019


async def test_a_bad_angle_in_2019_is_a_failed_response_with_status_200_as_in_the_notebook(start: Start) -> None:
    mock = await start(generation="2019")
    status, body = await mock.analyse(NEW_IMAGE, RA="a", dry_run="True", oda_api_version=None)
    assert (status, body["query_status"]) == (200, "failed")
    assert body["exit_status"]["message"] == "failed: setting form parameters"
    assert body["exit_status"]["error_message"] == "ValueError(u\"Invalid character at col 0 in angle u'a'\",)"
    assert body["exit_status"]["status"] == 1


async def test_a_dry_run_in_2019_describes_the_parameters_and_starts_no_job(start: Start) -> None:
    mock = await start(generation="2019")
    _, body = await mock.analyse(NEW_IMAGE, dry_run="True")
    assert (body["query_status"], body["exit_status"]["message"]) == ("done", "dry-run")
    [[head, *queries]] = body["products"]["instrumet_parameters"]
    assert head == {"instrumet": "isgri"}
    assert {"units": "deg", "name": "RA", "value": "255.986542"} in json.loads(queries[0])
    assert (await mock.get("/-/status"))[1]["jobs"] == 0


async def test_responses_of_2019_echo_all_arguments_unchanged(start: Start) -> None:
    mock = await start(generation="2019")
    _, body = await mock.analyse(NEW_LIGHT_CURVE, verbose="True")
    echo = body["products"]["analysis_paramters"]
    assert (echo["verbose"], echo["time_bin"], echo["T1"]) == ("True", "0.5", "2016-12-18T08:32:21.000")
    assert "src_name" not in echo
    assert "time_request" not in body
    assert int(body["job_monitor"]["job_id"]) != 0


async def test_the_primary_header_of_2019_has_the_query_and_the_others_do_not(start: Start) -> None:
    mock = await start(generation="2019", fixtures=())
    query = {**LIGHT_CURVE, "instrument": "polar", "product_type": "polar_lc", "query_status": "new", **TAIL}
    _, body = await mock.analyse(query, verbose="True", oda_api_version=None)
    (product,) = body["products"]["numpy_data_product_list"]
    primary, table = (unit["header"] for unit in product["data_unit_list"])
    assert {name: primary[name] for name in ("verbose", "session_id", "time_bin", "job_id")} == {
        "verbose": "True",
        "session_id": "S1",
        "time_bin": "0.5",
        "job_id": body["job_monitor"]["job_id"],
    }
    assert "instrument=polar" in primary["url"]
    assert "session_id" not in table


async def test_a_poll_of_2019_gets_the_products_of_a_job_that_is_done(start: Start) -> None:
    """In the notebook no poll gets `ready`, and the headers of the products have `submitted`."""
    mock = await start(generation="2019")
    poll = await begin_job(mock)
    assert (await mock.analyse(poll))[1]["query_status"] == "submitted"
    mock.wait(3600)
    _, body = await mock.analyse(poll, query_status="progress")
    assert body["query_status"] == "done"
    assert body["products"]["text_product_list"]
    assert body["products"]["analysis_paramters"]["query_status"] == "progress"


async def test_a_token_in_2019_is_an_ordinary_argument(start: Start) -> None:
    mock = await start(generation="2019")
    _, body = await mock.analyse(NEW_LIGHT_CURVE, token="no token")  # noqa: S106 - none indeed
    assert body["query_status"] == "done"


# -- scenarios


async def begin_job(mock: Mock) -> dict[str, Any]:
    _, first = await mock.analyse(NEW_IMAGE)
    return {**NEW_IMAGE, "query_status": "submitted", "job_id": first["job_monitor"]["job_id"]}


async def test_a_slow_job_takes_ten_times_as_long(start: Start) -> None:
    mock = await start(scenario="slow-job")
    poll = await begin_job(mock)
    mock.wait(19)
    assert (await mock.analyse(poll))[1]["query_status"] == "submitted"
    mock.wait(41)
    assert (await mock.analyse(poll))[1]["query_status"] == "ready"


async def test_a_failing_job_fails_when_its_fixture_would_be_ready(start: Start) -> None:
    mock = await start(scenario="failing-job")
    poll = await begin_job(mock)
    mock.wait(7)
    assert (await mock.analyse(poll))[1]["query_status"] == "failed"


async def test_the_third_poll_meets_a_bad_gateway(start: Start) -> None:
    mock = await start(scenario="bad-gateway")
    poll = await begin_job(mock)
    assert [(await mock.analyse(poll))[0] for _ in range(4)] == [200, 200, 502, 200]


async def test_a_timeout_waits_and_then_closes_the_connection(start: Start) -> None:
    mock = await start(scenario="timeout")
    poll = await begin_job(mock)
    await mock.analyse(poll)
    with pytest.raises(ClientError):
        await mock.analyse(poll)
    assert mock.pauses == [3600.0]


async def test_cut_off_json_is_whole_for_http_and_not_for_json(start: Start) -> None:
    mock = await start(scenario="cut-off-json")
    poll = await begin_job(mock)
    mock.wait(7)
    with pytest.raises(json.JSONDecodeError):
        await mock.analyse(poll, query_status="ready")
    assert (await mock.analyse(poll, query_status="ready"))[1]["query_status"] == "done"


async def test_a_lost_connection_leaves_a_body_shorter_than_announced(start: Start) -> None:
    mock = await start(scenario="lost-connection")
    poll = await begin_job(mock)
    mock.wait(7)
    with pytest.raises(ClientError):
        await mock.analyse(poll, query_status="ready")


async def test_a_web_page_comes_instead_of_json(start: Start) -> None:
    mock = await start(scenario="html-instead-of-json")
    poll = await begin_job(mock)
    await mock.analyse(poll)
    status, page = await mock.analyse(poll)
    assert status == 200
    assert page.startswith("<!doctype html>")


async def test_a_token_expires_in_the_middle_of_a_job(start: Start) -> None:
    mock = await start(scenario="token-expires", secret_key=KEY)
    _, first = await mock.analyse(NEW_IMAGE, token=token())
    poll = {**NEW_IMAGE, "token": token(), "query_status": "submitted", "job_id": first["job_monitor"]["job_id"]}
    assert (await mock.analyse(poll))[0] == 200
    status, body = await mock.analyse(poll)
    assert status == 403
    assert "is expired" in body["error"]


async def test_requests_without_a_token_are_answered_when_tokens_expire(start: Start) -> None:
    mock = await start(scenario="token-expires")
    poll = await begin_job(mock)
    assert [(await mock.analyse(poll))[0] for _ in range(2)] == [200, 200]


async def test_a_changed_job_id_is_changed_in_the_whole_response(start: Start) -> None:
    mock = await start(scenario="changed-job-id")
    poll = await begin_job(mock)
    await mock.analyse(poll)
    _, body = await mock.analyse(poll)
    assert body["job_monitor"]["job_id"] == poll["job_id"][::-1]


async def test_a_post_is_redirected(start: Start) -> None:
    mock = await start(scenario="redirected-post")
    async with mock.client.post("/run_analysis", data=NEW_LIGHT_CURVE, allow_redirects=False) as response:
        assert response.status == 301
        assert response.headers["Location"].endswith("/run_analysis")
    assert (await mock.analyse(NEW_LIGHT_CURVE))[0] == 200


async def test_a_slow_drip_sends_the_whole_response_with_pauses(start: Start) -> None:
    mock = await start(scenario="slow-drip")
    poll = await begin_job(mock)
    mock.wait(7)
    _, body = await mock.analyse(poll, query_status="ready")
    assert body["query_status"] == "done"
    assert set(mock.pauses) == {30.0}
    assert len(mock.pauses) == 16


async def test_the_seed_decides_which_polls_of_an_unreliable_mock_fail(start: Start) -> None:
    runs = []
    for seed in (1, 1, 2):
        mock = await start(scenario="unreliable", seed=seed)
        poll = await begin_job(mock)
        runs.append([(await mock.analyse(poll))[0] for _ in range(30)])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert set(runs[0]) == {200, 502}
