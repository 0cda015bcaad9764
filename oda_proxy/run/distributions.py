"""Finds the distributions of imported modules in the import path of a program.

The metadata of distributions are files, which any Python can read: the program that imported them may have ended.
"""

from __future__ import annotations

from importlib import metadata
from inspect import getmodulename
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from importlib.metadata import Distribution


def find_versions(modules: Collection[str], path: Sequence[str]) -> dict[str, str]:
    """Return name and version of each distribution in an import path that has one of the top-level modules.

    Blocks: the metadata of all distributions are read. Those that cannot be read are left out.
    """
    found: dict[str, str] = {}
    for distribution in metadata.distributions(path=list(path)):
        try:
            name, version = distribution.metadata["Name"], distribution.version
            if name and version and not set(_top_level(distribution)).isdisjoint(modules):
                found.setdefault(name, version)  # the first in the path is the one that is imported
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _top_level(distribution: Distribution) -> Iterator[str]:
    """Return the top-level modules of a distribution, as `importlib.metadata.packages_distributions` does."""
    if declared := (distribution.read_text("top_level.txt") or "").split():
        yield from declared
        return
    for file in distribution.files or ():
        name = file.parts[0] if len(file.parts) > 1 else getmodulename(file.name)
        if name:
            yield name
