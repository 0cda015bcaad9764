"""The answer while a job runs: all of the job, nothing of its client, readable for every release."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.jobs.progress import MAX_REPORTS, public_reports, running_answer
from oda_proxy.query.query import Envelope, Token
from tests.support.dispatcher_responses import JOB, SESSION
from tests.support.scripted import token

MINE: Final = Envelope(session_id=SESSION, job_id=JOB, token=Token(token()))
ANOTHERS: Final = Envelope("submitted", "ANOTHERSESSION00", "0123456789abcdef")
CALL_BACK: Final = {
    "action": "progress",
    "instrument_name": "isgri",
    "node_id": "node_3",
    "message": "processing",
    "progress": 50,
    "progressing": True,
    "stage": "imaging",
    "substage": "1 of 2",
    "scwid": "010200230010.001",
    "job_id": JOB,
    "session_id": SESSION,
    "token": token(),
    "time_original_request": "1700000000",
    "email": "somebody@example.org",
    "request": f"https://dispatcher.example/run_analysis?session_id={SESSION}&token={token()}",
}
"""A report as dispatcher 1.3.6 keeps it: the request of a data server, which repeats that of the client."""


def reporting(*reports: Any) -> dict[str, Any]:
    return {"job_monitor": {"job_id": JOB, "session_id": SESSION, "full_report_dict_list": list(reports)}}


def told(
    *reports: Any, status: str = "progress", envelope: Envelope = ANOTHERS, comment: str = "", urgent: bool = False
) -> Any:
    known = public_reports(reporting(*reports), MINE)
    return json.loads(
        running_answer(status, envelope, job_id=JOB, reports=known, comment=comment, urgent=urgent, now=1.5)
    )


def test_a_report_is_about_the_job_and_not_its_client() -> None:
    assert public_reports(reporting(CALL_BACK), MINE) == (
        {
            "action": "progress",
            "node": "none",
            "node_id": "node_3",
            "message": "processing",
            "progress": 50,
            "progressing": True,
            "scwid": "010200230010.001",
            "stage": "imaging",
            "substage": "1 of 2",
        },
    )


@pytest.mark.parametrize(
    "message",
    [
        f"writing to scratch_sid_{SESSION}_jid_{JOB}/query_output.json",
        f"called with {token()}",
        "for somebody@example.org",
        f"https://dispatcher.example/call_back?session_id={SESSION}",
    ],
)
def test_a_message_keeps_its_text_without_the_ids_of_its_client(message: str) -> None:
    text = json.dumps(told({**CALL_BACK, "message": f"stage 1: {message}"}))

    assert "stage 1:" in text
    assert not [secret for secret in (SESSION, token(), "somebody@example.org") if secret in text]


@pytest.mark.parametrize("name", ["message", "node_id", "stage"])
@pytest.mark.parametrize("secret", [SESSION, SESSION.lower(), token().split(".")[2]])
def test_a_report_that_still_names_its_client_is_left_out(name: str, secret: str) -> None:
    assert public_reports(reporting({**CALL_BACK, name: f"x{secret}x"}, CALL_BACK), MINE) == public_reports(
        reporting(CALL_BACK), MINE
    )


def test_of_very_many_reports_the_last_are_sent_in_their_order() -> None:
    reports = public_reports(reporting(*({"progress": number} for number in range(MAX_REPORTS + 5))), MINE)

    assert [report["progress"] for report in reports] == list(range(5, MAX_REPORTS + 5))


@pytest.mark.parametrize(
    "monitor", [None, "text", {}, {"full_report_dict_list": None}, {"full_report_dict_list": ["text", None, 5]}]
)
def test_what_holds_no_reports_tells_none(monitor: Any) -> None:
    assert public_reports({"job_monitor": monitor}, MINE) == ()


def test_each_report_has_what_clients_look_for_and_the_names_that_are_the_clients_own() -> None:
    [*_, report] = told({"message": ["no", "text"], "node": {"a": 1}})["job_monitor"]["full_report_dict_list"]

    assert report == {
        "node": "none",
        "message": "none",
        "scwid": "none",
        "job_id": JOB,
        "session_id": ANOTHERS.session_id,
    }


@pytest.mark.parametrize("status", ["submitted", "progress"])
def test_each_generation_of_the_client_asks_on_and_shows_the_remark(status: str) -> None:
    answer = told(CALL_BACK, status=status, comment="a remark")

    assert answer["query_status"] == answer["job_status"] == answer["job_monitor"]["status"] == status
    assert answer["exit_status"]["status"] == 0
    assert answer["exit_status"]["comment"] == answer["job_monitor"]["comment"] == "a remark"
    assert all(isinstance(answer["exit_status"][name], str) for name in ("message", "error_message", "debug_message"))
    assert answer["products"] == {}
    assert answer["session_id"] == answer["job_monitor"]["session_id"] == ANOTHERS.session_id
    assert answer["job_monitor"]["job_id"] == JOB
    assert answer["time_request"] == 1.5


@pytest.mark.parametrize(("urgent", "place"), [(False, 0), (True, -1)])
def test_a_remark_is_a_report_too_since_clients_show_the_last_one_and_no_comment(urgent: bool, place: int) -> None:
    reports = told(CALL_BACK, CALL_BACK, comment="oda-proxy: a remark", urgent=urgent)["job_monitor"][
        "full_report_dict_list"
    ]

    assert [report["node"] for report in reports].count("oda-proxy") == 1
    assert (reports[place]["node"], reports[place]["message"]) == ("oda-proxy", "a remark")


@pytest.mark.parametrize(("urgent", "shown"), [(False, "processing"), (True, "a remark")])
def test_the_remark_is_a_report_too_and_the_last_where_it_is_urgent(*, urgent: bool, shown: str) -> None:
    """While a job runs clients show the last report, and no comment."""
    reports = public_reports(reporting(CALL_BACK), MINE)

    text = running_answer(
        "progress", ANOTHERS, job_id=JOB, reports=reports, comment="oda-proxy: a remark", urgent=urgent, now=1.5
    )

    told = json.loads(text)["job_monitor"]["full_report_dict_list"]
    assert sorted(report["message"] for report in told) == ["a remark", "processing"]
    assert told[-1]["message"] == shown
    for report in told:
        assert (report["job_id"], report["session_id"]) == (JOB, ANOTHERS.session_id)
        assert {"node", "message", "scwid"} <= report.keys()


WORDS = st.sampled_from([SESSION, token(), f"job {JOB} of {SESSION}", f"?token={token()}", "a word", ""])
VALUES = WORDS | st.none() | st.booleans() | st.integers(0, 9) | st.lists(WORDS, max_size=2)
REPORTS = st.lists(st.dictionaries(st.sampled_from([*CALL_BACK, "x"]), VALUES, max_size=6), max_size=4)


@settings(deadline=None)
@given(REPORTS)
def test_no_report_names_its_client(reports: list[Any]) -> None:
    text = json.dumps(told(*reports))

    assert SESSION not in text
    assert token() not in text
