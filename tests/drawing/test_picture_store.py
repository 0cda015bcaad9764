"""Stored pictures are bounded, and removed with their recording."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oda_proxy.drawing.picture_store import PictureStore

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HEAD, OTHER = "ab" * 32, "cd" * 32


def test_a_picture_is_stored_until_its_recording_is_removed(tmp_path: Path) -> None:
    store = PictureStore(tmp_path / "pictures")
    store.put(HEAD, "one", b"1")
    store.put(OTHER, "one", b"2")

    store.remove(HEAD)

    assert (store.get(HEAD, "one"), store.get(OTHER, "one"), store.get(OTHER, "two")) == (None, b"2", None)


def test_the_pictures_used_least_recently_are_evicted(tmp_path: Path) -> None:
    store = PictureStore(tmp_path, max_size=100)
    for number in range(10):
        store.put(HEAD, str(number), b"x" * 10)
    for age, path in enumerate(path for path in tmp_path.glob("*/*/*") if path.is_file()):
        os.utime(path, (age, age))
    for number in (3, 7):
        assert store.get(HEAD, str(number)) is not None

    store.put(HEAD, "new", b"x" * 10)

    left = [name for name in (*map(str, range(10)), "new") if store.get(HEAD, name) is not None]
    assert {"3", "7", "new"} <= set(left)
    assert len(left) == 8


def test_a_folder_that_cannot_be_written_to_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "pictures").write_text("a file is in the way")
    store = PictureStore(tmp_path / "pictures")

    store.put(HEAD, "one", b"1")
    store.put(HEAD, "one", b"1")

    assert store.get(HEAD, "one") is None
    assert caplog.text.count("pictures are drawn again each time") == 1
