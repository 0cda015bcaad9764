"""The states of jobs, and the reply to a request in each state (protocol: dispatcher 1.3.6)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from mock_server.job_id import job_id
from mock_server.scenarios import NO_POLLS, Polls

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from mock_server.fixture_library import ProductSource
    from mock_server.tokens import Token
    from oda_proxy.fixture.model import FixtureAnswer

State: TypeAlias = Literal["submitted", "progress", "ready", "done", "failed"]
RequestKind: TypeAlias = Literal["new", "poll", "ready", "failed", "other"]

_STATES: Final[tuple[State, ...]] = ("submitted", "progress", "ready", "done", "failed")
_FINAL: Final = frozenset({"ready", "done", "failed"})
_POLLS: Final = frozenset({"not-prepared", "prepared", "submitted", "progress"})
# Number of reports of the back end while a job is in progress.
_REPORTS: Final = 6
# Other members of the reports for INTEGRAL; oda_api 1.1.0 counts science windows, and fails if none is named.
_REPORT: Final = {"scwid": ""}


@dataclass(frozen=True)
class Reply:
    """The reply to a request.

    Attributes
    ----------
    query_status, job_status
        As in the response; they differ if a session requests the job of another session.
    ran
        Whether the request ran the query, so that the response echoes its parameters; otherwise its products are empty.
    """

    query_status: str
    job_status: str
    ran: bool = False

    @property
    def has_products(self) -> bool:
        """Whether the response contains the data products."""
        return self.ran and self.query_status == "done"


# The reply to a request of the job's owner, by the kind of request and the state of the job. A request that runs the
# query of a failed job has started the job again before its state is looked up here.
TRANSITIONS: Final[dict[tuple[RequestKind, State], Reply]] = {
    ("new", "submitted"): Reply("submitted", "submitted", ran=True),
    ("new", "progress"): Reply("progress", "progress", ran=True),
    ("new", "ready"): Reply("done", "done", ran=True),
    ("new", "done"): Reply("done", "done", ran=True),
    ("new", "failed"): Reply("failed", "failed", ran=True),
    ("poll", "submitted"): Reply("submitted", "submitted"),
    ("poll", "progress"): Reply("progress", "progress"),
    ("poll", "ready"): Reply("ready", "ready"),
    ("poll", "done"): Reply("ready", "ready"),
    ("poll", "failed"): Reply("failed", "failed"),
    ("ready", "submitted"): Reply("submitted", "submitted", ran=True),
    ("ready", "progress"): Reply("progress", "progress", ran=True),
    ("ready", "ready"): Reply("done", "done", ran=True),
    ("ready", "done"): Reply("done", "done", ran=True),
    ("ready", "failed"): Reply("failed", "failed", ran=True),
    ("other", "submitted"): Reply("submitted", "submitted"),
    ("other", "progress"): Reply("progress", "progress"),
    ("other", "ready"): Reply("ready", "ready"),
    ("other", "done"): Reply("done", "done"),
    ("other", "failed"): Reply("failed", "failed"),
    **{("failed", state): Reply("failed", "unaccessible") for state in _STATES},
}


def request_kind(query_status: str) -> RequestKind:
    """Return the kind of a request by its `query_status`."""
    match query_status:
        case "new" | "ready" | "failed":
            return query_status
        case _ if query_status in _POLLS:
            return "poll"
    return "other"


def foreign_reason(parameters: Mapping[str, Any], shown_job_id: str, token: Token | None) -> str:
    """Return the dispatcher's reason to refuse the job of a query to somebody else, with or without a token."""
    derived = job_id(parameters, None if token is None else token.subject)
    account = "" if token is None else " for your user account email"
    return (
        f"The provided job_id={shown_job_id} does not match with the job_id={derived} derived from the "
        f"request parameters{account}; parameters are derived from recorded job state"
    )


