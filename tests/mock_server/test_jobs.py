"""The life of jobs: states by the clock, and what a request in each is answered."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mock_server.jobs import TRANSITIONS, Job, JobTable, Reply, asked
from oda_proxy.fixture.model import FixtureAnswer

TIMELINE = (("submitted", 0.0), ("progress", 2.0), ("ready", 6.0))


def job(*, session_id: str = "S1", job_id: str = "one", failed: bool = False, timeline: Any = TIMELINE) -> Job:
    return Job(
        job_id=job_id,
        session_id=session_id,
        subject=None,
        echo={},
        fixture=cast("Any", None),
        recorded=FixtureAnswer("failed" if failed else "done", {"status": 0}, (), {}),
        timeline=timeline,
        begun=10.0,
        time_request=0.0,
    )


@pytest.mark.parametrize(
    ("now", "state"),
    [(10.0, "submitted"), (11.9, "submitted"), (12.0, "progress"), (15.9, "progress"), (16.0, "ready")],
)
def test_a_job_enters_its_states_at_the_times_of_its_fixture(now: float, state: str) -> None:
    assert job().state(now) == state


def test_a_failing_job_fails_when_it_would_be_ready() -> None:
    assert job(failed=True).state(16.0) == "failed"


def test_a_job_without_a_timeline_is_done_at_once() -> None:
    assert job(timeline=()).state(10.0) == "done"


def test_states_before_submitted_are_submitted() -> None:
    assert job(timeline=(("not-prepared", 0.0), ("prepared", 1.0), ("ready", 2.0))).state(11.5) == "submitted"


def test_a_job_whose_times_never_end_waits_for_a_report() -> None:
    waiting = job(timeline=(("submitted", 0.0),))
    assert waiting.state(1e9) == "submitted"
    waiting.told = "ready"
    assert waiting.state(1e9) == "ready"


def test_reports_only_grow_while_a_job_is_in_progress() -> None:
    numbers = [len(job().reports(now)) for now in (10.0, 12.0, 13.0, 14.0, 15.0, 16.0, 100.0)]
    assert numbers[0] == 0
    assert numbers[1] == 1
    assert numbers == sorted(numbers)
    assert job().reports(16.0)[-1]["action"] == "done"
    assert job(failed=True).reports(16.0)[-1]["action"] == "failed"


@pytest.mark.parametrize(
    ("query_status", "what"),
    [
        ("new", "new"),
        ("submitted", "poll"),
        ("progress", "poll"),
        ("ready", "ready"),
        ("failed", "failed"),
        ("x", "other"),
    ],
)
def test_what_a_request_asks_is_told_by_its_query_status(query_status: str, what: str) -> None:
    assert asked(query_status) == what


def test_every_question_has_an_answer_in_every_state() -> None:
    questions = {what for what, _ in TRANSITIONS}
    states = {state for _, state in TRANSITIONS}
    assert TRANSITIONS.keys() == {(what, state) for what in questions for state in states}


def test_products_come_only_where_the_query_ran_and_is_done() -> None:
    with_products = {question for question, reply in TRANSITIONS.items() if reply.has_products}
    assert with_products == {("new", "ready"), ("new", "done"), ("ready", "ready"), ("ready", "done")}


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


def test_a_hundred_sessions_are_one_job_and_a_hundred_runs() -> None:
    table = JobTable(Clock())
    for number in range(100):
        table.ask("key", job(session_id=f"S{number}"), "new", "one")
    assert (len(table.jobs), table.runs) == (1, 100)


def test_products_that_were_fetched_leave_the_job_done() -> None:
    clock = Clock()
    table = JobTable(clock)
    table.ask("key", job(), "new", "one")
    clock.now = 16.0
    assert table.ask("key", job(), "submitted", "one")[1] == Reply("ready", "ready")
    assert table.ask("key", job(), "done", "one")[1] == Reply("ready", "ready")
    assert table.ask("key", job(), "ready", "one")[1].has_products
    assert table.ask("key", job(), "done", "one")[1] == Reply("done", "done")


def test_products_that_another_session_fetched_leave_the_job_ready_for_its_owner() -> None:
    clock = Clock()
    table = JobTable(clock)
    table.ask("key", job(), "new", "one")
    clock.now = 16.0
    assert table.ask("key", job(session_id="S2"), "new", "one")[1].has_products
    assert table.ask("key", job(), "done", "one")[1] == Reply("ready", "ready")


def test_a_poll_of_another_session_runs_the_query_once_the_job_has_ended() -> None:
    clock = Clock()
    table = JobTable(clock)
    table.ask("key", job(), "new", "one")
    assert table.ask("key", job(session_id="S2"), "submitted", "one")[1] == Reply("submitted", "submitted")
    assert table.runs == 1
    clock.now = 16.0
    assert table.ask("key", job(session_id="S2"), "submitted", "one")[1].has_products
    assert table.runs == 2


@pytest.mark.parametrize("query_status", ["new", "ready"])
def test_a_failed_job_begins_again_when_its_query_is_run(query_status: str) -> None:
    clock = Clock()
    table = JobTable(clock)
    table.ask("key", job(failed=True), "new", "one")
    clock.now = 16.0
    again = job(failed=True)
    again.begun = clock.now
    begun, reply = table.ask("key", again, query_status, "one")
    assert begun is again
    assert reply.query_status == "submitted"


def test_two_queries_with_one_job_id_are_two_jobs() -> None:
    """RA=83 and RA=38 have one job_id at a dispatcher."""
    table = JobTable(Clock())
    first, second = job(), job(timeline=())
    table.ask("RA=83", first, "new", "one")
    table.ask("RA=38", second, "new", "one")
    assert table.ask("RA=83", job(), "submitted", "one")[0] is first
    assert table.ask("RA=38", job(), "submitted", "one")[0] is second


def test_every_report_of_the_back_end_has_a_place_for_a_science_window() -> None:
    """oda_api 1.1.0 reads it in each, and tries the whole query again where it is missing."""
    for ended in (job(), job(failed=True)):
        assert all("scwid" in report for report in ended.reports(16.0))
        assert ended.reports(16.0)
