"""Scenarios: read from files, refused where they make no sense, repeatable by their seed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from mock_server.scenarios import Fault, FaultPlan, Polls, Scenario, find_scenario, load_scenarios
from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - faults, no secrets


def strikes(fault: Fault, *requests: tuple[str, str, str], seed: int = 0) -> list[bool]:
    plan = FaultPlan((fault,), chance(seed))
    return [plan.next(*request) is not None for request in requests]


POLL = ("run_analysis", "GET", "submitted")
NEW = ("run_analysis", "GET", "new")


def test_every_shipped_scenario_has_a_summary_and_an_effect() -> None:
    for scenario in load_scenarios().values():
        assert scenario.summary
        assert scenario.faults or scenario.outcome or scenario.time_scale != 1


def test_without_a_name_the_scenario_has_no_faults() -> None:
    assert find_scenario(None) == Scenario()


def test_an_unknown_name_is_an_error_that_lists_the_scenarios() -> None:
    with pytest.raises(UsageError, match=r"no scenario 'nosuch': choose one of bad-gateway, "):
        find_scenario("nosuch")


def test_a_file_adds_scenarios_and_replaces_shipped_ones(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[mine]\nsummary = "a"\ntime_scale = 2\n'
        '[[mine.faults]]\ndo = "status"\nstatus = 503\nasked = ["new"]\nfrom = 2\nchance = 1\n'
        '[timeout]\nsummary = "b"\noutcome = "failed"\n'
    )
    fault = Fault(kind="status", status=503, query_statuses=("new",), since=2)
    assert find_scenario("mine", (file,)) == Scenario("mine", "a", 2.0, None, (fault,))
    assert find_scenario("timeout", (file,)) == Scenario("timeout", "b", outcome="failed")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "Invalid initial character"),
        ("a = 1", "a should be a table, not 1"),
        ("[a]\nsumary = 'x'", "a has no 'sumary': it can have faults, outcome, summary, time_scale"),
        ("[a]\ntime_scale = 'x'", "a: time_scale cannot be 'x'"),
        ("[a]\noutcome = 'done'", "a: the outcome can be 'failed', not 'done'"),
        ("[a]\nfaults = [1]", "a: a fault should be a table, not 1"),
        ("[[a.faults]]\ndo = 'explode'", "a: there is no fault 'explode': choose one of status, hang,"),
        ("[[a.faults]]\nstatus = 502", "a: a fault needs 'do': one of status"),
        ("[[a.faults]]\ndo = 'status'\nstatus = true", "a: a fault: status cannot be True"),
        ("[[a.faults]]\ndo = 'status'\non = ['1']", "a: a fault: on cannot be ['1']"),
        ("[[a.faults]]\ndo = 'status'\nsince = 1", "a: a fault has no 'since'"),
        ("[a]\ntime_scale = -1", "a: time_scale cannot be -1: it can be from 0 to 1e+06"),
        ("[[a.faults]]\ndo = 'status'\non = [true]", "a: a fault: on cannot be [True]"),
        ("[[a.faults]]\ndo = 'status'\non = [0]", "a: a fault: on cannot be [0]: it can be from 1"),
        ("[[a.faults]]\ndo = 'status'\non = [1]\nfrom = 2", "a: a fault can have 'on' or 'from', not both"),
        ("[[a.faults]]\ndo = 'status'\nfrom = 0", "a: a fault: from cannot be 0: it can be from 1"),
        ("[[a.faults]]\ndo = 'status'\nstatus = 99", "a: a fault: status cannot be 99: it can be from 200 to 599"),
        ("[[a.faults]]\ndo = 'status'\nchance = nan", "a: a fault: chance cannot be nan: it can be from 0 to 1"),
        ("[[a.faults]]\ndo = 'hang'\nseconds = -1", "a: a fault: seconds cannot be -1: it can be from 0 to 86400"),
        ("[[a.faults]]\ndo = 'recalibrate'\nfactor = inf", "a: a fault: factor cannot be inf"),
        ("[[a.faults]]\ndo = 'status'\nmethods = ['post']", "methods can be GET, HEAD, POST, not 'post'"),
    ],
)
def test_an_invalid_file_is_an_error_with_the_position(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as raised:
        load_scenarios((file,))
    assert str(raised.value).startswith(f"{file}: ")
    assert reason in str(raised.value)


@pytest.mark.parametrize("content", [b"\xff", b"#" * (2**20 + 1)])
def test_a_binary_or_too_large_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"mine\.toml: "):
        load_scenarios((file,))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_scenarios((tmp_path / "nosuch.toml",))


def test_a_fault_counts_only_matching_requests() -> None:
    fault = Fault(kind="status", query_statuses=("submitted",), on=(2,))
    assert strikes(fault, POLL, NEW, POLL, POLL) == [False, False, True, False]


def test_a_fault_can_strike_from_one_request_on() -> None:
    assert strikes(Fault(kind="status", since=2), POLL, NEW, POLL) == [False, True, True]


def test_a_fault_applies_to_one_route_and_some_methods() -> None:
    fault = Fault(kind="redirect", methods=("POST",))
    post = ("run_analysis", "POST", "new")
    assert strikes(fault, NEW, post, ("instr-list", "POST", "")) == [False, True, False]


def test_the_seed_determines_random_faults() -> None:
    fault = Fault(kind="status", chance=0.5)
    first, again, other = (strikes(fault, *[NEW] * 40, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_first_of_two_faults_strikes_and_both_count() -> None:
    plan = FaultPlan((Fault(kind="html", on=(1,)), Fault(kind="status", on=(2,))), chance(0))
    faults = [plan.next(*NEW) for _ in range(3)]
    assert [fault and fault.kind for fault in faults] == ["html", "status", None]


def polls(*faults: Fault, takes_time: bool = False, seed: int = 0) -> Polls:
    return FaultPlan(faults, chance(seed)).polls_needed(takes_time=takes_time)


@pytest.mark.parametrize(
    ("fault", "needed"),
    [
        (Fault(kind="status", query_statuses=("submitted", "progress"), on=(3,)), Polls(3, 0)),
        (Fault(kind="status", query_statuses=("submitted", "progress"), on=(2, 5)), Polls(5, 0)),
        (Fault(kind="status", query_statuses=("progress",), on=(2,)), Polls(0, 2)),
        (Fault(kind="status", query_statuses=("submitted",), since=4), Polls(4, 0)),
        (Fault(kind="status", on=(2,)), Polls(2, 0)),
        (Fault(kind="cut-json", query_statuses=("ready",), on=(1,)), Polls(1, 0)),
        (Fault(kind="status", query_statuses=("new",)), Polls(0, 0)),
        (Fault(kind="redirect", methods=("POST",)), Polls(0, 0)),
        (Fault(kind="html", route="api/meta-data"), Polls(0, 0)),
    ],
)
def test_a_job_takes_the_polls_that_its_fault_needs(fault: Fault, needed: Polls) -> None:
    assert polls(fault) == needed


def test_products_of_a_job_that_takes_time_are_fetched_anyway() -> None:
    assert polls(Fault(kind="cut-json", query_statuses=("ready",)), takes_time=True) == Polls(0, 0)


def test_a_fault_by_chance_has_as_many_polls_as_its_seed_needs() -> None:
    fault = Fault(kind="status", query_statuses=("submitted",), chance=0.2)
    for seed in range(20):
        needed = polls(fault, seed=seed).submitted
        requests = strikes(fault, *[POLL] * needed, seed=seed)
        assert requests == [False] * (needed - 1) + [True]


def test_a_fault_that_another_hides_is_not_waited_for() -> None:
    first, second = Fault(kind="recalibrate", factor=1.2), Fault(kind="recalibrate", factor=1.5)

    assert polls(first, second) == polls(first)


def test_faults_that_have_struck_need_no_more_polls() -> None:
    plan = FaultPlan((Fault(kind="status", query_statuses=("submitted",), on=(2,)),), chance(0))
    for _ in range(2):
        if fault := plan.next(*POLL):
            plan.note_strike(fault)

    assert plan.polls_needed(takes_time=False) == Polls(0, 0)


def test_a_fault_is_shown_in_the_form_of_its_file() -> None:
    fault = Fault(kind="status", status=503, query_statuses=("submitted",), on=(2,))

    assert str(fault) == 'do = "status", asked = ["submitted"], on = [2], status = 503'
    assert str(Fault(kind="html")) == 'do = "html"'
