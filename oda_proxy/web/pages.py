"""The proxy's own pages below `/-/`: its state, its near misses, and whether it is alive."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

from aiohttp import web

from oda_proxy._version import __version__
from oda_proxy.access.roles import Action
from oda_proxy.errors import StoreUnusableError
from oda_proxy.upstream.throttling import ThrottledUpstream
from oda_proxy.web.own_routes import OwnRoute

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from oda_proxy.proxy import Proxy
    from oda_proxy.store.faults import StoreFault
    from oda_proxy.store.near_misses import NearMissHandler

_HEADERS = {"Cache-Control": "no-store"}


Status: TypeAlias = "Callable[[], Awaitable[dict[str, Any]]]"
"""Returns the members of the page `/-/status`."""


def routes(near_misses: NearMissHandler | None, status_of_server: Status) -> Sequence[OwnRoute]:
    """Return the routes of the pages."""

    async def status(_: web.Request) -> web.Response:
        return _json(await status_of_server())

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_HEADERS)

    async def misses(_: web.Request) -> web.Response:
        return _json({"near_misses": [asdict(miss) for miss in near_misses.misses] if near_misses else []})

    return (
        OwnRoute("GET", "/-/status", Action.READ_STATUS, status, "the state of the server, its counts and its store"),
        OwnRoute(
            "GET", "/-/near-misses", Action.READ_RECORDINGS, misses, "queries without a recording, and the nearest one"
        ),
        OwnRoute("GET", "/-/livez", Action.ALIVE, alive, "whether the process is alive"),
        OwnRoute("GET", "/-/readyz", Action.ALIVE, alive, "whether the server can answer"),
    )


async def status_of(proxy: Proxy) -> dict[str, Any]:
    """Return the members of the page `/-/status` for one process."""
    upstream = proxy.upstream
    return {
        "version": __version__,
        "upstream": upstream.url if upstream else None,
        "asking": asdict(upstream.health) if isinstance(upstream, ThrottledUpstream) else None,
        "run_analysis": asdict(proxy.counts),
        "store": await _store(proxy),
    }


def _json(members: dict[str, Any]) -> web.Response:
    return web.json_response(text=f"{json.dumps(members)}\n", headers=_HEADERS)


async def _store(proxy: Proxy) -> dict[str, Any]:
    """Return how much is stored, in bytes on the disk, and what fails."""
    members: dict[str, Any] = {}
    try:
        members = asdict(await asyncio.to_thread(proxy.store.usage))
        proxy.store_faults.note_success("counted")
    except StoreUnusableError as error:
        proxy.store_faults.note_failure("counted", error)
    return {**members, "faults": [_fault(fault) for fault in proxy.store_faults]}


def _fault(fault: StoreFault) -> dict[str, Any]:
    """Return the members of an ongoing failure of the store; `since` is in s since 1970 (UTC)."""
    return {"doing": fault.operation, "message": fault.message, "since": fault.since, "times": fault.count}
