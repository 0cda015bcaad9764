"""Our own pages, below `/-/`: what runs here, and what it has done."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from oda_proxy import __version__
from oda_proxy.errors import StoreUnusableError
from oda_proxy.upstream.manners import Mannerly

if TYPE_CHECKING:
    from oda_proxy.proxy import Proxy

_OWN = {"Cache-Control": "no-store"}


def add_to(app: web.Application, proxy: Proxy) -> None:
    """Add the pages to an application."""

    async def status(_: web.Request) -> web.Response:
        upstream = proxy.upstream.url if proxy.upstream else None
        told = {
            "version": __version__,
            "upstream": upstream,
            "asking": asdict(proxy.upstream.condition) if isinstance(proxy.upstream, Mannerly) else None,
            "run_analysis": asdict(proxy.counts),
            "store": await _store(proxy),
        }
        return web.json_response(text=f"{json.dumps(told)}\n", headers=_OWN)

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_OWN)

    async def nothing(request: web.Request) -> web.Response:
        text = f"there is no page {request.path}; there are /-/status, /-/livez and /-/readyz\n"
        return web.Response(status=404, text=text, headers=_OWN)

    app.router.add_get("/-/status", status)
    app.router.add_get("/-/livez", alive)
    app.router.add_get("/-/readyz", alive)
    app.router.add_route("*", "/-/{page:.*}", nothing)


async def _store(proxy: Proxy) -> dict[str, Any]:
    """Say how much is kept, in bytes on the medium, and what of it fails."""
    told: dict[str, Any] = {}
    try:
        told = asdict(await asyncio.to_thread(proxy.store.filling))
        proxy.store_faults.succeeded("counted")
    except StoreUnusableError as error:
        proxy.store_faults.failed("counted", error)
    return {**told, "faults": [asdict(fault) for fault in proxy.store_faults]}
