"""Counts of outcomes."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING

import pytest

from oda_proxy.handlers.counts import Outcomes
from oda_proxy.http.cache_status import CacheStatus

if TYPE_CHECKING:
    from oda_proxy.http.cache_status import Forwarded


@pytest.mark.parametrize("forwarded", ["uri-miss", "bypass", "request", "stale", None])
def test_an_answer_that_is_neither_a_hit_nor_of_another_job_counts_as_forwarded(forwarded: Forwarded | None) -> None:
    outcomes = Outcomes()

    outcomes.add(CacheStatus(forwarded=forwarded, status=200))

    assert outcomes == Outcomes(forwarded=1)


def test_each_answer_has_one_outcome() -> None:
    outcomes = Outcomes()

    for status in (CacheStatus(hit=True), CacheStatus(hit=True, collapsed=True), CacheStatus(collapsed=True)):
        outcomes.add(status)

    assert outcomes == Outcomes(hits=2, joined=1)
    assert sum(astuple(outcomes)) == 3
