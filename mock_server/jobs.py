"""The life of jobs: which state each is in, and what a request is answered then (protocol: dispatcher 1.3.6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from mock_server.library import Answering
    from oda_proxy.fixture.model import FixtureAnswer

State: TypeAlias = Literal["submitted", "progress", "ready", "done", "failed"]
Asked: TypeAlias = Literal["new", "poll", "ready", "failed", "other"]

_STATES: Final[tuple[State, ...]] = ("submitted", "progress", "ready", "done", "failed")
_FINAL: Final = frozenset({"ready", "done", "failed"})
_POLLS: Final = frozenset({"not-prepared", "prepared", "submitted", "progress"})
# How many reports of the back end a job writes while it is in progress.
_REPORTS: Final = 6
# What a back end of INTEGRAL reports beside; oda_api 1.1.0 counts science windows, and stumbles where none is named.
_REPORT: Final = {"scwid": ""}


@dataclass(frozen=True)
class Reply:
    """What a request is answered.

    Attributes
    ----------
    query_status, job_status
        As the answer gives them; they differ where a session asks for another session's job.
    ran
        The request ran the query, so the answer repeats its parameters; otherwise its products are empty.
    """

    query_status: str
    job_status: str
    ran: bool = False

    @property
    def has_products(self) -> bool:
        """Tell whether the data products go into the answer."""
        return self.ran and self.query_status == "done"


# What a request of the job's owner is answered: (what it asks, the job's state) -> reply. A request that finds a failed
# job and runs the query has begun the job again before it comes here.
TRANSITIONS: Final[dict[tuple[Asked, State], Reply]] = {
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


def asked(query_status: str) -> Asked:
    """Classify what a request asks by its `query_status`."""
    match query_status:
        case "new" | "ready" | "failed":
            return query_status
        case _ if query_status in _POLLS:
            return "poll"
    return "other"


@dataclass
class Job:
    """One job, begun by the session that asked first.

    Attributes
    ----------
    timeline
        States with the seconds after `begun` at which the job enters them, in order; empty if it is done at once.
    recorded
        The answer of its fixture, which says how it ends.
    told
        A state that a call-back of the back end told, which beats the timeline.
    """

    job_id: str
    session_id: str
    subject: str | None
    echo: Mapping[str, Any]
    fixture: Answering
    recorded: FixtureAnswer
    timeline: tuple[tuple[str, float], ...]
    begun: float
    time_request: float
    told: State | None = None
    fetched: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def outcome(self) -> State:
        """How it ends, once there is nothing left to wait for."""
        return "failed" if self.recorded.query_status == "failed" else "ready"

    @property
    def is_synchronous(self) -> bool:
        """Tell whether the first answer is the last."""
        return not self.timeline

    def state(self, now: float) -> State:
        """Return the state at a time of the clock."""
        state: State
        if self.told is not None:
            state = self.told
        elif self.is_synchronous:
            state = self.outcome
        else:
            entered = [name for name, seconds in self.timeline if seconds <= now - self.begun]
            match entered[-1] if entered else "submitted":
                case "ready" | "done" | "failed":
                    state = self.outcome
                case "progress":
                    state = "progress"
                case _:
                    state = "submitted"
        return "done" if state == "ready" and (self.fetched or self.is_synchronous) else state

    def reports(self, now: float) -> list[dict[str, Any]]:
        """Return what the back end reported so far, oldest first: a list that grows while the job is in progress."""
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
    """All jobs that were begun since the start.

    A job belongs to a query and the identity of who asked, not to its job_id: a dispatcher's job_id is one for queries
    whose values are permutations of each other, and oda_api 1.1.0 polls with the job_id of another query.
    """

    clock: Callable[[], float]
    jobs: dict[Hashable, Job] = field(default_factory=dict)
    by_id: dict[str, Job] = field(default_factory=dict)
    runs: int = 0

    def find(self, key: Hashable, job_id: str) -> Job | None:
        """Return the job of a query; of none that was begun, the one with that job_id."""
        return self.jobs.get(key) or self.by_id.get(job_id)

    def is_ready(self, key: Hashable, job_id: str) -> bool:
        """Tell whether there is such a job, and its products wait to be fetched."""
        known = self.find(key, job_id)
        return known is not None and known.state(self.clock()) in ("ready", "done")

    def ask(self, key: Hashable, job: Job, query_status: str, job_id: str) -> tuple[Job, Reply]:
        """Decide what a request is answered.

        Parameters
        ----------
        key
            Of the query and the identity of who asks.
        job
            The job that the request begins if it runs the query and there is none, or only a failed one.
        query_status
            What the request asks; any but `new` needs a job that `find` finds.
        job_id
            That of the request, of another query perhaps; for `new` that of the query.

        Returns
        -------
        The job that the answer is about, and the reply.
        """
        known = self.find(key, job_id)
        what = asked(query_status)
        is_owner = known is None or known.session_id == job.session_id
        if what == "poll" and known is not None and not is_owner and known.state(self.clock()) in _FINAL:
            what = "new"  # another session has no record of the end, so its poll runs the query again
        if known is None or what in ("new", "ready"):
            self.runs += 1
            known = self.jobs.get(key)
            if known is None or known.state(self.clock()) == "failed":
                known = self.jobs[key] = job
            self.by_id[job.job_id] = known
        state = known.state(self.clock())
        reply = TRANSITIONS[what, state]
        if reply.has_products and is_owner:
            known.fetched = True
        if not is_owner and reply.ran and state == "progress":
            reply = Reply("progress", "submitted", ran=True)  # seen at 1.3.6
        return known, reply
