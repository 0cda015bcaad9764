"""The view of what goes on: running jobs, the health of the dispatcher, faults of the store, near misses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from oda_proxy.pages import quantities
from oda_proxy.query.message_text import printable, shorten
from oda_proxy.query.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oda_proxy.jobs.estimates import Estimate
    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.store.faults import StoreFault
    from oda_proxy.store.near_misses import Miss
    from oda_proxy.upstream.throttling import UpstreamHealth

MAX_NAME: Final = 80
MAX_TEXT: Final = 2000
"""Longest message, in characters."""

_NEAREST: Final = re.compile(r"the nearest is ([0-9a-f]{12}) ")
"""How the message of a miss names a recording."""
_STATES: Final = {
    "new": "being submitted",
    "resubmit": "being submitted again",
    "submitted": "submitted",
    "progress": "in progress",
    "ready": "products are fetched",
    "done": "done",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True)
class JobRow:
    """A running job."""

    key: str
    """For links of the administrator."""
    product: str
    instrument: str
    source: str
    time_range: str
    state: str
    started: str
    started_at: str
    clients: str
    estimate: str
    remark: str
    fraction: float | None
    """Elapsed time as a fraction of the median of earlier runs, at most 1; None where there were none."""


@dataclass(frozen=True, slots=True)
class Health:
    """The state of the dispatcher: `good`, `warning` or `bad`, in words, and why."""

    level: str
    text: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class MissRow:
    """A query without a recording."""

    when: str
    at: str
    product: str
    instrument: str
    text: str
    nearest: str
    """The beginning of the key of the nearest recording, or an empty text."""


def job_row(running: RunningJob, estimate: Estimate | None, remark: str, *, now: float, is_visible: bool) -> JobRow:
    """Return the row of a job; of one that is not visible, its query is left out. `now` is in s since 1970 (UTC)."""
    query, started_at = running.resolved.query, running.job.started_at
    elapsed, subject = max(now - started_at, 0.0), subject_of(query if is_visible else None)
    remark = remark.removeprefix("oda-proxy: ").removesuffix(str(estimate)).removesuffix("; ")
    return JobRow(
        key=running.resolved.key,
        product=shorten(query.product_type, MAX_NAME) if is_visible else "private query",
        instrument=shorten(query.instrument, MAX_NAME) if is_visible else "",
        source=shorten(", ".join(subject.sources), MAX_NAME),
        time_range=quantities.time_range(subject),
        state="waits for a place" if running.is_queued else _STATES.get(running.job.state, running.job.state),
        started=quantities.age(started_at, now),
        started_at=quantities.moment(started_at),
        clients=_clients(running),
        estimate=str(estimate) if estimate and is_visible else "",
        remark=shorten(remark, MAX_TEXT) if is_visible else "",
        fraction=min(elapsed / estimate.median, 1.0) if estimate and is_visible and estimate.median > 0 else None,
    )


def health_of(url: str | None, health: UpstreamHealth | None) -> Health:
    """Return the state of a dispatcher; without an address, the server is offline."""
    if url is None:
        return Health("warning", "offline", "queries are answered from recordings alone")
    if health is None:
        return Health("good", "in use", printable(url))
    requests = f"{quantities.plural(health.under_way, 'request') if health.under_way else 'no request'} under way"
    waiting = f", {quantities.number(health.waiting)} waiting" if health.waiting else ""
    if health.state != "closed":
        since = f" since {quantities.moment(health.since)} UTC" if health.since else ""
        return Health("bad", f"failing{since}", _paused(health))
    if health.until:
        return Health("warning", "requested a pause", _paused(health))
    if health.failures:
        return Health("warning", f"{quantities.plural(health.failures, 'failure')} in a row", printable(health.reason))
    return Health("good", "responding", f"{requests}{waiting}")


def fault_texts(faults: Iterable[StoreFault]) -> list[str]:
    """Return a line for each ongoing failure of the store."""
    return [
        f"recordings cannot be {fault.operation} since {quantities.moment(fault.since)} UTC: "
        f"{shorten(fault.message, MAX_TEXT)} ({quantities.plural(fault.count, 'time')})"
        for fault in faults
    ]


def miss_rows(misses: Iterable[Miss], *, now: float) -> list[MissRow]:
    """Return the rows of misses, in their order."""
    return [
        MissRow(
            when=quantities.age(miss.when, now),
            at=quantities.moment(miss.when),
            product=printable(miss.product_type),
            instrument=printable(miss.instrument),
            text=shorten(miss.text.removeprefix("offline: "), MAX_TEXT),
            nearest=found[1] if (found := _NEAREST.search(miss.text)) else "",
        )
        for miss in misses
    ]


def _clients(running: RunningJob) -> str:
    count = quantities.plural(running.sessions, "client") if running.sessions else "no client"
    return f"{count}, waiting now" if running.is_watched else f"{count}, none waiting now"


def _paused(health: UpstreamHealth) -> str:
    until = f"; the next request is sent at {quantities.moment(health.until)[11:]} UTC" if health.until else ""
    return f"{printable(health.reason)}{until}"
