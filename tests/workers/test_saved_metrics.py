"""The counters of workers, which outlive them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from oda_proxy.workers.saved_metrics import SavedMetrics

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.metrics.snapshot import Snapshot


def worker(folder: Path, stored: float) -> SavedMetrics:
    async def read(*, with_store: bool) -> Snapshot:
        return {"answers_stored_total": {(): (stored,)}, "jobs_inflight": {(): (stored,)}}

    return SavedMetrics(folder, 1, 3, read)


async def test_a_worker_continues_the_counters_of_the_one_before_it_but_not_its_gauges(tmp_path: Path) -> None:
    await worker(tmp_path, 5.0).snapshot()
    await worker(tmp_path, 2.0).snapshot()
    third = worker(tmp_path, 1.0)

    assert third.others == (0, 2)
    assert await third.snapshot() == {"answers_stored_total": {(): (8.0,)}, "jobs_inflight": {(): (1.0,)}}
    assert third.saved(1) == {"answers_stored_total": {(): (8.0,)}}
    assert third.saved(2) == {}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"answers_stored_total": 1}', '{"answers_stored_total": [[[], "x"]]}']
)
async def test_counters_that_cannot_be_read_are_lost_with_a_warning(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "1.metrics").write_text(text)

    with caplog.at_level(logging.WARNING):
        assert await worker(tmp_path, 1.0).snapshot()
    assert "the counters of worker 2 are lost" in caplog.text


async def test_a_folder_that_is_gone_loses_no_request(tmp_path: Path) -> None:
    assert await worker(tmp_path / "removed", 1.0).snapshot()
