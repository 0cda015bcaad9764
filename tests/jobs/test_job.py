"""The table of a job, row by row, and what holds whatever a dispatcher says."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.jobs.job import (
    LONGEST_PAUSE,
    MOST_TROUBLED_PAUSE,
    TRANSITIONS,
    UNWATCHED_PAUSE,
    Job,
    Limits,
    Said,
    State,
    Step,
    begun_again,
    heard,
    named,
    next_step,
    observe,
)
from tests.support.answers import JOB, answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BEGUN: Final = 1_700_000_000.0


def told(state: Any, **changes: Any) -> dict[str, Any]:
    """Give the answer to a poll: it has no products."""
    return {**answer(query_status=state), "products": {}, **changes}


ANSWERS: Final[Mapping[str, tuple[int, Any]]] = {
    "submitted": (200, told("submitted")),
    "prepared": (200, told("prepared")),
    "not prepared": (200, told("not-prepared")),
    "progress": (200, told("progress")),
    "post-processing": (200, told("post-processing")),
    "ready": (200, told("ready")),
    "done": (200, answer()),
    "done, empty": (200, told("done")),
    "failed": (200, told("failed")),
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
    "a number as state": (200, told(1)),
    "an unknown state": (200, told("unaccessible")),
    "request timeout": (408, None),
    "too early": (425, None),
    "too many requests": (429, None),
    "bad gateway": (502, None),
    "unavailable": (503, None),
    "gateway timeout": (504, None),
}
"""What dispatchers and gateways answer, by a word of ours: HTTP status, and JSON where the answer has it."""

NOTHING: Final = "nothing"
"""No answer: nobody is there."""

NEVER: Final = frozenset(
    {
        # An answer to these may carry products: then it has all there are.
        (State.NEW, Said.EMPTY),
        (State.AGAIN, Said.EMPTY),
        (State.READY, Said.EMPTY),
        # Who asks without a job_id is not told that there is no such job.
        (State.NEW, Said.FORGOTTEN),
        (State.AGAIN, Said.FORGOTTEN),
    }
)
"""Rows that no answer leads to; they stand in the table so that it is whole."""


def job_in(state: State) -> Job:
    """Give a job that stands somewhere."""
    known = state not in {State.NEW, State.AGAIN}
    return Job(BEGUN, state, JOB if known else "", begins=int(state is State.AGAIN))


def asked(job: Job) -> str:
    return next_step(job, BEGUN, watched=True).query_status


def says(word: str, query_status: str) -> Said:
    """Say what an answer means to who sent that state."""
    return Said.UNREACHABLE if word == NOTHING else heard(*ANSWERS[word], query_status=query_status)


def ways(state: State, said: Said) -> list[str]:
    """Name the answers that say this to a job that stands there."""
    return [word for word in (*ANSWERS, NOTHING) if says(word, asked(job_in(state))) is said]


ROWS: Final = [(state, said) for state, row in TRANSITIONS.items() for said in row]


def test_the_table_has_a_row_for_all_that_may_be_said_wherever_a_job_stands() -> None:
    assert {state: set(row) for state, row in TRANSITIONS.items()} == {
        state: set(Said) for state in State if not state.is_end
    }


@pytest.mark.parametrize(("state", "said"), ROWS, ids=str)
def test_each_row_is_reached_by_a_real_answer_or_never(state: State, said: Said) -> None:
    assert bool(ways(state, said)) != ((state, said) in NEVER)


@pytest.mark.parametrize(("state", "said"), ROWS, ids=str)
def test_each_row_leads_where_the_table_says_and_to_the_question_of_that_state(state: State, said: Said) -> None:
    before, then = job_in(state), TRANSITIONS[state][said]

    for word in ways(state, said) or [NOTHING]:
        job_id = named(ANSWERS[word][1]) if word in ANSWERS else ""
        after = observe(before, said, BEGUN + 1, job_id=job_id)

        assert after.state is then
        if then.is_end:
            continue
        step = next_step(after, BEGUN + 1, watched=True)
        begins = then in {State.NEW, State.AGAIN}
        assert step.query_status == ("new" if begins else then)
        assert step.job_id == ("" if begins else job_id or before.job_id)


@pytest.mark.parametrize("state", [state for state in State if state.is_end])
@pytest.mark.parametrize("said", Said)
def test_an_end_has_no_way_out(state: State, said: Said) -> None:
    with pytest.raises(KeyError):
        observe(job_in(state), said, BEGUN)


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
    "other words for waiting": (
        "new: not prepared",
        "submitted: prepared",
        "submitted: post-processing",
        "progress: ready",
        "ready: done",
    ),
    "fails at once": ("new: failed",),
    "fails later": ("new: submitted", "submitted: failed"),
    "fails at its very end": ("new: ready", "ready: failed"),
    "a gateway loses its dispatcher now and then": (
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
"""Stories of jobs, line by line: `what we ask: what it says`."""


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_job_goes_as_the_script_says(script: tuple[str, ...]) -> None:
    job, now = Job(BEGUN), BEGUN

    for line in script:
        assert not job.state.is_end, f"nothing is asked any more, but the script goes on: {line}"
        ask, _, word = line.partition(": ")
        step = next_step(job, now, watched=True)
        assert (step.query_status, bool(step.job_id)) == (ask, ask != "new"), line
        now += step.pause
        job = observe(job, says(word, ask), now, job_id=named(ANSWERS[word][1]) if word in ANSWERS else "")

    assert job.state is (State.DONE if script[-1].partition(": ")[2].startswith("done") else State.FAILED)
    assert job.given_up == ""


def test_a_job_keeps_its_name_through_trouble_and_loses_it_where_it_is_forgotten() -> None:
    job = observe(Job(BEGUN), Said.SUBMITTED, BEGUN, job_id="one")

    assert observe(job, Said.AWAY, BEGUN, job_id="of a gateway").job_id == "one"
    assert observe(Job(BEGUN), Said.AWAY, BEGUN, job_id="of a gateway").job_id == ""
    assert observe(job, Said.PROGRESS, BEGUN, job_id="another").job_id == "one"
    assert observe(job, Said.PROGRESS, BEGUN, job_id="").job_id == "one"
    assert observe(job, Said.PROGRESS, BEGUN, job_id="another").job_id == "one"
    assert observe(job, Said.FORGOTTEN, BEGUN, job_id="one").job_id == ""


def test_a_job_that_somebody_else_takes_over_begins_again_unless_it_was_not_begun() -> None:
    job = begun_again(Job(BEGUN, State.PROGRESS, JOB, troubles=3, broken=2))

    assert next_step(job, BEGUN + 5, watched=True) == Step("new", "", 0.0)
    assert begun_again(Job(BEGUN)) == Job(BEGUN)


def test_the_timeline_has_each_state_with_the_time_it_was_reached() -> None:
    job = Job(BEGUN)
    for at, said in [(1, Said.SUBMITTED), (2, Said.SUBMITTED), (5, Said.AWAY), (9, Said.PROGRESS), (60, Said.DONE)]:
        job = observe(job, said, BEGUN + at)

    assert job.timeline == (("submitted", 1.0), ("progress", 9.0), ("done", 60.0))


@pytest.mark.parametrize("value", [None, [], {}, {"job_monitor": None}, {"job_monitor": {"job_id": 5}}])
def test_an_answer_that_names_no_job_names_none(value: Any) -> None:
    assert named(value) == ""


# -- limits ----------------------------------------------------------------------------------------

LIMITS: Final = Limits(longest=1000.0, away=100.0, broken=2, begins=2, fetches=3)


def driven(job: Job, words: Iterable[Said], *, watched: bool = True, limits: Limits = LIMITS) -> tuple[Job, float, int]:
    """Have a job be told one after the other, each after the pause it wants, until it has ended."""
    now, answers = job.begun, 0
    for said in words:
        now += next_step(job, now, watched=watched).pause
        job = observe(job, said, now, job_id=JOB, limits=limits)
        answers += 1
        if job.state.is_end:
            break
    return job, now - job.begun, answers


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([Said.SUBMITTED], "the job has run for 17 min and is given up"),
        ([Said.PROGRESS, Said.AWAY], "the job has run for 17 min and is given up"),
        ([Said.AWAY], "the dispatcher has not answered for 2 min"),
        ([Said.SUBMITTED, *[Said.UNREACHABLE] * 1000], "the dispatcher has not answered for 2 min"),
        ([Said.SUBMITTED, *[Said.BROKEN] * 3], "the dispatcher gave 3 answers in a row that cannot be read"),
        ([Said.SUBMITTED, Said.FORGOTTEN], "the dispatcher has forgotten the job 3 times"),
        ([Said.READY], "the dispatcher said 4 times that the products are ready, and did not give them"),
        ([Said.SUBMITTED, Said.READY], "the dispatcher said 4 times that the products are ready"),
    ],
)
def test_each_limit_ends_a_job_and_says_why(words: list[Said], reason: str) -> None:
    job, _, _ = driven(Job(BEGUN), cycle(words))

    assert job.state is State.FAILED
    assert job.given_up.startswith(reason)


def test_a_long_job_is_given_up_in_words_for_hours() -> None:
    job = observe(Job(BEGUN, State.PROGRESS, JOB), Said.PROGRESS, BEGUN + 90_000)

    assert job.given_up == "the job has run for 25.0 h and is given up; ask again to see whether it still runs"


@pytest.mark.parametrize("said", [Said.DONE, Said.FAILED])
def test_what_ends_by_itself_is_not_given_up_however_long_it_took(said: Said) -> None:
    assert observe(Job(BEGUN, State.READY, JOB), said, BEGUN + 90_000).given_up == ""


@pytest.mark.parametrize("said", [Said.AWAY, Said.UNREACHABLE, Said.BROKEN])
def test_an_answer_between_troubles_lets_the_patience_begin_anew(said: Said) -> None:
    job, seconds, answers = driven(Job(BEGUN), cycle([Said.SUBMITTED, said, said]), limits=replace(LIMITS, longest=900))

    assert job.given_up.startswith("the job has run for")
    assert answers > 100
    assert seconds > 900


# -- whatever is said ------------------------------------------------------------------------------

WORDS: Final = st.sampled_from([*ANSWERS, NOTHING])
ENOUGH: Final = 10_000
"""Answers after which any job must have ended."""


@settings(deadline=None)
@given(words=st.lists(WORDS, min_size=1, max_size=20), watched=st.booleans())
def test_every_job_ends_within_its_limits(words: list[str], *, watched: bool) -> None:
    job, now = Job(BEGUN), BEGUN

    for word in islice(cycle(words), ENOUGH):
        step = next_step(job, now, watched=watched)
        now += step.pause
        job = observe(job, says(word, step.query_status), now, job_id=JOB, limits=LIMITS)
        if job.state.is_end:
            break

    assert job.state.is_end
    assert now - BEGUN <= LIMITS.longest + max(UNWATCHED_PAUSE, MOST_TROUBLED_PAUSE)


@settings(deadline=None)
@given(
    words=st.lists(st.tuples(WORDS, st.floats(0, 600)), max_size=40),
    watched=st.booleans(),
    retry_after=st.floats(0, 3600),
)
def test_whatever_is_said_a_job_stays_in_the_table(
    words: list[tuple[str, float]], *, watched: bool, retry_after: float
) -> None:
    job, now = Job(BEGUN), BEGUN

    for word, later in words:
        if job.state.is_end:
            break
        step, before = next_step(job, now, watched=watched), job
        usual = LONGEST_PAUSE if watched else UNWATCHED_PAUSE
        assert 0 <= step.pause <= (MOST_TROUBLED_PAUSE if job.troubles else usual)
        assert next_step(job, now, watched=watched, retry_after=retry_after).pause == max(step.pause, retry_after)
        now += later
        said = says(word, step.query_status)
        job = observe(job, said, now, job_id=JOB if said in {Said.SUBMITTED, Said.PROGRESS, Said.READY} else "")
        assert job.state is (State.FAILED if job.given_up else TRANSITIONS[before.state][said])
        assert job.job_id in {JOB, before.job_id} or job.state is State.AGAIN
        assert bool(job.job_id) or not before.job_id or job.state is State.AGAIN

    times = [at for _, at in job.timeline]
    assert times == sorted(times)
    assert {state for state, _ in job.timeline} <= set(State) - {State.NEW, State.AGAIN}


def test_a_clock_that_is_set_back_does_not_turn_a_timeline_back() -> None:
    job = observe(Job(begun=0.0), Said.SUBMITTED, 10.0, job_id="J")
    job = observe(job, Said.PROGRESS, 5.0)

    assert observe(job, Said.READY, 20.0).timeline == (("submitted", 10.0), ("progress", 10.0), ("ready", 20.0))
