"""The state machine of one job: what an answer of the dispatcher means, and which request is next.

A client sends `new`, then repeats its query with the last state it received, until that is `done` or `failed`. Only
answers to `new` and `ready` carry products, so `ready` has to be sent back once, and a `done` in the answer to a poll
means that the products can be fetched. Polls keep the session that submitted the job: a poll from another session can
make the dispatcher submit it again.

                    .-------------------- unknown job -----------------------.
                    v                                                        |
    NEW --> RESUBMIT --> SUBMITTED <---> PROGRESS ---> READY ---> DONE       |
      '------------------^   '-------------'------------'--------------------'
                                            any of them ---> FAILED

A request without a usable answer (502 from a gateway, an HTML page, a broken connection) is repeated in the same state
after a pause; `Limits` bound the repetitions. Only the very first request is not repeated where the dispatcher is
unreachable, or answers with something unreadable: the client learns so at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(StrEnum):
    """The state of a job; the last two are final."""

    NEW = "new"
    """Not submitted yet."""
    RESUBMIT = "resubmit"
    """To be submitted once more: the dispatcher does not know it any longer."""
    SUBMITTED = "submitted"
    PROGRESS = "progress"
    READY = "ready"
    """The products can be fetched."""
    DONE = "done"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether no further request is needed."""
        return self in {State.DONE, State.FAILED}


class Event(StrEnum):
    """What an answer, or the lack of one, means for a job."""

    SUBMITTED = "submitted"
    PROGRESS = "progress"
    READY = "ready"
    DONE_EMPTY = "done, without products"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN_JOB = "unknown job"
    """The dispatcher has no record of the job."""
    UNAUTHORIZED = "unauthorized"
    """The token was refused."""
    INVALID = "invalid request"
    """Repeating the request would not help."""
    INTERRUPTED = "incomplete answer"
    """The answer breaks off."""
    UNREADABLE = "unreadable answer"
    UNAVAILABLE = "unavailable"
    """A gateway does not reach the dispatcher, or the dispatcher is too busy."""
    UNREACHABLE = "no answer"


def _row(**events: State) -> dict[Event, State]:
    return {Event[name]: state for name, state in events.items()}


def _after_submission(state: State) -> dict[Event, State]:
    """Return the transitions of a job that the dispatcher knows."""
    return _row(
        SUBMITTED=State.SUBMITTED,
        PROGRESS=State.PROGRESS,
        READY=State.READY,
        DONE_EMPTY=State.READY,
        DONE=State.DONE,
        FAILED=State.FAILED,
        UNKNOWN_JOB=State.RESUBMIT,
        UNAUTHORIZED=State.FAILED,
        INVALID=State.FAILED,
        INTERRUPTED=state,
        UNREADABLE=state,
        UNAVAILABLE=state,
        UNREACHABLE=state,
    )


_SUBMISSION: Final = _row(
    SUBMITTED=State.SUBMITTED,
    PROGRESS=State.PROGRESS,
    READY=State.READY,
    DONE_EMPTY=State.DONE,
    DONE=State.DONE,
    FAILED=State.FAILED,
    UNKNOWN_JOB=State.FAILED,
    UNAUTHORIZED=State.FAILED,
    INVALID=State.FAILED,
    INTERRUPTED=State.NEW,
    UNREADABLE=State.FAILED,
    UNAVAILABLE=State.NEW,
    UNREACHABLE=State.FAILED,
)

TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    State.NEW: _SUBMISSION,
    State.RESUBMIT: {
        **_SUBMISSION,
        Event.INTERRUPTED: State.RESUBMIT,
        Event.UNREADABLE: State.RESUBMIT,
        Event.UNAVAILABLE: State.RESUBMIT,
        Event.UNREACHABLE: State.RESUBMIT,
    },
    State.SUBMITTED: _after_submission(State.SUBMITTED),
    State.PROGRESS: _after_submission(State.PROGRESS),
    State.READY: {**_after_submission(State.READY), Event.DONE_EMPTY: State.DONE},
}
"""(state, event) -> next state; final states have no transitions."""

