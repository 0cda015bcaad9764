"""The state machine of a job, transition by transition, and its invariants."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.jobs.job import (
    IDLE_PAUSE,
    MAX_BACKOFF,
    MAX_PAUSE,
    TRANSITIONS,
    Event,
    Job,
    Limits,
    State,
    Step,
    advance,
    classify,
    job_id_in,
    next_step,
    resubmitted,
)
from tests.support.dispatcher_responses import JOB, answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

START: Final = 1_700_000_000.0


def poll_answer(state: Any, **changes: Any) -> dict[str, Any]:
    """Give the answer to a poll: it has no products."""
    return {**answer(query_status=state), "products": {}, **changes}


ANSWERS: Final[Mapping[str, tuple[int, Any]]] = {
    "submitted": (200, poll_answer("submitted")),
    "prepared": (200, poll_answer("prepared")),
    "not prepared": (200, poll_answer("not-prepared")),
    "progress": (200, poll_answer("progress")),
    "post-processing": (200, poll_answer("post-processing")),
    "ready": (200, poll_answer("ready")),
    "done": (200, answer()),
    "done, empty": (200, poll_answer("done")),
    "failed": (200, poll_answer("failed")),
    "no record": (400, {"error": "RequestNotUnderstood()", "error_message": "unable to find any record for job"}),
    "not found": (404, None),
    "gone": (410, None),
    "no token": (401, {"error": "x"}),
    "not authorized": (403, {"error": "x", "error_message": "Request not authorized"}),
    "wrong": (400, {"error": "RequestNotUnderstood()", "error_message": "RA"}),
    "no such method": (405, None),
    "redirected": (302, None),
    "crashed": (500, {"error": "x"}),
    "HTML": (200, None),
    "a list": (200, []),
    "no state": (200, {}),
    "a number as state": (200, poll_answer(1)),
    "an unknown state": (200, poll_answer("unaccessible")),
    "request timeout": (408, None),
    "too early": (425, None),
    "too many requests": (429, None),
    "bad gateway": (502, None),
    "unavailable": (503, None),
    "gateway timeout": (504, None),
}
"""What dispatchers and gateways answer, by a name of ours: HTTP status, and JSON where the answer has it."""

NO_ANSWER: Final = "nothing"
"""No answer: the dispatcher is unreachable."""

BROKEN_OFF: Final = "broken off"
"""The beginning of an answer."""

NEVER: Final = frozenset(
    {
        # An answer to these may carry products: after_state it has all there are.
        (State.NEW, Event.DONE_EMPTY),
        (State.RESUBMIT, Event.DONE_EMPTY),
        (State.READY, Event.DONE_EMPTY),
        # A request without a job_id is not answered with `unknown job`.
        (State.NEW, Event.UNKNOWN_JOB),
        (State.RESUBMIT, Event.UNKNOWN_JOB),
    }
)
"""Rows that no answer leads to; they stand in the table so that it is whole."""


def job_in(state: State) -> Job:
    """Return a job in a state."""
    known = state not in {State.NEW, State.RESUBMIT}
    return Job(START, state, JOB if known else "", resubmissions=int(state is State.RESUBMIT))


def next_status(job: Job) -> str:
    return next_step(job, START, watched=True).query_status


def event_of(name: str, query_status: str) -> Event:
    """Return the event of an answer to a request with a state."""
    if name == NO_ANSWER:
        return Event.UNREACHABLE
    if name == BROKEN_OFF:
        return classify(200, None, query_status=query_status, is_incomplete=True)
    return classify(*ANSWERS[name], query_status=query_status)


def answers_for(state: State, event: Event) -> list[str]:
    """Return the answers that cause an event in a state."""
    return [name for name in (*ANSWERS, NO_ANSWER, BROKEN_OFF) if event_of(name, next_status(job_in(state))) is event]


ROWS: Final = [(state, event) for state, row in TRANSITIONS.items() for event in row]


def test_there_is_a_transition_for_each_event_in_each_state() -> None:
    assert {state: set(row) for state, row in TRANSITIONS.items()} == {
        state: set(Event) for state in State if not state.is_final
    }


@pytest.mark.parametrize(("state", "event"), ROWS, ids=str)
def test_each_row_is_reached_by_a_real_answer_or_never(state: State, event: Event) -> None:
    assert bool(answers_for(state, event)) != ((state, event) in NEVER)


@pytest.mark.parametrize(("state", "event"), ROWS, ids=str)
def test_each_row_leads_where_the_table_says_and_to_the_question_of_that_state(state: State, event: Event) -> None:
    before, after_state = job_in(state), TRANSITIONS[state][event]

    for name in answers_for(state, event) or [NO_ANSWER]:
        job_id = job_id_in(ANSWERS[name][1]) if name in ANSWERS else ""
        after = advance(before, event, START + 1, job_id=job_id)

        assert after.state is after_state
        if after_state.is_final:
            continue
        step = next_step(after, START + 1, watched=True)
        begins = after_state in {State.NEW, State.RESUBMIT}
        assert step.query_status == ("new" if begins else after_state)
        assert step.job_id == ("" if begins else job_id or before.job_id)


@pytest.mark.parametrize("state", [state for state in State if state.is_final])
@pytest.mark.parametrize("event", Event)
def test_an_end_has_no_way_out(state: State, event: Event) -> None:
    with pytest.raises(KeyError):
        advance(job_in(state), event, START)


# -- scripts ---------------------------------------------------------------------------------------

SCRIPTS: Final[Mapping[str, tuple[str, ...]]] = {
    "synchronous": ("new: done",),
    "as most do": ("new: submitted", "submitted: submitted", "submitted: progress", "progress: ready", "ready: done"),
    "a backend that is fast": ("new: ready", "ready: done"),
    "a backend that was done before it was asked": ("new: submitted", "submitted: ready", "ready: done"),
    "done is told to a poll: the products wait": ("new: progress", "progress: done, empty", "ready: done"),
    "done is told to a poll, with products": ("new: submitted", "submitted: done"),
    "done is told without any products": ("new: done, empty",),
    "progress falls back": ("new: progress", "progress: submitted", "submitted: progress", "progress: failed"),
    "ready turns out not to be": ("new: ready", "ready: progress", "progress: ready", "ready: done"),
    "other names for waiting": (
        "new: not prepared",
        "submitted: prepared",
        "submitted: post-processing",
        "progress: ready",
        "ready: done",
    ),
    "a synchronous answer that breaks off": ("new: broken off", "new: broken off", "new: done"),
    "products that break off": ("new: ready", "ready: broken off", "ready: done"),
    "fails at once": ("new: failed",),
    "fails later": ("new: submitted", "submitted: failed"),
    "fails at its very end": ("new: ready", "ready: failed"),
    "a gateway loses its dispatcher now and after_state": (
        "new: bad gateway",
        "new: submitted",
        "submitted: bad gateway",
        "submitted: progress",
        "progress: unavailable",
        "progress: gateway timeout",
        "progress: ready",
        "ready: bad gateway",
        "ready: done",
    ),
    "too much to do": ("new: too many requests", "new: submitted", "submitted: too many requests", "submitted: failed"),
    "restarted in mid-job": ("new: submitted", "submitted: nothing", "submitted: nothing", "submitted: failed"),
    "restarted, and the job is gone": (
        "new: submitted",
        "submitted: nothing",
        "submitted: no record",
        "new: submitted",
        "submitted: ready",
        "ready: done",
    ),
    "gone when it was to begin again": (
        "new: progress",
        "progress: gone",
        "new: nothing",
        "new: bad gateway",
        "new: HTML",
        "new: done",
    ),
    "forgotten with its products": ("new: ready", "ready: not found", "new: ready", "ready: done"),
    "nonsense in between": ("new: submitted", "submitted: HTML", "submitted: an unknown state", "submitted: failed"),
    "nonsense at the very beginning": ("new: HTML",),
    "crashes when it begins": ("new: crashed",),
    "crashes on a poll": ("new: submitted", "submitted: crashed", "submitted: failed"),
    "the request is wrong": ("new: wrong",),
    "nobody is there": ("new: nothing",),
    "a token that is refused": ("new: not authorized",),
    "a token that is refused in mid-job": ("new: submitted", "submitted: not authorized"),
}
"""Jobs, line by line: `query_status that is sent: answer`."""


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_job_follows_the_script(script: tuple[str, ...]) -> None:
    job, now = Job(START), START

    for line in script:
        assert not job.state.is_final, f"nothing is asked any more, but the script goes on: {line}"
        ask, _, name = line.partition(": ")
        step = next_step(job, now, watched=True)
        assert (step.query_status, bool(step.job_id)) == (ask, ask != "new"), line
        now += step.pause
        job = advance(job, event_of(name, ask), now, job_id=job_id_in(ANSWERS[name][1]) if name in ANSWERS else "")

    assert job.state is (State.DONE if script[-1].partition(": ")[2].startswith("done") else State.FAILED)
    assert job.give_up_reason == ""


def test_a_job_keeps_its_id_through_errors_and_loses_it_when_it_is_unknown() -> None:
    job = advance(Job(START), Event.SUBMITTED, START, job_id="one")

    assert advance(job, Event.UNAVAILABLE, START, job_id="of a gateway").job_id == "one"
    assert advance(Job(START), Event.UNAVAILABLE, START, job_id="of a gateway").job_id == ""
    assert advance(job, Event.PROGRESS, START, job_id="another").job_id == "one"
    assert advance(job, Event.PROGRESS, START, job_id="").job_id == "one"
    assert advance(job, Event.PROGRESS, START, job_id="another").job_id == "one"
    assert advance(job, Event.UNKNOWN_JOB, START, job_id="one").job_id == ""


def test_a_job_that_is_handed_over_is_submitted_again_unless_it_was_not_submitted() -> None:
    job = resubmitted(Job(START, State.PROGRESS, JOB, errors=3, unreadable=2))

    assert next_step(job, START + 5, watched=True) == Step("new", "", 0.0)
    assert resubmitted(Job(START)) == Job(START)


def test_the_timeline_has_each_state_with_the_time_it_was_reached() -> None:
    job = Job(START)
    for at, event in [
        (1, Event.SUBMITTED),
        (2, Event.SUBMITTED),
        (5, Event.UNAVAILABLE),
        (9, Event.PROGRESS),
        (60, Event.DONE),
    ]:
        job = advance(job, event, START + at)

    assert job.timeline == (("submitted", 1.0), ("progress", 9.0), ("done", 60.0))


@pytest.mark.parametrize("value", [None, [], {}, {"job_monitor": None}, {"job_monitor": {"job_id": 5}}])
def test_an_answer_that_names_no_job_names_none(value: Any) -> None:
    assert job_id_in(value) == ""


# -- limits ----------------------------------------------------------------------------------------

LIMITS: Final = Limits(max_duration=1000.0, max_outage=100.0, max_unreadable=2, max_resubmissions=2, max_fetches=3)


def driven(
    job: Job, events: Iterable[Event], *, watched: bool = True, limits: Limits = LIMITS
) -> tuple[Job, float, int]:
    """Apply events one after the other, each after the pause before it, until the job has ended."""
    now, answers = job.started_at, 0
    for event in events:
        now += next_step(job, now, watched=watched).pause
        job = advance(job, event, now, job_id=JOB, limits=limits)
        answers += 1
        if job.state.is_final:
            break
    return job, now - job.started_at, answers


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([Event.SUBMITTED], "the job has run for 17 min and is given up"),
        ([Event.PROGRESS, Event.UNAVAILABLE], "the job has run for 17 min and is given up"),
        ([Event.UNAVAILABLE], "the dispatcher has not answered for 2 min"),
        ([Event.SUBMITTED, *[Event.UNREACHABLE] * 1000], "the dispatcher has not answered for 2 min"),
        (
            [Event.SUBMITTED, *[Event.UNREADABLE] * 3],
            "the last 3 answers of the dispatcher were errors or cannot be read",
        ),
        ([Event.SUBMITTED, Event.UNKNOWN_JOB], "the dispatcher has forgotten the job 3 times"),
        ([Event.READY], "the dispatcher said 4 times that the products are ready, and did not send them"),
        ([Event.SUBMITTED, Event.READY], "the dispatcher said 4 times that the products are ready"),
    ],
)
def test_each_limit_ends_a_job_and_says_why(names: list[Event], reason: str) -> None:
    job, _, _ = driven(Job(START), cycle(names))

    assert job.state is State.FAILED
    assert job.give_up_reason.startswith(reason)


def test_a_long_duration_is_given_in_hours() -> None:
    job = advance(Job(START, State.PROGRESS, JOB), Event.PROGRESS, START + 90_000)

    assert job.give_up_reason == "the job has run for 25.0 h and is given up; ask again to see whether it still runs"


@pytest.mark.parametrize("event", [Event.DONE, Event.FAILED])
def test_what_ends_by_itself_is_not_given_up_however_long_it_took(event: Event) -> None:
    assert advance(Job(START, State.READY, JOB), event, START + 90_000).give_up_reason == ""


@pytest.mark.parametrize("event", [Event.UNAVAILABLE, Event.UNREACHABLE, Event.UNREADABLE])
def test_an_answer_between_errors_resets_the_limits(event: Event) -> None:
    job, seconds, answers = driven(
        Job(START), cycle([Event.SUBMITTED, event, event]), limits=replace(LIMITS, max_duration=900)
    )

    assert job.give_up_reason.startswith("the job has run for")
    assert answers > 100
    assert seconds > 900


# -- whatever is event ------------------------------------------------------------------------------

ANSWER_NAMES: Final = st.sampled_from([*ANSWERS, NO_ANSWER, BROKEN_OFF])
ENOUGH: Final = 10_000
"""Answers after which any job must have ended."""


@settings(deadline=None)
@given(names=st.lists(ANSWER_NAMES, min_size=1, max_size=20), watched=st.booleans())
def test_every_job_ends_within_its_limits(names: list[str], *, watched: bool) -> None:
    job, now = Job(START), START

    for name in islice(cycle(names), ENOUGH):
        step = next_step(job, now, watched=watched)
        now += step.pause
        job = advance(job, event_of(name, step.query_status), now, job_id=JOB, limits=LIMITS)
        if job.state.is_final:
            break

    assert job.state.is_final
    assert now - START <= LIMITS.max_duration + max(IDLE_PAUSE, MAX_BACKOFF)


@settings(deadline=None)
@given(
    names=st.lists(st.tuples(ANSWER_NAMES, st.floats(0, 600)), max_size=40),
    watched=st.booleans(),
    retry_after=st.floats(0, 3600),
)
def test_whatever_the_events_a_job_stays_in_the_table(
    names: list[tuple[str, float]], *, watched: bool, retry_after: float
) -> None:
    job, now = Job(START), START

    for name, later in names:
        if job.state.is_final:
            break
        step, before = next_step(job, now, watched=watched), job
        usual = MAX_PAUSE if watched else IDLE_PAUSE
        assert 0 <= step.pause <= (MAX_BACKOFF if job.errors else usual)
        assert next_step(job, now, watched=watched, retry_after=retry_after).pause == max(step.pause, retry_after)
        now += later
        event = event_of(name, step.query_status)
        job = advance(job, event, now, job_id=JOB if event in {Event.SUBMITTED, Event.PROGRESS, Event.READY} else "")
        assert job.state is (State.FAILED if job.give_up_reason else TRANSITIONS[before.state][event])
        assert job.job_id in {JOB, before.job_id} or job.state is State.RESUBMIT
        assert bool(job.job_id) or not before.job_id or job.state is State.RESUBMIT

    times = [at for _, at in job.timeline]
    assert times == sorted(times)
    assert {state for state, _ in job.timeline} <= set(State) - {State.NEW, State.RESUBMIT}


def test_a_clock_that_is_set_back_does_not_turn_a_timeline_back() -> None:
    job = advance(Job(started_at=0.0), Event.SUBMITTED, 10.0, job_id="J")
    job = advance(job, Event.PROGRESS, 5.0)

    assert advance(job, Event.READY, 20.0).timeline == (("submitted", 10.0), ("progress", 10.0), ("ready", 20.0))
