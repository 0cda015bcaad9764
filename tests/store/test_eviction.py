"""Which recordings go first."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.query.cache_key import Key
from oda_proxy.store.base import Entry
from oda_proxy.store.eviction import MOST, WORTH, victims
from tests.support.recordings import KEYS

HOUR = 3600.0


def entry(name: str, used_at: float = 0.0, cost: float = 0.0, *, size: int = 10, pinned: bool = False) -> Entry:
    return Entry(Key(name), 0.0, used_at, size * 2, size, f"place of {name}", cost, False, pinned, None)


def gone(*entries: Entry, most: int) -> list[str]:
    return [chosen.key for chosen in victims(entries, most=most)]


def test_nothing_goes_while_there_is_room() -> None:
    assert gone(entry("a"), entry("b"), most=20) == []


def test_the_least_recently_used_goes_first() -> None:
    assert gone(entry("a", 3), entry("b", 1), entry("c", 2), most=10) == ["b", "c"]


def test_no_more_goes_than_must() -> None:
    assert gone(entry("a", 1, size=5), entry("b", 2, size=100), entry("c", 3), most=111) == ["a"]


def test_what_cost_the_dispatcher_long_stays_longer() -> None:
    old_and_dear = entry("dear", 0.0, cost=HOUR)

    assert gone(old_and_dear, entry("cheap", HOUR * WORTH - 1, cost=0.0), most=10) == ["cheap"]
    assert gone(old_and_dear, entry("cheap", HOUR * WORTH + 1, cost=0.0), most=10) == ["dear"]


def test_nothing_stays_for_ever_because_it_was_dear() -> None:
    assert gone(entry("dear", 0.0, cost=1e9), entry("cheap", MOST + 1), most=10) == ["dear"]


def test_what_is_pinned_stays_even_where_there_is_no_room() -> None:
    assert gone(entry("a", 1, pinned=True), entry("b", 2), most=0) == ["b"]


def test_recordings_that_share_their_products_go_together_when_the_last_is_due() -> None:
    one, other = (replace(entry(name, used_at), head_name="shared") for name, used_at in (("a", 1.0), ("b", 5.0)))

    assert gone(one, other, entry("c", 3), most=10) == ["c"]
    assert gone(one, other, entry("c", 3), most=9) == ["c", "a", "b"]
    assert gone(one, replace(other, pinned=True), entry("c", 3), most=0) == ["c"]


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
def test_afterwards_there_is_room_or_only_what_is_pinned(entries: list[Entry], most: int) -> None:
    chosen = victims(entries, most=most)
    rest = [entry for entry in entries if entry not in chosen]

    assert sum(entry.stored_size for entry in rest) <= most or all(entry.pinned for entry in rest)
    assert not any(entry.pinned for entry in chosen)