_ERRORS: Final = frozenset({Event.INTERRUPTED, Event.UNREADABLE, Event.UNAVAILABLE, Event.UNREACHABLE})


@dataclass(frozen=True, slots=True)
class Limits:
    """When a job is given up."""

    max_duration: float = 86400.0
    """Seconds from the first request to the end."""
    max_outage: float = 1800.0
    """Seconds without a usable answer in mid-job; clients since 1.1.46 wait as long by themselves."""
    max_unreadable: int = 5
    """Unreadable or incomplete answers in a row."""
    max_resubmissions: int = 3
    """Resubmissions of a job that the dispatcher does not know any longer."""
    max_fetches: int = 20
    """Times that products which were ready could not be fetched."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job so far; times are in s of one clock."""

    started_at: float
    state: State = State.NEW
    job_id: str = ""
    """The dispatcher's name for it."""
    timeline: tuple[tuple[str, float], ...] = ()
    """The states it went through, each with s after `started_at`."""
    errors: int = 0
    """Requests in a row without a usable answer."""
    unreadable: int = 0
    """Unreadable or incomplete answers in a row."""
    failing_since: float = 0.0
    resubmissions: int = 0
    fetches: int = 0
    give_up_reason: str = ""
    """Why the proxy gave it up, where the dispatcher did not end it."""


@dataclass(frozen=True, slots=True)
class Step:
    """The next request: sent after `pause` s with this state and this job_id, which may be empty."""

    query_status: str
    job_id: str
    pause: float


MIN_PAUSE: Final = 0.5
MAX_PAUSE: Final = 1.0
"""Seconds between two polls while a client waits: as one client since 1.1.46 polls by itself."""
IDLE_PAUSE: Final = 15.0
"""Seconds between two polls while no client waits."""
PAUSE_GROWTH: Final = 0.1
"""A pause is this fraction of the time that the job has run."""
MAX_BACKOFF: Final = 30.0
"""Seconds between two attempts to reach a dispatcher that does not answer."""


def resubmitted(job: Job) -> Job:
    """Return a job that has to be submitted once more; one that was not submitted yet stays as it is."""
    return job if job.state is State.NEW else replace(job, state=State.RESUBMIT, job_id="", errors=0, unreadable=0)


def next_step(job: Job, now: float, *, watched: bool, retry_after: float = 0.0) -> Step:
    """Return the next request of a job that has not ended; the dispatcher accepts none for `retry_after` s."""
    pause = max(_pause(job, now, watched=watched), retry_after)
    if job.state in {State.NEW, State.RESUBMIT}:
        return Step("new", "", pause)
    return Step(job.state, job.job_id, pause)


def _pause(job: Job, now: float, *, watched: bool) -> float:
    if job.errors:
        return min(2.0 ** (job.errors - 1), MAX_BACKOFF)
    if job.state is State.NEW or (job.state in {State.READY, State.RESUBMIT} and job.fetches + job.resubmissions <= 1):
        return 0.0
    longest = MAX_PAUSE if watched else IDLE_PAUSE
    return min(max((now - job.started_at) * PAUSE_GROWTH, MIN_PAUSE), longest)


def advance(job: Job, event: Event, now: float, *, job_id: str = "", limits: Limits = Limits()) -> Job:
    """Return a job after an event; `job_id` is the name in the answer, if any. The first name stays.

    A job beyond its limits has failed, and `give_up_reason` says why. Raises KeyError for a job that has ended.
    """
    state = TRANSITIONS[job.state][event]
    is_error = event in _ERRORS
    after = replace(
        job,
        state=state,
        job_id="" if state is State.RESUBMIT else job.job_id or ("" if is_error else job_id),
        errors=job.errors + 1 if is_error else 0,
        unreadable=job.unreadable + 1 if _is_unreadable(job, event) else 0,
        failing_since=job.failing_since if job.errors else now,
        resubmissions=job.resubmissions + (state is State.RESUBMIT and event is Event.UNKNOWN_JOB),
        fetches=job.fetches
        + (job.state is not State.READY and state is State.READY)
        + (job.state is State.READY and state is State.READY and not is_error),
        timeline=job.timeline
        if state in {job.state, State.RESUBMIT}
        else (*job.timeline, (str(state), _age(job, now))),
    )
    if state.is_final or not (reason := _exceeded(after, now, limits)):
        return after
    return replace(after, state=State.FAILED, give_up_reason=reason)


