"""The proxy's own pages below `/-/`: its state, its near misses, and whether it is alive."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

from aiohttp import web

from oda_proxy._version import __version__
from oda_proxy.access.roles import Action
from oda_proxy.errors import StoreUnusableError
from oda_proxy.metrics.histogram import REQUEST_BOUNDS, percentile
from oda_proxy.metrics.outcomes import Outcome
from oda_proxy.upstream.throttling import ThrottledUpstream
from oda_proxy.web.own_routes import OwnRoute

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from oda_proxy.proxy import Proxy
    from oda_proxy.store.faults import StoreFault
    from oda_proxy.store.near_misses import NearMissHandler
    from oda_proxy.web.server_state import ServerState

_HEADERS = {"Cache-Control": "no-store"}


Status: TypeAlias = "Callable[[], Awaitable[dict[str, Any]]]"
"""Returns the members of the page `/-/status`."""


def routes(
    proxy: Proxy, near_misses: NearMissHandler | None, status_of_server: Status, server: ServerState
) -> Sequence[OwnRoute]:
    """Return the routes of the pages."""

    async def status(_: web.Request) -> web.Response:
        return _json(await status_of_server())

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_HEADERS)

    async def ready(_: web.Request) -> web.Response:
        if reason := await obstacle(proxy, server):
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=f"{reason}\n", headers=_HEADERS)
        failing = "ok, but recordings cannot be read or stored for now\n"
        return web.Response(text=failing if any(proxy.store_faults) else "ok\n", headers=_HEADERS)

    async def misses(_: web.Request) -> web.Response:
        return _json({"near_misses": [asdict(miss) for miss in near_misses.misses] if near_misses else []})

    return (
        OwnRoute("GET", "/-/status", Action.READ_STATUS, status, "the state of the server, its counts and its store"),
        OwnRoute(
            "GET", "/-/near-misses", Action.READ_RECORDINGS, misses, "queries without a recording, and the nearest one"
        ),
        OwnRoute("GET", "/-/livez", Action.ALIVE, alive, "whether the process is alive"),
        OwnRoute("GET", "/-/readyz", Action.ALIVE, ready, "whether the server can answer requests; 503 says why not"),
    )


async def obstacle(proxy: Proxy, server: ServerState) -> str:
    """Return why this process can answer nothing, for anyone to read; an empty string where it can."""
    if server.is_draining:
        return "the server is stopping"
    upstream = proxy.upstream
    is_paused = isinstance(upstream, ThrottledUpstream) and upstream.health.until is not None
    if upstream is not None and not is_paused:
        return ""
    try:
        await asyncio.to_thread(proxy.store.usage)
    except StoreUnusableError:
        what = "there is no dispatcher" if upstream is None else "no requests are sent to the dispatcher for now"
        return f"the recordings cannot be read, and {what}"
    return ""


async def status_of(proxy: Proxy, server: ServerState) -> dict[str, Any]:
    """Return the members of the page `/-/status` for one process."""
    upstream = proxy.upstream
    return {
        "version": __version__,
        "started_at": server.started_at,
        "uptime": max(time.time() - server.started_at, 0.0),
        "limits": _limits(proxy, server),
        "latencies": latencies(durations_of(proxy)),
        "hot_tier": _hot_tier(proxy),
        "upstream": upstream.url if upstream else None,
        "asking": asdict(upstream.health) if isinstance(upstream, ThrottledUpstream) else None,
        "run_analysis": asdict(proxy.counts),
        "store": await _store(proxy),
        **_capsules(proxy),
        **({"replicas": server.replicas()} if server.replicas else {}),
    }


def _capsules(proxy: Proxy) -> dict[str, Any]:
    """Return the capsules that are served, if there are any."""
    found = [{"path": str(one.path), "recordings": one.recordings} for one in proxy.capsules.capsules]
    return {"capsules": found} if found else {}


def _json(members: dict[str, Any]) -> web.Response:
    return web.json_response(text=f"{json.dumps(members)}\n", headers=_HEADERS)


async def _store(proxy: Proxy) -> dict[str, Any]:
    """Return how much is stored, in bytes on the disk, and what fails."""
    members: dict[str, Any] = {}
    try:
        members = asdict(await asyncio.to_thread(proxy.store.usage))
        space = await asyncio.to_thread(proxy.store.free_space)
        members |= {"free": space.free if space else None}
        proxy.store_faults.note_success("counted")
    except StoreUnusableError as error:
        proxy.store_faults.note_failure("counted", error)
    return {**members, "faults": [_fault(fault) for fault in proxy.store_faults]}


def _limits(proxy: Proxy, server: ServerState) -> dict[str, Any]:
    """Return the limits of a process; sizes are in bytes."""
    upstream = proxy.upstream
    return {
        "max_size": server.limits.max_size if server.limits else None,
        "min_free": server.limits.min_free if server.limits else None,
        "memory": proxy.hot_tier.limit,
        "max_jobs": proxy.jobs.max_jobs,
        "max_requests": upstream.max_concurrent if isinstance(upstream, ThrottledUpstream) else None,
    }


def _hot_tier(proxy: Proxy) -> dict[str, Any]:
    """Return the number of recordings in memory, their bytes, and how many queries they have answered."""
    hits = sum(count for _, outcome, count in proxy.query_counts.outcomes() if outcome == Outcome.HIT_HOT.label)
    return {"entries": proxy.hot_tier.count, "occupied": proxy.hot_tier.used, "hits": hits}


def durations_of(proxy: Proxy) -> dict[str, list[float]]:
    """Return the durations of requests for `run_analysis` as `Histogram.values`, by outcome."""
    durations = proxy.request_counts.durations()
    return {outcome: list(histogram.values) for route, outcome, histogram in durations if route == "run_analysis"}


def latencies(durations: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return how many requests had each outcome, and the durations in s that half, 95 % and 99 % did not exceed."""
    return {
        outcome: {
            "requests": int(sum(values[:-1])),
            **{f"p{share}": percentile(REQUEST_BOUNDS, values, share / 100) for share in (50, 95, 99)},
        }
        for outcome, values in durations.items()
        if sum(values[:-1])
    }


def _fault(fault: StoreFault) -> dict[str, Any]:
    """Return the members of an ongoing failure of the store; `since` is in s since 1970 (UTC)."""
    return {"doing": fault.operation, "message": fault.message, "since": fault.since, "times": fault.count}
