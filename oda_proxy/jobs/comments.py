"""The proxy's comment on a job for a client that waits, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.jobs.estimates import format_duration

if TYPE_CHECKING:
    from oda_proxy.jobs.client import Client
    from oda_proxy.jobs.estimates import Estimate
    from oda_proxy.jobs.running_job import RunningJob


def comment(running: RunningJob, client: Client, estimate: Estimate | None, *, queued_before: int, now: float) -> str:
    """Return what is special about a job, or an empty string.

    `queued_before` is how many jobs wait for a place before it; `now` is in s since 1970 (UTC).
    """
    age = format_duration(max(now - running.job.started_at, 0.0))
    parts = []
    if running.is_queued:
        waiting = (
            f"{queued_before} jobs wait"
            if queued_before > 1
            else "one job waits"
            if queued_before
            else "it is the next"
        )
        parts.append(f"the job waits for a place at the proxy; {waiting}{' before it' if queued_before else ''}")
    elif running.is_elsewhere:
        parts.append("another process of the proxy polls the dispatcher for the job")
    elif running.resumed:
        parts.append(f"the job was begun {age} ago, before the proxy was started again")
    elif not running.is_owner(client):
        parts.append(f"the same was asked {age} ago, and this request has joined that job")
    if running.job.errors:
        outage = format_duration(max(now - running.job.failing_since, 0.0))
        what = "sent errors, or nothing that can be read," if running.job.unreadable else "not answered"
        parts.append(f"the dispatcher has {what} for {outage}, and is asked again")
    if estimate:
        parts.append(str(estimate))
    return f"oda-proxy: {'; '.join(parts)}" if parts else ""
