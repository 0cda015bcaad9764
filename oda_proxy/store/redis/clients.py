"""Connections to Redis: `sync_client` for methods that block, `async_client` for an event loop.

Both give up after some seconds, try a broken connection once more, and return bytes. Nothing connects before the first
command.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, cast

from oda_proxy.errors import OdaProxyError
from oda_proxy.store.redis.address import RedisAddress, Topology

if TYPE_CHECKING:
    import redis.asyncio
    from redis import Redis

CONNECT_TIMEOUT: Final = 2.0
"""Seconds to wait for a connection."""

TIMEOUT: Final = 5.0
"""Seconds to wait for the response to a command."""

MAX_CONNECTIONS: Final = 64
"""Connections of one client; a thread waits for one where all are in use."""


class RedisMissingError(OdaProxyError):
    """The library redis-py is not installed."""

    def __init__(self) -> None:
        super().__init__("a store in Redis needs the library redis: pip install 'oda-proxy[redis]'")


def sync_client(address: RedisAddress, *, timeout: float = TIMEOUT) -> Redis:
    """Return a client whose methods block, for several threads at once.

    `timeout` is in s. Raises RedisMissingError.
    """
    require_library()
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options = {**_options(address, timeout), "retry": Retry(NoBackoff(), 1)}
    if address.topology is Topology.CLUSTER:
        node: Any = redis.cluster.ClusterNode  # without types, like the sentinels
        nodes = [node(host, port) for host, port in address.hosts]
        return cast("Redis", redis.RedisCluster(startup_nodes=nodes, **options))
    if address.topology is Topology.SENTINEL:
        sentinel: Any = redis.Sentinel
        sentinels = sentinel(list(address.hosts), sentinel_kwargs=_sentinel_options(address, timeout))
        return cast("Redis", sentinels.master_for(address.service, db=address.database, **options))
    return redis.Redis(**_place(address), db=address.database, max_connections=MAX_CONNECTIONS, **options)


def async_client(address: RedisAddress, *, timeout: float = TIMEOUT) -> redis.asyncio.Redis:
    """Return a client for an event loop, whose `aclose` ends its connections.

    `timeout` is in s. Raises RedisMissingError.
    """
    require_library()
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options = {**_options(address, timeout), "retry": Retry(NoBackoff(), 1)}
    if address.topology is Topology.CLUSTER:
        nodes = [redis.asyncio.cluster.ClusterNode(host, port) for host, port in address.hosts]
        return cast("redis.asyncio.Redis", redis.asyncio.RedisCluster(startup_nodes=nodes, **options))
    if address.topology is Topology.SENTINEL:
        sentinel: Any = redis.asyncio.Sentinel
        sentinels = sentinel(list(address.hosts), sentinel_kwargs=_sentinel_options(address, timeout))
        return cast("redis.asyncio.Redis", sentinels.master_for(address.service, db=address.database, **options))
    place, database = _place(address), address.database
    return redis.asyncio.Redis(**place, db=database, max_connections=MAX_CONNECTIONS, **options)


def require_library() -> None:
    """Raise RedisMissingError where redis-py is not installed."""
    if find_spec("redis") is None:
        raise RedisMissingError


def _place(address: RedisAddress) -> dict[str, Any]:
    """Return where a single server is, as arguments of a client."""
    if address.socket is not None:
        return {"unix_socket_path": str(address.socket)}
    [(host, port)] = address.hosts
    return {"host": host, "port": port}


def _options(address: RedisAddress, timeout: float) -> dict[str, Any]:
    """Return the arguments that all clients have."""
    return {
        "username": address.username,
        "password": address.password,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": timeout,
        **_tls(address),
    }


def _sentinel_options(address: RedisAddress, timeout: float) -> dict[str, Any]:
    """Return the arguments of the clients of sentinels, which have no credentials of their own."""
    return {"socket_connect_timeout": CONNECT_TIMEOUT, "socket_timeout": timeout, **_tls(address)}


def _tls(address: RedisAddress) -> dict[str, Any]:
    if address.tls is None:
        return {}
    files = {
        "ssl_ca_certs": address.tls.ca_certs,
        "ssl_certfile": address.tls.certfile,
        "ssl_keyfile": address.tls.keyfile,
    }
    return {"ssl": True, **{name: str(file) for name, file in files.items() if file is not None}}
