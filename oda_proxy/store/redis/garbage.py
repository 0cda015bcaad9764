"""Removal of heads that no row names."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from oda_proxy.store.objects.bodies import BodiesUnusableError, is_name
from oda_proxy.store.redis.medium_errors import REDIS_ERRORS, reason, redis_reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oda_proxy.store.objects.bodies import Bodies
    from oda_proxy.store.redis.index import RedisIndex

_log = logging.getLogger(__name__)

_BATCH: Final = 100
"""Heads that are looked up in Redis at once."""


def discard(index: RedisIndex, bodies: Bodies, names: Sequence[str]) -> None:
    """Remove heads that nothing needs any more; those that cannot be removed are garbage for the next sweeper."""
    try:
        for name in filter(is_name, names):
            bodies.remove(name)
            index.forget_garbage([name])
    except (BodiesUnusableError, *REDIS_ERRORS) as error:
        cause = reason(error) if isinstance(error, BodiesUnusableError) else redis_reason(error)
        _log.warning("a head without a recording is removed later: %s", cause)


def remove_garbage(index: RedisIndex, bodies: Bodies) -> int:
    """Remove the heads that nothing needs any more; return their number."""
    removed = 0
    while names := index.garbage():
        for name in names:
            if is_name(name):
                bodies.remove(name)
        index.forget_garbage(names)
        removed += len(names)
    return removed


def orphans(index: RedisIndex, bodies: Bodies) -> Iterator[str]:
    """Iterate over the names of heads that no recording or earlier version has or will have."""
    batch: list[str] = []
    for name in bodies.names():
        batch.append(name)
        if len(batch) == _BATCH:
            yield from index.orphans(batch)
            batch = []
    if batch:
        yield from index.orphans(batch)
