"""Connects a server to its replicas: those on other hosts with the same `--store`."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.jobs.runtime import Runtime
from oda_proxy.replicas.connection import TIMEOUT, Connection
from oda_proxy.replicas.coordination import Coordination
from oda_proxy.replicas.journal import RedisJournal
from oda_proxy.replicas.leases import RedisLeases
from oda_proxy.replicas.limits import SharedLimits
from oda_proxy.replicas.news import JobNews
from oda_proxy.replicas.timing import Timing
from oda_proxy.servers.background import running_in_background
from oda_proxy.store.redis.clients import async_client
from oda_proxy.store.redis.keyspace import Keyspace

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from oda_proxy.config.settings import ServeOptions
    from oda_proxy.http.message import Upstream
    from oda_proxy.proxy import Proxy
    from oda_proxy.store.redis.address import StoreAddress

HOUR: Final = 3600.0
ORPHANS_EVERY: Final = 15.0
"""Seconds between two looks for jobs that no replica leads any more."""

TIMING = Timing()
"""How soon this server notices what others do."""


@dataclass(frozen=True, slots=True)
class ReplicaParts:
    """What connects a proxy to its replicas."""

    connection: Connection
    coordination: Coordination
    journal: RedisJournal
    limits: SharedLimits

    def status(self) -> dict[str, Any]:
        """Return the members of the status page; `away_since` is in s since 1970 (UTC)."""
        return {
            "away_since": self.connection.away_since,
            "leads": self.coordination.leads,
            "follows": self.coordination.follows,
        }


async def connect_replicas(
    options: ServeOptions, store: StoreAddress, dispatcher: Upstream, stack: AsyncExitStack, *, owner: str | None
) -> ReplicaParts:
    """Connect to the replicas that send requests to a dispatcher; nothing fails where Redis is away.

    `owner` names this server to them, by default with a new name: the workers of one server have the same name, so that
    the next of them which leads has the leases of the one before at once.
    """
    client = async_client(store.redis, timeout=TIMEOUT)
    stack.push_async_callback(client.aclose)
    connection = Connection(client, Keyspace.of(dispatcher.url), name=str(store.redis))
    owner, news = owner or secrets.token_hex(8), JobNews()
    coordination = Coordination(
        RedisLeases(connection, owner), news, Runtime(), owner=owner, limit=lambda: options.max_jobs, timing=TIMING
    )
    limits = SharedLimits(dispatcher, connection, max_concurrent=options.max_requests, rate=options.max_rate)
    await stack.enter_async_context(running_in_background(news.listen(connection)))
    await stack.enter_async_context(running_in_background(limits.keep_slots()))
    return ReplicaParts(connection, coordination, RedisJournal(connection, owner, options.longest_job * HOUR), limits)


async def continue_orphans(proxy: Proxy) -> None:
    """Continue jobs that no replica leads and no client asks for, until it is cancelled."""
    while True:
        await asyncio.sleep(ORPHANS_EVERY)
        await proxy.resume()
