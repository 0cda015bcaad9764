"""The states of jobs by the clock, and the reply to a request in each."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mock_server.jobs import TRANSITIONS, Job, JobTable, Reply, request_kind
from oda_proxy.fixture.model import FixtureAnswer

TIMELINE = (("submitted", 0.0), ("progress", 2.0), ("ready", 6.0))


def job(*, session_id: str = "S1", job_id: str = "one", failed: bool = False, timeline: Any = TIMELINE) -> Job:
    return Job(
        job_id=job_id,
        session_id=session_id,
        token=None,
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


def test_a_job_whose_timeline_has_no_end_waits_for_a_report() -> None:
    waiting = job(timeline=(("submitted", 0.0),))
    assert waiting.state(1e9) == "submitted"
    waiting.reported_state = "ready"
    assert waiting.state(1e9) == "ready"


def test_reports_only_grow_while_a_job_is_in_progress() -> None:
    numbers = [len(job().reports(now)) for now in (10.0, 12.0, 13.0, 14.0, 15.0, 16.0, 100.0)]
    assert numbers[0] == 0
    assert numbers[1] == 1
    assert numbers == sorted(numbers)
    assert job().reports(16.0)[-1]["action"] == "done"
    assert job(failed=True).reports(16.0)[-1]["action"] == "failed"


@pytest.mark.parametrize(
    ("query_status", "kind"),
    [
        ("new", "new"),
        ("submitted", "poll"),
        ("progress", "poll"),
        ("ready", "ready"),
        ("failed", "failed"),
        ("x", "other"),
    ],
)
def test_the_kind_of_a_request_follows_from_its_query_status(query_status: str, kind: str) -> None:
    assert request_kind(query_status) == kind


def test_every_kind_of_request_has_a_reply_in_every_state() -> None:
    kinds = {kind for kind, _ in TRANSITIONS}
    states = {state for _, state in TRANSITIONS}
    assert TRANSITIONS.keys() == {(kind, state) for kind in kinds for state in states}


def test_products_come_only_where_the_query_ran_and_is_done() -> None:
    with_products = {case for case, reply in TRANSITIONS.items() if reply.has_products}
    assert with_products == {("new", "ready"), ("new", "done"), ("ready", "ready"), ("ready", "done")}


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


def test_a_hundred_sessions_are_one_job_and_a_hundred_runs() -> None:
    table = JobTable(Clock())
    for number in range(100):
        table.handle("key", job(session_id=f"S{number}"), "new", "one")
    assert (len(table.jobs), table.runs) == (1, 100)


def test_products_that_were_fetched_leave_the_job_done() -> None:
    clock = Clock()
    table = JobTable(clock)
    table.handle("key", job(), "new", "one")
    clock.now = 16.0
    assert table.handle("key", job(), "submitted", "one")[1] == Reply("ready", "ready")
    assert table.handle("key", job(), "done", "one")[1] == Reply("ready", "ready")
    assert table.handle("key", job(), "ready", "one")[1].has_products
    assert table.handle("key", job(), "done", "one")[1] == Reply("done", "done")


def test_products_that_another_session_fetched_leave_the_job_ready_for_its_owner() -> None:
    clock = Clock()
    table = JobTable(clock)
    table.handle("key", job(), "new", "one")
    clock.now = 16.0
    assert table.handle("key", job(session_id="S2"), "new", "one")[1].has_products
    assert table.handle("key", job(), "done", "one")[1] == Reply("ready", "ready")


def test_a_poll_of_another_session_runs_the_query_once_the_job_has_ended() -> None:
    clock = Clock()
    table = JobTable(clock)
    table.handle("key", job(), "new", "one")
    assert table.handle("key", job(session_id="S2"), "submitted", "one")[1] == Reply("submitted", "submitted")
    assert table.runs == 1
    clock.now = 16.0
    assert table.handle("key", job(session_id="S2"), "submitted", "one")[1].has_products
    assert table.runs == 2


@pytest.mark.parametrize("query_status", ["new", "ready"])
def test_a_failed_job_begins_again_when_its_query_is_run(query_status: str) -> None:
    clock = Clock()
    table = JobTable(clock)
    table.handle("key", job(failed=True), "new", "one")
    clock.now = 16.0
    again = job(failed=True)
    again.begun = clock.now
    started, reply = table.handle("key", again, query_status, "one")
    assert started is again
    assert reply.query_status == "submitted"


def test_two_queries_with_one_job_id_are_two_jobs() -> None:
    """RA=83 and RA=38 have the same job_id."""
    table = JobTable(Clock())
    first, second = job(), job(timeline=())
    table.handle("RA=83", first, "new", "one")
    table.handle("RA=38", second, "new", "one")
    assert table.handle("RA=83", job(), "submitted", "one")[0] is first
    assert table.handle("RA=38", job(), "submitted", "one")[0] is second


def test_every_report_of_the_back_end_has_a_place_for_a_science_window() -> None:
    """oda_api 1.1.0 reads it in each report, and retries the whole query if it is missing."""
    for ended in (job(), job(failed=True)):
        assert all("scwid" in report for report in ended.reports(16.0))
        assert ended.reports(16.0)
