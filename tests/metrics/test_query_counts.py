"""Counts of queries by instrument and outcome."""

from __future__ import annotations

from oda_proxy.metrics.outcomes import OUTCOMES, Outcome
from oda_proxy.metrics.query_counts import MAX_INSTRUMENTS, OTHER, QueryCounts


def counted(counts: QueryCounts) -> dict[tuple[str, str], int]:
    return {(instrument, outcome): count for instrument, outcome, count in counts.outcomes() if count}


def test_every_outcome_is_there_from_zero_on() -> None:
    counts = QueryCounts()
    counts.add_instrument("isgri")

    assert {(name, outcome) for name, outcome, _ in counts.outcomes()} == {
        (name, outcome) for name in ("isgri", OTHER) for outcome in OUTCOMES
    }
    assert dict(counts.saved()) == {"isgri": 0.0, OTHER: 0.0}


def test_an_instrument_has_a_label_only_once_it_is_known_to_exist() -> None:
    counts = QueryCounts()
    counts.add("isgri", Outcome.MISS)
    counts.add_instrument("isgri")
    counts.add("isgri", Outcome.MISS)
    counts.add("x" * 1000, Outcome.REFUSED)

    assert counted(counts) == {("isgri", "miss"): 1, (OTHER, "miss"): 1, (OTHER, "refused"): 1}


def test_the_number_of_labels_is_bounded() -> None:
    counts = QueryCounts()
    for number in range(2 * MAX_INSTRUMENTS):
        counts.add_instrument(f"instrument{number}")
        counts.add_saved(f"instrument{number}", 1.0)

    saved = dict(counts.saved())
    assert len(saved) == MAX_INSTRUMENTS + 1
    assert saved[OTHER] == MAX_INSTRUMENTS
