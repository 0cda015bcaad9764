"""What a person who waits for a job wants to know, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.jobs.estimates import spoken

if TYPE_CHECKING:
    from oda_proxy.jobs.estimates import Estimate
    from oda_proxy.jobs.inflight import Client, RunningJob


def remark(running: RunningJob, client: Client, estimate: Estimate | None, *, before: int, now: float) -> str:
    """Say how a job stands for one of those who wait.

    `before` is how many jobs wait for a place before it; `now` is in s since 1970 (UTC).
    """
    age = spoken(max(now - running.job.begun, 0.0))
    told = []
    if running.is_queued:
        waiting = f"{before} jobs wait" if before > 1 else "one job waits" if before else "it is the next"
        told.append(f"the job waits for a place at the proxy; {waiting}{' before it' if before else ''}")
    elif running.resumed:
        told.append(f"the job was begun {age} ago, before the proxy was started again")
    elif not running.is_owner(client):
        told.append(f"the same was asked {age} ago, and this request has joined that job")
    if running.job.troubles:
        since = spoken(max(now - running.job.troubled_since, 0.0))
        told.append(f"the dispatcher has not answered for {since}, and is asked again")
    if estimate:
        told.append(str(estimate))
    return f"oda-proxy: {'; '.join(told)}" if told else ""
