"""Which recordings have changed since a moment: never one too few."""

from __future__ import annotations

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.store.redis.recent_changes import RecentChanges

KEYS = "abcdef"


@given(st.lists(st.sampled_from([*KEYS, ""]), max_size=30), st.integers(1, 4), st.data())
@settings(max_examples=200)
def test_what_has_changed_since_a_moment_may_have_changed(events: list[str], limit: int, data: st.DataObject) -> None:
    changes = RecentChanges(limit)
    begin = data.draw(st.integers(0, len(events)))
    moment = 0
    for number, key in enumerate(events):
        if number == begin:
            moment = changes.moment
        changes.note(key) if key else changes.note_all()
    if begin == len(events):
        moment = changes.moment
    later = events[begin:]

    changed = {key for key in KEYS if key in later or "" in later}
    found = {key for key in KEYS if changes.may_have_changed(key, moment)}
    assert found >= changed
    if len(set(later)) <= limit and "" not in later:
        assert found == changed, "those that have not changed are not read again"


def test_a_reader_that_sees_a_moment_sees_its_changes() -> None:
    """Where it did not, it would take what changed meanwhile for unchanged ever after."""
    changes, ended, wrong = RecentChanges(), threading.Event(), []

    def read() -> None:
        since = 0
        while not ended.is_set():
            moment = changes.moment
            if moment > since and not changes.may_have_changed("a", since):
                wrong.append(moment)
            since = moment

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20_000):
        changes.note("a")
    ended.set()
    reader.join()

    assert wrong == []


def test_anything_may_have_changed_since_an_unknown_moment() -> None:
    assert RecentChanges().may_have_changed("a", None)
    assert RecentChanges().may_have_changed("a", "1")
