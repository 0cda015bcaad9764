"""Durations in buckets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.metrics.histogram import REQUEST_BOUNDS, Histogram, cumulative, percentile


def histogram(*durations: float) -> Histogram:
    result = Histogram((1.0, 2.0, 4.0))
    for duration in durations:
        result.add(duration)
    return result


def test_a_duration_that_equals_a_bound_belongs_below_it() -> None:
    values = histogram(0.5, 1.0, 1.5, 4.0, 9.0).values

    assert list(values) == [2, 1, 1, 1, 16.0]
    assert cumulative(values) == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("durations", "fraction", "expected"),
    [
        ((), 0.5, None),
        ((0.1, 0.1), 0.5, 0.5),
        ((0.1, 1.5, 1.5, 1.5), 0.75, 1 + 2 / 3),
        ((0.1, 3.0), 1.0, 4.0),
        ((100.0,), 0.5, 4.0),
    ],
)
def test_a_percentile_lies_within_its_bucket(
    durations: tuple[float, ...], fraction: float, expected: float | None
) -> None:
    found = histogram(*durations)

    assert percentile(found.bounds, found.values, fraction) == expected


@given(st.lists(st.floats(0.0, 3600.0), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_no_further_off_than_its_bucket_is_wide(durations: list[float], fraction: float) -> None:
    found = Histogram(REQUEST_BOUNDS)
    for duration in durations:
        found.add(duration)
    estimate = percentile(found.bounds, found.values, fraction)

    exact = sorted(durations)[max(-int(-fraction * len(durations) // 1), 1) - 1]
    above = next(bound for bound in REQUEST_BOUNDS if bound >= exact)
    below = max((bound for bound in REQUEST_BOUNDS if bound < above), default=0.0)
    assert estimate is not None
    assert below <= estimate <= above


def test_the_buckets_of_requests_reach_to_an_hour() -> None:
    assert REQUEST_BOUNDS[-1] == 3600.0
    assert list(REQUEST_BOUNDS) == sorted(set(REQUEST_BOUNDS))
