"""The page `/-/metrics`: the values of all metrics of this process, or of all processes of a server."""

from __future__ import annotations

import asyncio
import platform
import time
from typing import TYPE_CHECKING, Final, TypeAlias, get_args

from aiohttp import web

from oda_proxy._version import __version__
from oda_proxy.access.roles import Action
from oda_proxy.errors import StoreUnusableError
from oda_proxy.metrics.exposition import encode
from oda_proxy.upstream.breaker import State
from oda_proxy.upstream.throttling import ThrottledUpstream
from oda_proxy.web.log_thread import dropped_lines
from oda_proxy.web.own_routes import OwnRoute

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from oda_proxy.metrics.snapshot import Labels, Snapshot, Values
    from oda_proxy.proxy import Proxy
    from oda_proxy.store.base import Store
    from oda_proxy.web.server_state import ServerState

GetSnapshot: TypeAlias = "Callable[[], Awaitable[Snapshot]]"
"""Returns the values of all metrics."""

_HEADERS: Final = {"Cache-Control": "no-store"}


def routes(snapshot: GetSnapshot) -> Sequence[OwnRoute]:
    """Return the route of the page."""

    async def metrics(request: web.Request) -> web.Response:
        text, content_type = encode(await snapshot(), request.headers.get("Accept", ""))
        return web.Response(body=text, headers={**_HEADERS, "Content-Type": content_type})

    return [OwnRoute("GET", "/-/metrics", Action.READ_METRICS, metrics, "figures for Prometheus")]


async def snapshot_of(proxy: Proxy, server: ServerState, *, with_store: bool = True) -> Snapshot:
    """Return the values of all metrics of this process; those that cannot be read are left out.

    Without `with_store`, those that are read from the store are left out, too: they are the same in all processes.
    """
    values: dict[str, Mapping[Labels, Values]] = {}
    if with_store:
        try:
            values |= await asyncio.to_thread(_of_store, proxy.store, time.time())
            proxy.store_faults.note_success("counted")
        except StoreUnusableError as error:
            proxy.store_faults.note_failure("counted", error)
    return {
        **values,
        **_of_requests(proxy),
        **_of_jobs(proxy),
        **_of_upstream(proxy),
        **_of_memory(proxy),
        **_of_server(proxy, server),
    }


def _one(value: float) -> Mapping[Labels, Values]:
    return {(): (float(value),)}


def _by_label(values: Mapping[str, float]) -> Mapping[Labels, Values]:
    return {(name,): (float(value),) for name, value in values.items()}


def _of_requests(proxy: Proxy) -> dict[str, Mapping[Labels, Values]]:
    """Return the values of queries and requests."""
    queries, requests, counts = proxy.query_counts, proxy.request_counts, proxy.counts
    durations: dict[Labels, Values] = {
        (route, outcome): histogram.values for route, outcome, histogram in requests.durations()
    }
    return {
        "queries_total": {(name, outcome): (float(count),) for name, outcome, count in queries.outcomes()},
        "saved_compute_seconds_total": {(name,): (seconds,) for name, seconds in queries.saved()},
        "requests_total": {labels: (float(sum(values[:-1])),) for labels, values in durations.items()},
        "request_duration_seconds": durations,
        "received_bytes_total": _one(requests.received),
        "sent_bytes_total": _one(requests.sent),
        "answers_stored_total": _one(counts.kept),
        "echo_differs_total": _one(counts.echo_differs),
        "job_ids_shared_total": _one(counts.job_ids_shared),
        "unsafe_pickles_total": _one(sum(counts.unsafe.values())),
    }


def _of_jobs(proxy: Proxy) -> dict[str, Mapping[Labels, Values]]:
    queued = [running.is_queued for running in proxy.jobs if not running.is_elsewhere]
    counts = proxy.jobs.counts
    return {
        "collapsed_requests_total": _one(counts.joined),
        "jobs_inflight": _one(len(queued) - sum(queued)),
        "jobs_queued": _one(sum(queued)),
        "jobs_followed": _one(sum(running.is_elsewhere for running in proxy.jobs)),
        "jobs_limit": _one(proxy.jobs.max_jobs),
        "jobs_started_total": _one(counts.started),
        "jobs_ended_total": _by_label(counts.ended),
        "job_duration_seconds": {(): counts.durations.values},
    }


def _of_upstream(proxy: Proxy) -> dict[str, Mapping[Labels, Values]]:
    """Return the values of the connection to the dispatcher; none offline."""
    upstream = proxy.upstream
    if not isinstance(upstream, ThrottledUpstream):
        return {}
    health, counts = upstream.health, upstream.counts
    return {
        "upstream_requests_total": _by_label(counts.replies),
        "upstream_request_duration_seconds": {(): counts.durations.values},
        "upstream_sent_bytes_total": _one(counts.sent),
        "upstream_received_bytes_total": _one(counts.received),
        "upstream_requests_inflight": _one(health.under_way),
        "upstream_requests_waiting": _one(health.waiting),
        "upstream_requests_limit": _one(upstream.max_concurrent),
        "upstream_breaker_state": {(state,): (float(health.state == state),) for state in get_args(State)},
        "upstream_failures": _one(health.failures),
        "upstream_paused": _one(health.until is not None),
    }


def _of_server(proxy: Proxy, server: ServerState) -> dict[str, Mapping[Labels, Values]]:
    """Return the values of the server itself, and what it has counted of the store."""
    return {
        "store_failures_total": _by_label(proxy.store_faults.totals),
        "store_fault": _faults(proxy),
        "evicted_recordings_total": _by_label(proxy.evictions.recordings),
        "evicted_bytes_total": _by_label(proxy.evictions.freed),
        "integrity_failures_total": _one(proxy.store.damaged),
        "log_lines_dropped_total": _one(dropped_lines()),
        "workers": _one(1),
        "start_time_seconds": _one(server.started_at),
        "build_info": {(__version__, platform.python_version()): (1.0,)},
        "cache_limit_bytes": _one(server.limits.max_size if server.limits else 0),
    }


def _of_memory(proxy: Proxy) -> dict[str, Mapping[Labels, Values]]:
    tier = proxy.hot_tier
    return {
        "hot_tier_entries": _one(tier.count),
        "hot_tier_bytes": _one(tier.used),
        "hot_tier_limit_bytes": _one(tier.limit),
    }


def _of_store(store: Store, now: float) -> dict[str, Mapping[Labels, Values]]:
    """Return the values of the store; blocks. Raises StoreUnusableError."""
    usage, space = store.usage(), store.free_space()
    values = {"cache_entries": _one(usage.recordings), "cache_bytes": _one(usage.occupied)}
    if space is not None:
        values |= {"cache_disk_free_bytes": _one(space.free), "cache_disk_size_bytes": _one(space.size)}
    groups = store.groups_to_evict()
    if next_evicted := next(groups, None):
        last_use = max(entry.used_at for entry in next_evicted)
        values["oldest_entry_idle_seconds"] = _one(max(now - last_use, 0.0))
    return values


def _faults(proxy: Proxy) -> Mapping[Labels, Values]:
    failing = {fault.operation for fault in proxy.store_faults}
    return {(operation,): (float(operation in failing),) for operation in proxy.store_faults.totals}
