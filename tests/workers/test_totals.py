"""The status page of a server with several workers."""

from __future__ import annotations

from typing import Any

import pytest

from oda_proxy.metrics.histogram import REQUEST_BOUNDS
from oda_proxy.workers.totals import add_up


def page(pid: int, hits: int, *, unsafe: dict[str, int], faults: list[dict[str, Any]]) -> dict[str, Any]:
    status = {
        "upstream": f"http://{pid}.example",
        "run_analysis": {"hits": hits, "asked": 1, "unsafe": unsafe},
        "store": {"recordings": pid, "faults": faults},
        "limits": {"memory": 100, "max_jobs": pid},
        "hot_tier": {"entries": hits, "hits": 1},
    }
    durations = {"hit_hot": [hits, *[0] * len(REQUEST_BOUNDS), 0.0], "miss": [0] * (len(REQUEST_BOUNDS) + 2)}
    return {"pid": pid, "status": status, "durations": durations}


def test_counts_are_added_up_and_the_rest_is_the_leaders() -> None:
    full = {"doing": "stored", "message": "disk full"}
    total = add_up(
        [
            (1, page(11, 5, unsafe={"a": 1}, faults=[{**full, "since": 20.0, "times": 2}])),
            (0, page(10, 7, unsafe={"a": 2, "b": 3}, faults=[{**full, "since": 10.0, "times": 1}])),
        ]
    )

    assert total["run_analysis"] == {"hits": 12, "asked": 2, "unsafe": {"a": 3, "b": 3}}
    assert total["limits"] == {"memory": 200, "max_jobs": 11}
    assert total["hot_tier"] == {"entries": 12, "hits": 2}
    hot = total["latencies"].pop("hit_hot")
    assert hot == pytest.approx({"requests": 12, "p50": 5e-5, "p95": 9.5e-5, "p99": 9.9e-5})
    assert total["latencies"] == {}
    assert total["upstream"] == "http://11.example"
    assert total["store"] == {"recordings": 11, "faults": [{**full, "since": 10.0, "times": 3}]}
    assert total["workers"] == [
        {"number": 1, "pid": 10, "leads": False, "hits": 7},
        {"number": 2, "pid": 11, "leads": True, "hits": 5},
    ]
