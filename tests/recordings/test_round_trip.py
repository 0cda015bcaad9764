"""Splicing undoes redacting of real answers, too: those recorded, and those of the mock in both its generations."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import RUNNER_OPTIONS, make_app
from mock_server.settings import MockSettings
from oda_proxy.compat.answer_repairs import repaired
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Envelope, split_query
from oda_proxy.recordings.recording import redact, splice
from tests.support.unreadable_responses import captured

KEY = Key("0123456789abcdef" * 4)
SESSION = "SESSIONOFTHETEST"
REQUESTS = {
    "polar": {"product_type": "polar_lc", "T1": "2016-12-18T08:32:21.000", "T2": "2016-12-18T08:34:01.000"},
    "spi_acs": {
        "product_type": "spi_acs_lc",
        "RA": "255.986542",
        "DEC": "-37.844167",
        "T1": "2003-03-15T23:27:40.0",
        "T2": "2003-03-15T23:57:12.0",
    },
}
BINS = {"polar": "0.5", "spi_acs": "2"}


def undone(body: bytes, envelope: Envelope, address: str) -> tuple[Any, Any]:
    """Return an answer as it is forwarded, and as its own client gets it from its recording."""
    sent = repaired(body, 200, envelope)
    answer = json.loads(sent)
    recording = redact(sent, envelope, key=KEY, stored_at=1.0)
    spliced = splice(recording, envelope, now=answer.get("time_request", 0.0), address=address)
    assert envelope.session_id.encode() not in b"".join(recording.head.pieces())
    return answer, json.loads(b"".join(spliced))


@pytest.mark.parametrize("name", ["isgri_lc", "isgri_image", "polar_lc", "spi_acs_lc"])
def test_a_recorded_answer_comes_back_to_its_own_client(name: str) -> None:
    body = captured(f"{name}.200.json.gz")
    echo = json.loads(body)["products"]["analysis_parameters"]
    others = {name: echo[name] for name in ("oda_api_version", "off_line")}
    job_id = json.loads(body)["products"]["job_id"]
    envelope = Envelope(echo["query_status"], echo["session_id"], job_id, others=others)

    answer, spliced = undone(body, envelope, "http://dispatcher.example//dispatch-data")

    if "job_id" not in echo:  # the dispatcher names it elsewhere only
        spliced["products"]["analysis_parameters"].pop("job_id", None)
    if "verbose" in answer["exit_status"]["comment"]:  # a remark on what only this client sent
        answer["exit_status"]["comment"] = ""
    assert spliced == answer


@pytest.mark.parametrize("generation", ["today", "2019"])
@pytest.mark.parametrize("instrument", REQUESTS)
async def test_an_answer_of_the_mock_comes_back_to_its_own_client(instrument: str, generation: Any) -> None:
    client = {"off_line": "False", "query_status": "new", "session_id": SESSION, "api": "True"}
    old = {"verbose": "True", "dry_run": "False"} if generation == "2019" else {"oda_api_version": "1.3.5"}
    query = {**REQUESTS[instrument], "time_bin": BINS[instrument], "instrument": instrument, "query_type": "Real"}
    sent = {**query, **client, **old}
    server = TestServer(make_app(MockSettings(generation=generation)))
    await server.start_server(**RUNNER_OPTIONS)
    async with TestClient(server) as mock:
        body = await (await mock.get("/run_analysis", params=sent)).read()
    answer = json.loads(body)
    assert answer["query_status"] == "done", answer
    assert body.count(SESSION.encode()) > (5 if generation == "2019" else 3)
    _, envelope = split_query(list(sent.items()), [])
    code = answer["products"].get("api_code", "url='-'")
    job_id = answer["job_monitor"]["job_id"]

    sent, spliced = undone(
        body, Envelope("new", SESSION, job_id, others=envelope.others), code.split("url='")[1].split("'")[0]
    )

    for echo in ("analysis_parameters", "analysis_paramters"):  # the request had no job_id
        assert spliced["products"].get(echo, {}).pop("job_id", job_id) == job_id
        sent["products"].get(echo, {}).pop("job_id", None)
    for left_to_2019 in ("status_code", "time_request"):
        assert spliced.pop(left_to_2019, None) == sent.pop(left_to_2019, None) or generation == "2019"
    assert spliced == sent
