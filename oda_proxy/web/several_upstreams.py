"""The applications of the upstreams of one server, from its options: where each is, and one for all of them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from oda_proxy.http.front_end_headers import TrustedProxies
from oda_proxy.web.directory import make_directory, status_with_upstreams
from oda_proxy.web.front_end import FrontEnd
from oda_proxy.web.mounts import MountedAddresses, mounted
from oda_proxy.web.pages import obstacle
from oda_proxy.web.place import NamedUpstream, Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aiohttp import web

    from oda_proxy.config.settings import ServeOptions
    from oda_proxy.proxy import Proxy
    from oda_proxy.web.front_end import Addresses
    from oda_proxy.web.own_routes import Guard
    from oda_proxy.web.pages import Status
    from oda_proxy.web.server_state import ServerState


def addresses_of(options: ServeOptions) -> Addresses:
    """Return how the application of an upstream learns its public address, and the addresses of its clients."""
    front_end = _front_end(options)
    return MountedAddresses(front_end, options.prefix) if options.name else front_end


def place_of(of_server: ServeOptions, options: ServeOptions) -> Place | None:
    """Return the place of an upstream among those of a server; None for the only one."""
    upstreams = _named_upstreams(of_server)
    own = next((one for one in upstreams if one.name == options.name), None)
    return Place(own, upstreams) if own else None


def status_at(place: Place | None, status: Status) -> Status:
    """Return the status of an upstream; that of one of several names it and the others."""
    return status_with_upstreams(status, place) if place else status


@asynccontextmanager
async def one_for_all(
    options: ServeOptions,
    apps: Sequence[web.Application],
    states: Sequence[tuple[Proxy, ServerState]],
    guard: Guard,
) -> AsyncIterator[web.Application]:
    """Return the application of the only upstream, or one for those of all, each below its prefix.

    `apps` and `states` are in the order of `options.each_upstream`; `guard` is for what belongs to none of them.
    """
    if not options.upstreams:
        (app,) = apps
        yield app
        return
    front_end = _front_end(options)

    async def obstacle_of_all() -> str:
        reasons = [await obstacle(proxy, server) for proxy, server in states]
        return reasons[0] if all(reasons) else ""

    elsewhere = make_directory(_named_upstreams(options), guard, front_end, obstacle_of_all)
    by_prefix = dict(zip((one.prefix for one in options.upstreams), apps, strict=True))
    async with mounted(by_prefix, elsewhere, front_end) as app:
        yield app


def _front_end(options: ServeOptions) -> FrontEnd:
    networks = tuple(proxy for proxy in options.trusted_proxy if not isinstance(proxy, str))
    return FrontEnd(options.public_url, TrustedProxies(networks, unix="unix" in options.trusted_proxy))


def _named_upstreams(options: ServeOptions) -> list[NamedUpstream]:
    return [NamedUpstream(one.name, one.prefix or "/", one.upstream) for one in options.upstreams]
