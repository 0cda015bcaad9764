"""Recordings that belong to no test any more: the test, or its module, is gone.

Whether a test exists is known only of modules that the run collected as a whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MANIFEST = "capsule.json"
_SKIPPED = frozenset({"node_modules", "venv", "build", "dist", "__pycache__"})


@dataclass(slots=True)
class Collected:
    """What a run collected.

    Attributes
    ----------
    modules
        Files of the modules that were collected as a whole.
    cassettes
        Folders of recordings of the tests, whether they ran or not.
    """

    modules: set[str] = field(default_factory=set)
    cassettes: set[str] = field(default_factory=set)

    def update(self, other: Collected) -> None:
        """Add what a worker collected."""
        self.modules |= other.modules
        self.cassettes |= other.cassettes


@dataclass(frozen=True, slots=True)
class Layout:
    """Where recordings are: below `recordings`, by the path of the module relative to `modules`, and the test."""

    recordings: Path
    modules: Path

    def module_of(self, folder: Path) -> Path | None:
        """Return the file of the module in the path of a cassette, or None for a shared cassette of one part."""
        relative = folder.relative_to(self.recordings)
        return self.modules / f"{relative.parent}.py" if len(relative.parts) > 1 else None


def find_recordings(starts: Iterable[Path]) -> list[Path]:
    """Return the folders named `recordings` below some folders; hidden folders and environments are skipped."""
    found: dict[Path, None] = {}
    for start in starts:
        for parent, names, _ in os.walk(start):
            names[:] = [name for name in names if not name.startswith(".") and name not in _SKIPPED]
            if "recordings" in names:
                names.remove("recordings")
                found[Path(parent, "recordings")] = None
    return list(found)


def leftovers(layout: Layout, collected: Collected, patterns: Iterable[str]) -> Iterator[Path]:
    """Find the cassettes of a layout that belong to no test; `patterns` are those of the names of test modules."""
    patterns = tuple(patterns)
    for manifest in sorted(layout.recordings.rglob(MANIFEST)):
        folder = manifest.parent
        if str(folder) in collected.cassettes:
            continue
        module = layout.module_of(folder)
        if module is not None and module.is_file():
            if str(module) in collected.modules:
                yield folder
        elif all(str(file) in collected.modules for file in _test_modules(layout, patterns)):
            yield folder


def _test_modules(layout: Layout, patterns: tuple[str, ...]) -> Iterator[Path]:
    """Return all modules that may use the recordings of a layout."""
    is_one_folder = layout.recordings.parent == layout.modules and layout.recordings.name == "recordings"
    files = layout.modules.glob("*.py") if is_one_folder else layout.modules.rglob("*.py")
    return (file for file in files if any(fnmatchcase(file.name, pattern) for pattern in patterns))
