"""Checks at the start that a Redis permits, and is, what a server needs."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.exceptions import OutOfMemoryError, ResponseError

from oda_proxy.store.redis.address import Topology
from oda_proxy.store.redis.clients import TIMEOUT
from oda_proxy.store.redis.medium_errors import WrongServerError, advice, redis_reason

if TYPE_CHECKING:
    from oda_proxy.store.redis.address import RedisAddress
    from oda_proxy.store.redis.keyspace import Keyspace

_log = logging.getLogger(__name__)

_SCRIPT: Final = """
redis.call('SET', KEYS[1] .. ':probe', '1', 'PX', 1000)
redis.call('PUBLISH', KEYS[1] .. ':probe', '')
"""


def check_server(client: redis.Redis, address: RedisAddress, keys: Keyspace) -> None:
    """Check that a script may write and publish, and that this process may subscribe.

    A Redis without space for the moment is no obstacle, and is logged: recordings wait. So is a configuration that may
    lose recordings. Raises redis.RedisError.
    """
    _check_kind(client, address)
    try:
        client.register_script(_SCRIPT)(keys=[keys.prefix])
    except ResponseError as error:
        if not (isinstance(error, OutOfMemoryError) or str(error).startswith("MISCONF")):
            raise
        _log.warning(
            "the Redis at %s: %s; %s: recordings wait on this machine", address, redis_reason(error), advice(error)
        )
    any_client: Any = client  # the method has no types
    with closing(any_client.pubsub()) as messages:
        messages.subscribe(keys.key("probe"))
        if messages.get_message(timeout=TIMEOUT) is None:
            raise redis.TimeoutError
    for weakness in _weaknesses(client):
        _log.warning("the Redis at %s: %s (docs/scale.md)", address, weakness)


def _check_kind(client: redis.Redis, address: RedisAddress) -> None:
    """Check that a server is no sentinel and no part of a cluster, where it does not forbid the question."""
    if address.topology is not Topology.SINGLE:
        return
    try:
        mode = client.info("server").get("redis_mode")
    except ResponseError:
        return
    if mode == "sentinel":
        raise WrongServerError(
            "this is a sentinel", "begin the URL in --store with redis+sentinel:// and name the service"
        )
    if mode == "cluster":
        raise WrongServerError("this Redis is part of a cluster", "begin the URL in --store with redis+cluster://")


def _weaknesses(client: redis.Redis) -> list[str]:
    """Return what in the configuration of Redis may lose recordings; nothing where it does not show that."""
    try:
        information = client.info()  # a cluster responds for each node, and is not looked at
    except ResponseError:  # a service may refuse the command
        return []
    found = []
    if information.get("aof_enabled") == 0:
        found.append("it has no append-only file (appendonly yes), and loses recordings when it ends")
    policy = information.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and information.get("maxmemory"):
        found.append(f"its maxmemory-policy is {policy} instead of noeviction, and removes parts of the index")
    return found
