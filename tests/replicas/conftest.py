"""A Redis for the tests of replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run a Redis that the tests of one module share."""
    with running_redis(tmp_path_factory.mktemp("redis"), fsync="no") as server:
        yield server
