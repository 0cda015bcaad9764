"""The metrics: their names, types, labels and meanings.

Names follow https://prometheus.io/docs/practices/naming/: base units, and `_total` for counters. No label has values
that a client makes up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from oda_proxy.metrics.histogram import JOB_BOUNDS, REQUEST_BOUNDS

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX: Final = "oda_proxy_"


class Kind(Enum):
    """The type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Total(Enum):
    """How the values of several workers become one."""

    SUM = "sum"
    LEADER = "leader"
    """The value of the worker that leads: that of the others is the same, or none."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `bounds` are those of a histogram, in s."""

    short_name: str
    """The name without the common prefix."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    total: Total = Total.SUM
    bounds: Sequence[float] = ()

    @property
    def name(self) -> str:
        """The name that Prometheus knows: of a histogram, that of its family."""
        return f"{PREFIX}{self.short_name}"

    @property
    def sample_names(self) -> tuple[str, ...]:
        """The names of its time series."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "count", "sum"))
        return (self.name,)


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, Kind.COUNTER, text, labels)


def _gauge(name: str, text: str, *labels: str, total: Total = Total.LEADER) -> Metric:
    return Metric(name, Kind.GAUGE, text, labels, total)


def _histogram(name: str, text: str, bounds: Sequence[float], *labels: str) -> Metric:
    return Metric(name, Kind.HISTOGRAM, text, labels, bounds=bounds)


METRICS: Final = (
    _counter(
        "queries_total",
        "Queries for products by instrument and outcome; each is counted when it is submitted, not with its polls.",
        *("instrument", "outcome"),
    ),
    _counter(
        "saved_compute_seconds_total",
        "Time that the dispatcher took for the recordings that were served instead of asking it again.",
        "instrument",
    ),
    _counter(
        "requests_total",
        "HTTP requests of clients by route and outcome, polls included; those for pages below /-/ are not counted.",
        *("route", "outcome"),
    ),
    _histogram(
        "request_duration_seconds",
        "Time from the head of a request to the end of its answer.",
        REQUEST_BOUNDS,
        *("route", "outcome"),
    ),
    _counter("received_bytes_total", "Bytes of the bodies of requests of clients."),
    _counter("sent_bytes_total", "Bytes of the bodies of answers to clients."),
    _counter("collapsed_requests_total", "Sessions that joined the job of another one."),
    _counter("answers_stored_total", "Answers that were stored, replaced recordings included."),
    _gauge("jobs_inflight", "Jobs that run at the dispatcher.", total=Total.SUM),
    _gauge("jobs_queued", "Jobs that wait until fewer run at the dispatcher.", total=Total.SUM),
    _gauge("jobs_followed", "Jobs that another server runs, and whose clients wait at this one.", total=Total.SUM),
    _gauge("jobs_limit", "Jobs that may run at once."),
    _counter("jobs_started_total", "Jobs that clients have started."),
    _counter("jobs_ended_total", "Jobs that have ended, by result.", "result"),
    _histogram("job_duration_seconds", "Time from the start of a job to its end, failed ones included.", JOB_BOUNDS),
    _counter(
        "upstream_requests_total",
        "Requests to the dispatcher by status class; those without a response have the status none.",
        "status",
    ),
    _histogram(
        "upstream_request_duration_seconds",
        "Time until the head of a response of the dispatcher, without the wait for a slot.",
        REQUEST_BOUNDS,
    ),
    _counter("upstream_sent_bytes_total", "Bytes of the bodies of requests to the dispatcher."),
    _counter("upstream_received_bytes_total", "Bytes of the bodies of responses of the dispatcher."),
    _gauge(
        "upstream_requests_inflight", "Requests that the dispatcher has not answered to their end.", total=Total.SUM
    ),
    _gauge("upstream_requests_waiting", "Requests that wait to be sent to the dispatcher.", total=Total.SUM),
    _gauge("upstream_requests_limit", "Requests that may be sent to the dispatcher at once."),
    _gauge("upstream_breaker_state", "Whether the circuit breaker is in this state: 1, else 0.", "state"),
    _gauge("upstream_failures", "Failures of the dispatcher in a row."),
    _gauge("upstream_paused", "Whether no request is sent to the dispatcher for now: 1, else 0."),
    _gauge("cache_entries", "Recordings in the store."),
    _gauge("cache_bytes", "Bytes that recordings occupy on the disk."),
    _gauge("cache_limit_bytes", "Bytes that recordings may occupy."),
    _gauge("cache_disk_free_bytes", "Free bytes on the disk of the recordings."),
    _gauge("cache_disk_size_bytes", "Size of the disk of the recordings."),
    _gauge("oldest_entry_idle_seconds", "Time since the last use of the recording that is evicted next."),
    _counter("evicted_recordings_total", "Recordings that were evicted, by reason.", "reason"),
    _counter("evicted_bytes_total", "Bytes that were freed by eviction, by reason.", "reason"),
    _counter("integrity_failures_total", "Recordings that were found damaged."),
    _counter("store_failures_total", "Operations of the store that failed.", "operation"),
    _gauge("store_fault", "Whether an operation of the store fails now: 1, else 0.", "operation", total=Total.SUM),
    _gauge("hot_tier_entries", "Recordings in memory.", total=Total.SUM),
    _gauge("hot_tier_bytes", "Bytes of the recordings in memory.", total=Total.SUM),
    _gauge("hot_tier_limit_bytes", "Bytes that recordings may take in memory.", total=Total.SUM),
    _counter("echo_differs_total", "Answers that were not stored because their echo contradicts the query."),
    _counter("job_ids_shared_total", "Times that one job_id of the dispatcher named another query than before."),
    _counter("unsafe_pickles_total", "Answers that were not stored because a client that loads them would run code."),
    _counter("log_lines_dropped_total", "Lines of the log that came too fast, or could not be written."),
    _gauge("workers", "Processes that answer requests.", total=Total.SUM),
    _gauge("start_time_seconds", "When the server started, in s since 1970 (UTC)."),
    _gauge("build_info", "Always 1; the release is in the labels.", *("version", "python")),
)
BY_NAME: Final = {metric.short_name: metric for metric in METRICS}
