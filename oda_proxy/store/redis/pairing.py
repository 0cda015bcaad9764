"""Checks that an index in Redis and the place of its heads belong together: both have the same random name.

With a mistyped folder or prefix, recordings would count as damaged, with another Redis, heads as leftovers; either
would be removed. Scripts check the name again: Redis may lose its data, or another one may get its address, later.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.objects.bodies import INDEX_NAME, MAX_INDEX_NAME

if TYPE_CHECKING:
    from redis import Redis

    from oda_proxy.store.objects.bodies import Bodies
    from oda_proxy.store.redis.address import StoreAddress
    from oda_proxy.store.redis.keyspace import Keyspace


def check_pair(client: Redis, keys: Keyspace, bodies: Bodies, address: StoreAddress) -> bytes:
    """Give an index and its heads the same name, if neither has one; return it.

    An index without a name that has recordings is that of an earlier release. Raises StoreUnusableError where they do
    not belong together, BodiesUnusableError, and the errors of redis-py.
    """
    any_client: Any = client
    place = keys.key(INDEX_NAME)
    # In this order: the name is written to Redis first, perhaps by another server at this moment.
    named, value = bodies.index_name(), any_client.get(place)
    name, _, first_bodies = (value or b"").partition(b" ")
    if name and name == named:
        return name
    is_empty = not any_client.exists(keys.key("keys"))
    if named is not None and is_empty:
        raise StoreUnusableError(
            str(address.bodies),
            f"its heads belong to another Redis than {address.redis}, or to one that lost its data",
            f"name another place with bodies=, or remove {bodies.index_name_place} if that Redis is gone",
        )
    if named is not None and not name:  # a server of an earlier release stores recordings after such a loss
        raise StoreUnusableError(
            str(address.redis),
            f"it has no name, and the heads in {address.bodies} have that of a Redis that is another, or lost its data",
            f"correct --store, or remove {bodies.index_name_place} if that Redis is gone",
        )
    if is_empty:
        belongs_here = not name or first_bodies == str(address.bodies).encode()
    else:  # of an earlier release, if neither has a name
        belongs_here = not name and named is None and next(bodies.names(), None) is not None
    if not belongs_here:
        raise StoreUnusableError(
            str(address.redis), f"the heads of its recordings are not in {address.bodies}", "correct bodies= in --store"
        )
    any_client.set(place, f"{secrets.token_hex(MAX_INDEX_NAME // 2)} {address.bodies}", nx=True)
    stored: bytes = any_client.get(place).partition(b" ")[0]
    bodies.write_index_name(stored)
    return stored
