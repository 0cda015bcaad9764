"""The header `Cache-Status` between processes of one proxy."""

from __future__ import annotations

import pytest

from oda_proxy.http.cache_status import CacheStatus, read_cache_status


@pytest.mark.parametrize(
    "status",
    [
        CacheStatus(),
        CacheStatus(hit=True, detail="stale"),
        CacheStatus(forwarded="uri-miss", status=200, stored=True),
        CacheStatus(forwarded="request", collapsed=True, detail="running"),
    ],
    ids=str,
)
def test_a_status_is_read_as_it_was_written(status: CacheStatus) -> None:
    assert read_cache_status(str(status)) == status


@pytest.mark.parametrize("text", ["", "other; fwd=miss; fwd-status=x; ttl=5", ";;;", "a=b;c"])
def test_what_is_not_known_is_left_out(text: str) -> None:
    assert read_cache_status(text) == CacheStatus()