def _is_unreadable(job: Job, event: Event) -> bool:
    """Return whether an event counts as unreadable; polls and fetches with incomplete answers may go on for longer."""
    if event is Event.INTERRUPTED:
        return job.state in {State.NEW, State.RESUBMIT}
    return event is Event.UNREADABLE


def _age(job: Job, now: float) -> float:
    """Return how long a job has run, in s; never less than before, whatever the clock does."""
    return max(now - job.started_at, job.timeline[-1][1] if job.timeline else 0.0)


def _exceeded(job: Job, now: float, limits: Limits) -> str:
    """Return which limit a job exceeds, as a sentence, or an empty string."""
    if now - job.started_at > limits.max_duration:
        duration = _duration(now - job.started_at)
        return f"the job has run for {duration} and is given up; ask again to see whether it still runs"
    if job.errors and now - job.failing_since > limits.max_outage:
        return f"the dispatcher has not answered for {_duration(now - job.failing_since)}; ask again when it is back"
    if job.unreadable > limits.max_unreadable:
        return f"the last {job.unreadable} answers of the dispatcher were errors or cannot be read; ask again later"
    if job.resubmissions > limits.max_resubmissions:
        return f"the dispatcher has forgotten the job {job.resubmissions} times; ask again later"
    if job.fetches > limits.max_fetches:
        return f"the dispatcher said {job.fetches} times that the products are ready, and did not send them"
    return ""


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - s of an hour


_UNAVAILABLE: Final = frozenset({408, 425, 429, 502, 503, 504})
_UNAUTHORIZED: Final = frozenset({401, 403})
_UNKNOWN_JOB: Final = frozenset({400, 404, 410})
_SERVER_ERROR: Final = 500
_OK: Final = 200
_WAITING: Final = {"not-prepared": Event.SUBMITTED, "prepared": Event.SUBMITTED, "post-processing": Event.PROGRESS}
_SIMPLE: Final = {status: Event(status) for status in ("submitted", "progress", "ready", "failed")}


def classify(status: int, answer: object, *, query_status: str, is_incomplete: bool = False) -> Event:
    """Return what an answer means: its HTTP status, its JSON (None if it has none), and the state that was sent.

    `is_incomplete` says that a JSON text breaks off.

    An error in the answer to a request with a job_id concerns the job: the dispatcher had accepted the query before.
    """
    if status != _OK:
        return _classify_error(status, submits=query_status == "new")
    if not isinstance(answer, dict):
        return Event.INTERRUPTED if is_incomplete else Event.UNREADABLE
    state = answer.get("query_status")
    if state == "done":
        products = answer.get("products")
        return Event.DONE if query_status in {"new", "ready"} or products else Event.DONE_EMPTY
    if not isinstance(state, str):
        return Event.UNREADABLE
    return _SIMPLE.get(state) or _WAITING.get(state, Event.UNREADABLE)


def _classify_error(status: int, *, submits: bool) -> Event:
    if status in _UNAVAILABLE:
        return Event.UNAVAILABLE
    if status in _UNAUTHORIZED:
        return Event.UNAUTHORIZED
    if status in _UNKNOWN_JOB and not submits:
        return Event.UNKNOWN_JOB
    return Event.UNREADABLE if status >= _SERVER_ERROR else Event.INVALID


def has_record(answer: Mapping[str, Any]) -> bool:
    """Return whether the dispatcher has a record of the job: without one it repeats the state that it was sent."""
    status = answer.get("exit_status")
    return not (isinstance(status, dict) and status.get("job_status") == "unaccessible")


def job_id_in(answer: Any) -> str:
    """Return the job_id in an answer's JSON, or an empty string."""
    monitor = answer.get("job_monitor") if isinstance(answer, dict) else None
    job_id = monitor.get("job_id") if isinstance(monitor, dict) else None
    return job_id if isinstance(job_id, str) else ""