@dataclass
class Job:
    """One job, started by the session that requested it first.

    Attributes
    ----------
    timeline
        States with the seconds after `begun` at which the job enters them, in order; empty if the job takes no time.
    recorded
        The answer of its fixture, with the result of the job.
    needed_polls
        The minimum number of polls while the job is submitted and in progress, whatever its timeline.
    reported_state
        The state in the last call-back of the back end, or set by hand; it overrides the timeline and `needed_polls`.
    is_held
        Whether the job waits for its state to be set, even if its query takes no time.
    failure
        The message with which the job was failed by hand; empty for other jobs.
    polls
        Number of polls so far.
    other_sessions
        Sessions that ran the same query later.
    """

    job_id: str
    session_id: str
    token: Token | None
    echo: Mapping[str, Any]
    fixture: ProductSource
    recorded: FixtureAnswer
    timeline: tuple[tuple[str, float], ...]
    begun: float
    time_request: float
    needed_polls: Polls = NO_POLLS
    reported_state: State | None = None
    is_held: bool = False
    failure: str = ""
    polls: int = 0
    fetched: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)
    other_sessions: list[str] = field(default_factory=list)

    @property
    def subject(self) -> str | None:
        """The identity of the user; None for a job without a token."""
        return None if self.token is None else self.token.subject

    @property
    def outcome(self) -> State:
        """The final state of the job before its products are fetched."""
        return "failed" if self.recorded.query_status == "failed" else "ready"

    @property
    def is_synchronous(self) -> bool:
        """Whether the first response is the last."""
        return not self.is_held and not self.timeline and not any(self.needed_polls)

    def foreign_reason(self, shown_job_id: str, token: Token | None) -> str:
        """Return the dispatcher's reason to refuse the job to somebody else, with or without a token."""
        return foreign_reason(self.echo, shown_job_id, token)

    def state(self, now: float) -> State:
        """Return the state at a time of the clock."""
        state: State
        if self.reported_state is not None:
            state = self.reported_state
        elif self.is_synchronous:
            state = self.outcome
        elif self.polls < self.needed_polls.submitted:
            state = "submitted"
        else:
            state = self._state_of_timeline(now)
            if self.polls < sum(self.needed_polls) and state == self.outcome:
                state = "progress"
        return "done" if state == "ready" and (self.fetched or self.is_synchronous) else state

    def _state_of_timeline(self, now: float) -> State:
        if not self.timeline:
            return self.outcome
        entered = [name for name, seconds in self.timeline if seconds <= now - self.begun]
        match entered[-1] if entered else "submitted":
            case "ready" | "done" | "failed":
                return self.outcome
            case "progress":
                return "progress"
        return "submitted"

    def reports(self, now: float) -> list[dict[str, Any]]:
        """Return the reports of the back end so far, oldest first; the list grows while the job is in progress."""
        if self.messages or self.is_synchronous:
            return list(self.messages)
        times = dict(self.timeline)
        start = times.get("progress")
        if start is None or now - self.begun < start:
            return []
        end = max(times.values())
        share = 1.0 if end <= start else min(1.0, (now - self.begun - start) / (end - start))
        reports = [
            {**_REPORT, "node_id": f"node_{number}", "message": _message(number), "action": "progress"}
            for number in range(1, 2 + int(share * (_REPORTS - 1)))
        ]
        match self.state(now):
            case "ready" | "done":
                reports.append(
                    {**_REPORT, "node_id": f"node_{_REPORTS + 1}", "message": "task complete", "action": "done"}
                )
            case "failed":
                reports.append(
                    {**_REPORT, "node_id": f"node_{_REPORTS + 1}", "message": "task failed", "action": "failed"}
                )
        return reports


def _message(number: int) -> str:
    if number == 1:
        return "task starting"
    return "main starting" if number % 2 else "restored from cache"


@dataclass
class JobTable:
    """All jobs since the start; with `holds_jobs`, those that start stay submitted until their state is set by hand.

    A job is identified by its query and user, not by its job_id: the dispatcher's job_id is the same for queries
    whose values are permutations of each other, and oda_api 1.1.0 polls with the job_id of another query.
    """

    clock: Callable[[], float]
    jobs: dict[Hashable, Job] = field(default_factory=dict)
    by_id: dict[str, Job] = field(default_factory=dict)
    runs: int = 0
    holds_jobs: bool = False

    def by_name(self) -> dict[str, Job]:
        """Return all jobs in the order of their start, each with a unique name: its job_id, with `.2` for a second."""
        counts: Counter[str] = Counter()
        named = {}
        for job in self.jobs.values():
            counts[job.job_id] += 1
            count = counts[job.job_id]
            named[job.job_id if count == 1 else f"{job.job_id}.{count}"] = job
        return named

    def reset(self) -> None:
        """Forget all jobs, and hold no more of them."""
        self.jobs.clear()
        self.by_id.clear()
        self.runs = 0
        self.holds_jobs = False

    def forget_instrument(self, name: str) -> None:
        """Forget the jobs of an instrument."""
        self.jobs = {key: job for key, job in self.jobs.items() if job.echo.get("instrument") != name}
        self.by_id = {job_id: job for job_id, job in self.by_id.items() if job.echo.get("instrument") != name}

    def find(self, key: Hashable, job_id: str) -> Job | None:
        """Return the job of a query; without one, the job with that job_id, or None."""
        return self.jobs.get(key) or self.by_id.get(job_id)

    def is_ready(self, key: Hashable, job_id: str) -> bool:
        """Return whether the job exists and its products can be fetched."""
        found = self.find(key, job_id)
        return found is not None and found.state(self.clock()) in ("ready", "done")

    def note_poll(self, key: Hashable, job_id: str) -> None:
        """Count a poll of a job."""
        found = self.find(key, job_id)
        if found is not None:
            found.polls += 1

    def handle(self, key: Hashable, job: Job, query_status: str, job_id: str) -> tuple[Job, Reply]:
        """Return the job and the reply for a request, and start the job if needed.

        Parameters
        ----------
        key
            The query and the user.
        job
            The job that the request starts if it runs the query and there is no job, or only a failed one.
        query_status
            As in the request; any but `new` needs a job that `find` finds.
        job_id
            As in the request, possibly of another query; for `new` that of the query.

        Returns
        -------
        The job, and the reply.
        """
        found = self.find(key, job_id)
        kind = request_kind(query_status)
        is_owner = found is None or found.session_id == job.session_id
        if kind == "poll" and found is not None and not is_owner and found.state(self.clock()) in _FINAL:
            kind = "new"  # other sessions have no record of the end, so their polls run the query again
        if found is None or kind in ("new", "ready"):
            self.runs += 1
            found = self.jobs.get(key)
            if found is None or found.state(self.clock()) == "failed":
                found = self.jobs[key] = job
                if self.holds_jobs:
                    job.is_held, job.reported_state = True, "submitted"
            self.by_id[job.job_id] = found
            if not is_owner and job.session_id not in (found.session_id, *found.other_sessions):
                found.other_sessions.append(job.session_id)
        state = found.state(self.clock())
        reply = TRANSITIONS[kind, state]
        if reply.has_products and is_owner:
            found.fetched = True
        if not is_owner and reply.ran and state == "progress":
            reply = Reply("progress", "submitted", ran=True)  # observed with 1.3.6
        return found, reply
