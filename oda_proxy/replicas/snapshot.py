"""The state of a running job as other replicas see it, as JSON: nothing in it names a client."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import CodecError
from oda_proxy.jobs.job import State
from oda_proxy.jobs.notices import Notices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.jobs.running_job import RunningJob

FORMAT: Final = 1
"""Version of the JSON."""
MAX_SIZE: Final = 1024 * 1024
"""Bytes of a snapshot that is written or read; of a job with more reports, the last ones are written."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A running job; times are in s since 1970 (UTC)."""

    state: State
    job_id: str
    """The dispatcher's name for it; empty for a job that was submitted with a token."""
    started_at: float
    answers: int
    """How often it has changed, or the dispatcher has answered."""
    is_queued: bool = False
    errors: int = 0
    unreadable: int = 0
    failing_since: float = 0.0
    reports: tuple[Mapping[str, Any], ...] = ()
    notices: Mapping[str, str] | None = None
    submission: Mapping[str, str] | None = None


def snapshot_of(running: RunningJob) -> Snapshot:
    """Return the state of a job that this process leads."""
    job = running.job
    return Snapshot(
        state=job.state,
        job_id="" if running.client.envelope.token else job.job_id,
        started_at=job.started_at,
        answers=running.changes,
        is_queued=running.is_queued,
        errors=job.errors,
        unreadable=job.unreadable,
        failing_since=job.failing_since,
        reports=running.reports,
        notices=running.notices.public,
        submission=running.submission.public,
    )


def apply(snapshot: Snapshot, running: RunningJob, former: Snapshot | None) -> None:
    """Have a job that another replica leads look like its snapshot, and wake the clients that wait for news."""
    if snapshot == former:
        return
    running.job = replace(
        running.job,
        state=snapshot.state,
        job_id=snapshot.job_id,
        started_at=snapshot.started_at,
        errors=snapshot.errors,
        unreadable=snapshot.unreadable,
        failing_since=snapshot.failing_since,
    )
    running.is_queued = snapshot.is_queued
    running.reports = running.owner_reports = snapshot.reports
    running.notices = Notices(snapshot.notices or {}, snapshot.notices or {})
    running.submission = Notices(snapshot.submission or {}, snapshot.submission or {})
    running.note_answer()
    if former is None or replace(snapshot, answers=0) != replace(former, answers=0):
        running.note_news()


def serialise(snapshot: Snapshot) -> bytes:
    """Return a snapshot as JSON of at most MAX_SIZE bytes: of many reports, the last ones."""
    while True:
        members = {name: getattr(snapshot, name) for name in Snapshot.__slots__}
        text = json.dumps({"format": FORMAT, **members}, separators=(",", ":")).encode("ascii")
        if len(text) <= MAX_SIZE or not snapshot.reports:
            return text
        snapshot = replace(snapshot, reports=snapshot.reports[len(snapshot.reports) // 2 + 1 :])


def parse(text: bytes) -> Snapshot:
    """Parse a snapshot. Raises CodecError for anything else."""
    if len(text) > MAX_SIZE:
        raise CodecError(f"the state of a job has more than {MAX_SIZE} bytes")
    try:
        members = json.loads(text)
        if members.pop("format") != FORMAT:
            raise CodecError("the state of a job is of another release")
        reports = tuple(report for report in members["reports"] if isinstance(report, dict))
        return Snapshot(
            state=State(members["state"]),
            job_id=str(members["job_id"]),
            started_at=float(members["started_at"]),
            answers=int(members["answers"]),
            is_queued=bool(members["is_queued"]),
            errors=int(members["errors"]),
            unreadable=int(members["unreadable"]),
            failing_since=float(members["failing_since"]),
            reports=reports,
            notices=_texts(members["notices"]),
            submission=_texts(members["submission"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise CodecError("the state of a job cannot be read") from None


def _texts(members: Any) -> dict[str, str]:
    return {str(name): str(text) for name, text in members.items()} if isinstance(members, dict) else {}
