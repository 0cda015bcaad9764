"""Job ids are read from answers, and their collisions counted."""

from __future__ import annotations

import json

from oda_proxy.query.cache_key import Key
from oda_proxy.query.job_ids import JobIdCollisions, read_job_id


def test_a_job_id_is_read_from_the_job_monitor_behind_the_products() -> None:
    body = {"products": {"job_id": "old"}, "job_monitor": {"session_id": "S", "job_id": "0f1e"}, "job_status": "done"}

    assert read_job_id(json.dumps(body).encode()) == "0f1e"
    assert read_job_id(b"<p>nothing") == ""


def test_only_a_job_id_that_comes_with_another_query_is_a_collision() -> None:
    collisions = JobIdCollisions()
    for job_id, key in [("a", "1"), ("a", "1"), ("b", "2"), ("", "1"), ("", "2")]:
        collisions.record(job_id, Key(key))
    assert collisions.count == 0

    collisions.record("a", Key("2"))
    assert collisions.count == 1
