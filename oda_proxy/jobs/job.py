"""One job of the dispatcher, as its owner sees it: what the dispatcher says of it, and what is asked next.

A client asks `new`, then repeats the question with the state it was told last, until that is `done` or `failed`.
Only answers to `new` and `ready` carry products: `ready` is no end, it has to be sent back once. A `done` that comes on
a poll is therefore not the end either, but says that the products wait. Whoever polls keeps the session that began:
another one's poll may have the dispatcher begin the job a second time.

                    .----------------------- forgotten ----------------------.
                    v                                                        |
    NEW ---> AGAIN ---> SUBMITTED <---> PROGRESS ---> READY ---> DONE        |
      '------------------^   '-------------'------------'--------------------'
                                            any of them ---> FAILED

What was asked and not answered (a gateway's 502, a page of HTML, a connection that broke) is asked again, in the same
state, after a pause; `Limits` say how often. Only the very first question is not repeated where nobody answers: who
asks a dispatcher that is not there wants to know at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(StrEnum):
    """Where a job stands; the last two are ends."""

    NEW = "new"
    """Nobody has asked for it."""
    AGAIN = "again"
    """The dispatcher has forgotten it: it has to begin once more."""
    SUBMITTED = "submitted"
    PROGRESS = "progress"
    READY = "ready"
    """Its products wait to be fetched."""
    DONE = "done"
    FAILED = "failed"

    @property
    def is_end(self) -> bool:
        """Whether nothing is left to ask."""
        return self in {State.DONE, State.FAILED}


class Said(StrEnum):
    """What an answer says of a job."""

    SUBMITTED = "submitted"
    PROGRESS = "progress"
    READY = "ready"
    EMPTY = "done, without products"
    DONE = "done"
    FAILED = "failed"
    FORGOTTEN = "no such job"
    """The dispatcher has no record of the job that was asked for."""
    REFUSED = "not with this token"
    REJECTED = "not like this"
    """The request itself is wrong: asking again would not help."""
    BROKEN = "nothing that can be read"
    AWAY = "later"
    """A gateway has lost its dispatcher, or the dispatcher has too much to do."""
    UNREACHABLE = "nothing"


def _row(**said: State) -> dict[Said, State]:
    return {Said[name]: state for name, state in said.items()}


def _begun(state: State) -> dict[Said, State]:
    """Give the transitions of a job that the dispatcher knows."""
    return _row(
        SUBMITTED=State.SUBMITTED,
        PROGRESS=State.PROGRESS,
        READY=State.READY,
        EMPTY=State.READY,
        DONE=State.DONE,
        FAILED=State.FAILED,
        FORGOTTEN=State.AGAIN,
        REFUSED=State.FAILED,
        REJECTED=State.FAILED,
        BROKEN=state,
        AWAY=state,
        UNREACHABLE=state,
    )


_BEGINNING: Final = _row(
    SUBMITTED=State.SUBMITTED,
    PROGRESS=State.PROGRESS,
    READY=State.READY,
    EMPTY=State.DONE,
    DONE=State.DONE,
    FAILED=State.FAILED,
    FORGOTTEN=State.FAILED,
    REFUSED=State.FAILED,
    REJECTED=State.FAILED,
    BROKEN=State.FAILED,
    AWAY=State.NEW,
    UNREACHABLE=State.FAILED,
)

TRANSITIONS: Final[Mapping[State, Mapping[Said, State]]] = {
    State.NEW: _BEGINNING,
    State.AGAIN: {**_BEGINNING, Said.BROKEN: State.AGAIN, Said.AWAY: State.AGAIN, Said.UNREACHABLE: State.AGAIN},
    State.SUBMITTED: _begun(State.SUBMITTED),
    State.PROGRESS: _begun(State.PROGRESS),
    State.READY: {**_begun(State.READY), Said.EMPTY: State.DONE},
}
"""(where the job stands, what is said) -> where it stands then; ends have no way out."""

_TROUBLE: Final = frozenset({Said.BROKEN, Said.AWAY, Said.UNREACHABLE})


@dataclass(frozen=True, slots=True)
class Limits:
    """How much patience a job is given."""

    longest: float = 86400.0
    """Seconds from the first question to the end."""
    away: float = 1800.0
    """Seconds for which a dispatcher may be away in mid-job; clients since 1.1.46 wait as long by themselves."""
    broken: int = 5
    """Answers in a row that cannot be read."""
    begins: int = 3
    """Times that a forgotten job begins again."""
    fetches: int = 20
    """Times that products which were ready turn out not to be."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job so far; times are in s of one clock."""

    begun: float
    state: State = State.NEW
    job_id: str = ""
    """The dispatcher's name for it."""
    timeline: tuple[tuple[str, float], ...] = ()
    """The states it went through, with s after `begun`."""
    troubles: int = 0
    """Answers in a row that told nothing of it."""
    broken: int = 0
    """Answers in a row that could not be read."""
    troubled_since: float = 0.0
    begins: int = 0
    fetches: int = 0
    given_up: str = ""
    """Why we gave it up, where the dispatcher did not end it."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is asked next: after `pause` s, with this state and this job_id, which is empty where none is sent."""

    query_status: str
    job_id: str
    pause: float


FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 1.0
"""Seconds between two polls while somebody waits: as one client since 1.1.46, which has to hear of no end later."""
UNWATCHED_PAUSE: Final = 15.0
"""Seconds between two polls while nobody waits for the job."""
GROWTH: Final = 0.1
"""A pause is this part of the time that the job has run."""
MOST_TROUBLED_PAUSE: Final = 30.0
"""Seconds between two attempts to reach a dispatcher that is away."""


