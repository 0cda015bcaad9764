"""Which recordings are evicted first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.query.cache_key import Key
from oda_proxy.store.base import Entry
from oda_proxy.store.eviction import COST_WEIGHT, MAX_COST_BONUS, groups_to_evict, victims
from tests.support.recordings import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

HOUR = 3600.0


def entry(name: str, used_at: float = 0.0, cost: float = 0.0, *, size: int = 10, pinned: bool = False) -> Entry:
    return Entry(Key(name), 0.0, used_at, size * 2, size, f"head of {name}", cost, False, pinned, None)


def evicted(*entries: Entry, max_bytes: int) -> list[str]:
    return [chosen.key for chosen in victims_of(entries, max_bytes)]


def victims_of(entries: Sequence[Entry], max_bytes: int) -> list[Entry]:
    occupied = sum({entry.head_name: entry.stored_size for entry in entries}.values())
    return list(victims(groups_to_evict(entries), occupied=occupied, target=max_bytes))


def test_nothing_is_evicted_within_the_limit() -> None:
    assert evicted(entry("a"), entry("b"), max_bytes=20) == []


def test_the_least_recently_used_is_evicted_first() -> None:
    assert evicted(entry("a", 3), entry("b", 1), entry("c", 2), max_bytes=10) == ["b", "c"]


def test_no_more_is_evicted_than_necessary() -> None:
    assert evicted(entry("a", 1, size=5), entry("b", 2, size=100), entry("c", 3), max_bytes=111) == ["a"]


def test_what_took_the_dispatcher_long_stays_longer() -> None:
    old_and_costly = entry("costly", 0.0, cost=HOUR)

    assert evicted(old_and_costly, entry("cheap", HOUR * COST_WEIGHT - 1, cost=0.0), max_bytes=10) == ["cheap"]
    assert evicted(old_and_costly, entry("cheap", HOUR * COST_WEIGHT + 1, cost=0.0), max_bytes=10) == ["costly"]


def test_nothing_stays_for_ever_because_it_was_costly() -> None:
    assert evicted(entry("costly", 0.0, cost=1e9), entry("cheap", MAX_COST_BONUS + 1), max_bytes=10) == ["costly"]


def test_pinned_recordings_stay_even_above_the_limit() -> None:
    assert evicted(entry("a", 1, pinned=True), entry("b", 2), max_bytes=0) == ["b"]


def test_recordings_that_share_a_head_are_evicted_together_in_the_order_of_the_last() -> None:
    one, other = (replace(entry(name, used_at), head_name="shared") for name, used_at in (("a", 1.0), ("b", 5.0)))

    assert evicted(one, other, entry("c", 3), max_bytes=10) == ["c"]
    assert evicted(one, other, entry("c", 3), max_bytes=9) == ["c", "a", "b"]
    assert evicted(one, replace(other, pinned=True), entry("c", 3), max_bytes=0) == ["c"]


ENTRIES = st.lists(
    st.builds(
        entry,
        st.sampled_from(KEYS),
        st.floats(0, 1e9),
        st.floats(0, 1e6),
        size=st.integers(0, 1000),
        pinned=st.booleans(),
    ),
    unique_by=lambda entry: entry.key,
)


@given(ENTRIES, st.integers(0, 5000))
def test_after_eviction_the_rest_is_within_the_limit_or_pinned(entries: list[Entry], max_bytes: int) -> None:
    chosen = victims_of(entries, max_bytes)
    rest = [entry for entry in entries if entry not in chosen]

    assert sum(entry.stored_size for entry in rest) <= max_bytes or all(entry.pinned for entry in rest)
    assert not any(entry.pinned for entry in chosen)
