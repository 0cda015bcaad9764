"""An empty store in Redis for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.clients import sync_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.redis_server import RedisServer


@pytest.fixture
def address(redis_server: RedisServer, tmp_path: Path) -> StoreAddress:
    """Return the address of a store in an empty Redis, with its heads in a folder."""
    address = StoreAddress.parse(f"{redis_server.url}?bodies=file://{tmp_path}/heads")
    sync_client(address.redis).flushall()
    return address