def begun_again(job: Job) -> Job:
    """Give a job that somebody else begins anew, for whom the dispatcher has another one."""
    return job if job.state is State.NEW else replace(job, state=State.AGAIN, job_id="", troubles=0, broken=0)


def next_step(job: Job, now: float, *, watched: bool, retry_after: float = 0.0) -> Step:
    """Say what is asked next of a job that has not ended; for `retry_after` s the dispatcher wants peace."""
    pause = max(_pause(job, now, watched=watched), retry_after)
    if job.state in {State.NEW, State.AGAIN}:
        return Step("new", "", pause)
    return Step(job.state, job.job_id, pause)


def _pause(job: Job, now: float, *, watched: bool) -> float:
    if job.troubles:
        return min(2.0 ** (job.troubles - 1), MOST_TROUBLED_PAUSE)
    if job.state is State.NEW or (job.state in {State.READY, State.AGAIN} and job.fetches + job.begins <= 1):
        return 0.0
    longest = LONGEST_PAUSE if watched else UNWATCHED_PAUSE
    return min(max((now - job.begun) * GROWTH, FIRST_PAUSE), longest)


def observe(job: Job, said: Said, now: float, *, job_id: str = "", limits: Limits = Limits()) -> Job:
    """Give a job after an answer; `job_id` is the name that the answer gives it, if any. The first one stays.

    Where the limits are passed it has failed, and `given_up` says why. Raises KeyError for a job that has ended.
    """
    state = TRANSITIONS[job.state][said]
    troubled = said in _TROUBLE
    after = replace(
        job,
        state=state,
        job_id="" if state is State.AGAIN else job.job_id or ("" if troubled else job_id),
        troubles=job.troubles + 1 if troubled else 0,
        broken=job.broken + 1 if said is Said.BROKEN else 0,
        troubled_since=job.troubled_since if job.troubles else now,
        begins=job.begins + (state is State.AGAIN and said is Said.FORGOTTEN),
        fetches=job.fetches
        + (job.state is not State.READY and state is State.READY)
        + (job.state is State.READY and state is State.READY and not troubled),
        timeline=job.timeline if state in {job.state, State.AGAIN} else (*job.timeline, (str(state), _age(job, now))),
    )
    if state.is_end or not (reason := _exhausted(after, now, limits)):
        return after
    return replace(after, state=State.FAILED, given_up=reason)


def _age(job: Job, now: float) -> float:
    """Say how long a job has run, in s; a clock that is set back does not turn it back."""
    return max(now - job.begun, job.timeline[-1][1] if job.timeline else 0.0)


def _exhausted(job: Job, now: float, limits: Limits) -> str:
    """Say why a job is given up, or nothing."""
    if now - job.begun > limits.longest:
        return f"the job has run for {_hours(now - job.begun)} and is given up; ask again to see whether it still runs"
    if job.troubles and now - job.troubled_since > limits.away:
        return f"the dispatcher has not answered for {_hours(now - job.troubled_since)}; ask again when it is back"
    if job.broken > limits.broken:
        return f"the dispatcher gave {job.broken} answers in a row that cannot be read; ask again later"
    if job.begins > limits.begins:
        return f"the dispatcher has forgotten the job {job.begins} times; ask again later"
    if job.fetches > limits.fetches:
        return f"the dispatcher said {job.fetches} times that the products are ready, and did not give them"
    return ""


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - s of an hour


_GATEWAY: Final = frozenset({408, 425, 429, 502, 503, 504})
_NO_TOKEN: Final = frozenset({401, 403})
_NO_JOB: Final = frozenset({400, 404, 410})
_BROKEN_FROM: Final = 500
_OK: Final = 200
_WAITING: Final = {"not-prepared": Said.SUBMITTED, "prepared": Said.SUBMITTED, "post-processing": Said.PROGRESS}
_PLAIN: Final = {word: Said(word) for word in ("submitted", "progress", "ready", "failed")}


def heard(status: int, answer: object, *, query_status: str) -> Said:
    """Say what an answer tells: its HTTP status, its JSON (None where it has none), and the state that was sent.

    What a dispatcher that was asked with a job_id finds wrong is the job: everything else it had taken before.
    """
    if status != _OK:
        return _refusal(status, begins=query_status == "new")
    if not isinstance(answer, dict):
        return Said.BROKEN
    told = answer.get("query_status")
    if told == "done":
        products = answer.get("products")
        return Said.DONE if query_status in {"new", "ready"} or products else Said.EMPTY
    if not isinstance(told, str):
        return Said.BROKEN
    return _PLAIN.get(told) or _WAITING.get(told, Said.BROKEN)


def _refusal(status: int, *, begins: bool) -> Said:
    if status in _GATEWAY:
        return Said.AWAY
    if status in _NO_TOKEN:
        return Said.REFUSED
    if status in _NO_JOB and not begins:
        return Said.FORGOTTEN
    return Said.BROKEN if status >= _BROKEN_FROM else Said.REJECTED


def named(answer: Any) -> str:
    """Give the job_id in an answer's JSON, or nothing."""
    monitor = answer.get("job_monitor") if isinstance(answer, dict) else None
    job_id = monitor.get("job_id") if isinstance(monitor, dict) else None
    return job_id if isinstance(job_id, str) else ""
