"""Private recordings that a change of `--sharing` makes unreachable are counted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from oda_proxy.query.cache_key import Key
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.sharing_history import FILE, MAX_SIZE, unreachable
from tests.support.recordings import recording

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.store.base import Entry


def store_of(**stored: float) -> MemoryStore:
    """Return a store with private recordings, and when each was stored, in s since 1970 (UTC)."""
    store = MemoryStore()
    for letter, time in stored.items():
        store.put(replace(recording(Key(letter * 64)), private=True, stored_at=time))
    return store


def keys(found: dict[str, list[Entry]]) -> dict[str, str]:
    return {sharing: "".join(sorted(entry.key[0] for entry in entries)) for sharing, entries in found.items()}


def test_nothing_is_unreachable_before_a_change(tmp_path: Path) -> None:
    store = store_of(a=10.0)

    assert unreachable(store, tmp_path, "subject", now=20.0) == {}
    assert unreachable(store, tmp_path, "subject", now=30.0) == {}


def test_private_recordings_of_another_sharing_are_found_at_each_start(tmp_path: Path) -> None:
    store = store_of(a=10.0, b=25.0, c=35.0)
    store.put(recording(Key("d" * 64)))
    unreachable(store, tmp_path, "subject", now=20.0)

    for start in (30.0, 40.0):
        assert keys(unreachable(store, tmp_path, "team", now=start)) == {"subject": "ab"}


def test_recordings_are_reachable_again_after_the_change_is_reverted(tmp_path: Path) -> None:
    store = store_of(a=10.0, b=25.0)
    unreachable(store, tmp_path, "subject", now=5.0)
    unreachable(store, tmp_path, "team", now=20.0)

    assert keys(unreachable(store, tmp_path, "subject", now=30.0)) == {"team": "b"}


@pytest.mark.parametrize("content", ["", "no JSON", "[]", '{"history": [1]}', " " * (MAX_SIZE + 1)])
def test_a_damaged_history_starts_again(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)

    assert unreachable(store_of(a=10.0), tmp_path, "team", now=20.0) == {}
    assert "team" in (tmp_path / FILE).read_text()
