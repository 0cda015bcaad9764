"""Recordings that belong to no test are found; those of tests that may exist are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oda_proxy.testing.leftovers import MANIFEST, Collected, Layout, find_recordings, leftovers

if TYPE_CHECKING:
    from pathlib import Path

PATTERNS = ("test_*.py",)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Return a folder with two modules, and recordings of tests, of a module that is gone, and shared ones."""
    for module in ("test_a.py", "test_b.py", "conftest.py"):
        (tmp_path / module).touch()
    for cassette in ("test_a/test_one", "test_a/test_gone", "test_b/test_two", "test_c/test_three", "crab"):
        folder = tmp_path / "recordings" / cassette
        folder.mkdir(parents=True)
        (folder / MANIFEST).touch()
    return Layout(tmp_path / "recordings", tmp_path)


def found(layout: Layout, modules: tuple[str, ...], cassettes: tuple[str, ...]) -> list[str]:
    collected = Collected(
        {str(layout.modules / module) for module in modules}, {str(layout.recordings / one) for one in cassettes}
    )
    return [one.relative_to(layout.recordings).as_posix() for one in leftovers(layout, collected, PATTERNS)]


def test_tests_that_are_gone_from_a_collected_module_leave_recordings(layout: Layout) -> None:
    assert found(layout, ("test_a.py",), ("test_a/test_one",)) == ["test_a/test_gone"]


def test_modules_and_names_that_are_gone_are_found_if_all_modules_were_collected(layout: Layout) -> None:
    assert found(layout, ("test_a.py", "test_b.py"), ("test_a/test_one", "test_b/test_two")) == [
        "crab",
        "test_a/test_gone",
        "test_c/test_three",
    ]


def test_a_shared_cassette_that_is_named_is_used(layout: Layout) -> None:
    assert "crab" not in found(layout, ("test_a.py", "test_b.py"), ("crab",))


def test_modules_of_other_folders_are_part_of_one_folder_for_all(layout: Layout) -> None:
    elsewhere = Layout(layout.recordings.rename(layout.modules / "elsewhere"), layout.modules)
    (layout.modules / "sub").mkdir()
    (layout.modules / "sub" / "test_d.py").touch()

    assert found(elsewhere, ("test_a.py", "test_b.py"), ("test_a/test_one", "test_b/test_two")) == ["test_a/test_gone"]


def test_folders_of_recordings_are_found_except_in_environments(tmp_path: Path) -> None:
    for folder in (
        "recordings",
        "sub/recordings",
        ".venv/recordings",
        "node_modules/recordings",
        "sub/recordings/recordings",
    ):
        (tmp_path / folder).mkdir(parents=True)

    assert find_recordings([tmp_path]) == [tmp_path / "recordings", tmp_path / "sub" / "recordings"]
